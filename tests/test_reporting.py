"""The report: what it measures, what it does not measure again, and what it says."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

import wm_agents
from wm_agents import evaluation
from wm_agents.evaluation.report import action_jerk
from wm_agents.recipes import RECIPES
from wm_agents.reporting import cells, grid, run, run_report, subsets, summary
from wm_agents.reporting.grid import AGENTS, PROTOCOLS, Protocol, Source, build, sources
from wm_agents.reporting.latency import cost_of_a_decision
from wm_agents.reporting.markdown import _ours, _overview, to_markdown
from wm_agents.reporting.published import PUBLISHED, SOURCES

UMAZE = "pointmaze-umaze"
SMALL: dict[str, Any] = {
    "tasks": (UMAZE,), "agents": ("gc-idm", "cem-mpc"), "protocols": ("20/20", "25/30"), "tasks_per_cell": 3,
    "workers": 0, "command": "wm-agents report --small",
}  # fmt: skip
LATENCY = {"device": "cpu", "plan": {"samples": 300, "iterations": 30, "horizon": 5}, "threads": {
    "1": {"decision_ms": {"best": 1.0, "median": 1.5}, "plan_ms": {"best": 150.0, "median": 160.0}, "ratio": 150.0}
}}  # fmt: skip


@pytest.fixture(scope="module")
def shipped() -> Source:
    return sources([UMAZE], [])[0]


@pytest.fixture(scope="module")
def other_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of seed 1: the shipped one under another name, with other provenance."""
    folder = tmp_path_factory.mktemp("runs")
    for task, seed in ((UMAZE, 0), (UMAZE, 1), (UMAZE, 2)):
        agent = wm_agents.load(f"{task}/gc-idm")
        agent.provenance = {**agent.provenance, "seed": seed, "note": "a copy"}
        agent.save(folder / f"{task}-{seed}" / "agent.safetensors")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("report") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "cost_of_a_decision", lambda *_, **__: LATENCY)
        return run_report(out, console=Console(file=io.StringIO()), **SMALL), out


# What is compared


def test_protocols_are_read_as_they_are_written():
    assert [Protocol.parse(text).name for text in (*PROTOCOLS, "random/300")] == [*PROTOCOLS, "random/300"]
    assert Protocol.parse("25/50") == Protocol(25, 50)
    for text in ("25", "25/0", "0/5", "25/-50", "a/b", "25/50/75", "random/"):
        with pytest.raises(ValueError, match="OFFSET/BUDGET"):
            Protocol.parse(text)


def test_the_grid_has_every_planner_as_shipped_and_following_its_plan_for_25_steps(shipped):
    found, left_out = build([shipped], [Protocol.parse(name) for name in PROTOCOLS], list(AGENTS), 20)
    assert not left_out
    steps = {(cell.agent, cell.replan_steps) for cell in found}
    assert steps == {("gc-idm", 1), *((name, every) for name in AGENTS if name != "gc-idm" for every in (5, 25))}
    assert len(found) == len(PROTOCOLS) * (1 + 2 * (len(AGENTS) - 1)) == len({cell.name for cell in found})
    for cell in found[:: len(PROTOCOLS)]:
        agent = cell.open("cpu")
        assert agent.options() == json.loads(cell.options)  # what is stored is what is run
        if cell.agent != "gc-idm":
            assert agent.receding_horizon * agent.world_model.config.action_block == cell.replan_steps
            shipped_options = RECIPES[UMAZE].options[grid.kind_of(cell.agent)[0]]
            assert agent.options().items() >= shipped_options.items()
    optimisers = {cell.agent: json.loads(cell.options).get("optimizer") for cell in found}
    assert (optimisers["gradient-adam"], optimisers["gradient-sgd"]) == ("adam", "sgd")


def test_protocols_longer_than_an_episode_are_left_out_in_words(shipped):
    found, left_out = build([shipped], [Protocol(25, 50), Protocol(250, 500), Protocol("random", 900)], ["gc-idm"], 5)
    assert [cell.protocol.name for cell in found] == ["25/50", "random/900"]
    assert left_out == ["pointmaze-umaze 250/500: episodes have 300 steps"]


