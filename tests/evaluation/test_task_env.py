"""Tasks of a manifest, played in turn in any loop: the same ones, with the same outcomes."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import wm_agents
from wm_agents.evaluation import Manifest, TaskEnv, evaluate, floors, make_manifest

UMAZE = "wm/PointMaze-UMaze-v0"
SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "benchmarks" / "loops.py"


@pytest.fixture(scope="module")
def tasks():
    return make_manifest(UMAZE, tasks=5, offset=40, budget=60, seed=1001)


@pytest.fixture(scope="module")
def loops():
    spec = importlib.util.spec_from_file_location("loops", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn(env, **arguments):
    info = env.reset(**arguments)[1]
    return info["task"], info["state"], info["goal_state"]


def test_each_reset_begins_the_next_task(tasks):
    env = TaskEnv(tasks, obs_type="state")
    assert (env.task, len(env.steps)) == (-1, 5)
    for turn in range(7):
        task, state, goal = drawn(env)
        assert task == env.task == turn % 5
        np.testing.assert_array_equal([state, goal], [tasks.starts[task], tasks.goals[task]])
    some = TaskEnv(tasks, [3, 1], obs_type="state")
    assert [drawn(some)[0] for _ in range(3)] == [3, 1, 3]
    assert drawn(some, options={"task": 1})[0] == 1
    assert drawn(some)[0] == 3
    assert [drawn(env, seed=seed)[0] for seed in (2, 9)] == [2, 4]


def test_what_was_played_to_its_end_counts_once(tasks):
    env = TaskEnv(tasks, obs_type="state")
    env.reset()
    assert np.isnan(env.success_rate)
    env.step(np.zeros(2))
    env.reset()  # the first one was not played to its end
    done = False
    while not done:
        *_, terminated, truncated, info = env.step(np.zeros(2))
        done = terminated or truncated
    assert (info["task"], truncated) == (1, True)
    np.testing.assert_array_equal(env.steps, [-1, 0, -1, -1, -1])
    assert env.success_rate == 0


def test_checkers_accept_it(tasks):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(TaskEnv(tasks), skip_render_check=True)
        sb3_check_env(TaskEnv(tasks, obs_type="state"))


@pytest.mark.parametrize("chosen", [[], [5], [-1], [1.5], 2, slice(0, 2)])
def test_tasks_that_are_not_there_are_refused(tasks, chosen):
    with pytest.raises(ValueError, match="task"):
        TaskEnv(tasks, chosen)


def test_options_are_checked(tasks):
    env = TaskEnv(tasks, [0, 1], obs_type="state")
    with pytest.raises(ValueError, match="Did you mean 'task'"):
        env.reset(options={"tasks": 1})
    with pytest.raises(ValueError, match="task 4 is not among"):
        env.reset(options={"task": 4})
    for options in ([1], "task", 0):
        with pytest.raises(ValueError, match="options must be a dict"):
            env.reset(options=options)
    with pytest.raises(ValueError, match="seed must be at least 0"):
        env.reset(seed=-1)


@pytest.mark.parametrize("wrong", ["tasks.json", None, [[0.0]], Manifest])
def test_tasks_are_a_manifest(wrong):
    for take in (TaskEnv, floors):
        with pytest.raises(ValueError, match=r"must be a Manifest, not .*Manifest.load"):
            take(wrong)


def test_all_loops_play_the_same_tasks(tasks, loops):
    """An agent without memory does the same in each of them."""

    class Pusher:
        """Pushes towards the upper right; its success depends on the task alone."""

        observation_space = wm_agents.load("pointmaze-umaze/gc-idm").observation_space

        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            batch = observation["pixels"].shape[:-3]
            return np.full((*batch, 2), 0.5, np.float32), state

    expected = evaluate(Pusher(), tasks, progress=False).outcomes.moderate
    assert 0 < (expected > 0).sum() < 5
    for name in ("our evaluator", "evaluate_policy", "bare loop", "VecEnv, bare"):
        np.testing.assert_array_equal(loops.LOOPS[name](Pusher(), tasks, 2), expected, err_msg=name)


def test_a_row_is_measured_once_and_shown(loops, tmp_path, monkeypatch, capsys):
    name = "pointmaze-umaze/gc-idm"
    arguments = ["--agents", name, "--protocols", "25/30", "--tasks", "3", "--num-envs", "2", "--seed", "1001"]
    out, page = tmp_path / "loops", tmp_path / "loops.md"
    monkeypatch.setattr(sys, "argv", ["loops.py", *arguments, "--out", str(out), "--page", str(page)])
    loops.main()
    found = [json.loads(path.read_text()) for path in out.iterdir()]
    assert {one["loop"] for one in found} == set(loops.LOOPS)
    outcomes = {one["loop"]: one["outcomes"] for one in found}
    assert outcomes["evaluate_policy"] == outcomes["EvalCallback"] == outcomes["our evaluator"]
    (row,) = [line for line in page.read_text().splitlines() if line.startswith(f"| {name} | 3 |")]
    assert row.count("[") == len(loops.LOOPS)
    assert "## Goals 25/30" in page.read_text()
    monkeypatch.setattr(loops, "measured", lambda *_: pytest.fail("measured again"))
    loops.main()
    assert page.read_text() in capsys.readouterr().out
    (out / sorted(path.name for path in out.iterdir())[0]).unlink()
    assert "not measured |" in loops.page(out)


def test_the_page_is_what_the_results_give(loops):
    root = SCRIPT.parents[2]
    assert (root / "docs" / "loops.md").read_text(encoding="utf-8") == loops.page(root / loops.RESULTS)


def test_an_agent_is_evaluated_on_its_own_environment_after_a_callback(tasks, loops):
    agent = wm_agents.load("pointmaze-umaze/gc-idm")
    loops.with_eval_callback(agent, tasks, 2)
    assert isinstance(agent.get_env().envs[0].unwrapped, type(gym.make(UMAZE).unwrapped))
