"""The ``wm-agents`` command. Flags are generated from function signatures and config dataclasses by tyro."""

from __future__ import annotations

import warnings

from rich.console import Console

from wm_agents.cli.common import app, console, rich_escape
from wm_agents.cli.data import collect, doctor, import_dataset, list_names
from wm_agents.cli.learning import fit, quickstart, reproduce, train
from wm_agents.cli.measuring import bench, evaluate, report, study

__all__ = [
    "bench",
    "collect",
    "doctor",
    "evaluate",
    "fit",
    "import_dataset",
    "list_names",
    "main",
    "quickstart",
    "report",
    "reproduce",
    "study",
    "train",
]


def main() -> None:
    """Run the command line; an expected error is one line, not a traceback."""
    warnings.filterwarnings("ignore", message=".*MINARI.*")
    try:
        app.cli(prog="wm-agents", description="World-model agents with the face of Stable-Baselines3.")
    except KeyboardInterrupt:
        console.print(
            "\ninterrupted; bench, collect, fit, quickstart, reproduce and report go on where they were with the same "
            "command, train with --resume; other commands begin anew",
            style="yellow",
            soft_wrap=True,
        )
        raise SystemExit(130) from None
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {rich_escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(2) from None
