"""The report's parts: which cells there are, of which checkpoints and tasks, and how numbers are made of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from small_report import SMALL, UMAZE

import wm_agents
from wm_agents import evaluation
from wm_agents.evaluation.report import comparison, run_report, subsets, summary
from wm_agents.evaluation.report.comparison import AGENTS, TOLD, Source, build, sources
from wm_agents.evaluation.report.latency import cost_of_a_decision
from wm_agents.evaluation.report.protocols import ANY_GOAL, PROTOCOLS, Protocol
from wm_agents.evaluation.report.published import PUBLISHED, SOURCES
from wm_agents.evaluation.results import action_jerk
from wm_agents.recipes import RECIPES

pytest_plugins = ["small_report"]


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
    planners = [name for name in AGENTS if name not in ("gc-idm", TOLD, "hierarchical")]
    assert steps == {
        ("gc-idm", 1),
        (TOLD, 1),
        ("hierarchical", 1),
        *((name, every) for name in planners for every in (5, 25)),
    }
    told = [cell.protocol for cell in found if cell.agent == TOLD]
    assert [protocol.name for protocol in told] == [name for name in PROTOCOLS if name not in ANY_GOAL]
    assert len(found) - len(told) == len(PROTOCOLS) * (2 + 2 * len(planners))
    assert len(found) == len({cell.name for cell in found})
    for cell in [cell for cell in found if cell.protocol.name == "25/50"]:
        agent = cell.open("cpu")
        assert agent.options() == json.loads(cell.options)  # what is stored is what is run
        if cell.agent in planners:
            assert agent.settings.receding_horizon * agent.world_model.config.action_block == cell.replan_steps
            kind = comparison.kind_of(cell.agent)[0]
            shipped_options = RECIPES[UMAZE].options["cem" if kind == "cem-mpc" else kind]
            assert agent.options().items() >= shipped_options.items()
    optimisers = {cell.agent: json.loads(cell.options).get("optimizer") for cell in found}
    assert (optimisers["gradient-adam"], optimisers["gradient-sgd"]) == ("adam", "sgd")


def test_protocols_longer_than_an_episode_are_left_out_in_words(shipped):
    found, left_out = build([shipped], [Protocol(25, 50), Protocol(250, 500), Protocol("random", 900)], ["gc-idm"], 5)
    assert [cell.protocol.name for cell in found] == ["25/50", "random/900"]
    assert left_out == ["pointmaze-umaze 250/500: episodes have 300 steps"]


def test_any_goal_has_the_environments_own_limit_and_seeds_of_its_own(shipped):
    protocols = [Protocol.parse(name) for name in (*ANY_GOAL, "random/300")]
    found, _ = build([shipped], protocols, ["gc-idm"], 2)
    drawn = [(cell.protocol.offset, cell.protocol.budget, cell.protocol.seed) for cell in found]
    assert drawn == [("random", 300, 7001), ("random", 300, 7002), ("random", 300, 0)]
    assert len({cell.name for cell in found}) == len({cell.tasks_name for cell in found}) == 3
    assert all("horizon" not in json.loads(cell.overrides) for cell in found), "nothing is told"


def test_a_gc_idm_that_is_told_as_shipped_has_one_row(tmp_path):
    wm_agents.load(f"{UMAZE}/gc-idm", horizon=25, countdown=True).save(tmp_path / "agent.safetensors")
    counting = Source(UMAZE, 1, "", str(tmp_path / "agent.safetensors"))
    assert [cell.agent for cell in build([counting], [Protocol(50, 100)], ["gc-idm", TOLD], 2)[0]] == ["gc-idm"]
    shipped = sources([UMAZE], [])
    told = build(shipped, [Protocol(50, 100)], [TOLD], 2)[0][0].open("cpu").settings
    assert (told.horizon, told.countdown) == (50, True)


def test_an_agent_that_estimates_the_distance_is_not_told():
    counting, waypoints = {"countdown": True, "horizon": 25}, {"high": "waypoints", "horizon": "estimated"}
    assert comparison.is_told(counting, 50)
    assert comparison.is_told({**waypoints, "horizon": 25}, 50)
    assert not comparison.is_told(counting, "random")
    assert not any(comparison.is_told(options, 50) for options in (waypoints, {"horizon": "auto"}, {"horizon": 25}))


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
    assert build([counting], protocols, ["gc-idm"], 2)[0][0].open("cpu").settings.horizon == 50


def test_a_shipped_agent_of_waypoints_is_not_told_how_far_the_goal_is() -> None:
    cells, _ = build(comparison.sources(["pusht"], []), [Protocol(75, 150)], ["hierarchical"], 2)
    assert [json.loads(cell.options)["horizon"] for cell in cells] == ["auto"]
    assert cells[0].open("cpu").settings.horizon == "auto"
    assert comparison.is_told({"high": "waypoints", "horizon": 25}, 75), "one that counts down from a number is"


def test_bf16_is_for_planners_that_sample_and_only_where_asked_or_native(shipped, monkeypatch):
    monkeypatch.setattr(comparison.torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert comparison.faster_precision("cem-mpc") == "bf16"
    assert comparison.faster_precision("gradient") == "fp32"
    monkeypatch.setattr(comparison.torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(comparison.torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert comparison.faster_precision("cem-mpc") == "fp32"
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
    from wm_agents.evaluation.report import latency

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
