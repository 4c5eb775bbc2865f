"""The pages that docs/reference.py writes explain every flag and field; the API page lists every public class."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

from wm_agents.cli.common import app

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("agents", "datasets", "envs", "evaluation", "losses", "models", "planning", "training")
SPEC = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)


def rows(page):
    """Return the cells of every row of the tables with defaults: name, default, meaning."""
    return re.findall(r"^\| `([^`]+)` \| (.*?) \| (.*) \|$", reference.pages()[page], re.MULTILINE)


@pytest.mark.parametrize("page", ["command-line.md", "configuration.md"])
def test_every_flag_and_field_has_a_default_and_a_meaning(page):
    unexplained = [name for name, default, meaning in rows(page) if not default or not meaning]
    assert rows(page)
    assert not unexplained


def test_every_command_and_every_flag_is_listed():
    page = reference.pages()["command-line.md"]
    for name, function in app.commands.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for argument in inspect.signature(function).parameters:
            assert f"`--{argument.replace('_', '-')}`" in section or f"`{argument.upper()}`" in section


def test_defaults_are_those_of_the_code():
    default = inspect.signature(app.commands["collect"]).parameters["episodes"].default
    assert f"| `--episodes` | `{default}` |" in reference.pages()["command-line.md"]
    assert "| `receding_horizon` | `1` |" in reference.pages()["configuration.md"]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_class_is_on_the_api_page(module):
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    found = importlib.import_module(f"wm_agents.{module}")
    classes = [name for name in found.__all__ if inspect.isclass(getattr(found, name))]
    assert not [name for name in classes if not re.search(rf"`[^`]*\b{name}\b", page)]
