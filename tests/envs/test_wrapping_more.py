"""Several cameras, proprioception drawn into the frame, goals of the environment's own, options of its reset."""

from __future__ import annotations

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from dot_env import Dot
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import wm_agents
from wm_agents import evaluation
from wm_agents.envs.contexts import create_context


class Robot(Dot):
    """A dot with two cameras, joint angles, and goals that it draws itself and shows."""

    def __init__(self, render_mode="rgb_array"):
        super().__init__(render_mode)
        image = spaces.Box(0, 255, (48, 48, 3), np.uint8)
        numbers = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Dict(front=image, wrist=image, joints=numbers)

    def reset(self, *, seed=None, options=None):
        position, info = super().reset(seed=seed, options=options)
        corner = (options or {}).get("corner")
        self.goal = np.full(2, 0.7 * corner) if corner else self.np_random.uniform(-0.6, 0.6, 2)
        start, self._at = self._at, self.goal
        goal = self.render()
        self._at = start
        return self._seen(position), {**info, "goal": goal}

    def step(self, action):
        position, reward, terminated, truncated, info = super().step(action)
        info["success"] = bool(np.abs(self._at - self.goal).max() < 0.15)
        return self._seen(position), reward, terminated, truncated, info

    def _seen(self, position):
        return {"front": self.render(), "wrist": 255 - self.render(), "joints": position}


def test_two_cameras_share_the_frame():
    env = wm_agents.wrap(Robot(), pixels=("front", "wrist"), success="pixels")
    frame = env.reset(seed=0)[0]["pixels"]
    check_env(env)
    assert frame.shape == (64, 64, 3)
    assert np.median(frame[:, :32]) < 60
    assert np.median(frame[:, 32:]) > 190
    assert frame[:, :32].max() > 150, "the dot is seen by the first"
    assert frame[:, 32:].min() < 100, "and by the second"


def test_numbers_are_cells_along_the_lower_edge():
    env = wm_agents.wrap(Robot(), pixels="front", proprioception="joints", focus=False)
    task = env.unwrapped
    seen = []
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        seen.append((observation["pixels"][60, 16, 0], observation["pixels"][60, 48, 0], *info["state"]))
        goal_cells = observation["goal_pixels"][60, [16, 48], 0].astype(float)
        low, high = task.view._ranges
        shown = low + goal_cells / 255 * (high - low)
        np.testing.assert_allclose(shown, np.clip(info["goal_state"], low, high), atol=0.01)
    seen = np.array(seen, float)
    assert np.corrcoef(seen[:, 0], seen[:, 2])[0, 1] > 0.99
    assert np.corrcoef(seen[:, 1], seen[:, 3])[0, 1] > 0.99
    by_index = wm_agents.wrap(Robot(), pixels="front", proprioception=(0, 1), focus=False)
    np.testing.assert_array_equal(by_index.reset(seed=3)[0]["pixels"], env.reset(seed=3)[0]["pixels"])


class Spoken(Robot):
    """The robot, whose joints lie in a dict, beside a text."""

    def __init__(self, render_mode="rgb_array"):
        super().__init__(render_mode)
        joints = spaces.Dict(joints=spaces.Box(-1.0, 1.0, (2,), np.float32))
        self.observation_space = spaces.Dict(arm=joints, task=spaces.Text(9))

    def _seen(self, position):
        return {"arm": {"joints": position}, "task": "lift"}


def test_numbers_in_a_dict_of_the_observation():
    env, flat = (
        wm_agents.wrap(kind(), proprioception=key, focus=False)
        for kind, key in ((Spoken, "arm/joints"), (Robot, "joints"))
    )
    np.testing.assert_array_equal(env.reset(seed=3)[0]["pixels"], flat.reset(seed=3)[0]["pixels"])


@pytest.mark.parametrize(
    ("key", "message"), [("task", "must be numbers; 'task' of the observation is <U4"), ("arm", "Known: arm/joints")]
)
def test_what_is_no_numbers_is_not_drawn(key, message):
    with pytest.raises(ValueError, match=message):
        wm_agents.wrap(Spoken(), proprioception=key)


def test_goals_of_its_own_are_shown_and_judged_by_it():
    env = wm_agents.wrap(Robot(), pixels="front", goals="own", focus=False, max_episode_steps=60)
    observation, info = env.reset(seed=4)
    assert "info['success']" in env.unwrapped.test.description
    goal = env.unwrapped.env.unwrapped.goal
    rows, columns = np.nonzero(observation["goal_pixels"][..., 0] > 150)
    np.testing.assert_allclose((rows.mean() + 0.5) / 32 - 1, goal[1], atol=0.05)
    np.testing.assert_allclose((columns.mean() + 0.5) / 32 - 1, goal[0], atol=0.05)
    over = False
    while not over:
        *_, terminated, truncated, info = env.step(10 * (goal - info["state"]).astype(np.float32))
        over = terminated or truncated
    assert terminated
    assert info["is_success"]


