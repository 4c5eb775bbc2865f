"""The environments' contract: spaces, info, exact and repeatable states, rewards, bad input."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from wm_agents.datasets import POLICIES, default_policy
from wm_agents.envs import ENV_IDS, MAZE_IDS
from wm_agents.envs.goal_env import OBS_TYPES
from wm_agents.envs.pointmaze import MAZES, PointMaze

MODES = ("moderate", "strict")


def make_state_env(env_id: str = MAZE_IDS[0], **kwargs) -> PointMaze:
    return gym.make(env_id, obs_type="state", **kwargs).unwrapped


@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("env_id", MAZE_IDS)
def test_both_checkers_pass(env_id, obs_type):
    env = gym.make(env_id, obs_type=obs_type, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sb3_check_env(env)
        check_env(env.unwrapped, skip_render_check=env_id != MAZE_IDS[0])


@pytest.mark.parametrize(
    ("env_id", "steps"), list(zip(ENV_IDS, (300, 600, 1000, 300, 300, 200, 200, 500), strict=True))
)
def test_step_budget(env_id, steps):
    assert gym.spec(env_id).max_episode_steps == steps
    env = gym.make(env_id, obs_type="state", max_episode_steps=3)
    env.reset(seed=0)
    assert [env.step(np.zeros(env.action_space.shape, np.float32))[3] for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_every_id_has_the_same_face(env_id):
    env = gym.make(env_id)
    task = env.unwrapped
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert {key: value.shape for key, value in observation.items()} == dict.fromkeys(
        ("pixels", "goal_pixels"), (64, 64, 3)
    )
    assert {"is_success", "success", "success_moderate", "success_strict", "state", "goal_state"} == set(info)
    assert info["state"].shape == (len(task.state_names),)
    assert set(task.success_tests) == set(task.success_thresholds) == set(MODES)
    for mode, test in task.success_tests.items():
        assert ("held" in test) == (mode in task.held_steps)
        assert f"held {task.held_steps.get(mode)} steps" in test or mode not in task.held_steps
    assert default_policy(env_id) == task.exploration_policy
    POLICIES.get(task.exploration_policy)(task, np.random.default_rng(0))
    assert (env_id in MAZE_IDS) == hasattr(task, "walls")
    env.close()
    assert not hasattr(env, "compute_reward")
    assert callable(gym.make(env_id, obs_type="state").compute_reward)


MISSING = """
import sys

for package in ("gym_pusht", "dm_control", "ogbench", "cv2"):
    sys.modules[package] = None
import importlib.util

find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("dm_control", "ogbench") else find(name, *rest)
import gymnasium as gym
import wm_agents

gym.make("wm/TwoRoom-v0", obs_type="state").reset(seed=0)
for name, cure in (("PushT", "gym-pusht>="), ("Reacher", "dm-control>="), ("Cube-Double", "ogbench>=")):
    try:
        gym.make(f"wm/{name}-v0")
    except ImportError as error:
        assert f"pip install '{cure}" in str(error), error
    else:
        raise AssertionError(name)
"""


UNDRAWN = """
import sys

for package in ("mujoco", "glfw", "OpenGL"):
    sys.modules[package] = None
import wm_agents
from dot_env import Dot

