"""Views of square scenes: what an image and an action become when the scene is turned or mirrored."""

from __future__ import annotations

import numpy as np
import pytest

from wm_agents.envs.pusht import PushT
from wm_agents.training.symmetry import VIEWS, view_actions, view_pixels


def seen(state: np.ndarray, view: int) -> np.ndarray:
    """The state that one view of the square shows."""
    low, high = PushT.bounds[:2]
    state = state.copy()
    for bit, axis, turn in ((1, 0, 0.0), (2, 1, np.pi)):
        if view & bit:
            for x in (axis, 2 + axis):
                state[x] = low + high - state[x]
            for v in (5 + axis, 7 + axis, 9):
                state[v] *= -1
            state[4] = turn - state[4]
    if view & 4:
        state = state[[1, 0, 3, 2, 4, 6, 5, 8, 7, 9]]
        state[4], state[9] = -np.pi / 2 - state[4], -state[9]
    return state


@pytest.mark.parametrize("view", range(VIEWS))
def test_every_view_of_the_square_is_as_true_as_the_filmed_one(view):
    filmed, viewed, rng = PushT(obs_type="pixels"), PushT(obs_type="pixels"), np.random.default_rng(view)
    gaps, travelled = [], 0.0
    for _ in range(5):
        filmed.reset(options={"state": filmed.sample_state(rng)})
        for _ in range(20):
            state = filmed.get_state()
            action = np.clip((filmed.block_centre(state) + rng.normal(0, 30, 2) - state[:2]) / 200, -1, 1)
            viewed.reset(options={"state": seen(state, view)})
            pixels = filmed.step(action)[0]["pixels"]
            viewed.step(view_actions(action[None, None], np.array([view]))[0, 0])
            gap = viewed.get_state()[:5] - seen(filmed.get_state(), view)[:5]
            gap[4] = 100 * ((gap[4] + np.pi) % (2 * np.pi) - np.pi)
            gaps.append(np.abs(gap).max())
            travelled += np.linalg.norm(filmed.get_state()[2:4] - state[2:4])
        # The walls stand half a unit off the middle of the picture, a sixteenth of a pixel.
        image = viewed.reset(options={"state": seen(filmed.get_state(), view)})[0]["pixels"].astype(int)
        apart = [np.abs(view_pixels(pixels[None], v)[0] - image).mean() for v in range(VIEWS)]
        assert apart[view] < 1
        assert min(apart[:view] + apart[view + 1 :]) > 2 * apart[view]
    assert travelled > 200, "the block was pushed"
    # Jammed between agent and wall, the block jumps as the solver's order of contacts has it.
    assert np.quantile(gaps, 0.9) < 0.5


def test_rows_of_actions_follow_their_own_view():
    action = np.array([[[1.0, 2.0]]], np.float32).repeat(VIEWS, axis=0)
    expected = [[1, 2], [-1, 2], [1, -2], [-1, -2], [2, 1], [2, -1], [-2, 1], [-2, -1]]
    assert view_actions(action, np.arange(VIEWS))[:, 0].tolist() == expected
