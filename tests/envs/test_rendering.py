"""What the images show, in one environment, in many, and in worker processes."""

from __future__ import annotations

import importlib.machinery
import multiprocessing
import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from wm_agents.envs import MAZE_IDS, rendering


def ball_pixels(frame: np.ndarray) -> np.ndarray:
    """Where the frame is red, as the ball is: bool ``[H, W]``."""
    red, green, blue = np.moveaxis(frame.astype(int), -1, 0)
    return (red - green > 40) & (red - blue > 40)


def seen_xy(env, frame: np.ndarray) -> np.ndarray:
    """The ball's position read from the image as the documentation says."""
    extent = max(env.maze_map.shape) - 1
    row, column = np.argwhere(ball_pixels(frame)).mean(axis=0) + 0.5
    return np.array([column / len(frame) - 0.5, 0.5 - row / len(frame)]) * extent


@pytest.mark.parametrize("env_id", MAZE_IDS)
def test_image_shows_the_ball_where_it_is_and_never_hidden(env_id):
    env = gym.make(env_id).unwrapped
    rng = np.random.default_rng(0)
    corners = [env.cell_to_xy(cell) + offset for cell in np.argwhere(env.maze_map == 0) for offset in (-0.4, 0.4)]
    places = np.array([*corners, *(env.sample_state(rng)[:2] for _ in range(40))])
    pixel = (max(env.maze_map.shape) - 1) / 64
    for x, y in places:
        frame = env.render_state(np.array([x, y, 0, 0]))
        assert frame.shape == (64, 64, 3)
        assert frame.dtype == np.uint8
        assert 24 <= ball_pixels(frame).sum() <= 40  # a disc of 6.4 pixels across
        assert np.abs(seen_xy(env, frame) - [x, y]).max() < pixel


@pytest.mark.parametrize("env_id", MAZE_IDS)
def test_image_shows_the_walls_where_they_are(env_id):
    env = gym.make(env_id).unwrapped
    size = 128
    state = env.sample_state(np.random.default_rng(0))
    frame = env.render_state(state, size=size)
    extent = max(env.maze_map.shape) - 1
    for cell in np.ndindex(*env.maze_map.shape):
        x, y = env.cell_to_xy(np.array(cell))
        if np.abs([x, y]).max() < extent / 2 and np.linalg.norm([x, y] - state[:2]) > 0.1 * extent:
            colour = frame[int((0.5 - y / extent) * size), int((x / extent + 0.5) * size)]
            assert (colour.max() < 100) == bool(env.maze_map[cell])


@pytest.mark.parametrize("obs_type", ["pixels", "pixels_state"])
def test_goal_image_is_the_goal_state_and_no_marker_is_seen(obs_type):
    env = gym.make(MAZE_IDS[1], obs_type=obs_type, render_mode="rgb_array")
    start = env.unwrapped.sample_state(np.random.default_rng(0))
    frames = []
    for seed in range(3):
        observation, info = env.reset(seed=seed, options={"state": start})
        env.render()
        frames.append(observation["pixels"])
        np.testing.assert_array_equal(observation["goal_pixels"], env.unwrapped.render_state(info["goal_state"]))
        stepped, *_, info = env.step(np.zeros(2))
        np.testing.assert_array_equal(stepped["goal_pixels"], observation["goal_pixels"])
        np.testing.assert_array_equal(stepped["pixels"], env.unwrapped.render_state(info["state"]))
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[0], frames[2])


def test_render_shows_the_goal_to_people():
    env = gym.make(MAZE_IDS[0], obs_type="state", render_mode="rgb_array")
    env.reset(options={"state": [-1, 1, 0, 0], "goal_state": [-1, -1, 0, 0]})
    frame = env.render()
    assert frame.shape == (480, 480, 3)
    red, green, blue = frame[360, 120].astype(int)
    assert green > red + 30
    assert green > blue + 30
    assert ball_pixels(frame)[120, 120]


def test_returned_frames_belong_to_the_caller():
    env = gym.make(MAZE_IDS[0])
    first, _ = env.reset(seed=0)
    kept = {key: frame.copy() for key, frame in first.items()}
    second, *_ = env.step(np.ones(2))
    second["goal_pixels"][:] = 0
    env.step(np.ones(2))
    for key, frame in first.items():
        np.testing.assert_array_equal(frame, kept[key])
    assert env.step(np.ones(2))[0]["goal_pixels"].any()


def test_rendering_leaves_the_simulation_alone():
    env, silent = gym.make(MAZE_IDS[0]).unwrapped, gym.make(MAZE_IDS[0], obs_type="state").unwrapped
    env.reset(seed=0)
    silent.reset(seed=0)
    rng = np.random.default_rng(0)
    for action in rng.uniform(-1, 1, (20, 2)):
        env.render_state(env.sample_state(rng))
        np.testing.assert_array_equal(env.step(action)[-1]["state"], silent.step(action)[-1]["state"])
    with pytest.raises(ValueError, match="sample_state"):
        env.render_state(np.zeros(4))


@pytest.mark.parametrize("size", [16, 50, 200])
def test_any_image_size(size):
    env = gym.make(MAZE_IDS[3], image_size=size)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["pixels"].shape == (size, size, 3)
    assert ball_pixels(observation["pixels"]).any()
    assert env.unwrapped.render_state(env.unwrapped.get_state(), size=32).shape == (32, 32, 3)


def test_closing_one_environment_leaves_the_others_right():
    envs = [gym.make(env_id) for env_id in MAZE_IDS for _ in range(2)]
    frames = [env.reset(seed=i)[0]["pixels"] for i, env in enumerate(envs)]
    while envs:
        for i, env in enumerate(envs):
            again = env.reset(seed=len(frames) - len(envs) + i)[0]["pixels"]
            assert again.mean() > 0
            np.testing.assert_array_equal(again, frames[len(frames) - len(envs) + i])
        envs.pop(0).close()


