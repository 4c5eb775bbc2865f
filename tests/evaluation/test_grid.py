"""The grid: what is measured, what is not measured again, and what an interruption or a failure leaves."""

from __future__ import annotations

import functools
import io
import json

import pytest
from rich.console import Console

from wm_agents.evaluation import Cell, Grid, Runner

CALLS: list[str] = []


def answer(name: str) -> dict:
    CALLS.append(name)
    if name == "broken":
        raise RuntimeError("the screws came loose")
    if name == "interrupted":
        raise KeyboardInterrupt
    return {"answer": len(name)}


def cells(*names: str, **key: object) -> list[Cell]:
    return [Cell(name, {"sha": "a", **key}, functools.partial(answer, name)) for name in names]


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def test_what_is_there_is_not_measured_again(tmp_path):
    grid = Grid(tmp_path / "new")
    assert grid.run(cells("one", "three"), Runner()) == {}
    assert json.loads((tmp_path / "new" / "three.json").read_text()) == {"key": {"sha": "a"}, "answer": 5}
    assert grid.run(cells("one", "three", "four"), Runner()) == {}
    assert CALLS == ["one", "three", "four"]


@pytest.mark.parametrize("damage", ["{", "[]", "", '{"answer": 3}', '{"key": 1}'])
def test_damage_and_results_of_another_key_are_measured_again_and_said(tmp_path, damage):
    grid, text = Grid(tmp_path), io.StringIO()
    grid.run(cells("one"), Runner())
    assert grid.read(cells("one", sha="b")[0]) is None
    grid.run(cells("one", sha="b"), Runner(console=Console(file=text)))
    assert "1 results" in text.getvalue()
    assert grid.read(cells("one")[0]) is None
    grid.path("one").write_text(damage)
    assert grid.read(cells("one")[0]) is None
    grid.run(cells("one"), Runner())
    assert grid.read(cells("one")[0])["answer"] == 3


def test_keys_are_compared_as_json_keeps_them(tmp_path):
    grid = Grid(tmp_path)
    grid.run(cells("one", sizes=(1, 2)), Runner())
    grid.run(cells("one", sizes=[1, 2]), Runner())
    assert CALLS == ["one"]


def test_a_failure_is_named_and_an_interruption_keeps_what_is_done(tmp_path):
    grid = Grid(tmp_path)
    failed = grid.run(cells("broken", "one"), Runner())
    assert failed == {"broken": "RuntimeError: the screws came loose"}
    assert grid.read(cells("one")[0]) is not None
    with pytest.raises(KeyboardInterrupt):
        grid.run(cells("four", "interrupted", "three"), Runner())
    assert [cell.name for cell in grid.missing(cells("four", "interrupted", "three"))] == ["interrupted", "three"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["four.json", "one.json"]


def test_two_cells_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one name"):
        Grid(tmp_path).run(cells("one", "one"), Runner())


def test_worker_processes_write_the_same_files(tmp_path):
    chosen = [Cell(name, {}, functools.partial(dict, length=len(name))) for name in ("one", "three")]
    with Runner(workers=2) as runner:
        assert Grid(tmp_path).run(chosen, runner) == {}
    assert [Grid(tmp_path).read(cell)["length"] for cell in chosen] == [3, 5]