def test_an_agent_that_a_checkpoint_cannot_make_is_left_out_in_words(shipped, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("fit one first.")

    monkeypatch.setattr(Source, "open", refuse)
    found, left_out = build([shipped], [Protocol(25, 50)], ["gc-idm"], 5)
    assert not found
    assert left_out == ["pointmaze-umaze gc-idm, seed 0: fit one first."]


def test_a_gc_idm_that_counts_down_is_told_how_far_the_goal_is(tmp_path):
    agent = wm_agents.load(f"{UMAZE}/gc-idm", horizon=25, countdown=True)
    agent.save(tmp_path / "agent.safetensors")
    counting = Source(UMAZE, 1, "", str(tmp_path / "agent.safetensors"))
    protocols = [Protocol(50, 100), Protocol("random", 300)]
    told = [json.loads(cell.options)["horizon"] for cell in build([counting], protocols, ["gc-idm"], 2)[0]]
    assert told == [50, 25]
    assert build([counting], protocols, ["gc-idm"], 2)[0][0].open("cpu").horizon == 50


def test_an_agent_of_waypoints_is_told_how_far_the_goal_is() -> None:
    cells, _ = build(grid.sources(["pusht"], []), [Protocol(75, 150)], ["hierarchical"], 2)
    assert [json.loads(cell.options)["horizon"] for cell in cells] == [75]
    assert cells[0].open("cpu").horizon == 75


def test_bf16_is_for_planners_that_sample_and_only_where_asked_or_native(shipped, monkeypatch):
    monkeypatch.setattr(grid.torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert grid.faster_precision("cem-mpc") == "bf16"
    assert grid.faster_precision("gradient") == "fp32"
    monkeypatch.setattr(grid.torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(grid.torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert grid.faster_precision("cem-mpc") == "fp32"
    found, _ = build([shipped], [Protocol(25, 50)], ["gradient-sgd"], 5, "bf16")
    assert {json.loads(cell.options)["precision"] for cell in found} == {"bf16"}


def test_seeds_are_found_by_pattern_and_by_file(other_seed):
    pattern = str(other_seed / "{task}-{seed}" / "agent.safetensors")
    found = sources([UMAZE], [pattern])
    assert [(source.task, source.seed) for source in found] == [(UMAZE, 0), (UMAZE, 1), (UMAZE, 2)]
    assert found[0].path is None  # seed 0 is the shipped one
    assert found[0].sha256 != found[1].sha256 != found[2].sha256
    one = sources([], [str(other_seed / f"{UMAZE}-1" / "agent.safetensors")])
    assert {source.task for source in one if source.path is None} == set(wm_agents.agents.loading.shipped())
    assert [source.seed for source in one if source.task == UMAZE] == [0, 1]


def test_wrong_sources_are_named(other_seed, tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'pointmaze-umaze'"):
        sources(["pointmaze-umase"], [])
    with pytest.raises(ValueError, match="there is no checkpoint nowhere"):
        sources([], ["nowhere.safetensors"])
    with pytest.raises(ValueError, match="no file matches"):
        sources([], [str(tmp_path / "{task}-{seed}.safetensors")])
    with pytest.raises(ValueError, match="seed 0, and so is the shipped checkpoint"):
        sources([], [str(other_seed / f"{UMAZE}-0" / "agent.safetensors")])
    copy = tmp_path / "copy.safetensors"
    agent = wm_agents.load(other_seed / f"{UMAZE}-1" / "agent.safetensors")
    agent.provenance = {**agent.provenance, "note": "another"}
    agent.save(copy)
    with pytest.raises(ValueError, match=r"seed 1, and so is .*agent\.safetensors"):
        sources([], [str(other_seed / f"{UMAZE}-1" / "agent.safetensors"), str(copy)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("cheese",)}, "cheese"),
        ({"agents": ("gc-idm", "cem-mpk")}, "Did you mean 'cem-mpc'"),
        ({"protocols": ("25-50",)}, "OFFSET/BUDGET"),
        ({"protocols": ("250/500",)}, "nothing to evaluate: pointmaze-umaze 250/500: episodes have 300 steps"),
        ({"agents": ()}, "nothing to evaluate"),
        ({"tasks_per_cell": 0}, "tasks_per_cell must be at least 1"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"quick": True, "checkpoints": ("a",)}, "quick report is of the shipped checkpoints"),
    ],
)
def test_bad_settings_name_the_way_out(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_report(tmp_path, **{**SMALL, **options})
    assert not list(tmp_path.iterdir())


# Where an object must move


def test_where_the_block_of_pusht_must_move():
    starts = np.zeros((4, 10))
    starts[:, 2:4] = 100.0
    goals = starts.copy()
    goals[0, :2] += 300.0  # the agent alone
    goals[1, 2:4] += (12.0, 16.0)  # 20 px: not more
    goals[2, 2:4] += (13.0, 16.0)
    goals[3, 4] += 3.0  # turns on the spot
    manifest = evaluation.Manifest("wm/PushT-v0", "play", 25, 50, 0, starts, goals, [])
    assert subsets.must_move(manifest).tolist() == [False, False, True, False]


@pytest.mark.parametrize("env_id", list(subsets.RULES))
def test_rules_name_coordinates_that_the_states_have(env_id):
    import gymnasium as gym

    env: Any = gym.make(env_id, obs_type="state").unwrapped
    for names in subsets.RULES[env_id].objects:
        assert set(names) <= set(env.state_names)
    state = env.sample_state(np.random.default_rng(0))
    moved = np.tile(state, (2, 1))
    moved[1, env.state_names.index(subsets.RULES[env_id].objects[-1][0])] += 1.01 * subsets.RULES[env_id].distance
    manifest = evaluation.Manifest(env_id, "", "random", 9, 0, np.tile(state, (2, 1)), moved, [])
    assert subsets.must_move(manifest).tolist() == [False, True]
    env.close()


def test_mazes_have_no_object(finished):
    content, _ = finished
    assert content["tasks"][UMAZE]["protocols"]["25/30"]["subset"] is None


# Numbers


def test_jerk_is_the_mean_square_of_the_third_difference():
    t = np.arange(10.0)[:, None]
    assert action_jerk([t**2]) == pytest.approx(0.0)
    assert action_jerk([t**3]) == pytest.approx(36.0)  # third difference 6
    assert action_jerk([t**3, 0 * t]) == pytest.approx(18.0)  # tasks count alike
    assert action_jerk([np.hstack([t**3, 0 * t])]) == pytest.approx(18.0)
    assert action_jerk([t[:3]]) is None
    assert action_jerk([]) is None


def test_scores_over_seeds_are_the_mean_with_the_interval_of_one_set_of_tasks():
    solved = {
        0: {"moderate": np.array([1, 1, 1, 0], bool), "strict": np.zeros(4, bool)},
        1: {"moderate": np.array([1, 0, 0, 0], bool), "strict": np.ones(4, bool)},
    }
    found = summary._scores(solved, np.ones(4, bool))
    assert found["moderate"]["rate"] == 0.5
    assert found["moderate"]["ci95"] == list(evaluation.wilson_interval(2, 4))
    assert [one["rate"] for one in found["moderate"]["each"]] == [0.75, 0.25]
    part = summary._scores(solved, np.array([1, 1, 0, 0], bool))
    assert [one["rate"] for one in part["moderate"]["each"]] == [1.0, 0.5]
    assert part["strict"]["rate"] == 0.5


def test_a_decision_costs_less_than_a_plan_and_threads_are_put_back(shipped, monkeypatch):
    from wm_agents.reporting import latency

    monkeypatch.setattr(latency, "PAPER", {**latency.PAPER, "samples": 30, "elites": 3, "iterations": 3})
    before = latency.torch.get_num_threads()
    found = cost_of_a_decision(shipped, "cpu", threads=(1, 1), rounds=1)
    assert latency.torch.get_num_threads() == before
    assert list(found["threads"]) == ["1"]
    one = found["threads"]["1"]
    assert one["ratio"] == one["plan_ms"]["best"] / one["decision_ms"]["best"] > 1
    assert found["plan"]["samples"] == 30


def test_published_numbers_have_sources_and_rows_of_ours():
    for entry in PUBLISHED:
        assert entry.source in SOURCES
        assert entry.agent in (None, *AGENTS)
        assert entry.mode in summary.MODES
        assert entry.protocol in PROTOCOLS
        assert 0 <= entry.success <= 100
    assert len(set(PUBLISHED)) == len(PUBLISHED)


# The whole


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


def test_a_finished_report_is_read_not_measured_again(finished, monkeypatch):
    content, out = finished
    for name in ("measure", "write_tasks"):
        monkeypatch.setattr(cells, name, lambda *_, name=name: name == "write_tasks" or pytest.fail("measured again"))
    monkeypatch.setattr(run, "cost_of_a_decision", lambda *_, **__: pytest.fail("measured again"))
    assert run_report(out, **SMALL)["tasks"] == content["tasks"]


def test_cells_of_other_weights_tasks_or_options_do_not_count(finished, shipped):
    _, out = finished
    cell = build([shipped], [Protocol(25, 30)], ["cem-mpc"], 3)[0][0]
    manifest, floors = cells.read_tasks(cell, out)
    assert cells.read_cell(cell, out, manifest) is not None
    for other in (
        dataclasses.replace(cell, source=dataclasses.replace(shipped, sha256="0" * 64)),
        dataclasses.replace(cell, options=json.dumps({**json.loads(cell.options), "samples": 7})),
    ):
        assert cells.read_cell(other, out, manifest) is None
    assert cells.read_cell(cell, out, evaluation.make_manifest(manifest.env_id, tasks=3, offset=24, budget=30)) is None
    assert {name: floor.success_rate() for name, floor in floors.items()} == {
        name: floor.success_rate() for name, floor in evaluation.floors(manifest).items()
    }


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
    monkeypatch.setattr(cells, "measure", lambda cell, *rest: (measured.append(cell.name), measure(cell, *rest)))
    again = run_report(copy, **{**SMALL, "videos": False})
    assert sorted(measured) == sorted([lost.stem, damaged.stem])
    rates = [row["all"] for row in again["tasks"][UMAZE]["protocols"]["25/30"]["rows"]]
    assert rates == [row["all"] for row in content["tasks"][UMAZE]["protocols"]["25/30"]["rows"]]


def test_a_report_of_what_is_there_measures_nothing_and_counts_the_rest(finished, tmp_path, monkeypatch):
    content, out = finished
    shutil.copytree(out, tmp_path / "copy")
    lost = sorted((tmp_path / "copy" / "cells").iterdir())[0]
    lost.unlink()
    monkeypatch.setattr(cells, "measure", lambda *_: pytest.fail("measured"))
    again = run_report(tmp_path / "copy", **SMALL, measure=False)
    rows, before = (
        [row for protocol in found["tasks"][UMAZE]["protocols"].values() for row in protocol["rows"]]
        for found in (again, content)
    )
    assert len(rows) == len(before) - 1
    assert again["left_out"] == [f"1 of {len(before)} cells: not measured yet"]


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
    assert list(content["tasks"][UMAZE]["protocols"]) == ["25/30"]
    assert "unsolved at the start" in content["left_out"][0]


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
        return {"agent": agent, "as_shipped": steps < 25, **rates, "cells": [{}] * seeds}

    rows = [row("gc-idm", 1, 0.5, 0.2, 2), row("cem-mpc", 5, 0.7, 0.1, 1), row("cem-mpc", 25, 0.6, 0.3, 1)]
    floor = {"random": {"all": {"moderate": {"rate": 0.04}}, "subset": {"moderate": {"rate": 0.0}}}}
    protocol = {"rows": rows, "floors": floor, "tasks": 10, "subset": {"label": "it moves", "tasks": 8}}
    task = {"checkpoints": [{}, {}], "protocols": {"25/50": protocol}}
    lines = list(_overview({"tasks": {"pusht": task}}))
    assert lines[1:] == [
        *("", "As shipped:", ""),
        *("| task | protocol | gc-idm | cem-mpc | random |", "|---|---|---|---|---|"),
        "| pusht | 25/50 | 50.0 | **70.0**† | 4.0 |",
        "| pusht, it moves | 25/50 | **20.0** | 10.0† | 0.0 |",
        *("", "Plans followed for 25 environment steps, or to their end:", ""),
        *("| task | protocol | cem-mpc | random |", "|---|---|---|---|"),
        "| pusht | 25/50 | 60.0† | 4.0 |",
        "| pusht, it moves | 25/50 | 30.0† | 0.0 |",
    ]
    protocol["subset"]["tasks"] = 10  # then it says nothing new
    assert not any("it moves" in line for line in _overview({"tasks": {"pusht": task}}))
