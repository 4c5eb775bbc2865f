"""Who may import whom: reads the imports of every file and compares them with the table of the design."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOTTOM = {"configs", "downloads", "images", "registry", "types", "version"}
LEARNING = {"losses", "models", "planning"}

# part of wm_agents -> the parts that it may import. Imports under TYPE_CHECKING are free, those in functions are not.
ALLOWED: dict[str, set[str]] = {
    "configs": set(),
    "downloads": set(),
    "images": {"registry"},
    "registry": set(),
    "tensorfile": set(),
    "types": set(),
    "version": set(),
    "envs": BOTTOM,
    "datasets": BOTTOM | {"envs"},  # environments are opened by their id
    "losses": BOTTOM,
    "models": BOTTOM,
    "planning": BOTTOM,  # never models: a planner sees a cost function
    "checkpoint": BOTTOM | {"models", "tensorfile"},
    "checkpoints": set(),  # data files only
    "training": BOTTOM | LEARNING | {"checkpoint", "tensorfile"},
    "agents": BOTTOM | LEARNING | {"checkpoint", "datasets", "tensorfile", "training"},
    "stages": BOTTOM | {"training"},
    "recipes": BOTTOM | {"models", "stages", "training"},
    "baselines": BOTTOM | {"agents", "checkpoint", "datasets", "envs", "models", "tensorfile", "training"},
    "studies": BOTTOM | LEARNING | {"agents", "checkpoint", "datasets", "envs", "evaluation", "recipes", "training"},
    "pretrained": BOTTOM | {"datasets", "models", "tensorfile"},
    "doctor": BOTTOM | {"agents", "checkpoint", "datasets", "envs"},
    "pipeline": BOTTOM | {"agents", "checkpoint", "datasets", "models", "recipes", "training"},
    "evaluation": BOTTOM | LEARNING | {
        "agents", "baselines", "checkpoint", "datasets", "envs", "pipeline", "recipes", "training",
    },
    "quickstart": BOTTOM | {"agents", "datasets", "envs", "evaluation", "models", "pipeline", "recipes", "training"},
    "budgets": BOTTOM | {"datasets", "models", "recipes", "training"},
    "solving": BOTTOM | {"agents", "budgets", "datasets", "envs", "evaluation", "pipeline", "recipes"},
    "cli": BOTTOM | LEARNING | {
        "agents", "checkpoint", "datasets", "doctor", "envs", "evaluation", "pipeline", "quickstart",
        "recipes", "solving", "studies", "training",
    },
    "wm_agents": {"envs", "pretrained", "solving", "version"},  # __init__: everything else is looked up on first use
}  # fmt: skip

# part -> third-party packages that it must not import: what the layer has no business knowing.
FOREIGN: dict[str, set[str]] = {
    "registry": {"gymnasium", "minari", "mujoco", "stable_baselines3", "torch"},
    "images": {"gymnasium", "minari", "mujoco", "stable_baselines3", "torch"},
    "types": {"gymnasium", "minari", "mujoco", "stable_baselines3"},
    "losses": {"gymnasium", "minari", "mujoco", "stable_baselines3"},
    "models": {"gymnasium", "minari", "mujoco", "stable_baselines3"},
    "planning": {"gymnasium", "minari", "mujoco", "stable_baselines3"},
    "envs": {"minari", "stable_baselines3", "torch"},
    "datasets": {"mujoco", "stable_baselines3", "torch"},
    "training": {"gymnasium", "minari", "mujoco"},
}


def library_files() -> dict[str, tuple[Path, ...]]:
    """Every Python file of the library, by the part of ``wm_agents`` that it belongs to."""
    files: dict[str, tuple[Path, ...]] = {}
    for path in (*ROOT.glob("wm_agents/**/*.py"), *ROOT.glob("envs/**/*.py"), *ROOT.glob("datasets/**/*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        inside = parts[1:] if parts[0] == "wm_agents" else parts
        part = "wm_agents" if inside == ("__init__",) else inside[0]
        files[part] = (*files.get(part, ()), path)
    return files


FILES = library_files()
PARTS = set(FILES) - {"wm_agents"}


def imported_modules(node: ast.AST) -> set[str]:
    """Dotted names that the code imports, anywhere but under TYPE_CHECKING; ``from a import b`` gives ``a.b``.

    Registry targets ("wm_agents.models:WorldModel") and literal arguments of ``import_module`` count too, but not a
    head's ``learner``: only the training layer looks that name up. ``registry.py`` names parts of every layer.
    """
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import of {node.module or '.'}: the library's imports are absolute"
        return {f"{node.module}.{alias.name}" for alias in node.names}
    if isinstance(node, ast.Constant):
        target = re.fullmatch(r"(wm_agents(?:\.\w+)+):\w+", str(node.value))
        return {target[1]} if target else set()
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "learner":
        return set()
    found: set[str] = set()
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        found |= {name.value for name in node.args if isinstance(name, ast.Constant)}
    guarded = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    for child in node.orelse if guarded else ast.iter_child_nodes(node):
        found |= imported_modules(child)
    return found


def part_of(module: str, lazy: dict[str, str]) -> str | None:
    """The part of ``wm_agents`` that an imported name lies in; None for other packages."""
    package, _, rest = module.partition(".")
    if package != "wm_agents":
        return None
    name = rest.partition(".")[0]
    name = lazy.get(name, name).removeprefix("wm_agents.")
    return name if name in PARTS else "wm_agents"


def imports_of(part: str) -> dict[str, set[str]]:
    """Per imported name the files of ``part`` that import it."""
    importers: dict[str, set[str]] = {}
    for path in FILES[part] if part != "registry" else ():
        for module in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
            importers.setdefault(module, set()).add(str(path.relative_to(ROOT)))
    return importers


@pytest.fixture(scope="module")
def lazy() -> dict[str, str]:
    """The public names that ``wm_agents`` looks up on first use, and where."""
    return {
        name: f"wm_agents.{module}"
        for module in ("agents", "training", "models")
        for name in importlib.import_module(f"wm_agents.{module}").__all__
    }


def test_every_part_of_the_library_has_its_place_in_the_table():
    assert set(FILES) == set(ALLOWED)
    assert set(FOREIGN) <= set(ALLOWED)


@pytest.mark.parametrize("part", sorted(FILES))
def test_a_part_imports_only_the_layers_below_it(part, lazy):
    wrong = {
        module: sorted(files)
        for module, files in imports_of(part).items()
        if (target := part_of(module, lazy)) is not None and target not in ALLOWED.get(part, set()) | {part}
    }
    assert not wrong, f"{part} may import {sorted(ALLOWED[part])} only"


@pytest.mark.parametrize("part", sorted(FOREIGN))
def test_a_part_stays_clear_of_packages_that_are_not_its_business(part):
    wrong = {module: files for module, files in imports_of(part).items() if module.split(".")[0] in FOREIGN[part]}
    assert not wrong


def test_the_table_is_layered():
    """No part may reach itself: the allowed imports have no cycle."""
    below = {part: set(allowed) for part, allowed in ALLOWED.items()}
    placed: set[str] = set()
    while ready := {part for part, allowed in below.items() if part not in placed and allowed <= placed}:
        placed |= ready
    assert placed == set(ALLOWED)
    assert not any("cli" in allowed for allowed in ALLOWED.values())
    users = {part for part, allowed in ALLOWED.items() if "evaluation" in allowed}
    assert users == {"cli", "quickstart", "solving", "studies"}


def test_the_reader_sees_imports_wherever_they_are(lazy):
    code = """
