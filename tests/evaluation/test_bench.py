from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from rich.console import Console

from wm_agents import evaluation, planning
from wm_agents.evaluation.bench import batch_ratio, bench_planners, plan_rate, planners, print_bench
from wm_agents.evaluation.bench.rates import in_turns
from wm_agents.evaluation.bench.scaling import resized

SMALL: dict[str, Any] = {
    "offset": 10,
    "budget": 10,
    "planners": ("random-shooting", "cem"),
    "envs": (1, 3),
    "samples": (10, 20),
    "horizons": (1, 3),
    "quick": True,
    "options": {"horizon": 2, "samples": 20, "iterations": 2, "objective": "summed", "proposals": "none"},
}


# Rates


def test_calls_take_turns_and_the_first_round_is_for_warming_up():
    order = []

    def call(name: str) -> float:
        order.append(name)
        return float(len(order))

    times = in_turns({"a": lambda: call("a"), "b": lambda: call("b")}, rounds=2)
    assert order == ["a", "b"] * 3
    assert times == {"a": [3, 5], "b": [4, 6]}


def mlp_products(rows: int) -> int:
    """Multiplications of a rollout over 5 blocks from 2 frames: embedding of 6 blocks, then the network 5 times."""
    return rows * (6 * (10 * 128 + 128 * 32) + 5 * (128 * 256 + 256 * 256 + 256 * 32))


def transformer_products(rows: int) -> int:
    """The same for the transformer: the earlier token needs no query, and in the last block key and value alone."""
    width, inner, hidden = 256, 256, 2048
    branch = inner * width + 2 * width * hidden
    first = 2 * inner * width + branch
    now = 3 * inner * width + branch
    blocks = (first + now) + (2 * inner * width + now)
    each = 10 * 4 * width + 4 * width * width + 2 * 6 * width * width + 32 * width  # of 6 actions and 6 latents
    return rows * (6 * each + 5 * (blocks + width * 4 * width + 4 * width * 32))


@pytest.mark.parametrize(("predictor", "products"), [("mlp", mlp_products), ("transformer", transformer_products)])
def test_a_rollout_multiplies_no_more_than_its_predictions_need(predictor, products):
    found = plan_rate(predictor, samples=20, iterations=2, rounds=1)
    assert found["gflop"] == pytest.approx(2 * products(2 * 20 + 1) / 1e9, rel=1e-9)  # and the mean, scored at the end
    assert found["gflops"] == pytest.approx(1000 * found["gflop"] / found["ms"]["best"])
    assert found["share"] == pytest.approx(found["gflops"] / found["product_gflops"])
    assert 0 < found["share"] < 1.2
    assert sum(found["time_shares"].values()) == pytest.approx(1)
    assert found["time_shares"]["matrix products"] > 0  # how much depends on what else the machine does


def test_the_batch_ratio_is_of_the_best_times_and_leaves_the_random_state_alone():
    before = torch.random.get_rng_state()
    found = batch_ratio(envs=3, iterations=1, rounds=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    for times in (found["one_call_ms"], found["single_calls_ms"]):
        assert 0 < times["best"] <= times["median"]
    assert found["ratio"] == found["one_call_ms"]["best"] / found["single_calls_ms"]["best"]


# Parts


def test_the_change_of_actions_leaves_out_the_first_step_of_every_episode():
    scripted = iter([[[0.0], [0.5]], [[1.0], [0.5]], [[0.5]], [[-0.5]]])
    seen = []

    def predict(observation, state, episode_start, deterministic):
        seen.append(state)
        return np.array(next(scripted)), (np.arange(len(observation)),)

    recorder = planners._Recorder(SimpleNamespace(predict=predict, name="scripted"))
    assert recorder.name == "scripted"
    _, state = recorder.predict([0, 0], None, np.array([True, True]))
    _, state = recorder.predict([0, 0], state, np.array([False, True]))  # the second row begins another task
    state = tuple(part[:1] for part in state)  # the evaluator drops the second row
    _, state = recorder.predict([0], state, np.array([False]))
    recorder.predict([0], state, np.array([False]))
    assert np.concatenate(recorder.changes).tolist() == [1.0, 0.5, 1.0]
    assert [None if state is None else len(state) for state in seen] == [None, 1, 1, 1]  # its own part only


@pytest.mark.parametrize("name", planners.SCALED)
def test_a_resized_planner_keeps_its_share_of_elites(name):
    planner = planning.make(name, horizon=4, samples=300, elites=30)
    assert (resized(planner, "samples", 100).samples, resized(planner, "samples", 100).elites) == (100, 10)
    assert resized(planner, "samples", 3).elites == 1
    assert resized(planner, "horizon", 16) == planning.make(name, horizon=16, samples=300, elites=30)
    if name == "mppi":
        assert resized(planning.make(name, horizon=4, elites=None), "samples", 7).elites is None


# The whole


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Any, str]:
    out, text = tmp_path_factory.mktemp("bench") / "new", io.StringIO()
    content = bench_planners("pointmaze-umaze", out=out, console=Console(file=text, width=120), **SMALL)
    return content, out, text.getvalue()


