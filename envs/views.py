"""How a foreign environment is seen: where its images come from, and which part of them is shown."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from scipy import ndimage

from wm_agents.configs import checked_image_size
from wm_agents.envs.contract import failing
from wm_agents.envs.foreign import OwnContext
from wm_agents.images import check_resize, resample, square_image, to_rgb
from wm_agents.registry import did_you_mean

GRID = 16
"""The part of the image that moves is cut out along lines so many to a side."""


class View:
    """Turns what an environment shows into frames, uint8 ``[size, size, 3]``.

    Several images share a frame side by side. Numbers, proprioception, are drawn as cells of gray along its lower edge,
    black where they are lowest and white where they are highest: agents see images and nothing else, so every world
    model, dataset and video has them.

    Args:
        env: The environment.
        name: What errors call it.
        size: Height and width of the frames.
        sources: Keys of the observation that hold images, "observation" where that is one, "render" for ``render()``.
        resize: See :func:`wm_agents.envs.wrap`.
        proprioception: Key of the observation that holds the numbers, or which numbers of the flat observation.

    Attributes:
        box: The part of the (square) image that is shown: left, top, right, bottom, as shares of its side.
    """

    def __init__(
        self,
        env: gym.Env,
        name: str,
        size: int,
        sources: str | Sequence[str] | None,
        resize: str,
        proprioception: str | Sequence[int] | None = None,
    ) -> None:
        self.size, self.resize = checked_image_size(size), check_resize(resize)
        named = ("render",) if sources is None else (sources,) if isinstance(sources, str) else sources
        if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
            raise ValueError(f'pixels must be "render", a key of the observation, or some of them, not {sources!r}.')
        self.sources = tuple(named)
        if not 1 <= len(self.sources) <= 4:
            raise ValueError(f"one to four images share a frame; got pixels={self.sources}.")
        self.box = (0.0, 0.0, 1.0, 1.0)
        self.name, self._env, self._context = name, env, OwnContext()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._numbers = proprioception
        self._ranges: tuple[np.ndarray, np.ndarray] | None = None

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Wrap what draws frames: ``step`` and ``reset`` of an environment whose observations have images."""
        with contextlib.nullcontext() if self.sources == ("render",) else self._context.current():
            yield

    def square(self, observation: Any) -> np.ndarray:
        """The images of now as one square, in their own resolution.

        Raises:
            ValueError: There is no image, it is none, or its size has changed.
        """
        squares = [self._square(source, observation) for source in self.sources]
        if len(squares) == 1:
            return squares[0]
        side, count = max(len(square) for square in squares), len(squares)
        edges = [side * index // count for index in range(count + 1)]
        widths = [last - first for first, last in itertools.pairwise(edges)]
        parts = [resample(square, side, width) for square, width in zip(squares, widths, strict=True)]
        return np.concatenate(parts, axis=1)

    def frame(self, observation: Any, state: np.ndarray) -> np.ndarray:
        """The frame of now; ``state`` is the flat observation. See :meth:`square`."""
        return self.compose(self.square(observation), observation, state)

    def compose(self, square: np.ndarray, observation: Any, state: np.ndarray) -> np.ndarray:
        """The frame of a square image: the part that is shown, and the cells."""
        picture = self._cut(square)
        return picture if self._numbers is None else self._with_cells(picture, self._vector(observation, state))

    def given(self, image: Any, what: str) -> np.ndarray:
        """A frame from an image of the user's: one of the frames' size as it is, others as the environment's own.

        Nobody knows the numbers of those others: their cells are gray.
        """
        square = self._squared(image, what)
        self._check_aspect(np.shape(image), what)
        if np.shape(image)[:2] == (self.size, self.size) and self._numbers is not None:
            return square
        picture = square if np.shape(image)[:2] == (self.size, self.size) else self._cut(square)
        return picture if self._ranges is None else self._with_cells(picture, np.mean(self._ranges, axis=0))

    def set_ranges(self, samples: Sequence[tuple[Any, np.ndarray]]) -> None:
        """Set the lowest and highest numbers that cells show, a tenth beyond those seen.

        Args:
            samples: Observations, each with its numbers.

        Raises:
            ValueError: There are no such numbers, or too many.
        """
        if self._numbers is None:
            return
        rows = np.stack([self._vector(observation, state) for observation, state in samples])
        if not 1 <= rows.shape[1] <= self.size // 4:
            raise ValueError(
                f"proprioception has {rows.shape[1]} numbers; frames of {self.size} pixels show 1 to {self.size // 4}: "
                "choose some, as indices of the flat observation, or a larger image_size."
            )
        margin = np.maximum(0.1 * np.ptp(rows, axis=0), 1e-6)
        self._ranges = rows.min(axis=0) - margin, rows.max(axis=0) + margin

    def _cut(self, square: np.ndarray) -> np.ndarray:
        left, top, right, bottom = (round(share * len(square)) for share in self.box)
        return square_image(square[top:bottom, left:right], self.size)

    def _with_cells(self, picture: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        assert self._ranges is not None
        low, high = self._ranges
        grays = np.rint(255 * np.clip((numbers - low) / (high - low), 0, 1)).astype(np.uint8)
        height = self.size // 8
        row = np.repeat(grays, -(-self.size // len(grays)))  # at least as wide as the frame
        row = row[np.arange(self.size) * len(row) // self.size]
        cells = np.broadcast_to(row[None, :, None], (height, self.size, 3))
        return np.concatenate([resample(picture, self.size - height, self.size), cells])

    def _vector(self, observation: Any, state: np.ndarray) -> np.ndarray:
        wanted = self._numbers
        if isinstance(wanted, str):
            known = _flattened(observation) if isinstance(observation, dict) else {}
            if wanted not in known:
                raise ValueError(did_you_mean("proprioception of the observation", wanted, known))
            numbers = np.ravel(known[wanted])
            if numbers.dtype.kind not in "biuf":
                raise ValueError(f"proprioception must be numbers; {wanted!r} of the observation is {numbers.dtype}.")
            return numbers.astype(np.float64)
        indices = np.asarray(wanted)
        if indices.dtype.kind not in "iu" or indices.ndim != 1 or not (indices < len(state)).all() or indices.min() < 0:
            raise ValueError(
                f"proprioception must be a key of the observation, or indices below {len(state)} of its numbers; "
                f"got {wanted!r}."
            )
        return state[indices]

    def _square(self, source: str, observation: Any) -> np.ndarray:
        image = self._image(source, observation)
        square, shape = self._squared(image, f"an image of {self.name}"), np.shape(image)
        if self._shapes.setdefault(source, shape) != shape:
            raise ValueError(f"the images of {self.name} change their size, from {self._shapes[source]} to {shape}.")
        return square

    def _check_aspect(self, shape: tuple[int, ...], what: str) -> None:
        """Refuse an image of the user's that another camera took; frames, which are square, are as they should be."""
        height, width = _sides(shape)
        known = [_sides(seen) for seen in self._shapes.values()]
        if height != width and len(known) == 1 and abs(height * known[0][1] / (width * known[0][0]) - 1) > 0.02:
            raise ValueError(
                f"{what} is {height} x {width} pixels, those of {self.name} are {known[0][0]} x {known[0][1]}: give "
                f"images of that aspect, or square ones of {self.size} x {self.size}."
            )

    def _squared(self, image: Any, what: str) -> np.ndarray:
        try:
            rgb = to_rgb(image)
            return square_image(rgb, (max if self.resize == "pad" else min)(rgb.shape[:2]), self.resize)
        except ValueError as error:
            raise ValueError(f"{what} cannot be used: {error}") from None

    def _image(self, source: str, observation: Any) -> Any:
        known = _flattened(observation) if isinstance(observation, dict) else {"observation": observation}
        if source in known:
            return known[source]
        if source != "render":
            raise ValueError(did_you_mean("image of the observation", source, (*known, "render")))
        with self._context.current(), failing(self.name, "render"):
            image = self._env.render()
        if image is None or isinstance(image, list):
            raise ValueError(
                f"{self.name} renders {'nothing' if image is None else 'a list'}: make it with "
                'render_mode="rgb_array", or say in pixels= which part of the observation is an image.'
            )
        return image


def _flattened(observation: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The parts of an observation by their keys; those of dicts in it are joined with "/"."""
    parts: dict[str, Any] = {}
    for key, value in observation.items():
        parts |= _flattened(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return parts


def _sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of an image ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]``."""
    first = len(shape) == 3 and shape[2] not in (1, 3, 4)
    return (shape[1], shape[2]) if first else (shape[0], shape[1])


def moving_part(squares: np.ndarray, stretch: bool) -> tuple[float, float, float, float]:
    """Return the part, on a grid of 16 lines, in which things move: left, top, right, bottom, as shares.

    A line of the grid is left around it. Thin lines, such as the axes that some simulators draw across the image, do
    not count.

    Args:
        squares: uint8 ``[N, S, S, 3]``.
        stretch: Whether the part may be a rectangle, with one side at most twice the other, or must be a square.
    """
    usual = np.median(squares[::4], axis=0)
    masks = np.stack([(np.abs(square - usual) > 24).any(axis=-1) for square in squares])
    thickness = max(1, squares.shape[1] // 64)
    thick = ndimage.binary_opening(masks, np.ones((1, thickness, thickness)))
    moves = (thick if thick.any() else masks).mean(axis=0)
    if not moves.any():
        return 0.0, 0.0, 1.0, 1.0
    spans = []
    for axis in (0, 1):  # columns, then rows
        share = np.cumsum(moves.sum(axis=axis)) / moves.sum()
        cell = GRID / len(share)
        first, last = np.searchsorted(share, (0.001, 0.999))
        spans.append((max(int(first * cell) - 1, 0), min(int(last * cell) + 2, GRID)))
    longest = max(end - begin for begin, end in spans)
    least = max(GRID // 4, (longest + 1) // 2 if stretch else longest)
    edges = []
    for begin, end in spans:  # grown evenly on both sides, and pushed back inside the image
        side = max(least, end - begin)
        start = min(max(begin - (side - (end - begin)) // 2, 0), GRID - side)
        edges.append((start / GRID, (start + side) / GRID))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom
