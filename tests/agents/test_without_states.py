"""Agents that learned from data without simulator states act like any other."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from every_learner import tiny_world_model, train

from wm_agents import GCIDM, MPC, HierarchicalMPC, train_world_model

pytest_plugins = ["trained"]
pytestmark = pytest.mark.filterwarnings("ignore:latents have collapsed")


@pytest.fixture(scope="module")
def data(small_dataset: Any) -> Any:
    """Recorded data as others have them."""
    bare = np.zeros((len(small_dataset.states), 0))
    return dataclasses.replace(small_dataset, states=bare, state_names=(), env_id="", provenance={})


def test_every_agent_acts_after_training_without_states(data: Any) -> None:
    model = tiny_world_model(data)
    names = ("gc-idm", "graph", "temporal-distance")
    heads = [train(name, model, data) for name in names]
    low, high = data.action_low, data.action_high
    search: dict[str, Any] = {"horizon": 2, "samples": 8, "elites": 2, "iterations": 1}
    for agent in (
        GCIDM(model, heads=heads, device="cpu"),
        MPC(model, heads=heads, device="cpu", **search),
        HierarchicalMPC(model, heads=heads, high="graph", low="gc-idm", device="cpu"),
    ):
        state = None
        for frame in range(3):
            now, goal = data.frames_at(np.array([frame, 60]))
            action, state = agent.predict({"pixels": now, "goal_pixels": goal}, state)
            assert np.isfinite(action).all()
            assert (action >= low).all()
            assert (action <= high).all()


def test_images_that_are_not_square_say_how_to_make_them_so(data: Any) -> None:
    with pytest.raises(ValueError, match=r"images \(64, 48, 3\); square ones .*wm-agents import wm/small/waypoint-v0"):
        train_world_model(dataclasses.replace(data, pixels=data.pixels[:, :, :48]), progress=False)
    with pytest.raises(ValueError, match=r"images \(64, 64, 1\); square ones in colour"):
        train_world_model(dataclasses.replace(data, pixels=data.pixels[..., :1]), progress=False)


def test_actions_without_bounds_are_refused_before_training(data: Any) -> None:
    free = dataclasses.replace(data, action_high=np.array([1, np.inf], np.float32))
    with pytest.raises(ValueError, match="without finite bounds"):
        train_world_model(free, progress=False)
