"""Drawing beside other renderers and in any thread."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import numpy as np
import pytest

from wm_agents.envs import ENV_IDS
from wm_agents.envs.contexts import drawing


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Let MuJoCo write its log, about Gymnasium's models, where it is in nobody's way."""
    monkeypatch.chdir(tmp_path)


DRAWN_WITH_OPENGL = ("wm/TwoRoom-v0", "wm/PointMaze-UMaze-v0", "wm/Cube-Single-v0")


class Gymnasium:
    """A MuJoCo environment of Gymnasium's."""

    def __init__(self, env_id: str) -> None:
        self.env = gym.make(env_id, render_mode="rgb_array", width=96, height=96)
        self.env.reset(seed=0)

    def frame(self) -> np.ndarray:
        return self.env.render()


class DMControl:
    """An environment of dm_control's."""

    def __init__(self, domain: str) -> None:
        from dm_control import suite

        self.env = suite.load(domain, next(task for name, task in suite.ALL_TASKS if name == domain))
        self.env.task.random.seed(0)
        self.env.reset()

    def frame(self) -> np.ndarray:
        return self.env.physics.render(height=96, width=96)


class Mujoco:
    """A renderer of MuJoCo's own."""

    def __init__(self) -> None:
        import mujoco

        self.model = mujoco.MjModel.from_xml_string(
            "<mujoco><worldbody><light pos='0 0 3'/><geom size='1' rgba='1 0 0 1'/></worldbody></mujoco>"
        )
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)
        self.renderer = mujoco.Renderer(self.model, 96, 96)

    def frame(self) -> np.ndarray:
        self.renderer.update_scene(self.data)
        return self.renderer.render()


def ogbench_cube() -> Gymnasium:
    import ogbench  # noqa: F401

    return Gymnasium("cube-single-v0")


FOREIGN = {
    "half-cheetah": lambda: Gymnasium("HalfCheetah-v5"),
    "reacher": lambda: Gymnasium("Reacher-v5"),
    "dm-cartpole": lambda: DMControl("cartpole"),
    "mujoco": Mujoco,
    "ogbench": ogbench_cube,
}


def current_context() -> object:
    from OpenGL import EGL

    context = EGL.eglGetCurrentContext()
    return context.address if context else None


@pytest.mark.parametrize("env_id", DRAWN_WITH_OPENGL)
@pytest.mark.parametrize("kind", FOREIGN)
def test_another_renderer_draws_the_same_before_during_and_after(kind, env_id):
    other = FOREIGN[kind]()
    before = other.frame()
    assert before.std() > 1
    ours = gym.make(env_id, render_mode="rgb_array")
    first = ours.reset(seed=0)[0]["pixels"]
    np.testing.assert_array_equal(other.frame(), before)
    ours.render()  # another size, hence another context
    np.testing.assert_array_equal(other.frame(), before)
    np.testing.assert_array_equal(ours.reset(seed=0)[0]["pixels"], first)
    ours.close()
    np.testing.assert_array_equal(other.frame(), before)
    np.testing.assert_array_equal(ours.reset(seed=0)[0]["pixels"], first)
    del ours
    gc.collect()
    np.testing.assert_array_equal(other.frame(), before)


def test_another_renderer_that_comes_later_is_left_alone_too():
    ours = [gym.make(env_id) for env_id in DRAWN_WITH_OPENGL]
    first = [env.reset(seed=0)[0]["pixels"] for env in ours]
    other = Gymnasium("HalfCheetah-v5")
    frame = other.frame()
    assert frame.std() > 1
    for env, pixels in zip(ours, first, strict=True):
        np.testing.assert_array_equal(env.reset(seed=0)[0]["pixels"], pixels)
        np.testing.assert_array_equal(other.frame(), frame)
        env.close()
        np.testing.assert_array_equal(other.frame(), frame)


@pytest.mark.parametrize("kind", FOREIGN)
def test_many_environments_and_another_renderer_in_any_order(kind):
    other = FOREIGN[kind]()
    ours = [gym.make(env_id) for env_id in DRAWN_WITH_OPENGL]
    draws = [other.frame, *(lambda env=env: env.reset(seed=1)[0]["pixels"] for env in ours)]
    expected = [draw() for draw in draws]
    for order in itertools.permutations(range(len(draws))):
        for index in order:
            np.testing.assert_array_equal(draws[index](), expected[index])


