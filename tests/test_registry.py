from __future__ import annotations

import sys

import pytest

from wm_agents import registry as tables
from wm_agents.registry import Registry, did_you_mean

TABLES = [table for table in vars(tables).values() if isinstance(table, Registry)]


@pytest.fixture
def lazy_module(tmp_path, monkeypatch):
    """A module on the path that counts how often it is imported."""
    (tmp_path / "counted_module.py").write_text("import sys\nsys.imports_counted += 1\nthing = object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "imports_counted", 0, raising=False)
    yield "counted_module"
    sys.modules.pop("counted_module", None)


def test_did_you_mean_names_the_mistake_the_nearest_match_and_all_that_exist():
    message = did_you_mean("planner", "cemm", ["mppi", "cem", "gradient"])
    assert message == "Unknown planner 'cemm'. Did you mean 'cem'? Known: cem, gradient, mppi."


def test_did_you_mean_suggests_nothing_far_away_and_says_when_nothing_exists():
    assert did_you_mean("planner", "zzz", ["cem"]) == "Unknown planner 'zzz'. Known: cem."
    assert did_you_mean("planner", "zzz", ["cem", "cem"]) == "Unknown planner 'zzz'. Known: cem."
    assert did_you_mean("dataset", "x", []) == "Unknown dataset 'x'. Known: none."


def test_what_is_no_name_is_unknown():
    for given in ([], {"a": 1}, 3, None):
        assert given not in Registry("thing", {"a": "a:a"})
        with pytest.raises(ValueError, match=r"Unknown thing .* Known: a\."):
            Registry("thing", {"a": "a:a"}).get(given)


def test_entries_are_imported_on_first_get_only(lazy_module):
    registry = Registry("thing", {"a": f"{lazy_module}:thing"})
    registry.register("b", "no_such_module:thing")
    assert "a" in registry
    assert "c" not in registry
    assert list(registry) == ["a", "b"]
    assert lazy_module not in sys.modules
    first, second = registry.get("a"), registry.get("a")
    assert first is second is sys.modules[lazy_module].thing
    assert sys.imports_counted == 1
    with pytest.raises(ModuleNotFoundError):
        registry.get("b")


def test_unknown_name_raises_with_the_way_out():
    registry = Registry("colour", {"red": "builtins:int", "green": "builtins:float"})
    with pytest.raises(ValueError, match=r"Unknown colour 'gren'\. Did you mean 'green'\? Known: green, red\."):
        registry.get("gren")


def test_registering_twice_is_refused_unless_it_is_the_same():
    registry = Registry("colour")
    registry.register("red", "builtins:int")
    registry.register("red", "builtins:int")
    with pytest.raises(ValueError, match=r"colour 'red' is already registered as builtins:int"):
        registry.register("red", "builtins:float")
    assert registry.get("red") is int


def test_registries_do_not_share_the_dict_they_were_given():
    entries = {"red": "builtins:int"}
    Registry("colour", entries).register("blue", "builtins:float")
    assert entries == {"red": "builtins:int"}


@pytest.mark.parametrize("registry", TABLES, ids=lambda registry: registry.kind)
def test_everything_that_the_library_registers_exists(registry):
    assert list(registry)
    for name in registry:
        part = registry.get(name)
        assert part if registry is tables.TRAINING_OBJECTIVES else callable(part)  # those are weights by name
