"""Foreign environments and arguments that break a rule: one line says which, wherever and whenever it happens."""

from __future__ import annotations

import pickle

import gymnasium as gym
import numpy as np
import pytest
from dot_env import Dot
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

import wm_agents


class Odd(Dot):
    """A dot that breaks one rule, from some step on.

    Args:
        **answers: In place of ``observation``, ``reward``, ``info``, ``image``, or all
            that ``reset`` or ``step`` return.
        late: Steps of an episode after which it does so.
    """

    def __init__(self, late=0, **answers):
        super().__init__("rgb_array")
        self.late, self.answers = late, answers

    def _answer(self, name, value):
        changed = name in self.answers and self._steps >= self.late
        return self.answers[name] if changed else value

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        result = self._answer("observation", observation), self._answer("info", info)
        return self._answer("reset", result)

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        observation, reward = self._answer("observation", observation), self._answer("reward", reward)
        return self._answer("step", (observation, reward, terminated, truncated, self._answer("info", info)))

    def render(self):
        return self._answer("image", super().render())


def refused(message, call):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def play(env, steps=90):
    env.reset(seed=0)
    for _ in range(steps):
        env.step(env.action_space.sample())


@pytest.mark.parametrize("late", [0, 70])  # during the trial rollouts of wrap, and after them
@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"observation": np.array([0, np.nan])}, r"numbers \[1\] of the observation are NaN"),
        ({"observation": np.array([np.inf, 0])}, r"numbers \[0\] of the observation are NaN or infinite"),
        ({"observation": np.zeros(3)}, "3 numbers where observation_space has Box"),
        ({"observation": None}, "observation_space has Box"),
        ({"observation": "left"}, "str where observation_space has Box"),
        ({"reward": None}, "reward must be a number, not None"),
        ({"reward": np.zeros(2)}, "reward must be a number"),
        ({"reward": "1"}, "reward must be a number, not '1'"),
        ({"info": None}, "a dict as info"),
        ({"info": [1]}, "a dict as info"),
        ({"step": (np.zeros(2), 0.0, False, {})}, "step must return .*old Gym"),
        ({"image": None}, "renders nothing"),
        ({"image": "#.."}, "no array of numbers but a str"),
        ({"image": (np.zeros((48, 48, 3)), 1)}, "no array of numbers but a tuple"),
        ({"image": np.zeros((47, 48, 3), np.uint8)}, "change their size|one colour"),
        ({"image": np.full((48, 48, 3), np.nan)}, "NaN"),
        ({"image": np.full((48, 48, 3), -1.0)}, "floats from -1 to -1"),
    ],
)
def test_what_an_environment_returns_is_checked_at_every_step(answers, message, late):
    refused(message, lambda: play(wm_agents.wrap(Odd(late, **answers), goal_steps=80, success="far")))


def test_an_environment_of_the_old_gym_is_told_apart():
    refused("reset must return .*old Gym", lambda: wm_agents.wrap(Odd(reset=np.zeros(2))))

    class Seedless(Dot):
        def reset(self):
            return super().reset()

    refused("reset must take seed=None and options=None", lambda: wm_agents.wrap(Seedless("rgb_array")))
    for space in ("action_space", "observation_space"):
        env = Dot("rgb_array")
        delattr(env, space)
        refused(f"has no {space}", lambda env=env: wm_agents.wrap(env))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("where", ["reset", "step", "render"])
def test_an_environment_that_fails_is_named(where, late):
    class Fails(Dot):
        broken = not late

    def method(self, *args, **options):
        if self.broken:
            raise ZeroDivisionError("in the\nsimulator")
        return getattr(Dot, where)(self, *args, **options)

    setattr(Fails, where, method)

    def run():
        env = wm_agents.wrap(Fails("rgb_array"), success="far")
        Fails.broken = True
        env.reset(seed=0)

    with pytest.raises(RuntimeError, match=f"environment Fails fails in {where}: ZeroDivisionError: in the simulator"):
        run()


def test_parts_of_an_observation_that_are_missing():
    env = Odd(observation={"place": np.zeros(2)})
    env.observation_space = spaces.Dict(place=env.observation_space, speed=env.observation_space)
    refused(r"lacks \['speed'\]", lambda: wm_agents.wrap(env))
    env = Odd(observation=np.zeros(2))
    env.observation_space = spaces.Dict(place=env.observation_space)
    refused("is no dict", lambda: wm_agents.wrap(env))


class Nested(Dot):
    """A dot whose camera is a dict in the observation."""

    def __init__(self):
        super().__init__("rgb_array")
        self.observation_space = spaces.Dict(camera=spaces.Dict(front=spaces.Box(0, 255, (48, 48, 3), np.uint8)))

    def _see(self, result):
        return ({"camera": {"front": super().render()}}, *result[1:])

    def reset(self, *, seed=None, options=None):
        return self._see(super().reset(seed=seed))

    def step(self, action):
        return self._see(super().step(action))

    def render(self):
        raise AssertionError("not asked for")


