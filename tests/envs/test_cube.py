"""The cube tasks: exact states, success tests and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from cubes import DOUBLE, ENVS, SINGLE, STILL, start
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from wm_agents.datasets import episode_seed, rollout_states
from wm_agents.envs.cube import Cube, CubeDouble, CubeSingle, cube_angle
from wm_agents.envs.goal_env import OBS_TYPES

TASKS = {"wm/Cube-Single-v0": 200, "wm/Cube-Double-v0": 500}


@pytest.fixture(scope="module")
def episode() -> tuple[np.ndarray, np.ndarray]:
    """States and actions of an oracle that picks a cube up, carries it and puts it down, with two cubes."""
    return rollout_states(DOUBLE, "oracle-play", 110, episode_seed("collect", 0, 3))


def turned(degrees: float) -> np.ndarray:
    half = np.radians(degrees) / 2
    return np.array([np.cos(half), 0, 0, np.sin(half)])


@pytest.mark.parametrize("obs_type", OBS_TYPES)
@pytest.mark.parametrize("env_id", TASKS)
def test_both_checkers_pass(env_id, obs_type):
    env = gym.make(env_id, obs_type=obs_type, render_mode="rgb_array", image_size=24)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sb3_check_env(env)
        check_env(env.unwrapped, skip_render_check=True)
    assert env.unwrapped.action_space.shape == (5,)
    assert gym.spec(env_id).max_episode_steps == TASKS[env_id]
    env.close()


@pytest.mark.parametrize("env", ENVS.values(), ids=ENVS)
def test_same_seed_same_episode(env):
    actions = np.random.default_rng(0).uniform(-1, 1, (15, 5))
    unseeded = np.random.get_state()[1].copy()
    episodes = []
    for other_history in (5, 6):
        env.reset(seed=other_history)
        env.step(actions[other_history])
        _, info = env.reset(seed=3)
        assert not info["success_moderate"]
        episodes.append([info["state"], info["goal_state"], *(env.step(a)[-1]["state"] for a in actions)])
    np.testing.assert_array_equal(*episodes)
    assert (env.reset(seed=4)[1]["state"] != episodes[0][0]).any()
    np.testing.assert_array_equal(np.random.get_state()[1], unseeded)


def test_set_state_is_exact_and_replay_bit_equal(episode):
    states, actions = episode
    heights = DOUBLE.cube_poses(states)[:, :, 2].max(axis=1)
    lifted = int(np.argmax(heights > 0.08))
    assert lifted > 0  # one of the starts below holds a cube in the air
    for begin in (0, lifted - 5, lifted, 90):
        for env in (DOUBLE, CubeDouble(obs_type="state")):
            _, info = env.reset(options={"state": states[begin]})
            np.testing.assert_array_equal(info["state"], states[begin])
            replay = [env.step(a)[-1]["state"] for a in actions[begin : begin + 12]]
            np.testing.assert_array_equal(replay, states[begin + 1 : begin + 13])


def test_every_state_of_the_policies_can_be_set_back(episode):
    for state in episode[0]:
        DOUBLE.validate_state(state)
        DOUBLE.validate_state(np.round(state, 6))  # as a manifest keeps it
    for seed in range(3):
        for state in rollout_states(DOUBLE, "random-play", 60, episode_seed("collect", 0, seed))[0]:
            DOUBLE.validate_state(state)


def test_dynamics_are_upstreams(episode):
    pytest.importorskip("dm_control")
    from ogbench.manipspace.envs.cube_env import CubeEnv

    upstream: Any = CubeEnv("double", mode="data_collection", terminate_at_goal=False, visualize_info=False)
    upstream.reset(seed=0)
    data, size = upstream.data, DOUBLE._model.nq
    states, actions = episode
    for state, action in zip(states[:-1:3], actions[::3], strict=False):
        DOUBLE.reset(options={"state": state})
        mujoco.mj_resetData(upstream.model, data)
        data.qpos[:], data.qvel[:] = state[:size], state[size:]
        mujoco.mj_kinematics(upstream.model, data)
        upstream.step(action)
        np.testing.assert_allclose(
            DOUBLE.step(action)[-1]["state"], np.concatenate([data.qpos, data.qvel]), rtol=0, atol=1e-5
        )
    info = upstream.reset(seed=1)[1]
    state = np.concatenate([upstream.data.qpos, upstream.data.qvel])
    DOUBLE.reset(options={"state": state})
    gripper = DOUBLE.gripper()
    np.testing.assert_allclose(gripper.position, info["proprio/effector_pos"], atol=1e-9)
    np.testing.assert_allclose(gripper.yaw, info["proprio/effector_yaw"][0], atol=1e-9)


def test_actions_do_what_they_say():
    middle = start(SINGLE)
    middle[:6] = SINGLE._solve_arm(np.array([0.42, 0.0, 0.25]), 0.3, middle[:6])
    for part, sign in [(0, 1), (1, -1), (2, -1), (3, 1), (3, -1)]:
        SINGLE.reset(options={"state": middle})
        before = SINGLE.gripper()
        for _ in range(4):
            SINGLE.step(sign * 0.5 * np.eye(5)[part])
        after = SINGLE.gripper()
        moved = np.append(after.position - before.position, np.angle(np.exp(1j * (after.yaw - before.yaw))))
        share = moved[part] / (sign * 2 * SINGLE.action_scale[part])
        assert (0.3 < share < 0.5) if part < 3 else (0.15 < share < 0.3)
    for _ in range(12):
        SINGLE.step(np.eye(5)[4])
    assert SINGLE.gripper().opening > 0.9
    assert SINGLE.gripper().contact > 0.1  # one finger on the other


def test_actions_beyond_the_bounds_are_clipped():
    ends = []
    for size in (1.0, 30.0):
        SINGLE.reset(options={"state": start(SINGLE)})
        ends.append(SINGLE.step(size * np.array([1, -1, 1, 1, 1]))[-1]["state"])
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("action", [np.zeros(3), [np.nan, 0, 0, 0, 0], 0.5])
def test_bad_action(action):
    SINGLE.reset(seed=0)
    with pytest.raises(ValueError, match="action_space"):
        SINGLE.step(action)


@pytest.mark.parametrize(
    ("shift", "degrees", "moderate", "strict"),
    [
        (0.0, 0, True, True),
        (0.028, 14, True, True),
        (0.028, -76, True, True),  # a quarter turn off looks the same
        (0.028, 17, True, False),
        (0.032, 0, True, False),
        (0.038, 45, True, False),
        (0.042, 0, False, False),
    ],
)
@pytest.mark.parametrize("name", ENVS)
def test_success(name, shift, degrees, moderate, strict):
    env = ENVS[name]
    goal = start(env, 1)
    state = goal.copy()
    poses = env.cube_poses(state)
    poses[-1, 0] += shift  # the last cube alone: every cube counts
    poses[-1, 3:] = turned(degrees + 2 * np.degrees(np.arctan2(poses[-1, 6], poses[-1, 3])))
    solved = env.successes(state, goal)
    assert (bool(solved["moderate"]), bool(solved["strict"])) == (moderate, strict)
    np.testing.assert_allclose(env.goal_distance(env.achieved_goal(state), env.achieved_goal(goal)), shift, atol=1e-9)


def test_strict_success_is_held_for_three_states():
    goal = start(SINGLE)
    for mode, steps in (("moderate", 1), ("strict", 2)):
        env = CubeSingle(obs_type="state", success=mode)
        _, info = env.reset(options={"state": goal, "goal_state": goal})
        assert info["is_success"] is (mode == "moderate")
        for step in range(1, steps + 1):
            _, reward, terminated, truncated, info = env.step(STILL)
            assert (reward, terminated, truncated) == (0.0, step == steps, False)
        assert info["success_moderate"]
        assert info["success_strict"] is (mode == "strict")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_angle_is_the_smallest_over_the_24_rotations(seed):
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    a, b = rotation.random(2, rng=np.random.default_rng(seed))
    same = rotation.create_group("O")
    expected = min(float((b.inv() * a * turn).magnitude()) for turn in same)
    between = cube_angle(a.as_quat(scalar_first=True), b.as_quat(scalar_first=True))
    np.testing.assert_allclose(between, expected, atol=1e-7)
    alike = (a * same).as_quat(scalar_first=True)
    assert cube_angle(alike, a.as_quat(scalar_first=True)).max() < 1e-6


def test_reward_is_vectorised_and_agrees():
    env = gym.make("wm/Cube-Double-v0", obs_type="state", success="strict")
    rng = np.random.default_rng(0)
    states = np.repeat(env.unwrapped.sample_state(rng)[None], 60, axis=0).reshape(3, 20, -1)
    poses = env.unwrapped.cube_poses(states)
    poses[..., :3] += rng.normal(0, 0.012, poses[..., :3].shape)
    goal = states[0, 0]
    solved = env.unwrapped.successes(states, goal)
    assert solved["moderate"].shape == (3, 20)
    assert 0 < solved["strict"].sum() < solved["moderate"].sum() < 60
    rewards = env.compute_reward(env.unwrapped.achieved_goal(states), env.unwrapped.achieved_goal(goal), None)
    np.testing.assert_array_equal(rewards, np.where(solved["strict"], 0.0, -1.0))
    assert not hasattr(gym.make("wm/Cube-Single-v0"), "compute_reward")


def test_hindsight_replay_runs():
    from stable_baselines3 import SAC, HerReplayBuffer

    env = gym.make("wm/Cube-Single-v0", obs_type="state", max_episode_steps=10)
    agent = SAC("MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, learning_starts=20, batch_size=16, seed=0)
    agent.learn(23)
    assert agent.num_timesteps == 23


def broken(env: Cube, change: str) -> np.ndarray:
    state, size = start(env), env._model.nq
    poses = env.cube_poses(state)
    if change == "quaternion":
        poses[0, 3:] *= 1.1
    elif change == "table":
        poses[0, 1] = 0.5
    elif change == "below":
        poses[0, 2] = -0.1
    elif change == "overlap":
        poses[0] = poses[1]
    elif change == "sunk":
        poses[0, :3] = [0.4, 0.0, 0.34]
        state[:6] = env._solve_arm(np.array([0.4, 0.0, 0.25]), 0.0, state[:6])
    elif change == "joint":
        state[2] = 3.4
    elif change == "fingers":
        state[6] = 0.7
    elif change == "fast":
        state[size + 14] = 30.0
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("quaternion", "length 1"),
        ("table", "outside the table"),
        ("below", "outside the table"),
        ("overlap", "overlap by"),
        ("sunk", "overlap by"),
        ("joint", "elbow at 3.400 rad"),
        ("fingers", "do not fit together"),
        ("fast", "cubes at a speed of 30"),
    ],
)
@pytest.mark.parametrize("key", ["state", "goal_state"])
def test_states_outside_the_limits(key, change, message):
    DOUBLE.reset(seed=0)
    before = DOUBLE.get_state()
    with pytest.raises(ValueError, match=rf"(?s){key}.*{message}.*sample_state"):
        DOUBLE.reset(options={key: broken(DOUBLE, change)})
    np.testing.assert_array_equal(DOUBLE.get_state(), before)


def test_other_bad_input():
    with pytest.raises(ValueError, match=r"shape \(41,\).*sample_state"):
        SINGLE.reset(options={"state": start(DOUBLE)})
    with pytest.raises(ValueError, match="Did you mean 'goal_state'"):
        SINGLE.reset(options={"goal": start(SINGLE)})
    with pytest.raises(ValueError, match="Did you mean 'strict'"):
        CubeSingle(success="stric")


def test_without_ogbench_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("wm_agents.envs.cube_scene.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install 'ogbench"):
        CubeSingle()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(ENVS)))
def test_sampled_states_are_valid_and_at_rest(seed, name):
    env = ENVS[name]
    state = env.sample_state(np.random.default_rng(seed))
    env.validate_state(state)
    assert (state[env._model.nq :] == 0).all()
    poses = env.cube_poses(state)
    assert (np.ptp(poses[:, :2], axis=0) > 0.0).all() or name == "single"
    assert np.linalg.norm(poses[0, :2] - poses[-1, :2]) >= 0.06 or name == "single"
    env.reset(options={"state": state})
    gripper = env.gripper()
    assert (gripper.position >= env.arm_starts[0] - 2e-3).all()
    assert (gripper.position <= env.arm_starts[1] + 2e-3).all()
    after = env.step(STILL)[-1]["state"]
    np.testing.assert_allclose(env.cube_poses(after), poses, atol=1e-3)
