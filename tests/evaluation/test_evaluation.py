"""The evaluator: what it counts, measures and reports, whatever the number of environments."""

import dataclasses
import io
import itertools
import json

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
from chaser import UMAZE, Chaser, space_of
from rich.console import Console

import wm_agents.envs
from wm_agents.evaluation import Manifest, evaluate, floors, make_manifest, maze_figure, print_report, write_video
from wm_agents.types import DecisionRecord

pytest_plugins = ["chaser"]


# The evaluator


def test_a_competent_agent_succeeds_from_pixels(result):
    assert result.success_rate >= 0.8
    content = result.to_dict()
    assert content["strict"]["success_rate"] <= content["success_rate"]
    assert content["floors"]["noop"] < content["success_rate"]


def test_outcomes_agree_with_the_states_on_the_path(result, manifest):
    env = gym.make(UMAZE, obs_type="state")
    for mode in ("moderate", "strict"):
        for path, goal, step in zip(result.paths, manifest.goals, result.outcomes.steps(mode), strict=True):
            held = env.unwrapped.successes(path, np.broadcast_to(goal, path.shape))[mode]
            assert step == (np.argmax(held) if held.any() else 0)
    for i, path in enumerate(result.paths):
        np.testing.assert_array_equal(path[0], manifest.starts[i])
        assert len(path) - 1 == (result.outcomes.strict[i] or manifest.budget)
    env.close()


@pytest.mark.parametrize("obs_type", ["state", "pixels"])
def test_outcomes_do_not_depend_on_num_envs(manifest, obs_type):
    runs = [evaluate(Chaser(obs_type), manifest, num_envs=n, progress=False) for n in (1, 3, 16)]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].outcomes.moderate, other.outcomes.moderate)
        np.testing.assert_array_equal(runs[0].outcomes.strict, other.outcomes.strict)
        for path, same in zip(runs[0].paths, other.paths, strict=True):
            np.testing.assert_array_equal(path, same)
    assert [run.num_envs for run in runs] == [1, 3, 10]


def test_tasks_begin_together_and_leave_the_batch_when_they_end(manifest):
    agent = Chaser("state")
    result = evaluate(agent, manifest, num_envs=4, seed=7, progress=False)
    begins = [*np.flatnonzero(agent.starts), len(agent.rows)]
    assert [agent.rows[step] for step in begins[:-1]] == [4, 3, 3]
    for first, last in itertools.pairwise(begins):
        assert agent.rows[first:last] == sorted(agent.rows[first:last], reverse=True)
    assert sum(agent.rows) == sum(len(path) - 1 for path in result.paths)
    assert agent.seeds == [7]
    assert len(result.timings.ms_per_step) == len(agent.rows)
    assert result.to_dict()["ms_per_plan"] == {"median": None, "p95": None, "mean": None}


def test_without_a_seed_an_agent_keeps_its_own(manifest):
    agent = Chaser("state")
    agent.seed = 3
    result = evaluate(agent, manifest, progress=False)
    assert (agent.seeds, result.seed) == ([], 3)


def test_decision_records_are_counted_per_step_and_per_plan(manifest):
    class Planner(Chaser):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            rows, plans = len(episode_start), int(episode_start.sum())
            self.last_decision = DecisionRecord(2.0 * rows, 6.0 * plans, plans, 900 * plans)
            return super().predict(observation, state, episode_start, deterministic)

    content = evaluate(Planner(), manifest, num_envs=4, progress=False).to_dict()
    assert content["plans"] == 10
    assert content["ms_per_plan"]["median"] == content["ms_per_plan"]["p95"] == 6.0
    assert content["evaluations_per_plan"] == 900
    assert content["ms_per_step"]["encode"]["median"] == 2.0
    assert content["ms_per_step"]["plan"]["median"] == 0.0


def test_sb3_agents_are_evaluated_as_they_are(manifest):
    from stable_baselines3 import SAC

    env = gym.make(UMAZE, obs_type="state")
    agent = SAC("MultiInputPolicy", env, buffer_size=10, policy_kwargs={"net_arch": [8]}, seed=0)
    runs = [evaluate(agent, manifest, num_envs=5, progress=False) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].outcomes.moderate, runs[1].outcomes.moderate)
    assert runs[0].to_dict()["agent"] == "SAC"


