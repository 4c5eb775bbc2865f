"""The eight views of a square scene seen from above: turned by quarter turns or mirrored, it is still valid data.

This is true if all directions are alike and the two actions are motions to the right and down in the image: in Push-T,
but not in a maze and not for an arm on its base. One recorded step then gives eight.

The bits of a view have these meanings: 1 mirrors left and right, 2 top and bottom, 4 then swaps the two axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

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
    """Return actions ``[B, T, A]``, each row as its own view (int ``[B]``) shows it. A is 2 unless all views are 0."""
    return actions @ _TURNS[views] if views.any() else actions


def draw_views(latents: Any, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw which of the views in ``latents [views, ...]`` each of ``size`` samples shows, int64 ``[size]``."""
    return rng.integers(len(latents), size=size) if len(latents) > 1 else np.zeros(size, np.int64)


def check_symmetry(config: Any, dataset: TrajectoryDataset) -> None:
    """Raise ``ValueError`` if ``config.square_symmetry`` is on and does not suit the actions of ``dataset``."""
    if config.square_symmetry and (dataset.actions.shape[1] != 2 or dataset.choices):
        raise ValueError(
            f"square_symmetry needs two continuous actions, motions along the image's axes; {dataset.name} has "
            f"{dataset.actions.shape[1]} numbers for an action: leave it out."
        )
