"""Writes two pages of the documentation from the code: the commands with their flags, and the configurations.

MkDocs runs it as a hook on every build, so the pages cannot fall behind. ``python docs/reference.py FOLDER`` writes
them into a folder, to read them without MkDocs.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docstring_parser

ROLE = re.compile(r":\w+:`(?:~[\w.]*\.)?([^`]*)`")


def pages() -> dict[str, str]:
    """Return the text of each generated page, by its path below ``docs/``."""
    return {"command-line.md": command_line(), "configuration.md": configuration()}


def on_files(files: Any, config: Any) -> Any:
    """Hand the pages to MkDocs."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def command_line() -> str:
    """Return the page of the ``wm-agents`` command."""
    from wm_agents.cli.common import app

    text = [
        "# Command line",
        "",
        "Every subcommand of `wm-agents`, with its arguments and flags. `wm-agents COMMAND --help` prints the same.",
        "",
        "Two options come before the command. `--version` prints the version. `--import MODULE` first imports a module",
        "of yours, so that the environments and parts that it registers are known; you can give it several times.",
        "",
        "A flag that takes a list takes values separated by spaces: `--options horizon=10 samples=50`.",
        "",
        "Exit codes: 0 is success; 1 is a failed check of `doctor`; 2 is an error, which one line explains; 130 is an",
        "interruption with Ctrl-C.",
        "",
        "| command | what it does |",
        "|---|---|",
    ]
    commands = dict(app.commands)
    text += [f"| [`{name}`](#{name.replace(' ', '-')}) | {summary(command)} |" for name, command in commands.items()]
    for name, command in commands.items():
        fields = list(flags(command))
        positional = "".join(f" {flag}" for flag, *_ in fields if not flag.startswith("-"))
        required = [flag for flag, default, _ in fields if flag.startswith("-") and default == "required"]
        needed = "".join(f" {flag} {flag.lstrip('-').upper()}" for flag in required)
        text += ["", f"## {name}", "", docstring(command, "short"), "", "```text"]
        text += [f"wm-agents {name}{positional}{needed}{' [flags]' if fields else ''}", "```"]
        text += ["", docstring(command, "long")] if docstring(command, "long") else []
        text += ["", *table("argument or flag", fields)] if fields else []
    return "\n".join(text) + "\n"


def flags(command: Callable[..., None]) -> Iterator[tuple[str, str, str]]:
    """Yield name, default and meaning of each argument of a subcommand."""
    meanings = described(command)
    for name, parameter in inspect.signature(command).parameters.items():
        if "Positional" in str(parameter.annotation):
            yield name.upper(), shown(parameter.default), meanings[name]
        else:
            default = {True: "on", False: "off"}.get(parameter.default) if isinstance(parameter.default, bool) else None
            yield f"--{name.replace('_', '-')}", default or shown(parameter.default).replace("'", ""), meanings[name]


def configuration() -> str:
    """Return the page of all configurations and options."""
    from wm_agents import registry
    from wm_agents.agents.gc_idm import GCIDMOptions
    from wm_agents.agents.hierarchical import HierarchicalOptions
    from wm_agents.agents.mpc import MPCOptions
    from wm_agents.agents.online import OnlineConfig
    from wm_agents.training import learner_of

    text = [
        "# Configuration",
        "",
        "Every field of every configuration, with its default. In Python a configuration is a frozen dataclass:",
        "`TrainingConfig(steps=2000)`. On the command line its fields are `name=value` pairs:",
        "`wm-agents train DATASET --out runs/mine --model latent_size=64 --training steps=2000`. A value that makes no",
        "sense, and a name that does not exist, are errors that say what is allowed.",
        "",
        "The letters N, H, K, A, D and so on are those of [concepts](concepts.md#letters).",
    ]
    trained = [name for name in own(registry.HEADS) if getattr(registry.HEADS.get(name), "learner", "")]
    text += ["", "## World models"]
    for kind in own(registry.WORLD_MODELS):
        text += section(registry.WORLD_MODELS.get(kind).Config, f"`--model` of `wm-agents train --kind {kind}`")
    text += ["", "## Heads"]
    for kind in trained:
        text += section(registry.HEADS.get(kind).Config, f"`--model` of `wm-agents fit {kind}`")
    text += ["", "## Training"]
    for kind in (*own(registry.LEARNERS), *trained):
        command = "train" if kind == "world-model" else f"fit {kind}"
        text += section(learner_of(kind).Training, f"`--training` of `wm-agents {command}`")
    text += ["", "## Agents"]
    text += section(GCIDMOptions, "options of `GCIDM`, and `--options` of `wm-agents evaluate`")
    text += section(MPCOptions, "options of `MPC`, besides those of its planner")
    text += section(HierarchicalOptions, "options of `HierarchicalMPC`")
    text += section(OnlineConfig, "`online=` of every agent's `learn`")
    text += ["", "## Planners"]
    for kind in own(registry.PLANNERS):
        text += section(registry.PLANNERS.get(kind), f'options of `MPC(planner="{kind}")`')
    return "\n".join(text) + "\n"


def own(table: Any) -> list[str]:
    """Return the names in a table that stand for parts of this package: others may be registered in this process."""
    return [name for name in table if table.get(name).__module__.startswith("wm_agents.")]


def section(kind: Any, used: str) -> list[str]:
    """Return a section of the page: the configuration's purpose, and a table of its fields."""
    meanings = described(kind)
    parameters = inspect.signature(kind).parameters.values()
    fields = [(parameter.name, shown(parameter.default), meanings[parameter.name]) for parameter in parameters]
    purpose = f"{docstring(kind, 'short')} Used as {used}."
    return ["", f"### {kind.__name__}", "", purpose, "", *table("field", fields)]


def described(thing: Any) -> dict[str, str]:
    """Return what a docstring, and those of the base classes, say about each argument or field."""
    found: dict[str, str] = {}
    for part in reversed(inspect.getmro(thing)) if inspect.isclass(thing) else [thing]:
        parsed = docstring_parser.parse(part.__doc__ or "")
        found |= {entry.arg_name: plain(entry.description or "") for entry in parsed.params}
    return found


def docstring(thing: Any, part: str) -> str:
    """Return the "short" or the "long" description of a docstring."""
    parsed = docstring_parser.parse(inspect.getdoc(thing) or "")
    return plain((parsed.short_description if part == "short" else parsed.long_description) or "")


def summary(command: Callable[..., None]) -> str:
    """Return the first sentence of a subcommand's docstring."""
    return re.split(r"[.;] ", docstring(command, "short"))[0].rstrip(".")


def table(first: str, fields: list[tuple[str, str, str]]) -> list[str]:
    """Return a Markdown table of names, defaults and meanings."""
    rows = [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in fields]
    return [f"| {first} | default | meaning |", "|---|---|---|", *rows]


def plain(text: str) -> str:
    """Return a docstring's text as Markdown on one line that is safe in a table."""
    text = ROLE.sub(r"`\1`", " ".join(text.split())).replace("``", "`")
    return text.replace("|", "\\|").replace("<", "&lt;")


def shown(value: Any) -> str:
    """Return a default as it is written in code."""
    if value is inspect.Parameter.empty:
        return "required"
    if repr(value) == "<factory>":
        return "empty"
    return "none" if value is None or value == () else f"`{str(value) if isinstance(value, Path) else value!r}`"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in pages().items():
        (folder / path).write_text(text, encoding="utf-8")
