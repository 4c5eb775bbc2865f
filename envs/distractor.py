"""A moving distractor: something in the image that no action moves and no state holds."""

from __future__ import annotations

import numpy as np

COLOUR = np.array((160, 0, 255), dtype=np.float32)
"""Purple, which no task paints."""
RADIUS = 0.05
"""Radius, as a share of the image's side."""
SPEEDS = (0.01, 0.03)
"""Range of the distance of a step, as a share of the image's side."""


class Distractor:
    """A disc that crosses the image straight on and bounces off its edges.

    Args:
        rng: Draws its place, its heading and its speed.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._centre = rng.uniform(RADIUS, 1 - RADIUS, 2)
        heading = rng.uniform(0, 2 * np.pi)
        self._velocity = rng.uniform(*SPEEDS) * np.array([np.cos(heading), np.sin(heading)])

    def move(self) -> None:
        """Take one step."""
        moved = self._centre + self._velocity
        outside = (moved < RADIUS) | (moved > 1 - RADIUS)
        self._velocity = np.where(outside, -self._velocity, self._velocity)
        self._centre = np.clip(moved, RADIUS, 1 - RADIUS)

    def paint(self, frame: np.ndarray) -> np.ndarray:
        """Return a copy of a frame, uint8 ``[size, size, 3]``, with the disc over it; its edge is smooth."""
        size = len(frame)
        middles = (np.arange(size) + 0.5) / size
        apart = np.hypot(middles[None] - self._centre[0], middles[:, None] - self._centre[1])
        share = np.clip(0.5 - (apart - RADIUS) * size, 0, 1)[..., None].astype(np.float32)
        return (frame + share * (COLOUR - frame) + 0.5).astype(np.uint8)
