"""The ``wm-agents`` command. Flags are generated from function signatures and config dataclasses by tyro."""

from __future__ import annotations

import os
import sys
import warnings

import gymnasium as gym
from rich.console import Console

from wm_agents import registry
from wm_agents.cli.common import app, console, import_modules, rich_escape
from wm_agents.cli.comparing import compare
from wm_agents.cli.data import collect, datasets, doctor, import_dataset, list_names
from wm_agents.cli.inspecting import diagnose, score
from wm_agents.cli.learning import fit, quickstart, reproduce, solve, train
from wm_agents.cli.measuring import bench, calibrate, evaluate, report, study
from wm_agents.version import __version__

__all__ = [
    "bench",
    "calibrate",
    "collect",
    "compare",
    "datasets",
    "diagnose",
    "doctor",
    "evaluate",
    "fit",
    "import_dataset",
    "list_names",
    "main",
    "quickstart",
    "report",
    "reproduce",
    "score",
    "solve",
    "study",
    "train",
]

CLOSED_PIPE = 141
"""Exit code of a program whose reader is gone, as shells report SIGPIPE."""


def main() -> None:
    """Run the command line; an expected error is one line, not a traceback."""
    warnings.filterwarnings("ignore", message=".*MINARI.*")
    try:
        _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has enough. What is left in the buffer must not fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CLOSED_PIPE) from None
    except KeyboardInterrupt:
        console.print(
            "\ninterrupted; bench, calibrate, collect, compare, fit, quickstart, report, reproduce, solve and study "
            "continue where they stopped with the same command, train with --resume; other commands start over",
            style="yellow",
            soft_wrap=True,
        )
        raise SystemExit(130) from None
    except (ImportError, ValueError, RuntimeError, OSError, MemoryError, gym.error.Error) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {rich_escape(_told(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None


def _told(error: BaseException) -> str:
    """The text of an error, in one line; those of the system get a way out."""
    text = " ".join(line.strip() for line in str(error).splitlines())
    if isinstance(error, MemoryError):
        return f"there is not enough memory: use smaller numbers, of samples, batches or images. {text}".strip()
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}. Check the path, and that you may read and write there."
    return text or type(error).__name__


def _run(arguments: list[str]) -> None:
    """Read the options before the command, then run the command."""
    modules: list[str] = []
    while arguments:
        if arguments[0] == "--version":
            print(f"wm-agents {__version__}")  # noqa: T201
            return
        if arguments[0] == "--import" and len(arguments) > 1:
            modules.append(arguments[1])
            arguments = arguments[2:]
        elif arguments[0].startswith("--import="):
            modules.append(arguments[0].removeprefix("--import="))
            arguments = arguments[1:]
        elif arguments[0] == "--import":
            raise ValueError("--import needs the name of a module: wm-agents --import my_module evaluate ...")
        else:
            break
    getattr(registry, "load_plugins", lambda: None)()
    import_modules(modules)
    app.parse(arguments)()
