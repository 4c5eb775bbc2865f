"""The moving distractor, an option of every task."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from wm_agents.envs.distractor import RADIUS, SPEEDS, Distractor

FLAT = ("wm/PointMaze-UMaze-v0", "wm/PushT-v0", "wm/Reacher-v0")


def episode(env_id: str, steps: int = 8, **options: Any) -> list[Any]:
    env = gym.make(env_id, obs_type="pixels_state", **options)
    try:
        seen = [env.reset(seed=3)[0]]
        env.action_space.seed(0)
        for _ in range(steps):
            seen.append(env.step(env.action_space.sample())[0])
    finally:
        env.close()
    return seen


@pytest.mark.parametrize("env_id", FLAT)
def test_images_change_and_states_do_not(env_id: str) -> None:
    plain, distracted, again = episode(env_id), episode(env_id, distractor=True), episode(env_id, distractor=True)
    places = []
    for one, other, same in zip(plain, distracted, again, strict=True):
        for key in ("observation", "achieved_goal", "desired_goal"):
            assert (one[key] == other[key]).all()
        for key in ("pixels", "goal_pixels"):
            assert (other[key] == same[key]).all(), "the seed of the reset gives the same distractor"
            differs = (one[key] != other[key]).any(axis=-1)
            assert 0.2 < differs.sum() / (np.pi * (RADIUS * 64) ** 2) < 2, "one disc, and nothing else"
        places.append(np.argwhere((one["pixels"] != other["pixels"]).any(axis=-1)).mean(axis=0))
    assert np.ptp(places, axis=0).max() > 2, "it moves"
    goals = [seen["goal_pixels"] for seen in distracted]
    assert all((goal == goals[0]).all() for goal in goals), "that of the goal image does not"
    assert (goals[0] != distracted[0]["pixels"]).any()


def test_every_reset_draws_the_task_that_it_draws_without_a_distractor() -> None:
    envs = [gym.make("wm/PointMaze-UMaze-v0", **options) for options in ({}, {"distractor": True})]
    for env in envs:
        env.reset(seed=4)
    for _ in range(3):
        plain, distracted = (env.reset()[1] for env in envs)
        assert (plain["state"] == distracted["state"]).all()
        assert (plain["goal_state"] == distracted["goal_state"]).all()


def test_people_see_it_whatever_the_agent_is_shown() -> None:
    seen = []
    for options in ({}, {"distractor": True}):
        env = gym.make("wm/PointMaze-UMaze-v0", obs_type="state", render_mode="rgb_array", **options)
        env.reset(seed=4)
        seen.append(env.render())
    assert (seen[0] != seen[1]).any()


def test_another_reset_gives_another_distractor_and_people_see_it_too() -> None:
    env = gym.make("wm/PushT-v0", distractor=True, render_mode="rgb_array")
    state = env.unwrapped.sample_state(np.random.default_rng(0))
    options = {"state": state, "goal_state": state}
    first, second = (env.reset(seed=seed, options=options)[0]["pixels"] for seed in (0, 1))
    third = env.reset(options=options)[0]["pixels"]
    assert (first != second).any()
    assert (second != third).any()
    assert (env.unwrapped.render_state(state) != third).any(), "what is drawn of a state alone has none"
    with_goal = env.render()
    assert (np.abs(with_goal.astype(int) - (160, 0, 255)).sum(axis=-1) == 0).sum() > 500
    env.close()


def test_it_stays_inside_at_its_speed() -> None:
    for seed in range(20):
        disc = Distractor(np.random.default_rng(seed))
        places = [disc._centre]
        for _ in range(300):
            disc.move()
            places.append(disc._centre)
        assert np.min(places) >= RADIUS
        assert np.max(places) <= 1 - RADIUS
        lengths = np.linalg.norm(np.diff(places, axis=0), axis=1)
        assert lengths.max() <= SPEEDS[1] + 1e-9
        assert np.median(lengths) >= SPEEDS[0]


def test_a_value_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="distractor must be True or False, not 'yes'"):
        gym.make("wm/PushT-v0", distractor="yes")
