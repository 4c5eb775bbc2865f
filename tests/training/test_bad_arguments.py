"""What is passed to training by mistake: one line says what it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from foreign_files import MARKS, QUIET

import wm_agents
from wm_agents import GCIDM, train_world_model
from wm_agents.datasets import from_episodes
from wm_agents.evaluation import offline_scores
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig

pytest_plugins = ["foreign_files"]
pytestmark = MARKS
RNG = np.random.default_rng(0)
BRIEF = TrainingConfig(steps=1, batch_size=4)


def recorded(still=False):
    images = [RNG.integers(0, 256, (41, 16, 16, 3), dtype=np.uint8) for _ in range(3)]
    actions = [RNG.uniform(-1, 1, (40, 2)) * (not still) for _ in range(3)]
    return from_episodes(images, actions, name=f"mine/{'still' if still else 'some'}-v0", image_size=16, **QUIET)


def refused(message, call):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [None, "mine/some-v0", np.zeros((3, 4)), []])
def test_world_model_and_head_take_a_dataset(data):
    refused("the data must be a dataset, not", lambda: train_world_model(data))
    agent = wm_agents.load("pointmaze-umaze/gc-idm")
    refused("the data must be a dataset, not", lambda: GCIDM(agent.world_model).fit(data))


def test_options_of_another_training():
    data = recorded()
    for training in ({"steps": 2}, InverseDynamicsTrainingConfig()):
        refused(
            "training must be of the class TrainingConfig",
            lambda training=training: train_world_model(data, training=training),
        )
    model, _ = train_world_model(data, training=BRIEF, progress=False)
    for training in ({"steps": 2}, BRIEF):
        refused(
            "training must be of the class InverseDynamicsTrainingConfig",
            lambda training=training: GCIDM(model).fit(data, training=training),
        )


def test_actions_that_never_change_teach_no_actions():
    model, _ = train_world_model(recorded(), training=BRIEF, progress=False)
    refused("mine/still-v0 never change", lambda: GCIDM(model).fit(recorded(still=True)))


def test_recordings_of_another_task_are_not_scored():
    data = recorded()
    agent = GCIDM(train_world_model(data, training=BRIEF, progress=False)[0])
    agent.env_id = "wm/PushT-v0"
    refused(
        "episodes of wm/Reacher-v0, the agent was trained for wm/PushT-v0",
        lambda: offline_scores(agent, dataclasses.replace(data, env_id="wm/Reacher-v0")),
    )
