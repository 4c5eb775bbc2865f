"""The cube tasks: exact states, success tests, images and the policies that play with them."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

pytest.importorskip("ogbench")

from wm_agents.datasets import POLICIES, episode_seed, rollout_states
from wm_agents.datasets.episodes import rollout
from wm_agents.envs.cube import Cube, CubeDouble, CubeSingle, cube_angle
from wm_agents.envs.goal_env import OBS_TYPES
from wm_agents.evaluation.tasks import make_manifest

TASKS = {"wm/Cube-Single-v0": 200, "wm/Cube-Double-v0": 500}

SINGLE, DOUBLE = CubeSingle(obs_type="state"), CubeDouble(obs_type="state")
ENVS: dict[str, Cube] = {"single": SINGLE, "double": DOUBLE}
STILL = np.zeros(5)


@pytest.fixture(scope="module")
def episode() -> tuple[np.ndarray, np.ndarray]:
    """States and actions of an oracle that picks a cube up, carries it and puts it down, with two cubes."""
    return rollout_states(DOUBLE, "oracle-play", 110, episode_seed("collect", 0, 3))


@pytest.fixture(scope="module")
def drawn() -> Iterator[CubeDouble]:
    env = CubeDouble(render_mode="rgb_array")
    yield env
    env.close()


def start(env: Cube, seed: int = 0) -> np.ndarray:
    return env.sample_state(np.random.default_rng(seed))


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


# Images.


def red(frame: np.ndarray) -> np.ndarray:
    r, g, b = np.moveaxis(frame.astype(int), -1, 0)
    return (r > 1.8 * g) & (r > 1.8 * b) & (r > 80)


def blue(frame: np.ndarray) -> np.ndarray:
    return red(frame[..., ::-1])


def test_images_show_every_cube_and_the_arm(drawn):
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(30):
        state = drawn.sample_state(rng)
        frame = drawn.render_state(state)
        assert frame.shape == (64, 64, 3)
        assert 60 < frame.mean() < 240
        for seen, pose in zip((red(frame), blue(frame)), drawn.cube_poses(state), strict=True):
            if seen.sum() < 6:  # partly behind the gripper
                continue
            row, column = np.argwhere(seen).mean(axis=0)
            assert seen.sum() <= 32  # a cube of 3 pixels
            rows.append([*pose[:2], row, column])
        assert (frame.max(axis=-1) < 160).sum() > 100  # the arm
    rows_ = np.array(rows)
    assert len(rows) > 50
    # Cubes farther from the arm's base (larger x) are lower in the image, those with larger y farther right.
    assert np.corrcoef(rows_[:, 0], rows_[:, 2])[0, 1] > 0.95
    assert np.corrcoef(rows_[:, 1], rows_[:, 3])[0, 1] > 0.99


def test_goal_image_is_the_goal_state_and_no_ghost_is_seen(drawn):
    here, frames = start(drawn), []
    for seed in range(3):
        observation, info = drawn.reset(seed=seed, options={"state": here})
        large = drawn.render()
        frames.append(observation["pixels"])
        np.testing.assert_array_equal(observation["goal_pixels"], drawn.render_state(info["goal_state"]))
        stepped, *_, after = drawn.step(STILL)
        np.testing.assert_array_equal(stepped["goal_pixels"], observation["goal_pixels"])
        np.testing.assert_array_equal(stepped["pixels"], drawn.render_state(after["state"]))
        plain = drawn.render_state(here, size=480)
        assert large.shape == (480, 480, 3)
        assert (large != plain).any(axis=-1).sum() > 200  # people see where the cubes should go
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[0], frames[2])


def test_a_lifted_cube_differs_from_a_far_one(drawn):
    state = start(drawn, 2)
    pose = drawn.cube_poses(state)[0]
    pose[:3] = [0.5, 0.25, 0.12]
    lifted = drawn.render_state(state)
    pose[:3] = [0.5 - 0.1 / np.tan(np.radians(48)), 0.25, 0.02]  # on the same line of sight
    far = drawn.render_state(state)
    assert np.abs(np.argwhere(red(lifted)).mean(axis=0) - np.argwhere(red(far)).mean(axis=0)).max() < 1.5
    assert (np.abs(lifted.astype(int) - far).max(axis=-1) > 40).sum() >= 4


def test_rendering_leaves_the_simulation_alone(drawn):
    rng = np.random.default_rng(0)
    drawn.reset(seed=0)
    DOUBLE.reset(seed=0)
    for action in rng.uniform(-1, 1, (10, 5)):
        drawn.render_state(drawn.sample_state(rng))
        DOUBLE.gripper()
        np.testing.assert_array_equal(drawn.step(action)[-1]["state"], DOUBLE.step(action)[-1]["state"])


def test_closing_one_environment_leaves_the_others_right():
    envs = [cls(image_size=size) for cls in (CubeSingle, CubeDouble) for size in (32, 64)]
    frames = [env.reset(seed=i)[0]["pixels"] for i, env in enumerate(envs)]
    assert all(frame.std() > 10 for frame in frames)
    while envs:
        for i, env in enumerate(envs, start=len(frames) - len(envs)):
            np.testing.assert_array_equal(env.reset(seed=i)[0]["pixels"], frames[i])
        envs.pop(0).close()


START_METHODS = [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()]


@pytest.mark.parametrize("start_method", START_METHODS)
def test_sb3_vec_env_renders_right_in_every_worker(drawn, start_method):
    from stable_baselines3.common.vec_env import SubprocVecEnv

    workers = 1 if start_method == "spawn" else 2
    expected = [drawn.reset(seed=9 + i)[0] for i in range(workers)]
    envs = SubprocVecEnv([lambda: CubeDouble()] * workers, start_method=start_method)
    try:
        envs.seed(9)
        observation = envs.reset()
        for i, single in enumerate(expected):
            for key, frame in single.items():
                np.testing.assert_array_equal(observation[key][i], frame)
        observation, _, _, infos = envs.step(np.ones((workers, 5), np.float32))
        assert (observation["pixels"].std(axis=(1, 2, 3)) > 10).all()
        assert {"is_success", "state", "goal_state"} <= set(infos[0])
    finally:
        envs.close()


# Policies.


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
