"""Environments of other packages are made so that a CPU draws them quickly, at the size that is needed."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from wm_agents.envs import foreign


class Suite(gym.Env):
    """A task of dm_control, as its bridge to Gymnasium shows it."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, render_mode=None, render_kwargs=None):
        from dm_control import suite

        self._env = suite.load("pendulum", "swingup")
        self.render_mode, self.render_kwargs = render_mode, render_kwargs or {}

    def render(self):
        return self._env.physics.render(**self.render_kwargs)


def make_suite_task(**options):
    return Suite(**options)


@pytest.fixture
def suite_id(monkeypatch):
    monkeypatch.setattr(make_suite_task, "__module__", "shimmy.registration")
    gym.register("foreign/Suite-v0", entry_point=make_suite_task)
    yield "foreign/Suite-v0"
    gym.registry.pop("foreign/Suite-v0")


def test_dm_control_draws_small_images_without_shadows(suite_id):
    env = foreign.make(suite_id, 96)
    assert env.unwrapped.render().shape == (96, 128, 3)
    quality = env.unwrapped._env.physics.model.vis.quality
    assert quality.shadowsize == quality.offsamples == 0


def test_sizes_that_are_given_are_kept(suite_id):
    env = foreign.make(suite_id, 96, render_kwargs={"height": 40, "width": 50})
    assert env.unwrapped.render().shape == (40, 50, 3)