def test_image_size_and_obs_type_follow_the_agent(manifest):
    class Looker(Chaser):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            assert observation["pixels"].shape[1:] == (32, 32, 3)
            assert observation["desired_goal"].shape[1:] == (2,)
            return np.zeros((len(episode_start), 2), np.float32), None

    agent = Looker("pixels_state")
    channels_first = dict(space_of("pixels_state", image_size=32).spaces)
    for key in ("pixels", "goal_pixels"):  # as SB3's VecTransposeImage has them
        channels_first[key] = gym.spaces.Box(0, 255, (3, 32, 32), np.uint8)
    agent.observation_space = gym.spaces.Dict(channels_first)
    short = Manifest(UMAZE, "", 25, 3, 0, manifest.starts[:2], manifest.goals[:2], [])
    assert evaluate(agent, short, progress=False).num_envs == 2


def test_bad_agents_get_a_clear_error(manifest):
    class Bad(Chaser):
        answer = np.zeros((3, 2), np.float32)

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return self.answer, state

    with pytest.raises(ValueError, match=r"shape \(2, 2\).*got shape \(3, 2\)"):
        evaluate(Bad(), manifest, num_envs=2, progress=False)
    Bad.answer = np.full((2, 2), np.nan)
    with pytest.raises(ValueError, match="4 values not finite"):
        evaluate(Bad(), manifest, num_envs=2, progress=False)
    agent = Chaser()
    agent.action_space = gym.spaces.Box(-1, 1, (5,))
    with pytest.raises(ValueError, match=r"\(5,\).*\(2,\).*trained on"):
        evaluate(agent, manifest, progress=False)
    agent.observation_space = gym.spaces.Dict({"image": gym.spaces.Box(0, 1, (2,))})
    with pytest.raises(ValueError, match="no obs_type"):
        evaluate(agent, manifest, progress=False)
    with pytest.raises(ValueError, match="num_envs"):
        evaluate(Chaser(), manifest, num_envs=0)
    with pytest.raises(ValueError, match=r"tasks \[10\].*0 to 9"):
        evaluate(Chaser(), manifest, video=[10])


def test_floors(manifest):
    found = floors(manifest, seed=0)
    assert set(found) == {"random", "noop"}
    again = floors(Manifest.from_json(manifest.to_json()), seed=0)
    np.testing.assert_array_equal(found["random"].moderate, again["random"].moderate)
    at_rest = make_manifest(UMAZE, tasks=20, offset="random", budget=30)
    rested = floors(at_rest)
    assert rested["noop"].success_rate() == 0
    assert (rested["random"].strict >= rested["random"].moderate)[rested["random"].strict > 0].all()

    class Zeros:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.zeros((len(episode_start), 2), np.float32), None

    zeros = evaluate(Zeros(), manifest, progress=False)
    np.testing.assert_array_equal(zeros.outcomes.moderate, found["noop"].moderate)
    np.testing.assert_array_equal(zeros.outcomes.strict, found["noop"].strict)


def test_executed_actions_are_kept_and_known_floors_are_not_measured_again(result, manifest, monkeypatch):
    for path, actions in zip(result.paths, result.actions, strict=True):
        assert actions.shape == (len(path) - 1, 2)
        assert np.abs(actions).max() <= 1
    expected = [np.square(np.diff(actions, n=3, axis=0)).mean() for actions in result.actions if len(actions) > 3]
    assert result.to_dict()["jerk"] == pytest.approx(np.mean(expected))
    monkeypatch.setattr("wm_agents.evaluation.evaluator.floors", lambda *_: pytest.fail("measured again"))
    again = evaluate(Chaser("state"), manifest, progress=False, known_floors=result.floors)
    assert again.floors is result.floors


# Tasks whose strict test does not include the moderate one


def pusht_manifest(budget=8):
    """PushT from rest: 0 strict only, 1 moderate only, 2 both, 3 neither, whatever the agent, which stays."""
    start = np.array([100.0, 100.0, 256.0, 256.0, 0.0, 0, 0, 0, 0, 0])
    goals = np.repeat(start[None], 4, axis=0)
    goals[0, :2] = [400.0, 400.0]  # strict does not ask where the agent is
    goals[1, 2] += 15.0  # the block is 15 px off
    goals[3, 2:4] += 100.0
    return Manifest("wm/PushT-v0", "", 5, budget, 0, np.repeat(start[None], 4, axis=0), goals, [])


