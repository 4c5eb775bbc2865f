"""The policy that plays with PushT's block."""

from __future__ import annotations

import numpy as np
import pytest

from wm_agents.datasets import episode_seed
from wm_agents.datasets.episodes import rollout
from wm_agents.datasets.play import PushTPlay
from wm_agents.envs.pointmaze import PointMaze
from wm_agents.envs.pusht import PushT


@pytest.fixture(scope="module")
def played() -> np.ndarray:
    """States of 40 episodes of 100 steps, ``[40, 101, 10]``."""
    env = PushT(obs_type="state")
    return np.stack([rollout(env, "play", 100, episode_seed("collect", 0, i)).states for i in range(40)])


def test_play_moves_the_block(played):
    moved = np.linalg.norm(played[:, 25:, 2:4] - played[:, :-25, 2:4], axis=-1)
    turned = np.abs(played[:, 25:, 4] - played[:, :-25, 4])
    assert 0.35 < (moved > 20).mean() < 0.65
    assert (turned > np.pi / 9).mean() > 0.12


def test_play_keeps_the_block_inside_and_reaches_everywhere(played):
    env = PushT(obs_type="state")
    corners = env.corners(played)
    out = np.maximum(7 - corners.min(axis=(-2, -1)), corners.max(axis=(-2, -1)) - 504)
    assert (out > 5).mean() < 0.02
    cells = {tuple(cell) for cell in (env.block_centre(played).reshape(-1, 2) // 128).astype(int)}
    assert len(cells) >= 10
    assert np.ptp(played[..., 0]) > 400
    assert np.ptp(played[..., 4]) > 6


def test_play_repeats_and_stays_inside_the_bounds():
    env = PushT(obs_type="state")
    first, again, other = (rollout(env, "play", 50, episode_seed("collect", 1, i)) for i in (4, 4, 5))
    np.testing.assert_array_equal(first.states, again.states)
    assert (first.actions != other.actions).any()
    assert first.actions.dtype == np.float32
    assert np.abs(first.actions).max() <= 1
    assert np.isfinite(first.goal_states).all()


def test_play_needs_a_block():
    with pytest.raises(ValueError, match=r"PointMaze has none.*smooth-random"):
        PushTPlay(PointMaze(obs_type="state"), np.random.default_rng(0))
