"""Environments that the library does not know become goal tasks: images, goals, success, actions, bad input."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
from dot_env import Dot
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordVideo, TimeLimit
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

import wm_agents
from wm_agents.envs import NotRepeatableWarning, WrappedEnv
from wm_agents.envs.success import told_by_frames
from wm_agents.envs.views import moving_part


def dot(**options):
    return Dot(render_mode="rgb_array", **options)


def same(one, other):
    return all(np.array_equal(one[key], other[key]) for key in ("pixels", "goal_pixels"))


def test_any_environment_has_the_observations_of_a_task():
    env = wm_agents.wrap(dot(), image_size=32)
    observation, info = env.reset(seed=0)
    assert observation.keys() == {"pixels", "goal_pixels"}
    assert all(image.shape == (32, 32, 3) and image.dtype == np.uint8 for image in observation.values())
    assert info.keys() >= {"is_success", "success_moderate", "success_strict", "state", "goal_state", "env_info"}
    assert not info["is_success"]


def test_both_checkers_pass():
    env = wm_agents.wrap(dot(), image_size=48)
    check_env(env)
    sb3_check_env(env)


def test_the_same_seed_gives_the_same_start_and_goal():
    one, other = wm_agents.wrap(dot()), wm_agents.wrap(dot())
    first, _ = one.reset(seed=3)
    one.reset(seed=4)
    again, _ = one.reset(seed=3)
    elsewhere, _ = other.reset(seed=3)
    assert same(first, again)
    assert same(first, elsewhere)
    assert not np.array_equal(first["pixels"], first["goal_pixels"])


def test_replaying_the_rollout_reaches_the_goal():
    env = wm_agents.wrap(dot())
    task = env.unwrapped
    for seed in range(5):
        _, info = env.reset(seed=seed, options={"state": (seed, 0), "goal_state": (seed, 30)})
        behaviour = task._behaviour(task, np.random.default_rng([seed, 1]))
        for _ in range(30):
            _, _, over, _, info = env.step(behaviour.act(info["state"]))
        assert info["success_strict"]
        assert over


def test_the_dot_seeks_its_goal_by_the_states():
    env = wm_agents.wrap(dot(), max_episode_steps=60)
    _, info = env.reset(seed=1)
    rewards = []
    over = False
    while not over:
        _, reward, terminated, truncated, info = env.step(10 * (info["goal_state"] - info["state"]).astype(np.float32))
        rewards.append(reward)
        over = terminated or truncated
    assert terminated
    assert info["is_success"]
    assert rewards[-1] == 0
    assert set(rewards[:-1]) <= {-1.0}


def test_the_limit_of_steps_is_kept():
    env = wm_agents.wrap(dot(), max_episode_steps=5)
    env.reset(seed=0, options={"goal_state": (9, 40)})
    flags = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(5)]
    assert flags == [(False, False)] * 4 + [(False, True)]


@pytest.mark.parametrize("kind", ["rgb", "rgba", "gray", "float"])
@pytest.mark.parametrize("shape", [(64, 96), (40, 40), (200, 120)])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_images_of_any_kind_and_shape(kind, shape, resize):
    env = wm_agents.wrap(dot(kind=kind, shape=shape), image_size=32, resize=resize, focus=False)
    observation, _ = env.reset(seed=0)
    assert observation["pixels"].shape == (32, 32, 3)
    assert observation["pixels"].max() > 150, "the dot is not lost"
    if resize == "pad" and shape[0] > shape[1]:
        assert (observation["pixels"][:, 0] == 0).all()
    if resize != "pad":
        assert (observation["pixels"] > 0).all()


def test_focus_cuts_out_what_moves():
    class Corner(Dot):
        def render(self):
            image = np.full((160, 160, 3), 40, np.uint8)
            image[100:148, 90:138] = super().render()
            return image

    env = wm_agents.wrap(Corner(render_mode="rgb_array"))
    left, top, right, bottom = env.unwrapped.view.box
    assert 0.4 < left < 0.6
    assert 0.5 < top < 0.66
    assert right - left < 0.5
    assert bottom - top < 0.5


def _bars(thickness: int) -> np.ndarray:
    """A block that moves along a row, and a line across the image that moves with it."""
    images = np.full((20, 128, 128, 3), 40, np.uint8)
    for place, image in enumerate(images):
        image[60:68, 20 + 4 * place : 28 + 4 * place] = 200
        image[:, 20 + 4 * place : 20 + thickness + 4 * place] = 90
    return images


def test_focus_is_a_rectangle_only_where_images_may_be_stretched():
    left, top, right, bottom = moving_part(_bars(1), stretch=True)
    assert bottom - top == pytest.approx((right - left) / 2, abs=1 / 16)
    left, top, right, bottom = moving_part(_bars(1), stretch=False)
    assert bottom - top == right - left


def test_focus_overlooks_thin_lines_but_not_thick_ones():
    assert moving_part(_bars(1), stretch=True)[1] > 0.2
    assert moving_part(_bars(4), stretch=True)[1::2] == (0, 1)
    only_lines = _bars(1)
    only_lines[:, 60:68] = only_lines[:, :8]
    assert moving_part(only_lines, stretch=True)[1::2] == (0, 1), "they count where nothing else moves"


def test_frames_tell_where_a_small_thing_is():
    rng = np.random.default_rng(0)
    episodes = np.repeat(np.arange(16), 15)
    places = rng.integers(2, 60, size=(len(episodes), 2))
    images = np.zeros((len(places), 64, 64, 3), np.uint8)
    for image, (row, column) in zip(images, places, strict=True):
        image[row : row + 2, column : column + 2] = 255
    hidden = rng.normal(size=(len(places), 1))
    told = told_by_frames(images, np.hstack([places, hidden]), episodes)
    assert (told[:2] > 0.6).all()
    assert told[2] < 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "none"}, "renders nothing.*rgb_array"),
        ({"kind": "black"}, "have one colour"),
        ({"kind": "growing"}, "change their size"),
        ({"kind": "nan"}, "holds NaN"),
        ({"actions": spaces.Box(-np.inf, np.inf, (2,), np.float32)}, "no finite bounds.*bounds="),
        ({"actions": spaces.Dict(x=spaces.Discrete(2))}, "can be wrapped"),
    ],
)
def test_what_cannot_be_wrapped_is_named_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        wm_agents.wrap(dot(**options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"success": "succes"}, "success test"),
        ({"resize": "strech"}, "Did you mean 'stretch'"),
        ({"mode": "lenient"}, "success mode"),
        ({"policy": "smoth-random"}, "Did you mean 'smooth-random'"),
        ({"goals": "rolout"}, "Did you mean 'rollout'"),
        ({"goals": np.zeros((2, 3))}, "images"),
        ({"goal_steps": 0}, "goal_steps"),
        ({"image_size": 4}, "image_size"),
        ({"pixels": "camera"}, "image of the observation"),
        ({"bounds": (1, -1)}, "leave room"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        wm_agents.wrap(dot(), **options)


def test_unknown_ids_have_a_near_match():
    with pytest.raises(ValueError, match="Did you mean 'Pendulum-v1'"):
        wm_agents.wrap("Pendulm-v1")


def test_unbounded_actions_take_bounds():
    env = wm_agents.wrap(dot(actions=spaces.Box(-np.inf, np.inf, (2,), np.float32)), bounds=(-1, 0.5))
    assert env.action_space == spaces.Box(-1, 0.5, (2,), np.float32)


def test_a_seed_that_fixes_nothing_is_told():
    env = wm_agents.wrap(dot(seeded=False))
    with pytest.warns(NotRepeatableWarning, match="do not repeat"):
        env.reset(seed=0)
    with warnings.catch_warnings():  # once is enough
        warnings.simplefilter("error")
        env.reset(seed=0)


@pytest.mark.parametrize("success", ["auto", "state", "pixels", "far", lambda info, goal: info["state"][0] > 0])
def test_success_is_what_was_asked_for(success):
    env = wm_agents.wrap(dot(), success=success)
    task = env.unwrapped
    env.reset(seed=0)
    _, _, _, _, info = env.step(np.ones(2, np.float32))
    assert isinstance(info["is_success"], bool)
    assert task.test.description
    if success == "far":
        for _ in range(20):
            *_, info = env.step(np.ones(2, np.float32))
        assert info["is_success"]


def test_goals_of_the_user():
    own = wm_agents.wrap(dot(), focus=False).unwrapped
    images = np.stack([own.render_state((seed, 20)) for seed in range(3)])
    with pytest.raises(ValueError, match="images alone"):
        wm_agents.wrap(dot(), goals=images)
    env = wm_agents.wrap(dot(), goals=images, success="pixels", focus=False)
    observation, _ = env.reset(seed=0, options={"state": (2, 20), "goal_state": (-1, 2)})
    assert np.array_equal(observation["goal_pixels"], images[2])
    *_, info = env.step(np.zeros(2, np.float32))
    assert info["is_success"]
    assert any(np.array_equal(env.reset(seed=5)[0]["goal_pixels"], image) for image in images)


@pytest.mark.parametrize("address", [(0, 0.5), (0, -1), (-2, 0), (0,), "x", (np.nan, 0), (0, 10**4)])
def test_bad_addresses(address):
    env = wm_agents.wrap(dot(ends=50))
    with pytest.raises(ValueError, match=r"address|count from 0|ends after|could not convert"):
        env.reset(options={"goal_state": address})


def test_environments_that_end_give_goals_before_their_end():
    env = wm_agents.wrap(dot(ends=4))
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        assert observation["goal_pixels"].any()
    flags = [env.step(np.zeros(2, np.float32))[2] for _ in range(4)]
    assert flags == [False, False, False, True]


@pytest.mark.parametrize(
    ("space", "wrapped"),
    [
        (spaces.Discrete(4), spaces.Discrete(4)),
        (spaces.Discrete(4, start=4), spaces.Discrete(4)),
        (spaces.MultiDiscrete([3, 3]), spaces.MultiDiscrete([3, 3])),
        (spaces.MultiBinary(2), spaces.MultiDiscrete([2, 2])),
        (spaces.Box(-1, 1, (2, 1), np.float64), spaces.Box(-1, 1, (2,), np.float32)),
    ],
)
def test_actions_of_every_kind(space, wrapped):
    env = wm_agents.wrap(dot(actions=space))
    assert env.action_space == wrapped
    env.reset(seed=0)
    for _ in range(5):
        env.step(env.action_space.sample())
    with pytest.raises(ValueError, match=r"no action|finite and of shape"):
        env.step(np.full(env.action_space.shape, np.nan if isinstance(space, spaces.Box) else 9))


def test_vector_environments(monkeypatch):
    make = functools.partial(wm_agents.wrap, functools.partial(Dot, render_mode="rgb_array"), max_episode_steps=3)
    for kind in (DummyVecEnv, functools.partial(SubprocVecEnv, start_method="fork")):
        envs = kind([make, make])
        envs.seed(0)
        assert envs.reset()["pixels"].shape == (2, 64, 64, 3)
        for _ in range(3):
            _, _, dones, infos = envs.step(np.zeros((2, 2), np.float32))
        assert dones.all()
        assert infos[0]["terminal_observation"]["pixels"].shape == (64, 64, 3)
        envs.close()


def test_a_limit_inside_ends_the_episode():
    env = wm_agents.wrap(TimeLimit(dot(), 7))
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, np.float32))[3] for _ in range(7)]
    assert flags == [False] * 6 + [True]


def test_episodes_are_filmed_around_it(tmp_path):
    pytest.importorskip("moviepy", reason="Gymnasium films with it")
    env = RecordVideo(wm_agents.wrap(dot(), max_episode_steps=5), str(tmp_path), disable_logger=True)
    env.reset(seed=0)
    while not env.step(np.zeros(2, np.float32))[3]:
        pass
    env.close()
    assert list(tmp_path.glob("*.mp4"))


def test_goal_environments_keep_their_own_test():
    class Goals(Dot):
        distance_threshold = 0.2

        def __init__(self):
            super().__init__("rgb_array")
            box = self.observation_space
            self.observation_space = spaces.Dict(observation=box, achieved_goal=box, desired_goal=box)

        def reset(self, **options):
            observation, info = super().reset(**options)
            return self._goals(observation), info

        def step(self, action):
            observation, *rest = super().step(action)
            return self._goals(observation), *rest

        def _goals(self, observation):
            return {"observation": observation, "achieved_goal": observation, "desired_goal": np.zeros(2, np.float32)}

        def compute_reward(self, achieved, desired, info):
            return -float(np.linalg.norm(achieved - desired) > self.distance_threshold)

    task = wm_agents.wrap(Goals()).unwrapped
    assert isinstance(task, WrappedEnv)
    assert "0.2" in task.test.description
    assert task.successes((0, 0), (0, 0)) == {"moderate": True, "strict": True}
