"""What every goal task promises, to be called from the tests of a task: each function takes the task's class."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from wm_agents.envs import GoalEnv
from wm_agents.envs.goal_env import OBS_TYPES, ExposeReward

Make = Callable[..., GoalEnv]


def limited(make: Make, steps: int = 50, **options: Any) -> gym.Env:
    return ExposeReward(TimeLimit(make(**options), steps))


def check_checkers(make: Make) -> None:
    for obs_type in OBS_TYPES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sb3_check_env(limited(make, obs_type=obs_type, render_mode="rgb_array"))
            check_env(make(obs_type=obs_type, render_mode="rgb_array"))


def check_seeds(make: Make, actions: np.ndarray) -> None:
    envs = [make(obs_type="state"), make(obs_type="pixels")]  # images do not matter
    envs[1].reset(seed=7)
    envs[1].step(actions[0])  # nor does another history
    before = np.random.get_state()[1].copy()
    episodes = []
    for env in envs:
        _, info = env.reset(seed=3)
        assert not info["success_moderate"]
        assert not info["success_strict"]
        episodes.append([info["state"], info["goal_state"], *(env.step(a)[-1]["state"] for a in actions)])
    np.testing.assert_array_equal(*episodes)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert (envs[0].reset(seed=4)[1]["state"] != episodes[0][0]).any()


def check_replay(make: Make, start: np.ndarray, actions: np.ndarray, restarts: tuple[int, ...]) -> np.ndarray:
    """Return the states of the episode that was replayed."""
    env, other = make(obs_type="state"), make(obs_type="state")
    env.reset(options={"state": start})
    states = np.array([start, *(env.step(a)[-1]["state"] for a in actions)])
    for step in restarts:
        for again in (env, other):
            _, info = again.reset(options={"state": states[step]})
            np.testing.assert_array_equal(info["state"], states[step])
            np.testing.assert_array_equal(again.get_state(), states[step])
            replay = [again.step(a)[-1]["state"] for a in actions[step:]]
            np.testing.assert_array_equal(replay, states[step + 1 :])
    return states


def check_options(make: Make, bad: dict[str, tuple[Any, str]]) -> None:
    """``bad`` names invalid states and what the error says about each."""
    env = make(obs_type="state")
    size = len(env.state_names)
    here = env.sample_state(np.random.default_rng(0))
    for seed in range(10):
        for key in ("state", "goal_state"):
            _, info = env.reset(seed=seed, options={key: here})
            np.testing.assert_array_equal(info[key], here)
            assert not info["success_moderate"]
            assert not info["success_strict"]
    _, info = env.reset(options={"state": here, "goal_state": here})
    assert info["success_moderate"]
    before = env.get_state()
    common = {
        "shape": (np.zeros(size + 1), rf"shape \({size},\).*sample_state"),
        "nan": (np.full(size, np.nan), "finite.*sample_state"),
        "text": ("corner", "array of numbers.*sample_state"),
    }
    for state, message in {**common, **bad}.values():
        for key in ("state", "goal_state"):
            with pytest.raises(ValueError, match=f"(?s){key}.*{message}"):
                env.reset(options={key: state})
    with pytest.raises(ValueError, match="Did you mean 'goal_state'"):
        env.reset(options={"goalstate": here})
    np.testing.assert_array_equal(env.get_state(), before)
    for action in (np.zeros(3), [np.nan, 0], 0.5):
        with pytest.raises(ValueError, match="action_space"):
            env.step(action)
    for options, message in (
        ({"obs_type": "pixel"}, "Did you mean 'pixels'"),
        ({"success": "stric"}, "Did you mean 'strict'"),
        ({"image_size": 0}, "image_size"),
        ({"render_mode": "human"}, "render_mode"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)


def check_rewards(make: Make, states: np.ndarray, goals: np.ndarray) -> None:
    """Vectorised tests and rewards of ``states`` and ``goals`` ``[n, S]`` agree with those of single steps."""
    for mode in ("moderate", "strict"):
        env = make(obs_type="state", success=mode)
        holds = env.successes(states, goals)
        assert {key: value.shape for key, value in holds.items()} == {m: (len(states),) for m in ("moderate", "strict")}
        rewards = env.compute_reward(env.achieved_goal(states), env.achieved_goal(goals), {})
        np.testing.assert_array_equal(rewards, np.where(holds[mode], 0.0, -1.0))
        assert 0.0 in rewards
        assert -1.0 in rewards
        grid = env.compute_reward(env.achieved_goal(states)[:, None], env.achieved_goal(goals)[None], {})
        np.testing.assert_array_equal(np.diagonal(grid), rewards)
        for state, goal in zip(states[:20], goals[:20], strict=True):
            env.reset(options={"state": state, "goal_state": goal})
            observation, reward, terminated, _, info = env.step(np.zeros(env.action_space.shape))
            here = env.compute_reward(observation["achieved_goal"], observation["desired_goal"], info)
            assert reward == here
            assert terminated == info["is_success"] == info["success"] == info[f"success_{mode}"]
            assert not (terminated and reward < 0)


def check_hindsight(make: Make) -> None:
    from stable_baselines3 import SAC, HerReplayBuffer

    env = limited(make, 20, obs_type="state")
    agent = SAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, learning_starts=40, batch_size=16, seed=0)
    agent.learn(45)
    assert agent.num_timesteps == 45


def check_images(make: Make, start: np.ndarray, action: np.ndarray) -> None:
    """Goal images show goal states, nothing of the goal is in a frame, and drawing leaves the simulation alone."""
    env, silent = make(obs_type="pixels_state", render_mode="rgb_array"), make(obs_type="state")
    rng = np.random.default_rng(0)
    frames = []
    for seed in range(3):
        observation, info = env.reset(seed=seed, options={"state": start})
        silent.reset(seed=seed, options={"state": start})
        large = env.render()
        assert large.shape == (480, 480, 3)
        assert (large != env.render_state(start, 480)).any(), "people see the goal"
        frames.append(observation["pixels"])
        assert observation["pixels"].shape == (64, 64, 3)
        assert observation["pixels"].dtype == np.uint8
        assert observation["pixels"].std() > 3
        np.testing.assert_array_equal(observation["goal_pixels"], env.render_state(info["goal_state"]))
        kept = observation["pixels"].copy()
        env.render_state(env.sample_state(rng))
        stepped, *_, info = env.step(action)
        np.testing.assert_array_equal(info["state"], silent.step(action)[-1]["state"])
        np.testing.assert_array_equal(stepped["goal_pixels"], observation["goal_pixels"])
        np.testing.assert_array_equal(stepped["pixels"], env.render_state(info["state"]))
        np.testing.assert_array_equal(observation["pixels"], kept)
        stepped["goal_pixels"][:] = 0
        assert env.step(action)[0]["goal_pixels"].any()
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[0], frames[2])
    for size in (16, 50, 200):
        observation, _ = make(image_size=size).reset(seed=0)
        assert observation["pixels"].shape == (size, size, 3)
        assert observation["pixels"].std() > 3
    with pytest.raises(ValueError, match="sample_state"):
        env.render_state(np.full(len(env.state_names), 1e6))


def check_many(make: Make) -> None:
    """Closing one of several open environments leaves the others right, and closing twice is fine."""
    envs = [make() for _ in range(4)]
    frames = [env.reset(seed=i)[0]["pixels"] for i, env in enumerate(envs)]
    for closed in range(3):
        envs[closed].close()
        envs[closed].close()
        for i in range(closed + 1, 4):
            np.testing.assert_array_equal(envs[i].reset(seed=i)[0]["pixels"], frames[i])


def check_workers(make: Make, start_method: str) -> None:
    """Worker processes draw and simulate what this process does, which has done both before they start."""
    from stable_baselines3.common.vec_env import SubprocVecEnv

    workers = 1 if start_method == "spawn" else 2  # a spawned one takes seconds to import everything
    expected = [make().reset(seed=9 + i)[0] for i in range(workers)]
    stepped = make()
    stepped.reset(seed=9)
    envs = SubprocVecEnv([lambda: make()] * workers, start_method=start_method)
    try:
        envs.seed(9)
        observation = envs.reset()
        for i, single in enumerate(expected):
            for key, frame in single.items():
                np.testing.assert_array_equal(observation[key][i], frame)
        observation, _, _, infos = envs.step(np.full((workers, 2), 0.7, np.float32))
        np.testing.assert_array_equal(infos[0]["state"], stepped.step(np.full(2, 0.7, np.float32))[-1]["state"])
        assert {"is_success", "state", "goal_state"} <= set(infos[0])
    finally:
        envs.close()
