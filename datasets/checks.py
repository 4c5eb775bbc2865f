"""What an episode from elsewhere must be; messages name the file, the episode and the column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from wm_agents.images import square_image, to_rgb
from wm_agents.registry import did_you_mean


def refusal(place: str, problem: str, *, episode: int | None = None, column: str | None = None) -> ValueError:
    """Return the error for a foreign dataset that cannot be imported; it names the file, the episode and the column."""
    where = [place]
    where += [] if episode is None else [f"episode {episode}"]
    where += [] if column is None else [f"column {column!r}"]
    return ValueError(f"{', '.join(where)}: {problem}")


class ColumnError(ValueError):
    """What is wrong with a column of an episode; whoever knows file and episode adds them."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(f"{column}: {problem}")
        self.column, self.problem = column, problem


class SquareFrames:
    """Makes the frames of one episode after the other square; all episodes must have frames of one aspect.

    Args:
        size: Height and width of the frames that are made.
        rule: See :func:`~wm_agents.images.square_image`.
    """

    def __init__(self, size: int, rule: str) -> None:
        self.size, self.rule = size, rule
        self._first: tuple[int, int] | None = None

    def of(self, images: Iterable[Any]) -> np.ndarray:
        """Return the frames of an episode, all of one shape, as uint8 ``[N, size, size, 3]``.

        Raises:
            ColumnError: A frame is no image, or of another shape than the first, or another aspect than before.
        """
        frames, shape = [], None
        for row, image in enumerate(each(images, "images")):
            try:
                rgb = to_rgb(image)
            except ValueError as error:
                raise ColumnError("images", f"frame {row} is not valid: {error}") from error
            if shape not in (None, np.shape(image)):
                raise ColumnError("images", f"frame {row} has the shape {np.shape(image)}, those before it {shape}.")
            shape = np.shape(image)
            height, width = rgb.shape[:2]
            self._first = self._first or (height, width)
            if abs(height * self._first[1] / (width * self._first[0]) - 1) > 0.02:
                raise ColumnError(
                    "images",
                    f"its frames are {height} x {width} pixels, those of the first episode {self._first[0]} x "
                    f"{self._first[1]}; all must have one aspect, as a camera has.",
                )
            frames.append(square_image(rgb, self.size, self.rule))
        return np.stack(frames) if frames else np.zeros((0, self.size, self.size, 3), np.uint8)


def each(values: Any, column: str) -> Iterable[Any]:
    """Return what can be iterated over as it is.

    Raises:
        ColumnError: It is one thing, or nothing.
    """
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable) or not getattr(values, "ndim", 1):
        raise ColumnError(
            column, f"it is {' '.join(repr(values).split())[:60]}, where an array, a list or a generator is needed."
        )
    return values


def check_counts(frames: int, actions: int) -> None:
    """Raise ``ColumnError`` unless there is one frame more than actions, and two actions."""
    if frames == actions:
        raise ColumnError(
            "images",
            f"{frames} frames and as many actions; one frame more is needed, after the last action. If action t was "
            "taken at frame t, leave the last action out, actions[:-1].",
        )
    if frames != actions + 1:
        raise ColumnError("images", f"{frames} frames for {actions} actions; one frame more than actions is needed.")
    if actions < 2:
        raise ColumnError("actions", f"it has {actions} action(s); two or more are needed.")


def numbers(values: Any, what: str, rows: str) -> np.ndarray:
    """Return float64 ``[rows, size]``."""
    column = f"{what}s"
    if isinstance(values, Iterator):
        values = list(values)
    try:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)  # torch's tensors
        if array.dtype.kind not in "biufO":
            raise ColumnError(column, f"they are no numbers but {array.dtype}.")
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        if isinstance(error, ColumnError):
            raise
        raise ColumnError(column, f"its rows differ in length, or are no numbers ({error}).") from error
    if array.ndim != 2 or not array.shape[1]:
        way_out = f" For {what}s of one number: {what}s[:, None]." if array.ndim == 1 else ""
        raise ColumnError(
            column, f"it has the shape {array.shape}; [{rows}, numbers of each {what}] is needed.{way_out}"
        )
    bad = np.flatnonzero(~(np.abs(array) <= np.finfo(np.float32).max).all(axis=1))
    if len(bad):
        large = np.isfinite(array[bad[0]]).all()
        raise ColumnError(column, f"row {bad[0]} is {'too large for float32' if large else 'NaN or infinite'}.")
    return array


def chosen_images(place: str, known: Iterable[str], wanted: str | None) -> str:
    """Return which of several images of a frame is meant: the one asked for, "pixels", or the only one.

    Raises:
        ValueError: There are none, or nothing tells which.
    """
    names = list(known)
    if wanted is not None and wanted in names:
        return wanted
    if wanted is not None:
        raise refusal(place, did_you_mean("images", wanted, names), column=wanted)
    if not names:
        raise refusal(place, "it has no images.", column="pixels")
    if len(names) > 1 and "pixels" not in names:
        raise refusal(place, f"it has several images, {', '.join(sorted(names))}: say which with pixels=, --pixels.")
    return "pixels" if "pixels" in names else names[0]
