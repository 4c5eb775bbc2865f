"""What the subcommands share: the app that they register with, the console, and how arguments are read."""

from __future__ import annotations

import difflib
import functools
import importlib
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import tyro
from rich.console import Console

from wm_agents.registry import did_you_mean

console = Console()
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod|obj|ref):`(?:~[\w.]*\.)?([^`]*)`|``|\(default: \)")


class App:
    """The subcommands by name. Each is a function, whose signature and docstring tyro turns into flags and help."""

    def __init__(self) -> None:
        self._app = tyro.extras.SubcommandApp()
        self.commands: dict[str, Callable[..., None]] = {}

    def command(self, function: Callable[..., None]) -> Callable[..., None]:
        """Register a function under its name: ``list_names`` is called ``list``, ``import_dataset`` ``import``."""
        name = {"list_names": "list", "import_dataset": "import"}.get(function.__name__, function.__name__)

        @functools.wraps(function)
        def parsed(*args: Any, **kwargs: Any) -> Callable[[], None]:
            return functools.partial(function, *args, **kwargs)

        self._app.command(name=name)(parsed)
        self.commands[name] = function
        return function

    def parse(self, arguments: list[str]) -> Callable[[], None]:
        """Read a command line and return what it asks for, ready to be called.

        Raises:
            ValueError: There is no such subcommand or no such device.
            SystemExit: Help was asked for, or a flag is wrong.
        """
        if arguments and not arguments[0].startswith("-") and arguments[0] not in self.commands:
            raise ValueError(did_you_mean("command", arguments[0], self.commands))
        with readable_help():
            call = self._app.cli(prog="wm-agents", description=DESCRIPTION, args=arguments)
        check_device(call.keywords.get("device", "auto"))
        return call


DESCRIPTION = (
    "World-model agents for Stable-Baselines3. Options before the command: --version; --import MODULE, which imports "
    "your module first, so that the environments and parts that it registers are known (repeatable)."
)
app = App()


@contextmanager
def readable_help() -> Iterator[None]:
    """Print help and usage without the markup of docstrings, and without colour where ``NO_COLOR`` is set."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Held(sys.stdout), _Held(sys.stderr)
    try:
        yield
    finally:
        held = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = streams
        for stream, text in zip(streams, held, strict=True):
            if shown := text.getvalue():  # type: ignore[attr-defined]
                stream.write(plain_text(shown))


class _Held(io.StringIO):
    """A buffer for a stream's output that still tells tyro what the stream can show."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def isatty(self) -> bool:
        return self._stream.isatty() and not os.environ.get("NO_COLOR")

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


def plain_text(text: str) -> str:
    """Return help without roles and double backticks; borders of boxes stay where they are."""
    lines = []
    for line in text.split("\n"):
        plain = ROLE.sub(lambda found: found[1] or "", line)
        border = plain.rfind("│")
        if border > 0:
            plain = plain[:border] + " " * (len(line) - len(plain)) + plain[border:]
        lines.append(plain)
    return "\n".join(lines)


def import_modules(names: list[str]) -> None:
    """Import the modules of ``--import``; the working directory is searched last.

    Raises:
        ValueError: A module cannot be imported.
    """
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a foreign module does wrong when it is imported
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"--import {name}: the module cannot be imported ({reason}).") from error


def check_device(device: str) -> None:
    """Raise ``ValueError`` unless torch can compute on ``device``: auto, cpu, cuda, cuda:1, ..."""
    if device not in ("auto", "cpu"):
        from wm_agents.training import find_device

        find_device(device)


def full_id(name: str) -> str:
    """Return the Gymnasium id that a task name such as "pointmaze-umaze" stands for; other names as they are.

    The module of a long id, ``my_package:my/Task-v0``, is imported.

    Raises:
        ValueError: That module cannot be imported, or does not register the environment; or a task name is misspelled.
    """
    from wm_agents import datasets, envs

    if ":" in name:
        from wm_agents.evaluation import check_env_id

        check_env_id(name)
    ids = {datasets.task_name(env_id): env_id for env_id in envs.ENV_IDS}
    if name not in ids and not re.search(r"-v\d+$", name) and difflib.get_close_matches(name, ids, 1, 0.8):
        raise ValueError(did_you_mean("task", name, ids))
    return ids.get(name, name)


def parse_offset(text: str) -> int:
    """Return the offset as a number of steps, or raise ``ValueError`` with what is allowed."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'offset must be a number of steps or "random", not {text!r}.') from None


def parse_options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return ``name=value`` pairs as a dict, values read as JSON where they are JSON and as text otherwise."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name.isidentifier():
            raise ValueError(f"options are name=value, for example horizon=10, not {pair!r}.")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def open_player(
    name: str,
    kind: str,
    device: str,
    options: tuple[str, ...],
    trust: bool,
    algorithm: str | None,
    vec_normalize: Path | None,
) -> tuple[Any, str]:
    """Open an agent of this library or of Stable-Baselines3; return it, and its name for tables.

    Raises:
        ValueError: Arguments that are for the other kind of file, or a file that cannot be opened.
    """
    from wm_agents import evaluation, load

    if evaluation.is_sb3_file(name):
        if kind or options:
            raise ValueError(f"{name} is a model of Stable-Baselines3: FILE:AGENT and --options are not for those.")
        model = evaluation.load_sb3(name, trust=trust, algorithm=algorithm, vec_normalize=vec_normalize, device=device)
        return model, f"{Path(name).stem} ({type(model).__name__})"
    if algorithm or vec_normalize:
        raise ValueError(f"--algorithm and --vec-normalize are for files of Stable-Baselines3, which {name} is not.")
    player = load(name, agent=kind or None, device=device, **parse_options(options))
    own = f"{Path(name).resolve().parent.name}/{player.name}"
    return player, own if Path(name).is_file() else ":".join(filter(None, (name, kind)))


def command_line() -> str:
    """Return the command, without the path of the program, which ``python -m wm_agents.cli`` calls ``__main__.py``."""
    program = Path(sys.argv[0]).name
    return shlex.join(["wm-agents" if program == "__main__.py" else program, *sys.argv[1:]])


def rich_escape(text: str) -> str:
    """Keep square brackets of a message from being read as markup."""
    return text.replace("[", r"\[")
