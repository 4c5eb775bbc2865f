"""Pytest plugin: recorded images in which only one of two actions matters."""

from __future__ import annotations

import numpy as np
import pytest

from wm_agents.datasets import TrajectoryDataset

SIZE, LENGTH = 16, 12


@pytest.fixture(scope="session")
def walk() -> TrajectoryDataset:
    """Episodes in which a bright column moves to the right, one pixel a step; the second action is noise."""
    pixels = np.zeros((6, LENGTH + 1, SIZE, SIZE, 3), np.uint8)
    for step in range(LENGTH + 1):
        pixels[:, step, :, step : step + 3] = 255
    frames = 6 * (LENGTH + 1)
    actions = np.stack([np.ones(frames), np.random.default_rng(0).uniform(-1, 1, frames)], axis=1).astype(np.float32)
    starts = np.arange(6) * (LENGTH + 1)
    return TrajectoryDataset(
        name="walk",
        env_id="",
        pixels=pixels.reshape(frames, SIZE, SIZE, 3),
        actions=actions,
        states=np.zeros((frames, 0)),
        starts=starts,
        lengths=np.full(6, LENGTH),
        action_low=-np.ones(2, np.float32),
        action_high=np.ones(2, np.float32),
        state_names=(),
        provenance={},
        episode_ids=np.arange(6),
    )