def test_images_in_a_dict_of_the_observation():
    env = wm_agents.wrap(Nested(), pixels="camera/front")
    assert len(np.unique(env.reset(seed=0)[0]["pixels"])) > 1
    refused("Did you mean 'camera/front'", lambda: wm_agents.wrap(Nested(), pixels="camera"))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "says None"),
        ("no", "says 'no'"),
        (np.nan, "says nan"),
        (0.3, "says 0.3"),
        (np.array([True, False]), "says array"),
        ((True, False), "says"),
        (2, "says 2"),
    ],
)
def test_a_success_test_says_yes_or_no(answer, message):
    refused(message, lambda: wm_agents.wrap(Dot("rgb_array"), success=lambda info, goal: answer).reset(seed=0))
    refused(message, lambda: wm_agents.wrap(Odd(info={"far": answer}), success="far").reset(seed=0))


@pytest.mark.parametrize("answer", [True, np.bool_(True), 1, 1.0, np.float32(1), np.array(True), np.array([1])])
def test_a_success_test_may_say_yes_in_several_ways(answer):
    env = wm_agents.wrap(Dot("rgb_array"), success=lambda info, goal: answer)
    assert env.reset(seed=0)[1]["is_success"] is True


@pytest.mark.parametrize("function", [lambda info, goal: 1 / 0, lambda info, goal: info["none"], lambda info: True])
def test_a_success_test_that_fails_is_named(function):
    refused("<lambda>.*failed", lambda: wm_agents.wrap(Dot("rgb_array"), success=function).reset(seed=0))


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        (spaces.Box(-1, 1, (2,)), {"bounds": ([1, 2, 3], 4)}, r"bounds must be two.*shape \(2,\)"),
        (spaces.Box(-1, 1, (2,)), {"bounds": 1}, "bounds must be two"),
        (spaces.Box(-1, 1, (2,)), {"bounds": ("a", "b")}, "bounds must be two"),
        (spaces.Box(-1, 1, (2,)), {"bounds": (5, 7)}, "leave room.*inside Box"),
        (spaces.Box(-np.inf, np.inf, (2,)), {"bounds": (np.nan, 1)}, "leave room"),
        (spaces.Box(np.zeros(2, np.float32), np.array([1, 0], np.float32)), {}, r"numbers \[1\].*cannot change"),
        (spaces.Box(-1, 1, (0,)), {}, "nothing to choose"),
        (spaces.Discrete(1), {}, "nothing to choose"),
        (spaces.MultiDiscrete([[2, 2], [2, 2]]), {}, "one dimension"),
    ],
)
def test_actions_that_cannot_be_chosen(space, options, message):
    refused(message, lambda: wm_agents.wrap(Dot("rgb_array", actions=space), **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal_steps": 10**9}, "goal_steps must be a whole number from 1 to 10000"),
        ({"image_size": 64.0}, "image_size must be a whole number from 16 to 2048"),
        ({"focus": "no"}, "focus must be True or False"),
        ({"pixels": 3}, "pixels must be"),
        ({"reset_options": 3}, "reset_options must be a dict"),
        ({"goals": []}, "no images"),
        ({"goals": 3}, "goals must be"),
        ({"goals": np.zeros((2, 30, 48, 3), np.uint8), "success": "far"}, "30 x 48 pixels, those of Dot are 48 x 48"),
        ({"goals": [np.zeros((48, 48, 3)), np.zeros((48, 30, 3))], "success": "far"}, "goal image 1 is 48 x 30"),
    ],
)
def test_arguments_of_wrap(options, message):
    refused(message, lambda: wm_agents.wrap(Dot("rgb_array"), **options))


@pytest.mark.parametrize(
    "thing", [None, 3, lambda: None, DummyVecEnv([lambda: Dot("rgb_array")]), gym.make_vec("Pendulum-v1", num_envs=2)]
)
def test_what_is_no_environment(thing):
    refused("wrap takes a Gymnasium environment", lambda: wm_agents.wrap(thing))


def test_an_option_that_the_environment_does_not_have():
    refused("Pendulum-v1 cannot be made.*gravity", lambda: wm_agents.wrap("Pendulum-v1", gravity=9.81))


def test_wrapping_twice_is_refused():
    refused("wrapped already", lambda: wm_agents.wrap(wm_agents.wrap(Dot("rgb_array"))))


@pytest.mark.parametrize("options", [3, "x", [], [("state", 0)]])
def test_options_of_reset_are_a_dict(options):
    tasks = wm_agents.wrap(Dot("rgb_array")), gym.make("wm/PointMaze-UMaze-v0", obs_type="state")
    for env in tasks:
        refused("options must be a dict", lambda env=env: env.reset(seed=0, options=options))
        refused("seed must be a whole number of at least 0", lambda env=env: env.reset(seed=-1))


@pytest.mark.parametrize("action", [None, "up", 0.3, [np.nan, 0], [0, 0, 0], [1j, 0], [None, 1], [[0], [0, 1]]])
def test_actions_that_are_none(action):
    for env in (wm_agents.wrap(Dot("rgb_array")), gym.make("wm/PointMaze-UMaze-v0", obs_type="state")):
        env.reset(seed=0)
        refused("An action must be finite and of shape", lambda env=env: env.unwrapped.step(action))


def test_a_step_needs_a_reset_and_a_copy_plays_on():
    env = wm_agents.wrap(Dot("rgb_array"))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())
    other = pickle.loads(pickle.dumps(env))
    assert np.array_equal(env.reset(seed=3)[0]["goal_pixels"], other.reset(seed=3)[0]["goal_pixels"])
