"""What an episode from elsewhere must be; messages name the file, the episode and the column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from wm_agents.images import square_image
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


def square_frames(images: Iterable[Any], size: int, rule: str) -> np.ndarray:
    """Return the frames of an episode, all of one shape, as uint8 ``[N, size, size, 3]``.

    Raises:
        ColumnError: A frame is no image, or of another shape than the first.
    """
    frames, shape = [], None
    for row, image in enumerate(images):
        if shape not in (None, np.shape(image)):
            raise ColumnError("images", f"frame {row} has the shape {np.shape(image)}, those before it {shape}.")
        shape = np.shape(image)
        try:
            frames.append(square_image(image, size, rule))
        except ValueError as error:
            raise ColumnError("images", f"frame {row} is not valid: {error}") from error
    return np.stack(frames) if frames else np.zeros((0, size, size, 3), np.uint8)


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
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ColumnError(column, f"its rows differ in length, or are no numbers ({error}).") from error
    if array.ndim != 2 or not array.shape[1]:
        raise ColumnError(column, f"it has the shape {array.shape}; [{rows}, numbers in a {what}] is needed.")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ColumnError(column, f"row {bad[0]} is NaN or infinite.")
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