@pytest.mark.skipif(os.environ.get("MUJOCO_GL") != "egl", reason="looks at EGL's state")
def test_the_current_context_is_restored_and_none_stays_none():
    from mujoco.egl import GLContext

    ours = gym.make("wm/TwoRoom-v0", render_mode="rgb_array")
    with drawing():
        pass
    theirs = GLContext(8, 8)
    assert current_context() is None
    ours.reset(seed=0)
    assert current_context() is None
    theirs.make_current()
    expected = current_context()
    for act in (lambda: ours.reset(seed=0), ours.render, ours.close, lambda: ours.reset(seed=1)):
        act()
        assert current_context() == expected
    with drawing():
        theirs.free()  # by a garbage collection, say
    assert current_context() is None


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_every_call_may_come_from_another_thread(env_id):
    env = gym.make(env_id, obs_type="pixels_state", render_mode="rgb_array")
    expected = [env.reset(seed=0)[0]["pixels"], env.render()]
    action = np.full(env.action_space.shape, 0.5, np.float32)
    expected.append(env.step(action)[0]["pixels"])
    calls = (
        lambda: env.reset(seed=0)[0]["pixels"],
        env.render,
        lambda: env.step(action)[0]["pixels"],
    )
    for _ in range(3):  # three threads, one after the other, and this one in between
        with ThreadPoolExecutor(1) as pool:
            for call, frame in zip(calls, expected, strict=True):
                np.testing.assert_array_equal(pool.submit(call).result(), frame)
        np.testing.assert_array_equal(env.reset(seed=0)[0]["pixels"], expected[0])
    with ThreadPoolExecutor(1) as pool:
        pool.submit(env.close).result()
    np.testing.assert_array_equal(env.reset(seed=0)[0]["pixels"], expected[0])


def test_an_environment_made_and_dropped_in_a_thread():
    def frame() -> np.ndarray:
        return gym.make("wm/TwoRoom-v0").reset(seed=0)[0]["pixels"]

    expected = frame()
    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            for found in pool.map(lambda _: frame(), range(4)):
                np.testing.assert_array_equal(found, expected)
    gc.collect()
    np.testing.assert_array_equal(frame(), expected)


@pytest.mark.parametrize("env_id", DRAWN_WITH_OPENGL)
def test_threads_that_draw_one_environment_at_the_same_time(env_id):
    task = gym.make(env_id).unwrapped
    rng = np.random.default_rng(0)
    states = [task.sample_state(rng) for _ in range(6)]
    expected = [task.render_state(state) for state in states]
    barrier = threading.Barrier(4)

    def draw(number: int) -> None:
        barrier.wait()
        for turn in range(30):
            index = (number + turn) % len(states)
            np.testing.assert_array_equal(task.render_state(states[index]), expected[index])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(draw, range(4)))


def test_threads_that_draw_their_own_environments_at_the_same_time():
    expected = [gym.make(env_id).reset(seed=0)[0]["pixels"] for env_id in ENV_IDS]

    def draw(index: int) -> None:
        env = gym.make(ENV_IDS[index])
        for _ in range(5):
            np.testing.assert_array_equal(env.reset(seed=0)[0]["pixels"], expected[index])
        env.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(draw, range(len(ENV_IDS))))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_process_forked_while_another_thread_draws_does_not_hang():
    env, stop = gym.make("wm/TwoRoom-v0"), threading.Event()
    expected = env.reset(seed=0)[0]["pixels"]

    def keep_drawing() -> None:
        mine = gym.make("wm/TwoRoom-v0")
        while not stop.is_set():
            mine.reset(seed=1)

    def check() -> None:
        np.testing.assert_array_equal(env.reset(seed=0)[0]["pixels"], expected)

    thread = threading.Thread(target=keep_drawing)
    thread.start()
    try:
        for _ in range(5):
            process = multiprocessing.get_context("fork").Process(target=check)
            process.start()
            process.join(30)
            assert process.exitcode == 0
    finally:
        stop.set()
        thread.join()
