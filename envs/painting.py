"""Frames of flat shapes, painted with NumPy. For planar worlds, this is faster than OpenGL and does not need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Colour = tuple[int, int, int]
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Signed distance to a shape, negative inside, of points given as x ``[1, n]`` and y ``[m, 1]``; returns ``[m, n]``."""


class Canvas:
    """A square frame of a square part of the plane, on which shapes are painted over each other.

    A pixel on the edge of a shape takes its colour in proportion to the covered area (exactly for upright edges, nearly
    for others). This is about the area average of a much larger frame, so a shape that moves by a fraction of a pixel
    changes the frame.

    Args:
        size: Height and width in pixels.
        left: x at the left edge.
        top: y at the top edge.
        extent: Side of the visible square, in units of the plane.
        y_up: Whether y grows towards the top; otherwise it grows towards the bottom.
        background: Colour of the empty frame.
    """

    def __init__(
        self, size: int, *, left: float, top: float, extent: float, y_up: bool = False, background: Colour
    ) -> None:
        self._size, self._left, self._top = size, left, top
        self._pixel = extent / size
        self._down = -1.0 if y_up else 1.0
        middles = (np.arange(size) + 0.5) * self._pixel
        self._x, self._y = left + middles[None], top + self._down * middles[:, None]
        self._frame = np.full((size, size, 3), background, np.float32)

    def copy(self) -> Canvas:
        """Return another canvas with the same content."""
        twin = object.__new__(Canvas)
        twin.__dict__.update(self.__dict__, _frame=self._frame.copy())
        return twin

    def paint(self, distance: Distance, centre: Sequence[float] | np.ndarray, radius: float, colour: Colour) -> None:
        """Paint a shape that lies inside a circle.

        Args:
            distance: The shape, in the coordinates of the plane.
            centre: x and y of the circle; only the pixels around it are looked at.
            radius: Radius of the circle.
            colour: Red, green and blue, 0 to 255.
        """
        columns = self._slice((float(centre[0]) - self._left) / self._pixel, radius)
        rows = self._slice((float(centre[1]) - self._top) * self._down / self._pixel, radius)
        share = np.clip(0.5 - distance(self._x[:, columns], self._y[rows]) / self._pixel, 0.0, 1.0)
        window = self._frame[rows, columns]
        window += share[..., None].astype(np.float32) * (np.array(colour, np.float32) - window)

    def frame(self) -> np.ndarray:
        """Return what was painted, uint8 ``[size, size, 3]``."""
        return (self._frame + 0.5).astype(np.uint8)

    def _slice(self, middle: float, radius: float) -> slice:
        reach = radius / self._pixel + 1.0
        first, last = (int(min(max(edge, 0.0), self._size)) for edge in (middle - reach, middle + reach + 1.0))
        return slice(first, last)


def disc(centre: Sequence[float] | np.ndarray, radius: float) -> Distance:
    """Return the distance to a disc."""
    return lambda x, y: np.hypot(x - centre[0], y - centre[1]) - radius


def capsule(start: Sequence[float] | np.ndarray, end: Sequence[float] | np.ndarray, radius: float) -> Distance:
    """Return the distance to everything within ``radius`` of the straight line from ``start`` to ``end``."""
    along = np.subtract(end, start)
    square = float(along @ along)

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        dx, dy = x - start[0], y - start[1]
        share = np.clip((dx * along[0] + dy * along[1]) / square, 0.0, 1.0)
        return np.hypot(dx - share * along[0], dy - share * along[1]) - radius

    return distance