def test_bench_writes_what_it_returns_and_draws_it(finished):
    content, out, printed = finished
    assert json.loads((out / planners.FILE).read_text()) == content
    assert sorted(path.name for path in out.iterdir()) == ["cells", "planners.json", "planners.png"]
    image = imread(out / planners.FIGURE)
    assert image[..., :3].std() > 0.01
    for text in ("cem", "random-shooting", "wm/PointMaze-UMaze-v0: 2 tasks, offset 10, budget 10", "single calls"):
        assert text in printed


def test_bench_measures_every_planner_on_the_same_tasks(finished):
    content, _, _ = finished
    manifest = evaluation.make_manifest("wm/PointMaze-UMaze-v0", tasks=2, offset=10, budget=10)
    assert content["settings"]["manifest_sha256"] == manifest.sha256
    assert set(content["success"]) == set(content["timing"]) == {"cem", "random-shooting"}
    for name, extra in (("random-shooting", 0), ("cem", 1)):  # CEM scores the mean that it returns
        row = content["success"][name]
        assert row["ci95"][0] <= row["success_rate"] <= row["ci95"][1]
        assert row["evaluations_per_plan"] == 2 * (2 * 20 + extra)  # horizon times sequences
        assert 0 < row["action_change"] <= 2
        assert set(content["timing"][name]) == {"1", "3"}
        assert all(0 < ms["best"] <= ms["median"] for ms in content["timing"][name].values())


def test_bench_scales_searches_over_samples_and_horizon(finished):
    curves = finished[0]["scaling"]
    assert set(curves) == {"cem"}  # random shooting has no elites
    assert {over: list(points) for over, points in curves["cem"].items()} == {
        "samples": ["10", "20"],
        "horizon": ["1", "3"],
    }
    assert curves["cem"]["samples"]["10"]["evaluations"] == 2 * 10 + 1
    assert curves["cem"]["horizon"]["3"]["left"] < curves["cem"]["horizon"]["1"]["left"]  # it gets further
    assert all(point["ms"]["best"] > 0 and point["cost"] > 0 for point in curves["cem"]["samples"].values())


def test_a_finished_bench_is_read_not_run_again(finished, monkeypatch):
    content, out, _ = finished
    for part in ("_success", "_timing", "_scaling", "_rates"):
        monkeypatch.setattr(planners, part, lambda *_: pytest.fail("measured again"))
    assert bench_planners("pointmaze-umaze", out=out, **SMALL) == content


def test_an_interrupted_bench_goes_on_where_it_stopped(finished, tmp_path, monkeypatch):
    content, _, _ = finished
    done = []

    def success(agent: Any, name: str, *_: Any) -> dict[str, Any]:
        done.append(name)
        return content["success"][name]

    def interrupted(*_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(planners, "_success", success)
    monkeypatch.setattr(planners, "_timing", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench_planners("pointmaze-umaze", out=tmp_path, **SMALL)
    for part in ("timing", "scaling", "rates"):
        monkeypatch.setattr(planners, f"_{part}", lambda *_, part=part: content[part])
    again = bench_planners("pointmaze-umaze", out=tmp_path, **SMALL)
    assert done == ["random-shooting", "cem"]
    assert {**again, "threads": 0} == {**content, "threads": 0}


def test_bench_takes_a_checkpoint_by_its_path(finished, tmp_path, monkeypatch):
    import wm_agents

    content, _, _ = finished
    path = tmp_path / "mine.safetensors"
    wm_agents.load("pointmaze-umaze/cem").save(path)
    monkeypatch.setattr(planners, "_success", lambda agent, name, *_: content["success"][name])
    for part in ("timing", "scaling", "rates"):
        monkeypatch.setattr(planners, f"_{part}", lambda *_, part=part: content[part])
    found = bench_planners(path, out=tmp_path / "out", **SMALL)
    assert found["settings"]["options"] == content["settings"]["options"]
    assert found["settings"]["checkpoint_sha256"] != content["settings"]["checkpoint_sha256"]


def test_results_of_other_settings_are_not_overwritten(finished):
    _, out, _ = finished
    with pytest.raises(ValueError, match="holds a benchmark with other settings: give another out"):
        bench_planners("pointmaze-umaze", out=out, **{**SMALL, "budget": 11})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"planners": ("cen",)}, "Did you mean 'cem'"),
        ({"planners": ()}, "at least one planner"),
        ({"agent": "pointmaze-umase"}, "Did you mean 'pointmaze-umaze'.*path of a checkpoint"),
        ({"options": {"samplez": 3}}, "Did you mean 'samples'"),
        ({"envs": (0, 2)}, r"envs must be one number or more, each at least 1, not \[0, 2\]"),
        ({"horizons": ()}, "horizons must be one number or more"),
        ({"tasks": 0}, "at least one task"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(change, message, tmp_path):
    arguments = {"agent": "pointmaze-umaze", **SMALL, **change}
    with pytest.raises(ValueError, match=message):
        bench_planners(arguments.pop("agent"), out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_the_table_is_sorted_by_success(finished):
    content = json.loads(json.dumps(finished[0]))
    content["success"]["cem"]["success_rate"], content["success"]["random-shooting"]["success_rate"] = 0.25, 0.75
    text = io.StringIO()
    print_bench(content, Console(file=text, width=120))
    assert text.getvalue().index("random-shooting") < text.getvalue().index("cem ")
