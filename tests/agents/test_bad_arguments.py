"""What users pass by mistake to agents: one line says what it is, wherever it goes in."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from types import MappingProxyType

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback

import wm_agents
from wm_agents import GCIDM, evaluation
from wm_agents.agents.fitting import AnotherTaskWarning

TASK = "wm/PointMaze-UMaze-v0"
IMAGE = np.zeros((64, 64, 3), np.uint8)
IMAGES = np.zeros((2, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def agent():
    return wm_agents.load("pointmaze-umaze/gc-idm")


def refused(message, call):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("pixels", "goal", "message"),
    [
        (IMAGE / 255, IMAGE, "'pixels'.* uint8 in 0..255, not float64"),
        (IMAGE.astype(int), IMAGE, "uint8 in 0..255.*not int64"),
        (IMAGE.tolist(), IMAGE, "uint8 in 0..255"),
        (IMAGE, None, "'goal_pixels'.*uint8 in 0..255.*not something else"),
        ([IMAGE, IMAGE[:9]], IMAGE, "uint8 in 0..255.*not something else"),
        (IMAGE[..., 0], IMAGE, r"shape \(64, 64\).*in colour.*square_image"),
        (IMAGE[..., [0, 1, 2, 0]], IMAGE, r"shape \(64, 64, 4\).*in colour"),
        (IMAGE, np.zeros((128, 128, 3), np.uint8), "'goal_pixels'.*image_size=64"),
        (IMAGES[None], IMAGES[None], "shape"),
        (IMAGES, IMAGE, "differ in shape"),
    ],
)
def test_images_that_do_not_fit(agent, pixels, goal, message):
    refused(message, lambda: agent.predict({"pixels": pixels, "goal_pixels": goal}))


@pytest.mark.parametrize("kind", [dict, OrderedDict, MappingProxyType])
def test_any_mapping_is_an_observation(agent, kind):
    assert agent.predict(kind({"pixels": IMAGE, "goal_pixels": IMAGE}))[0].shape == (2,)


@pytest.mark.parametrize("state", [3, "next", {"a": 1}, (), ("a",) * 9, 0.5])
def test_states_that_are_none(agent, state):
    refused("state", lambda: agent.predict({"pixels": IMAGE, "goal_pixels": IMAGE}, state))


def test_states_with_nan(agent):
    _, state = agent.predict({"pixels": IMAGE, "goal_pixels": IMAGE}, None)
    broken = tuple(np.full(np.shape(part), np.nan) for part in state)
    refused("the state holds NaN", lambda: agent.predict({"pixels": IMAGE, "goal_pixels": IMAGE}, broken))


@pytest.mark.parametrize("start", ["yes", 0.5, [np.nan], [True, False], [[True]]])
def test_episode_starts_that_are_no_booleans(agent, start):
    refused(
        "episode_start must be one boolean",
        lambda: agent.predict({"pixels": IMAGE, "goal_pixels": IMAGE}, None, start),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "Unknown device 'tpu'"),
        ({"device": 3.5}, "Unknown device '3.5'"),
        ({"verbose": "x"}, "verbose must be a whole number"),
        ({"verbose": -1}, "verbose must be a whole number"),
        ({"env": "nope-v0"}, "'nope-v0' cannot be made"),
        ({"env": 3}, "env must be an environment"),
        ({"seed": -1}, "seed must be None or"),
        ({"horizon": 10**9}, "horizon must be a whole number from 1 to 1000"),
        ({"horizon": np.nan}, "horizon must be a whole number"),
        ({"horizon": True}, "horizon must be a whole number"),
    ],
)
def test_options_of_load(options, message):
    refused(message, lambda: wm_agents.load("pointmaze-umaze/cem", **options))


@pytest.mark.parametrize("name", [None, 3, "", "cem", "nope", "/tmp", "pointmaze-umaze/gcidm"])
def test_names_of_no_agent(name):
    with pytest.raises(ValueError, match=r"name must be|Unknown agent") as error:
        wm_agents.load(name)
    assert "/None" not in str(error.value)


def untrained():
    return GCIDM("lewm", gym.make(TASK, obs_type="pixels", image_size=32, max_episode_steps=20), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total_timesteps": 0}, "total_timesteps must be a whole number of at least 1"),
        ({"total_timesteps": -5}, "total_timesteps"),
        ({"total_timesteps": np.nan}, "total_timesteps"),
        ({"callback": 3}, "callback must be one of SB3's"),
        ({"callback": "x"}, "callback must be one of SB3's"),
        ({"callback": [3]}, "callback must be one of SB3's"),
        ({"callback": [print]}, "callback must be one of SB3's"),
        ({"log_interval": 0}, "log_interval must be a whole number"),
        ({"log_interval": -1}, "log_interval must be a whole number"),
        ({"progress_bar": "x"}, "progress_bar must be True or False"),
        ({"reset_num_timesteps": 2}, "reset_num_timesteps must be True or False"),
    ],
)
def test_arguments_of_learn(options, message):
    refused(message, lambda: untrained().learn(**{"total_timesteps": 10, **options}))


def test_a_few_steps_of_learn_only_act():
    agent = untrained()
    with pytest.warns(UserWarning, match="acted, but not trained, in 10 steps.*windows of 4 frames"):
        agent.learn(10)
    assert agent.num_timesteps == 10


def test_a_callback_that_raises_leaves_the_agent_usable():
    class Broken(BaseCallback):
        def _on_step(self):
            raise RuntimeError("mine")

    agent = untrained()
    with pytest.raises(RuntimeError, match="mine"):
        agent.learn(10, callback=Broken())
    image = np.zeros((32, 32, 3), np.uint8)
    assert agent.predict({"pixels": image, "goal_pixels": image})[0].shape == (2,)


@pytest.mark.parametrize("thing", [None, 3, "pointmaze-umaze/gc-idm", GCIDM, lambda observation: 0])
def test_what_cannot_be_evaluated(thing):
    manifest = evaluation.make_manifest(TASK, tasks=1, offset="random")
    refused(r"must be an object with predict\(\)", lambda: evaluation.evaluate(thing, manifest))


@pytest.mark.parametrize("manifest", [None, "tasks.json", {}, []])
def test_what_is_no_manifest(agent, manifest):
    refused("must be a Manifest", lambda: evaluation.evaluate(agent, manifest))


def test_an_agent_of_another_task_is_evaluated_with_a_warning(agent):
    manifest = evaluation.make_manifest("wm/TwoRoom-v0", tasks=1, offset="random", budget=1)
    with pytest.warns(AnotherTaskWarning, match="trained for wm/PointMaze-UMaze-v0 and now acts in wm/TwoRoom-v0"):
        evaluation.evaluate(agent, manifest, progress=False)
    manifest = evaluation.make_manifest(TASK, tasks=1, offset="random", budget=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AnotherTaskWarning)
        evaluation.evaluate(agent, manifest, progress=False)
