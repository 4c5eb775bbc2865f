"""What the subcommands share: the app that they register with, the console, and how arguments are read."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

app = tyro.extras.SubcommandApp()
console = Console()


def full_id(name: str) -> str:
    """Return the Gymnasium id that a task name such as "pointmaze-umaze" stands for; other names as they are."""
    from wm_agents import datasets, envs

    return {datasets.task_name(env_id): env_id for env_id in envs.ENV_IDS}.get(name, name)


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


def command_line() -> str:
    """Return the command, without the path of the program, which ``python -m wm_agents.cli`` calls ``__main__.py``."""
    program = Path(sys.argv[0]).name
    return shlex.join(["wm-agents" if program == "__main__.py" else program, *sys.argv[1:]])


def rich_escape(text: str) -> str:
    """Keep square brackets of a message from being read as markup."""
    return text.replace("[", r"\[")
