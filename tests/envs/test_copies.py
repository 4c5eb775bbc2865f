"""Copies and pickles of environments go on from where the original is, and draw for themselves."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest

from wm_agents.envs import ENV_IDS
from wm_agents.envs.goal_env import OBS_TYPES

COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
    "cloudpickle": lambda env: cloudpickle.loads(cloudpickle.dumps(env)),
}


def same(first: Any, second: Any) -> None:
    """Compare observations, infos and frames to the last bit."""
    if isinstance(first, (tuple, list)):
        for one, other in zip(first, second, strict=True):
            same(one, other)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            same(first[key], second[key])
    else:
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_a_copy_goes_on_from_the_same_state(env_id, obs_type, how):
    env = gym.make(env_id, obs_type=obs_type, render_mode="rgb_array", max_episode_steps=8)
    env.reset(seed=3)
    env.action_space.seed(5)
    for _ in range(4):
        env.step(env.action_space.sample())
    if obs_type != "state":
        env.render()
    twin = COPIES[how](env)
    same(env.unwrapped.get_state(), twin.unwrapped.get_state())
    for _ in range(2):
        action = env.action_space.sample()
        same(action, twin.action_space.sample())
        same(env.step(action), twin.step(action))
    same(env.render(), twin.render())
    same(env.reset(), twin.reset())  # the same random numbers, too
    before = env.unwrapped.get_state()
    twin.step(twin.action_space.sample())
    same(env.unwrapped.get_state(), before)
    twin.close()
    same(env.render(), COPIES[how](env).render())


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_an_environment_can_be_copied_before_its_first_reset_and_after_it_is_closed(env_id):
    env = gym.make(env_id)
    expected = copy.deepcopy(env).reset(seed=1)
    same(env.reset(seed=1), expected)
    env.close()
    same(pickle.loads(pickle.dumps(env)).reset(seed=1), expected)


@pytest.mark.parametrize("how", COPIES)
def test_a_vector_of_environments_can_be_copied(how):
    from stable_baselines3.common.env_util import make_vec_env

    envs = make_vec_env("wm/TwoRoom-v0", n_envs=2, seed=4)
    envs.reset()
    twins = COPIES[how](envs)
    actions = np.ones((2, 2), np.float32)
    same(envs.step(actions)[0], twins.step(actions)[0])
    envs.close()
    same(twins.step(actions)[1], np.full(2, -1.0))
    twins.close()


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_worker_process_takes_an_environment_that_has_drawn(start_method):
    from stable_baselines3.common.vec_env import SubprocVecEnv

    env = gym.make("wm/TwoRoom-v0")
    env.reset(seed=2)
    expected, _ = copy.deepcopy(env).reset()
    workers = SubprocVecEnv([lambda: env], start_method=start_method)
    try:
        found = workers.reset()
        same({key: value[0] for key, value in found.items()}, expected)
    finally:
        workers.close()
