"""Policies that play with cubes: they repeat, carry, stack and push, and make held-out tasks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from cubes import DOUBLE, SINGLE, start

from wm_agents.datasets import POLICIES, episode_seed, rollout_states
from wm_agents.datasets.episodes import rollout
from wm_agents.envs.cube import CubeDouble
from wm_agents.evaluation.tasks import make_manifest


@pytest.mark.parametrize("name", ["oracle-play", "random-play", "smooth-random"])
def test_policies_repeat_and_leave_numpys_generator_alone(name):
    before = np.random.get_state()[1].copy()
    first = rollout_states(DOUBLE, name, 30, episode_seed("collect", 3, 5))
    np.random.random(3)
    again = rollout_states(CubeDouble(obs_type="state"), name, 30, episode_seed("collect", 3, 5))
    np.random.set_state(("MT19937", before, 624, 0, 0.0))
    other = rollout_states(DOUBLE, name, 30, episode_seed("collect", 3, 6))
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])
    assert first[1].dtype == np.float32
    assert np.abs(first[1]).max() <= 1


def test_oracles_carry_cubes_to_their_goals():
    moved, lifted, arrived = [], [], []
    for index in range(4):
        run = rollout(SINGLE, "oracle-play", 100, episode_seed("collect", 1, index))
        poses = SINGLE.cube_poses(run.states)[:, 0, :3]
        goals = SINGLE.cube_poses(run.goal_states)[:, 0, :3]
        for goal in np.unique(run.goal_states, axis=0):
            SINGLE.validate_state(goal)
        moved.append(np.linalg.norm(poses - poses[0], axis=1).max())
        lifted.append(poses[:, 2].max())
        arrived.append(np.linalg.norm(poses - goals, axis=1).min())
    assert np.median(moved) > 0.1
    assert np.median(lifted) > 0.08
    assert np.median(arrived) < 0.04


def test_two_cubes_are_stacked_and_the_top_one_is_taken():
    oracle = POLICIES.get("oracle-play")(DOUBLE, np.random.default_rng(0))
    state = start(DOUBLE)
    below, above = DOUBLE.cube_poses(state)
    above[:3] = below[:3] + np.array([0, 0, 0.04])
    for _ in range(5):
        goal = oracle._new_goal(state)
        np.testing.assert_array_equal(DOUBLE.cube_poses(goal)[0], below)
    flat = start(DOUBLE)
    heights = [DOUBLE.cube_poses(oracle._new_goal(flat))[:, 2].max() for _ in range(30)]
    assert 5 < np.isclose(heights, 0.06).sum() < 25


def test_random_play_moves_cubes():
    moved = 0
    for index in range(4):
        states, _ = rollout_states(SINGLE, "random-play", 120, episode_seed("collect", 2, index))
        poses = SINGLE.cube_poses(states)[:, 0, :3]
        moved += np.linalg.norm(poses - poses[0], axis=1).max() > 0.04
    assert moved >= 3


@pytest.mark.parametrize("name", ["oracle-play", "random-play"])
def test_policies_need_cubes(name):
    task: Any = SimpleNamespace(action_space=gym.spaces.Box(-1, 1, (2,)))
    with pytest.raises(ValueError, match=r"wm/Cube-Single-v0.*smooth-random"):
        POLICIES.get(name)(task, np.random.default_rng(0))


def test_manifest_of_held_out_tasks():
    manifest = make_manifest("wm/Cube-Single-v0", tasks=3, offset=25)
    assert manifest.policy == "oracle-play"
    for begin, goal in zip(manifest.starts, manifest.goals, strict=True):
        _, info = SINGLE.reset(options={"state": begin, "goal_state": goal})
        np.testing.assert_array_equal(info["state"], begin)
        assert not info["success_moderate"]
