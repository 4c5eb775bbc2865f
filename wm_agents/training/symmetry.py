"""The eight views of a square scene seen from above: turned by quarter turns or mirrored, it is still valid data.

This is true if all directions are alike and the two actions are motions to the right and down in the image: in Push-T,
but not in a maze and not for an arm on its base. One recorded step then gives eight.

The bits of a view have these meanings: 1 mirrors left and right, 2 top and bottom, 4 then swaps the two axes.
"""

from __future__ import annotations

import numpy as np

VIEWS = 8
_MIRRORS = np.array([[1, 1], [-1, 1], [1, -1], [-1, -1]], np.float32)[:, :, None] * np.eye(2, dtype=np.float32)
_TURNS = np.concatenate([_MIRRORS, _MIRRORS[:, :, ::-1]])  # [8, 2, 2], for rows: action @ turn


def view_pixels(pixels: np.ndarray, view: int) -> np.ndarray:
    """Return square images ``[B, H, W, C]`` as one view shows them."""
    if view & 1:
        pixels = pixels[:, :, ::-1]
    if view & 2:
        pixels = pixels[:, ::-1]
    return pixels.swapaxes(1, 2) if view & 4 else pixels


def view_actions(actions: np.ndarray, views: np.ndarray) -> np.ndarray:
    """Return actions ``[B, T, 2]``, each row as its own view shows it; ``views`` is int ``[B]``."""
    return actions @ _TURNS[views]
