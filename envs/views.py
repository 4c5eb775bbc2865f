"""How a foreign environment is seen: where its images come from, and which part of them is shown."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from wm_agents.configs import checked_image_size
from wm_agents.envs import foreign
from wm_agents.images import check_resize, square_image
from wm_agents.registry import did_you_mean

GRID = 16
"""The part of the image that moves is cut out along lines so many to a side."""


class View:
    """Turns what an environment shows into frames, uint8 ``[size, size, 3]``.

    Args:
        env: The environment.
        size: Height and width of the frames.
        source: Key of the observation that holds an image, "observation" where that is one; None for ``render()``.
        resize: See :func:`wm_agents.envs.wrap`.

    Attributes:
        box: The part of the (square) image that is shown: left, top, right, bottom, as shares of its side.
    """

    def __init__(self, env: gym.Env, size: int, source: str | None, resize: str) -> None:
        self.size, self.resize, self.source = checked_image_size(size), check_resize(resize), source
        self.box = (0.0, 0.0, 1.0, 1.0)
        self.name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        self._render = foreign.renderer(env)
        self._shape: tuple[int, ...] | None = None

    def square(self, observation: Any) -> np.ndarray:
        """The whole image of now as a square, in its own resolution.

        Raises:
            ValueError: There is no image, it is none, or its size has changed.
        """
        image = self._image(observation)
        shape = np.shape(image)
        if self._shape not in (None, shape):
            raise ValueError(f"the images of {self.name} change their size, from {self._shape} to {shape}.")
        self._shape = shape
        return self._squared(image, f"an image of {self.name}")

    def cut(self, square: np.ndarray) -> np.ndarray:
        """The part of a square image that is shown, in the frames' resolution."""
        left, top, right, bottom = (round(share * len(square)) for share in self.box)
        return square_image(square[top:bottom, left:right], self.size)

    def frame(self, observation: Any) -> np.ndarray:
        """The frame of now; see :meth:`square`."""
        return self.cut(self.square(observation))

    def given(self, image: Any, what: str) -> np.ndarray:
        """A frame from an image of the user's: one of the frames' size as it is, others as the environment's own."""
        if np.shape(image)[:2] == (self.size, self.size):
            return self._squared(image, what)
        return self.cut(self._squared(image, what))

    def _squared(self, image: Any, what: str) -> np.ndarray:
        sides = np.shape(image)[-2:] if np.shape(image)[:1] in ((1,), (3,), (4,)) else np.shape(image)[:2]
        side = (max if self.resize == "pad" else min)(sides, default=0)
        try:
            return square_image(image, side, self.resize)
        except ValueError as error:
            raise ValueError(f"{what} cannot be used: {error}") from None

    def _image(self, observation: Any) -> Any:
        if self.source is None:
            image = self._render()
            if image is None or isinstance(image, list):
                raise ValueError(
                    f"{self.name} renders {'nothing' if image is None else 'a list'}: make it with "
                    'render_mode="rgb_array", or say in pixels= which part of the observation is an image.'
                )
            return image
        if isinstance(observation, dict) and self.source in observation:
            return observation[self.source]
        if self.source == "observation" and not isinstance(observation, dict):
            return observation
        raise ValueError(
            did_you_mean(
                "image of the observation",
                self.source,
                observation if isinstance(observation, dict) else ("observation",),
            )
        )


def moving_part(squares: np.ndarray) -> tuple[float, float, float, float]:
    """Return the square, on a grid of 16 lines, in which things move: left, top, right, bottom, as shares.

    A line of the grid is left around it. What moves in less than 2% of the images, thin lines and the like, does not
    count.

    Args:
        squares: uint8 ``[N, S, S, 3]``.
    """
    usual = np.median(squares[::4], axis=0)
    moves = np.mean([(np.abs(square - usual) > 24).any(axis=-1) for square in squares], axis=0)
    moves[moves < 0.02] = 0
    if not moves.any():
        return 0.0, 0.0, 1.0, 1.0
    spans = []
    for axis in (0, 1):  # columns, then rows
        share = np.cumsum(moves.sum(axis=axis)) / moves.sum()
        cell = GRID / len(share)
        first, last = np.searchsorted(share, (0.005, 0.995))
        spans.append((max(int(first * cell) - 1, 0), min(int(last * cell) + 2, GRID)))
    side = min(GRID, max(GRID // 4, *(end - begin for begin, end in spans)))
    # Grown evenly on both sides, and pushed back inside the image.
    left, top = (min(max(begin - (side - (end - begin)) // 2, 0), GRID - side) for begin, end in spans)
    return left / GRID, top / GRID, (left + side) / GRID, (top + side) / GRID