observation, info = wm_agents.wrap(Dot(), image_size=32).reset(seed=0)
assert observation["pixels"].max() > 100
"""


def test_an_environment_that_draws_without_mujoco_is_wrapped_without_it():
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", UNDRAWN], capture_output=True, text=True, timeout=120, env={**os.environ, **path}
    )
    assert done.returncode == 0, done.stderr


def test_without_a_tasks_upstream_the_others_work_and_its_error_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_import_loads_no_simulator():
    code = "import sys, wm_agents; print({'cv2', 'pygame', 'mujoco', 'ogbench', 'dm_control'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "set()", done.stderr


def test_info_reward_and_termination():
    for mode, radius in zip(MODES, (0.45, 0.3), strict=True):
        env = make_state_env(success=mode)
        goal = np.array([1.0, 1.0, 0, 0])
        for distance in (0.25, 0.4, 0.6):
            start = goal - [distance, 0, 0, 0]
            _, info = env.reset(options={"state": start, "goal_state": goal})
            assert info["success_moderate"] is (distance <= 0.45)
            assert info["success_strict"] is (distance <= 0.3)
            assert info["is_success"] is info["success"] is (distance <= radius)
            _, reward, terminated, truncated, info = env.step(np.zeros(2))
            assert (reward, terminated, truncated) == (0.0 if distance <= radius else -1.0, distance <= radius, False)
            np.testing.assert_array_equal(info["goal_state"], goal)
            np.testing.assert_array_equal(info["state"], env.get_state())
            assert info["state"].dtype == np.float64


@pytest.mark.parametrize("env_id", MAZE_IDS)
def test_same_seed_same_episode(env_id):
    envs = [make_state_env(env_id) for _ in range(2)]
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    envs[1].reset(seed=7)  # another history must not matter
    episodes = []
    for env in envs:
        _, info = env.reset(seed=3)
        assert not info["success_moderate"]
        assert not info["success_strict"]
        episodes.append([info["state"], info["goal_state"], *(env.step(a)[-1]["state"] for a in actions)])
    np.testing.assert_array_equal(*episodes)
    state = np.random.get_state()[1].copy()
    envs[0].reset(seed=4)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert (envs[0].reset(seed=4)[1]["state"] != episodes[0][0]).any()


@pytest.mark.parametrize("env_id", MAZE_IDS)
def test_set_state_is_exact_and_replay_bit_equal(env_id):
    env, rng = make_state_env(env_id), np.random.default_rng(1)
    env.reset(seed=0)
    actions = np.repeat(rng.uniform(-1, 1, (12, 2)), 25, axis=0)  # long pushes: the ball leans on walls
    states = np.array([env.step(a)[-1]["state"] for a in actions])
    for start in (0, 99, 250):
        for other in (env, make_state_env(env_id)):
            _, info = other.reset(options={"state": states[start]})
            np.testing.assert_array_equal(info["state"], states[start])
            replay = [other.step(a)[-1]["state"] for a in actions[start + 1 :]]
            np.testing.assert_array_equal(replay, states[start + 1 :])


def test_every_state_of_the_simulator_can_be_set_back():
    env, rng = make_state_env(MAZE_IDS[1]), np.random.default_rng(2)
    for _ in range(15):
        state = env.sample_state(rng)
        state[2:] = rng.uniform(-5, 5, 2)
        env.reset(options={"state": state})
        for _ in range(60):
            env.validate_state(env.step(np.sign(rng.uniform(-1, 1, 2)))[-1]["state"])


def test_dynamics_and_mazes_are_upstreams():
    robotics = pytest.importorskip("gymnasium_robotics")
    gym.register_envs(robotics)
    for env_id, upstream_id in zip(MAZE_IDS, ("UMaze", "Medium", "Large"), strict=False):
        env, upstream = make_state_env(env_id), gym.make(f"PointMaze_{upstream_id}-v3").unwrapped
        np.testing.assert_array_equal(env.maze_map, upstream.maze.maze_map)
        cell = np.array([1, 2])
        np.testing.assert_allclose(env.cell_to_xy(cell), upstream.maze.cell_rowcol_to_xy(cell))
        upstream.reset(seed=0)
        rng = np.random.default_rng(0)
        start = env.sample_state(rng)
        env.reset(options={"state": start})
        upstream.point_env.set_state(start[:2], start[2:])
        for action in np.repeat(rng.uniform(-1, 1, (6, 2)), 30, axis=0):
            state = env.step(action)[-1]["state"]
            upstream.step(action)
            np.testing.assert_allclose(state, [*upstream.data.qpos, *upstream.data.qvel], atol=1e-5)


def test_partial_options_and_solved_starts():
    env = make_state_env()
    here = env.sample_state(np.random.default_rng(0))
    for seed in range(30):
        _, info = env.reset(seed=seed, options={"state": here})
        np.testing.assert_array_equal(info["state"], here)
        assert not info["success_moderate"]
        _, info = env.reset(seed=seed, options={"goal_state": here})
        np.testing.assert_array_equal(info["goal_state"], here)
        assert not info["success_moderate"]
    assert env.reset(options={"state": here, "goal_state": here})[1]["is_success"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": np.zeros(3)}, r"shape \(4,\).*sample_state"),
        ({"goal_state": [1, 1, 0, np.nan]}, "finite.*sample_state"),
        ({"state": "corner"}, "array of numbers.*sample_state"),
        ({"state": [0, 0, 0, 0]}, "into a wall.*sample_state"),
        ({"state": [1.45, 1.49, 0, 0]}, "into a wall"),
        ({"goal_state": [50, 0, 0, 0]}, "outside the maze"),
        ({"state": [1, 1, 60, 0]}, "velocity"),
        ({"sate": [1, 1, 0, 0]}, "Did you mean 'state'"),
    ],
)
def test_bad_reset_options(options, message):
    env = make_state_env()
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match=f"(?s){message}"):
        env.reset(options=options)
    np.testing.assert_array_equal(env.get_state(), before)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"obs_type": "pixel"}, "Did you mean 'pixels'"),
        ({"success": "stric"}, "Did you mean 'strict'"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": 64.0}, "image_size"),
        ({"render_mode": "human"}, "render_mode"),
        ({"maze_map": "UMAZ"}, "Did you mean 'UMAZE'"),
        ({"maze_map": [[1, 1, 1], [1, 0]]}, "rows of one length"),
        ({"maze_map": [[1, 1, 1, 1], [1, 0, 0, 2], [1, 1, 1, 1]]}, "0 .free. and 1"),
        ({"maze_map": [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1]]}, "all around"),
        ({"maze_map": [[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]]}, "connect"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PointMaze(**kwargs)


@pytest.mark.parametrize("action", [np.zeros(3), [np.nan, 0], 0.5])
def test_bad_action(action):
    env = make_state_env()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action_space"):
        env.step(action)


def test_actions_beyond_the_bounds_are_clipped():
    env = make_state_env()
    ends = []
    for force in (1.0, 30.0):
        env.reset(options={"state": [-1, 1, 0, 0], "goal_state": [-1, -1, 0, 0]})
        ends.append(env.step(np.array([force, 0]))[-1]["state"])
    np.testing.assert_array_equal(*ends)


def test_custom_maze():
    env = gym.make(MAZE_IDS[0], maze_map=[[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]])
    observation, _ = env.reset(seed=0)
    assert observation["pixels"].mean() > 0
    assert env.unwrapped.bounds == (-2, 2, -1.5, 1.5)


def test_successes_and_reward_are_vectorised_and_agree():
    env = make_state_env(success="strict")
    rng = np.random.default_rng(0)
    states = np.stack([env.sample_state(rng) for _ in range(60)]).reshape(3, 20, 4)
    goal = states[0, 0]
    solved = env.successes(states, goal)
    distance = np.linalg.norm(states[..., :2] - goal[:2], axis=-1)
    assert set(solved) == set(MODES)
    np.testing.assert_array_equal(solved["moderate"], distance <= 0.45)
    np.testing.assert_array_equal(solved["strict"], distance <= 0.3)
    rewards = env.compute_reward(env.achieved_goal(states), env.achieved_goal(goal), None)
    np.testing.assert_array_equal(rewards, np.where(solved["strict"], 0.0, -1.0))


def test_compute_reward_only_where_goals_are_observed():
    assert not hasattr(gym.make(MAZE_IDS[0]), "compute_reward")
    assert hasattr(gym.make(MAZE_IDS[0], obs_type="pixels_state"), "compute_reward")


def test_hindsight_replay_runs():
    from stable_baselines3 import SAC, HerReplayBuffer

    env = gym.make(MAZE_IDS[0], obs_type="state", max_episode_steps=20)
    agent = SAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, learning_starts=40, batch_size=16, seed=0)
    agent.learn(45)
    assert agent.num_timesteps == 45


def test_hindsight_replay_that_leaves_goal_images_behind_is_named():
    from stable_baselines3 import SAC, HerReplayBuffer

    env = gym.make(MAZE_IDS[0], obs_type="pixels_state", image_size=40, max_episode_steps=5)
    options = {"learning_starts": 6, "batch_size": 4, "buffer_size": 50, "policy_kwargs": {"net_arch": [8]}}
    agent = SAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, seed=0, **options)
    with pytest.warns(UserWarning, match="leaves goal_pixels as they are"):
        agent.learn(8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), maze=st.sampled_from(sorted(MAZES)))
def test_sampled_states_and_paths_are_free(seed, maze):
    env, rng = _mazes(maze), np.random.default_rng(seed)
    start, goal = env.sample_state(rng), env.sample_state(rng)
    env.validate_state(start)
    assert (start[2:] == 0).all()
    assert np.abs(start[:2] - env.walls()).max(axis=1).min() >= 0.5 + 0.1 / np.sqrt(2)
    path = env.shortest_path(start[:2], goal[:2])
    np.testing.assert_array_equal(path[-1], goal[:2])
    points = np.vstack([start[:2], path])
    between = np.concatenate([np.linspace(a, b, 50) for a, b in pairwise(points)])
    rows, columns = env.xy_to_cell(between).T
    assert (env.maze_map[rows, columns] == 0).all()
    back = env.shortest_path(goal[:2], start[:2])
    assert len(back) == len(path)


_cache: dict[str, PointMaze] = {}


def _mazes(name: str) -> PointMaze:
    if name not in _cache:
        _cache[name] = PointMaze(name, obs_type="state")
    return _cache[name]


def test_shortest_path_through_the_u():
    env = _mazes("UMAZE")
    path = env.shortest_path([-1.2, 1.1], [-0.9, -1.0])
    np.testing.assert_allclose(path, [[0, 1], [1, 1], [1, 0], [1, -1], [0, -1], [-0.9, -1.0]])
    np.testing.assert_allclose(env.shortest_path([1, 1], [1.1, 0.9]), [[1.1, 0.9]])
    with pytest.raises(ValueError, match="not in a free cell"):
        env.shortest_path([0, 0], [1, 1])


def test_two_rooms_have_one_door():
    env = _mazes("TWO_ROOM")
    middle = env.maze_map[:, env.maze_map.shape[1] // 2]
    assert (middle == 0).sum() == 1
    path = env.shortest_path([-2, 2], [2, 2])
    assert any(np.allclose(point, [0, 0]) for point in path)


def test_top_level_import_is_refused():
    source = Path(__file__).resolve().parents[2] / "envs" / "__init__.py"
    spec = importlib.util.spec_from_file_location("envs", source)
    with pytest.raises(ImportError, match=r"wm_agents\.envs"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