def test_goals_of_its_own_are_evaluated_and_replayed():
    wm_agents.envs.register_wrapped("test/Robot-v0", Robot, pixels="front", goals="own", max_episode_steps=30)
    manifest = evaluation.make_manifest("test/Robot-v0", tasks=4, offset="random", budget=10)
    assert (manifest.goals[:, 1] == -1).all()
    np.testing.assert_array_equal(manifest.goals[:, 0], manifest.starts[:, 0])
    again = evaluation.Manifest.from_json(manifest.to_json())
    assert again.sha256 == manifest.sha256
    floors = evaluation.floors(manifest)
    assert set(floors) == {"random", "noop"}
    assert floors["noop"].success_rate() == 0
    with pytest.raises(ValueError, match="draws its goals itself"):
        evaluation.make_manifest("test/Robot-v0", tasks=2, offset=5, budget=10)


def test_reset_options_are_passed_on():
    env = wm_agents.wrap(Robot(), pixels="front", goals="own", focus=False, reset_options={"corner": 1})
    for seed in range(3):
        env.reset(seed=seed)
        np.testing.assert_array_equal(env.unwrapped.env.unwrapped.goal, [0.7, 0.7])


def test_images_of_the_user_have_gray_cells():
    images = np.full((3, 48, 48, 3), 90, np.uint8)
    env = wm_agents.wrap(Robot(), pixels="front", proprioception="joints", goals=images, success="pixels", focus=False)
    goal = env.reset(seed=0)[0]["goal_pixels"]
    assert (goal[:50] == 90).all()
    assert (np.abs(goal[-6:].astype(int) - 128) <= 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixels": ("front", "side")}, "'side'"),
        ({"pixels": ()}, "one to four images"),
        ({"pixels": ("front",) * 5}, "one to four images"),
        ({"pixels": "front", "proprioception": "joint"}, "Did you mean 'joints'"),
        ({"pixels": "front", "proprioception": (0, 5)}, "indices below 2"),
        ({"pixels": "front", "proprioception": (-1,)}, "indices below 2"),
        ({"pixels": "front", "proprioception": ()}, "proprioception"),
        ({"pixels": "front", "proprioception": (0, 1) * 9}, "show 1 to 16"),
        ({"pixels": "front", "goals": "owns"}, "Did you mean 'own'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        wm_agents.wrap(Robot(), **options)


def test_an_environment_that_shows_no_goal_of_its_own_is_refused():
    with pytest.raises(ValueError, match="shows no image of its own goal"):
        wm_agents.wrap(Dot("rgb_array"), goals="own").reset(seed=0)


def test_numbers_that_no_frame_shows_are_no_test():
    class Hidden(Dot):
        def render(self):
            self._drawn += 1
            return np.random.default_rng(self._drawn).integers(0, 255, (48, 48, 3)).astype(np.uint8)

    assert "frame differs" in wm_agents.wrap(Hidden("rgb_array")).unwrapped.test.description
    assert "observation" in wm_agents.wrap(Hidden("rgb_array"), success="state").unwrapped.test.description


class Trusting(Dot):
    """Draws with OpenGL, and trusts that the context which it made current once stays current."""

    def __init__(self):
        super().__init__("rgb_array")
        self.context = None

    def render(self):
        if self.context is None:
            self.context = create_context(48)
            self.context.make_current()
            self.scene = mujoco.MjrContext(
                mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100
            )
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.scene)
        red, green = (self._at + 1) / 2
        view, frame = mujoco.MjrRect(0, 0, 48, 48), np.empty((48, 48, 3), np.uint8)
        mujoco.mjr_rectangle(view, red, green, 0.5, 1)
        mujoco.mjr_readPixels(frame, None, view, self.scene)
        return frame


class Seen(Trusting):
    """The same as an observation."""

    def __init__(self):
        super().__init__()
        self.observation_space = spaces.Box(0, 255, (48, 48, 3), np.uint8)

    def reset(self, **options):
        _, info = super().reset(**options)
        return self.render(), info

    def step(self, action):
        return self.render(), *super().step(action)[1:]


@pytest.mark.parametrize(("kind", "options"), [(Trusting, {}), (Seen, {"pixels": "observation"})])
def test_renderers_that_trust_their_context_draw_among_others(kind, options):
    maze = gym.make("wm/PointMaze-UMaze-v0")
    envs = [wm_agents.wrap(kind(), focus=False, **options) for _ in range(2)]
    for seed in range(3):
        for env in envs:
            maze.reset(seed=seed)
            frame = env.reset(seed=seed)[0]["pixels"]
            red, green = (env.unwrapped.env.unwrapped._at + 1) / 2
            np.testing.assert_allclose(frame[10, 10], np.array([red, green, 0.5]) * 255, atol=2)