from typing import TYPE_CHECKING
import wm_agents.agents
from wm_agents import GCIDM, planning
if TYPE_CHECKING:
    from wm_agents.hidden import Nothing
else:
    from wm_agents.shown import Something
def f():
    try:
        from wm_agents.models.encoders import ConvEncoder
    finally:
        importlib.import_module("wm_agents.cli")
NAMES = Registry("x", {"a": "wm_agents.losses.base:LatentBatch"})
"""
    modules = imported_modules(ast.parse(code))
    assert modules == {
        "typing.TYPE_CHECKING",
        "wm_agents.agents",
        "wm_agents.GCIDM",
        "wm_agents.planning",
        "wm_agents.shown.Something",
        "wm_agents.models.encoders.ConvEncoder",
        "wm_agents.cli",
        "wm_agents.losses.base",
    }
    assert part_of("wm_agents.GCIDM", lazy) == "agents"
    assert part_of("wm_agents.models.encoders.ConvEncoder", lazy) == "models"
    assert part_of("wm_agents.nothing", lazy) == "wm_agents"
    assert part_of("torch.nn", lazy) is None
    with pytest.raises(AssertionError, match="absolute"):
        imported_modules(ast.parse("from .models import WorldModel"))


def test_importing_a_layer_does_not_load_what_lies_above_it():
    code = """
import sys
import wm_agents
assert "torch" not in sys.modules, "import wm_agents loads torch: slow in every worker process"
import wm_agents.planning, wm_agents.losses
for name in wm_agents.planning.PLANNERS:
    wm_agents.planning.PLANNERS.get(name)
loaded = {name.split(".")[1] for name in sys.modules if name.startswith("wm_agents.")}
print(*sorted(loaded))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= BOTTOM | {"envs", "losses", "planning"}
