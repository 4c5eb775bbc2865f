"""The report: what it measures, what it does not measure again, and what it says."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from rich.console import Console
from small_report import SMALL, UMAZE

import wm_agents
from wm_agents import evaluation
from wm_agents.evaluation.grid import Grid
from wm_agents.evaluation.report import cells, run, run_report
from wm_agents.evaluation.report.comparison import build
from wm_agents.evaluation.report.markdown import _ours, _overview, to_markdown
from wm_agents.evaluation.report.protocols import Protocol
from wm_agents.evaluation.results import action_jerk

pytest_plugins = ["small_report"]

LATENCY = {
    "device": "cpu",
    "plan": {"samples": 300, "iterations": 30, "horizon": 5},
    "threads": {
        "1": {"decision_ms": {"best": 1.0, "median": 1.5}, "plan_ms": {"best": 150.0, "median": 160.0}, "ratio": 150.0}
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("report") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "cost_of_a_decision", lambda *_, **__: LATENCY)
        return run_report(out, console=Console(file=io.StringIO()), **SMALL), out


def test_the_report_is_complete(finished):
    content, out = finished
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(content))
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("report.md", "models.md", "report.json", "success.png", "latency.png"),
        *("cells", "manifests", "floors", "latency", "videos"),
    }
    for figure in ("success.png", "latency.png"):
        assert imread(out / figure)[..., :3].std() > 0.01
    stems = {path.stem for path in (out / "cells").iterdir()}
    assert len(stems) == 2 * 3  # two protocols; GC-IDM, CEM as shipped, CEM for 25 steps
    assert {path.stem for path in (out / "videos").iterdir()} == stems
    assert set(content["tasks"][UMAZE]["protocols"]) == {"20/20", "25/30"}


def test_every_number_says_where_it_is_from(finished):
    content, out = finished
    protocol = content["tasks"][UMAZE]["protocols"]["25/30"]
    manifest = evaluation.make_manifest("wm/PointMaze-UMaze-v0", tasks=3, offset=25, budget=30)
    assert protocol["manifest_sha256"] == manifest.sha256
    assert content["versions"]["wm-agents"] == wm_agents.__version__
    digest = wm_agents.agents.loading.shipped()[UMAZE]
    for row in protocol["rows"]:
        assert row["threads"] >= 1
        assert [cell["checkpoint_sha256"] for cell in row["cells"]] == [digest]
        assert all(cell["command"] and cell["version"] and cell["training_seed"] == 0 for cell in row["cells"])
    text = (out / "report.md").read_text()
    assert text == to_markdown(content)
    for part in ("wm-agents report --small", manifest.sha256[:12], digest[:12], "| cem-mpc | 25 |", "| random |"):
        assert part in text


def test_a_model_card_tells_what_a_file_is_and_reaches(finished):
    content, out = finished
    card = (out / "models.md").read_text()
    made = wm_agents.load(f"{UMAZE}/gc-idm").provenance
    digest = wm_agents.agents.loading.shipped()[UMAZE]
    rate = content["tasks"][UMAZE]["protocols"]["25/30"]["rows"][0]["all"]["moderate"]["rate"]
    row = f"| 25/30 | {100 * rate:.1f} ["
    assert all(part in card for part in (digest, made["dataset"]["sha256"], made["command"], "120 episodes", row))


def test_the_report_says_what_evaluate_finds(finished):
    content, _ = finished
    manifest = evaluation.make_manifest("wm/PointMaze-UMaze-v0", tasks=3, offset=25, budget=30)
    result = evaluation.evaluate(wm_agents.load(f"{UMAZE}/gc-idm"), manifest, num_envs=20, progress=False)
    protocol = content["tasks"][UMAZE]["protocols"]["25/30"]
    row = protocol["rows"][0]
    assert (row["agent"], row["against_reference"]) == ("gc-idm", None)
    assert row["all"]["moderate"]["rate"] == result.success_rate
    assert row["all"]["strict"]["ci95"] == list(result.outcomes.interval("strict"))
    assert row["jerk"] == pytest.approx(action_jerk(result.actions))
    for name, floor in result.floors.items():
        assert protocol["floors"][name]["all"]["moderate"]["rate"] == floor.success_rate()
    planner = protocol["rows"][1]
    assert planner["evaluations_per_plan"] > 1000
    assert planner["against_reference"]["moderate"][0].keys() == {"seed", "only_reference", "only_this", "p"}


def test_mazes_have_no_object(finished):
    content, _ = finished
    assert content["tasks"][UMAZE]["protocols"]["25/30"]["subset"] is None


def test_a_finished_report_is_read_not_measured_again(finished, monkeypatch):
    content, out = finished
    for name in ("measure", "measure_floors"):
        monkeypatch.setattr(cells, name, lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(run, "cost_of_a_decision", lambda *_, **__: pytest.fail("measured again"))
    assert run_report(out, **SMALL)["tasks"] == content["tasks"]


def test_cells_of_other_weights_tasks_or_options_do_not_count(finished, shipped):
    _, out = finished
    trial = build([shipped], [Protocol(25, 30)], ["cem-mpc"], 3)[0][0]
    manifest = cells.read_tasks(trial, out)
    floors = cells.read_floors(Grid(out / "floors").read(cells.floors_cell(trial, manifest)))

    def stored(trial, manifest):
        return Grid(out / "cells").read(cells.trial_cell(trial, manifest, floors, 1, "cpu", None))

    assert stored(trial, manifest) is not None
    for other in (
        dataclasses.replace(trial, source=dataclasses.replace(shipped, sha256="0" * 64)),
        dataclasses.replace(trial, options=json.dumps({**json.loads(trial.options), "samples": 7})),
    ):
        assert stored(other, manifest) is None
    assert stored(trial, evaluation.make_manifest(manifest.env_id, tasks=3, offset=24, budget=30)) is None
    assert {name: floor.success_rate() for name, floor in floors.items()} == {
        name: floor.success_rate() for name, floor in evaluation.floors(manifest).items()
    }


def test_tasks_that_were_put_there_are_used(finished, shipped, tmp_path):
    _, out = finished
    trial = build([shipped], [Protocol(25, 30)], ["gc-idm"], 3)[0][0]
    made = cells.read_tasks(trial, out)
    rows = {name: getattr(made, name)[::-1] for name in ("starts", "goals", "sources")}
    given = dataclasses.replace(made, **rows)
    shutil.copytree(out, tmp_path / "copy")
    given.save(tmp_path / "copy" / "manifests" / f"{trial.tasks_name}.json")
    some = {**SMALL, "agents": ("gc-idm",), "protocols": ("25/30",), "videos": False}
    protocol = run_report(tmp_path / "copy", **some)["tasks"][UMAZE]["protocols"]["25/30"]
    assert protocol["manifest_sha256"] == given.sha256 != made.sha256
    stored = json.loads((tmp_path / "copy" / "cells" / f"{trial.name}.json").read_text())
    before = json.loads((out / "cells" / f"{trial.name}.json").read_text())
    assert stored["outcomes"]["moderate"] == before["outcomes"]["moderate"][::-1]
    assert stored["floor_outcomes"]["noop"]["moderate"] == before["floor_outcomes"]["noop"]["moderate"][::-1]


def test_an_interrupted_report_goes_on_and_damage_is_repaired(finished, tmp_path, monkeypatch):
    content, out = finished
    shutil.copytree(out, tmp_path / "copy")
    copy = tmp_path / "copy"
    lost, damaged, *_ = sorted((copy / "cells").iterdir())
    lost.unlink()
    damaged.write_text("{")
    manifest = sorted((copy / "manifests").iterdir())[0]
    manifest.write_text(manifest.read_text().replace('"budget": 30', '"budget": 31'))
    measured, measure = [], cells.measure

    def counted(trial, *rest):
        measured.append(trial.name)
        return measure(trial, *rest)

    monkeypatch.setattr(cells, "measure", counted)
    again = run_report(copy, **{**SMALL, "videos": False})
    assert sorted(measured) == sorted([lost.stem, damaged.stem])
    rates = [row["all"] for row in again["tasks"][UMAZE]["protocols"]["25/30"]["rows"]]
    assert rates == [row["all"] for row in content["tasks"][UMAZE]["protocols"]["25/30"]["rows"]]


def test_a_report_of_what_is_there_measures_nothing_and_counts_the_rest(finished, tmp_path, monkeypatch):
    content, out = finished
    shutil.copytree(out, tmp_path / "copy")
    sorted((tmp_path / "copy" / "cells").iterdir())[0].unlink()
    (tmp_path / "copy" / "report.json").unlink()
    monkeypatch.setattr(cells, "measure", lambda *_: pytest.fail("measured"))
    again = run_report(tmp_path / "copy", **SMALL, measure=False)
    rows, before = (
        [row for protocol in found["tasks"][UMAZE]["protocols"].values() for row in protocol["rows"]]
        for found in (again, content)
    )
    assert len(rows) == len(before) - 1
    assert again["left_out"] == [f"1 of {len(before)} cells: not measured yet"]


def test_a_report_of_nothing_is_written_and_says_so(tmp_path):
    content = run_report(tmp_path, **{**SMALL, "videos": False}, measure=False)
    assert content["left_out"][-1].endswith("cells: not measured yet")
    assert content["left_out"][-1] in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "success.png").exists()


def test_a_cell_that_fails_is_named_and_the_others_are_kept(finished, tmp_path, monkeypatch):
    _, out = finished
    shutil.copytree(out, tmp_path / "copy")
    lost = sorted((tmp_path / "copy" / "cells").glob("*gc-idm*"))[0]
    lost.unlink()

    def fail(*_: Any) -> None:
        raise RuntimeError("the screws came loose")

    monkeypatch.setattr(cells, "measure", fail)
    with pytest.raises(RuntimeError, match="1 cells failed"):
        run_report(tmp_path / "copy", **SMALL)
    text = (tmp_path / "copy" / "report.md").read_text()
    assert f"- {lost.stem}: RuntimeError: the screws came loose" in text
    assert "| cem-mpc | 5 |" in text


def test_several_seeds_are_listed_and_averaged(finished, other_seed, tmp_path):
    _, out = finished
    shutil.copytree(out, tmp_path / "copy")
    pattern = str(other_seed / "{task}-{seed}" / "agent.safetensors")
    some = {**SMALL, "agents": ("gc-idm",), "protocols": ("25/30",), "checkpoints": (pattern,)}
    content = run_report(tmp_path / "copy", **some)
    row = content["tasks"][UMAZE]["protocols"]["25/30"]["rows"][0]
    assert [cell["training_seed"] for cell in row["cells"]] == [0, 1, 2]
    rates = {one["rate"] for one in row["all"]["moderate"]["each"]}
    assert rates == {row["all"]["moderate"]["rate"]}  # the same weights thrice
    text = (tmp_path / "copy" / "report.md").read_text()
    assert "training seeds 0, 1, 2" in text
    assert "Moderate by training seed: gc-idm (1)" in text


def test_cells_run_in_worker_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "cost_of_a_decision", lambda *_, **__: LATENCY)
    some = {**SMALL, "agents": ("gc-idm",), "protocols": ("25/30",), "workers": 2, "quick": True}
    content = run_report(tmp_path, **some)
    row = content["tasks"][UMAZE]["protocols"]["25/30"]["rows"][0]
    assert row["threads"] == 1
    assert not (tmp_path / "videos").exists()


def test_a_protocol_without_enough_tasks_is_left_out(finished, tmp_path):
    _, out = finished
    with pytest.raises(ValueError, match=r"nothing to evaluate: pointmaze-umaze_5-6_n-3: .* 3 are needed"):
        run_report(tmp_path, **{**SMALL, "protocols": ("5/6",)})
    shutil.copytree(out, tmp_path / "copy")
    content = run_report(tmp_path / "copy", **{**SMALL, "protocols": ("5/6", "25/30")})
    assert "5/6" not in content["tasks"][UMAZE]["protocols"]
    assert "unsolved at the start" in content["left_out"][0]


def test_any_goal_comes_first_with_both_sets_of_tasks(tmp_path):
    some = {**SMALL, "agents": ("gc-idm",), "protocols": ("25/30", "any", "any-2"), "tasks_per_cell": 2}
    content = run_report(tmp_path, **some, videos=False, timing=False)
    parts = content["tasks"][UMAZE]["protocols"]
    sets = {name: (parts[name]["seed"], parts[name]["offset"], parts[name]["budget"]) for name in ("any", "any-2")}
    assert sets == {"any": (7001, "random", 300), "any-2": (7002, "random", 300)}
    made = evaluation.make_manifest("wm/PointMaze-UMaze-v0", tasks=2, offset="random", budget=300, seed=7001)
    assert parts["any"]["manifest_sha256"] == made.sha256
    text = to_markdown(content)
    first, _, rest = text.partition("As shipped:")
    (row,) = [line for line in first.splitlines() if line.startswith(f"| {UMAZE} |")]
    rates = [parts[name]["rows"][0]["all"]["moderate"] for name in ("any", "any-2")]
    low, high = (100 * bound for bound in rates[0]["ci95"])
    assert f"| 300 | {100 * rates[0]['rate']:.1f} [{low:.0f}, {high:.0f}] / {100 * rates[1]['rate']:.1f} |" in row
    assert f"### {UMAZE}, any goal, 300 steps, second set" in rest
    assert rest.index("any goal, 300 steps") < rest.index(f"### {UMAZE}, 25/30") or "25/30" in rest
    assert "any goal, 300 steps |" in (tmp_path / "models.md").read_text()
    del parts["any-2"]  # not measured, as in a report of an earlier version
    assert "] / not measured |" in to_markdown(content)
    del parts["any"]
    assert "nothing told.\n\nNot measured." in to_markdown(content)


def test_a_row_of_another_control_does_not_stand_beside_a_published_number():
    scores = [{"moderate": {"rate": 0.5, "ci95": [0.4, 0.6]}}, {"moderate": {"rate": 0.3, "ci95": [0.2, 0.4]}}]
    row = {"agent": "cem-mpc", "replan_steps": 5, "as_shipped": True, "all": scores[0]}
    entry = {"agent": "cem-mpc", "committed": True, "mode": "moderate"}
    assert _ours(entry, {"rows": [row]}) == ("", "50.0 [40, 60]")
    followed = {**row, "replan_steps": 25, "as_shipped": False, "all": scores[1]}
    assert _ours(entry, {"rows": [row, followed]}) == ("30.0 [20, 40]", "50.0 [40, 60]")
    assert _ours({**entry, "committed": False}, {"rows": [row, followed]})[0] == "50.0 [40, 60]"
    assert _ours(entry, {"rows": [followed]}) == ("30.0 [20, 40]", "")


def test_the_overview_marks_the_best_and_what_is_not_of_all_seeds():
    def row(agent: str, steps: int, all_rate: float, moved_rate: float, seeds: int) -> dict[str, Any]:
        rates = {which: {"moderate": {"rate": r}} for which, r in (("all", all_rate), ("subset", moved_rate))}
        return {"agent": agent, "as_shipped": steps < 25, **rates, "cells": [{}] * seeds, "options": {}}

    rows = [row("gc-idm", 1, 0.5, 0.2, 2), row("cem-mpc", 5, 0.7, 0.1, 1), row("cem-mpc", 25, 0.6, 0.3, 1)]
    rows[0]["options"] = {"countdown": True, "horizon": 25}
    floor = {"random": {"all": {"moderate": {"rate": 0.04}}, "subset": {"moderate": {"rate": 0.0}}}}
    subset = {"label": "it moves", "tasks": 8}
    protocol = {"rows": rows, "floors": floor, "tasks": 10, "subset": subset, "offset": 25, "budget": 50}
    files = [{"seed": seed, "sha256": str(seed), "file": "shipped"} for seed in (0, 1)]
    task = {"checkpoints": files, "protocols": {"25/50": protocol}}
    lines = list(_overview({"tasks": {"pusht": task}}))
    assert lines[1:] == [
        *("", "Any goal: random start and goal, the environment's own step limit, nothing told.", "", "Not measured."),
        *("", "As shipped:", ""),
        *("| task | protocol | gc-idm | cem-mpc | random |", "|---|---|---|---|---|"),
        "| pusht | 25/50 | 50.0‡ | **70.0**† | 4.0 |",
        "| pusht, it moves | 25/50 | **20.0**‡ | 10.0† | 0.0 |",
        *("", "Plans followed for 25 environment steps, or to their end:", ""),
        *("| task | protocol | cem-mpc | random |", "|---|---|---|---|"),
        "| pusht | 25/50 | 60.0† | 4.0 |",
        "| pusht, it moves | 25/50 | 30.0† | 0.0 |",
    ]
    protocol["subset"]["tasks"] = 10  # then it says nothing new
    assert not any("it moves" in line for line in _overview({"tasks": {"pusht": task}}))