class Still:
    """Does nothing, from states."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.zeros((len(episode_start), 2), np.float32), None


@pytest.mark.parametrize("num_envs", [1, 3])
def test_both_tests_are_recorded_independently(num_envs):
    manifest = pusht_manifest()
    result = evaluate(Still(), manifest, num_envs=num_envs, progress=False)
    np.testing.assert_array_equal(result.outcomes.moderate, [0, 1, 1, 0])
    np.testing.assert_array_equal(
        result.outcomes.strict, [2, 0, 2, 0]
    )  # the third state in a row, the start's included
    assert [len(path) - 1 for path in result.paths] == [8, 8, 2, 8]
    np.testing.assert_array_equal(result.floors["noop"].moderate, result.outcomes.moderate)
    np.testing.assert_array_equal(result.floors["noop"].strict, result.outcomes.strict)


@pytest.mark.parametrize("env_id", ["wm/PushT-v0", "wm/Reacher-v0", "wm/Cube-Single-v0"])
def test_every_task_is_evaluated_and_filmed(env_id, tmp_path):
    class Restless:
        def __init__(self):
            self.space = gym.make(env_id, obs_type="state").action_space
            self.space.seed(0)

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            assert observation["pixels"].shape[1:] == (64, 64, 3)
            return np.stack([self.space.sample() for _ in episode_start]), None

    manifest = make_manifest(env_id, tasks=3, offset="random", budget=4)
    result = evaluate(Restless(), manifest, num_envs=2, video=2, progress=False)
    content = result.to_dict()
    assert content["env_id"] == env_id
    assert set(content["floors"]) == {"random", "noop"}
    console = Console(file=io.StringIO(), width=140)
    print_report([result], console)
    assert content["task"] in console.file.getvalue()
    write_video(tmp_path / "tasks.gif", result.recordings, fps=10)
    assert iio.imread(tmp_path / "tasks.gif").shape[1:] == (268, 528, 3)
    with gym.make(env_id) as env, pytest.raises(ValueError, match=r"maze_figure.*has none.*write_video"):
        maze_figure(env, result.paths, manifest.starts, manifest.goals, result.outcomes.moderate > 0)


# Reports


def test_json_has_the_promised_keys_and_no_nan(result, manifest, tmp_path):
    provenance = {"loss": float("nan"), "seed": np.int64(3), "path": tmp_path}
    path = tmp_path / "result.json"
    dataclasses.replace(result, provenance=provenance).save(path)

    def refuse(name):
        raise AssertionError(name)

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content["provenance"] == {"loss": None, "seed": 3, "path": str(tmp_path)}
    assert content["agent"] == "chaser"
    assert content["task"] == "pointmaze-umaze"
    assert content["manifest_sha256"] == manifest.sha256
    assert (content["tasks"], content["offset"], content["budget"], content["seed"]) == (10, 25, 40, 3)
    low, high = content["ci95"]
    assert 0 <= low <= content["success_rate"] <= high <= 1
    assert set(content["floors"]) == {"random", "noop"}
    assert content["steps_to_success"]["median"] > 0
    for key in ("ms_per_step", "ms_per_plan"):
        assert {"median", "p95"} <= set(content[key])
    assert content["evaluations_per_plan"] is None
    assert content["version"] == wm_agents.version.__version__
    assert content["num_envs"] == 4
    assert content["threads"] >= 1
    solved = [step is not None for step in content["outcomes"]["moderate"]]
    assert np.mean(solved) == content["success_rate"]


def test_report_shows_agents_floors_and_paired_tests(result, manifest):
    other = evaluate(Chaser(gain=-1.0), manifest, progress=False, name="runaway")
    console = Console(file=io.StringIO(), width=140)
    print_report([result, other], console)
    text = console.file.getvalue()
    for word in ("chaser", "runaway", "random", "noop", "10 tasks", "offset 25", "McNemar", manifest.sha256[:12]):
        assert word in text
    assert f"{100 * result.success_rate:.1f}% [" in text
    with pytest.raises(ValueError, match="no results"):
        print_report([], console)
