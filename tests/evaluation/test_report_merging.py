"""A report grows: agents, tasks, seeds and protocols are added, and the rest stays as it was measured."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_report import SMALL, UMAZE

from wm_agents.evaluation.report import cells, run_report
from wm_agents.evaluation.report.cards import to_cards
from wm_agents.evaluation.report.markdown import to_markdown
from wm_agents.evaluation.report.merging import merge, rows_of

pytest_plugins = ["small_report"]

ONE: dict[str, Any] = {**SMALL, "agents": ("gc-idm",), "protocols": ("25/30",), "videos": False, "timing": False}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A report of one agent on one set of tasks."""
    out = tmp_path_factory.mktemp("report") / "begun"
    return run_report(out, **ONE), out


def agents_of(content: dict[str, Any], protocol: str = "25/30") -> list[str]:
    return [row["agent"] for row in content["tasks"][UMAZE]["protocols"][protocol]["rows"]]


def test_only_what_is_new_is_measured_and_the_rest_stays(begun, tmp_path, monkeypatch):
    before, out = begun
    shutil.copytree(out, tmp_path / "copy")
    measured, measure = [], cells.measure
    monkeypatch.setattr(cells, "measure", lambda trial, *rest: measured.append(trial.name) or measure(trial, *rest))
    more = {**ONE, "agents": ("hierarchical",), "command": "wm-agents report --more"}
    content = run_report(tmp_path / "copy", **more)
    assert [name.split("_")[2] for name in measured] == ["hierarchical"]
    assert agents_of(content) == ["gc-idm", "hierarchical"]
    first, second = content["tasks"][UMAZE]["protocols"]["25/30"]["rows"]
    assert first == before["tasks"][UMAZE]["protocols"]["25/30"]["rows"][0]
    assert second["against_reference"]["moderate"][0]["seed"] == 0, "paired with what was there"
    assert content["command"] == "wm-agents report --small; wm-agents report --more"
    assert content["cpu_seconds"] == pytest.approx(before["cpu_seconds"] + second["cells"][0]["cpu_seconds"], abs=0.2)
    assert json.loads((tmp_path / "copy" / "report.json").read_text()) == json.loads(json.dumps(content))
    text = (tmp_path / "copy" / "report.md").read_text()
    assert text == to_markdown(content)
    assert "| gc-idm | 1 |" in text
    again = run_report(tmp_path / "copy", **more, measure=False)
    assert again == content


def test_another_number_of_tasks_is_refused_before_anything_is_measured(begun):
    _, out = begun
    with pytest.raises(ValueError, match="3 tasks per cell, not 20: give another out"):
        run_report(out, **{**ONE, "tasks_per_cell": None, "quick": True})
    (out / "report.json").rename(out / "kept")
    try:
        (out / "report.json").write_text("{}")
        with pytest.raises(ValueError, match="is not a report"):
            run_report(out, **ONE)
    finally:
        (out / "kept").rename(out / "report.json")


def test_rows_of_a_replaced_checkpoint_stay_and_are_marked(begun):
    before, _ = begun
    now = copy.deepcopy(before)
    part = now["tasks"][UMAZE]
    part["checkpoints"][0]["sha256"] = "f" * 64
    row = part["protocols"]["25/30"]["rows"][0]
    row |= {"agent": "icem"}
    row["cells"][0] |= {"checkpoint_sha256": "f" * 64}
    content = merge(before, now)
    assert [(one["sha256"][0], one["file"]) for one in content["tasks"][UMAZE]["checkpoints"]] == [
        ("f", "shipped"),
        (before["tasks"][UMAZE]["checkpoints"][0]["sha256"][0], "earlier file"),
    ]
    oldest = copy.deepcopy(before)
    for cell in oldest["tasks"][UMAZE]["protocols"]["25/30"]["rows"][0]["cells"]:
        del cell["checkpoint_sha256"]
    assert "| gc-idm§ | 1 |" in to_markdown(merge(oldest, now)), "a cell of the first version"
    assert "§" not in to_markdown(oldest)
    text = to_markdown(content)
    assert "| gc-idm§ | 1 |" in text
    assert "| icem | 1 |" in text
    assert "†" not in text.partition("As shipped:")[2].partition("##")[0], "one training seed, in two files"
    assert "| 25/30 |  |" in to_cards(content), "a card has the numbers of its own file only"
    note = "**An earlier file.**"
    assert note in to_cards(content), "the package has another file than the one with the made-up hash"
    assert note not in to_cards(before)
    refreshed = copy.deepcopy(now)
    refreshed["tasks"][UMAZE]["protocols"]["25/30"]["rows"][0] |= {"agent": "gc-idm"}
    found = merge(content, refreshed)["tasks"][UMAZE]
    assert [one["file"] for one in found["checkpoints"]] == ["shipped"], "no row is left of the earlier file"


def test_training_seeds_are_added_to_a_row(begun):
    before, _ = begun
    now = copy.deepcopy(before)
    part = now["tasks"][UMAZE]
    part["checkpoints"][0] |= {"seed": 1, "sha256": "e" * 64, "file": "runs/1"}
    row = part["protocols"]["25/30"]["rows"][0]
    row["cells"][0] |= {"training_seed": 1, "checkpoint_sha256": "e" * 64}
    for mode in ("moderate", "strict"):
        row["all"][mode] = {"rate": 0.0, "ci95": [0, 1], "each": [{"seed": 1, "rate": 0.0, "ci95": [0, 1]}]}
    merged = merge(before, now)["tasks"][UMAZE]
    (found,) = merged["protocols"]["25/30"]["rows"]
    first = before["tasks"][UMAZE]["protocols"]["25/30"]["rows"][0]["all"]["moderate"]["rate"]
    assert first > 0
    assert found["all"]["moderate"]["rate"] == pytest.approx(first / 2)
    assert [cell["training_seed"] for cell in found["cells"]] == [0, 1]
    assert [one["seed"] for one in merged["checkpoints"]] == [0, 1]


def test_what_cannot_stand_together_is_named(begun):
    before, _ = begun
    other_tasks, other_options = copy.deepcopy(before), copy.deepcopy(before)
    other_tasks["tasks"][UMAZE]["protocols"]["25/30"] |= {"manifest_sha256": "d" * 64}
    content = merge(before, other_tasks)
    assert len(rows_of(content)) == 1
    assert content["left_out"] == [f"{UMAZE} 25/30: 1 rows of an earlier report were measured on other tasks"]
    row = other_options["tasks"][UMAZE]["protocols"]["25/30"]["rows"][0]
    row["options"] = {**row["options"], "horizon": 7}
    row["cells"][0] |= {"training_seed": 3}
    content = merge(before, other_options)
    assert content["left_out"] == [f"{UMAZE} 25/30 gc-idm, seed 0: measured with other options"]
    assert [cell["training_seed"] for *_, row in rows_of(content) for cell in row["cells"]] == [3]


def test_reasons_that_no_longer_hold_are_dropped(begun):
    before, _ = begun
    stale = ["9 of 12 cells: not measured yet", f"{UMAZE}_25-30_gc-idm_every-1_seed-0_n-3: RuntimeError: no"]
    kept = f"{UMAZE} 900/1800: episodes have 300 steps"
    assert merge({**before, "left_out": [*stale, kept]}, before)["left_out"] == [kept]
