"""Images of the cube tasks: they show every cube, the goal is its state's, and every worker draws the same."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import numpy as np
import pytest
from cubes import DOUBLE, STILL, start

from wm_agents.envs.cube import CubeDouble, CubeSingle


@pytest.fixture(scope="module")
def drawn() -> Iterator[CubeDouble]:
    env = CubeDouble(render_mode="rgb_array")
    yield env
    env.close()


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