def test_an_environment_that_is_dropped_unclosed_harms_nobody():
    kept = gym.make(MAZE_IDS[0])
    frame = kept.reset(seed=0)[0]["pixels"]
    dropped = gym.make(MAZE_IDS[0])
    dropped.reset(seed=1)
    del dropped
    np.testing.assert_array_equal(kept.reset(seed=0)[0]["pixels"], frame)
    kept.close()
    kept.close()
    np.testing.assert_array_equal(kept.reset(seed=0)[0]["pixels"], frame)


def reference_frames(seed: int, count: int) -> list[dict[str, np.ndarray]]:
    return [gym.make(MAZE_IDS[1]).reset(seed=seed + i)[0] for i in range(count)]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_gymnasium_vector_env_renders_right_in_every_worker(mode):
    expected = reference_frames(5, 3)  # this process has rendered before the workers start
    envs = gym.make_vec(MAZE_IDS[1], num_envs=3, vectorization_mode=mode)
    try:
        observation, info = envs.reset(seed=5)
        for i, single in enumerate(expected):
            for key, frame in single.items():
                np.testing.assert_array_equal(observation[key][i], frame)
        assert info["state"].shape == (3, 4)
        observation, *_ = envs.step(np.ones((3, 2), np.float32))
        assert (observation["pixels"].mean(axis=(1, 2, 3)) > 0).all()
    finally:
        envs.close()


START_METHODS = [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()]


@pytest.mark.parametrize("start_method", [None, *START_METHODS])
def test_sb3_vec_env_renders_right_in_every_worker(start_method):
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    expected = reference_frames(9, 2)
    envs = make_vec_env(
        f"wm_agents:{MAZE_IDS[1]}",  # a spawned worker has not imported the package
        n_envs=2,
        seed=9,
        vec_env_cls=SubprocVecEnv if start_method else DummyVecEnv,
        vec_env_kwargs={"start_method": start_method} if start_method else None,
    )
    try:
        observation = envs.reset()
        for i, single in enumerate(expected):
            for key, frame in single.items():
                np.testing.assert_array_equal(observation[key][i], frame)
        observation, _, _, infos = envs.step(np.ones((2, 2), np.float32))
        assert (observation["pixels"].mean(axis=(1, 2, 3)) > 0).all()
        assert {"is_success", "state", "goal_state"} <= set(infos[0])
    finally:
        envs.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the backend is chosen on Linux only")
@pytest.mark.parametrize(
    ("environment", "installed", "expected"),
    [
        ({}, {"egl", "osmesa"}, "egl"),
        ({}, {"osmesa"}, "osmesa"),
        ({}, set(), "disable"),
        ({"DISPLAY": ":0"}, {"egl"}, ""),
        ({"WAYLAND_DISPLAY": "wayland-0"}, {"egl"}, ""),
        ({"MUJOCO_GL": "osmesa"}, {"egl", "osmesa"}, "osmesa"),
        ({"MUJOCO_GL": "glfw"}, {"egl"}, "glfw"),
        ({"MUJOCO_GL": "egl", "DISPLAY": ":0"}, set(), "disable"),
    ],
)
def test_choice_of_backend(monkeypatch, environment, installed, expected):
    monkeypatch.setattr(rendering, "_installed", lambda backend: backend in installed)
    monkeypatch.setattr(os, "environ", dict(environment))
    assert rendering.choose_backend() == expected
    assert os.environ["LP_NUM_THREADS"] == "0"


NO_OPENGL = """
import ctypes, ctypes.util

load, find = ctypes.CDLL.__init__, ctypes.util.find_library

def missing(name):
    return any(part in str(name) for part in ("EGL", "OSMesa"))

def init(self, name, *args, **kwargs):
    if missing(name):
        raise OSError(name)
    load(self, name, *args, **kwargs)

ctypes.CDLL.__init__ = init
ctypes.util.find_library = lambda name: None if missing(name) else find(name)

import gymnasium as gym
import wm_agents.envs

observation, _ = gym.make("wm/TwoRoom-v0", obs_type="state").reset(seed=0)
assert set(observation) == {"observation", "achieved_goal", "desired_goal"}
try:
    gym.make("wm/TwoRoom-v0").reset(seed=0)
except wm_agents.envs.RendererUnavailableError as error:
    assert "apt-get install -y --no-install-recommends libegl1 libgl1 libglib2.0-0" in str(error), error
else:
    raise AssertionError("an image came from nowhere")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the backend is chosen on Linux only")
@pytest.mark.parametrize("chosen", [None, "egl"])
def test_a_machine_without_opengl_gets_the_cure_and_still_has_states(chosen):
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")}
    environment |= {"MUJOCO_GL": chosen} if chosen else {}
    done = subprocess.run(
        [sys.executable, "-c", NO_OPENGL], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_backend_is_ignored_with_a_warning(monkeypatch):
    monkeypatch.setattr(rendering, "_installed", lambda backend: backend == "egl")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MUJOCO_GL", "bogus")
    with pytest.warns(UserWarning, match="MUJOCO_GL='bogus' is ignored: use egl"):
        assert rendering.choose_backend() == "egl"


def test_triton_is_loaded_ahead_of_opengl_where_it_is_installed(monkeypatch, tmp_path):
    loaded = []
    spec = importlib.machinery.ModuleSpec("triton", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(rendering.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(rendering.ctypes, "CDLL", loaded.append)
    rendering._load_triton_first.__wrapped__()
    assert loaded == [str(tmp_path / "_C" / "libtriton.so")]
