"""Images of any size and colour as the library wants them: square, RGB, uint8."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from wm_agents.registry import did_you_mean

RESIZE_RULES = ("stretch", "crop", "pad")
"""How an image becomes square: as a whole, its centre only, or as a whole between black bars."""

KINDS = "images are [H, W], [H, W, 3] or [H, W, 4]"
ROUNDING = 1e-3
"""How far floats may lie outside 0 to 1, as they do after resizing."""


def check_resize(rule: str) -> str:
    """Return the rule, or raise ``ValueError`` with the known ones."""
    if rule not in RESIZE_RULES:
        raise ValueError(did_you_mean("resize rule", str(rule), RESIZE_RULES))
    return rule


def square_image(image: Any, size: int, rule: str = "stretch") -> np.ndarray:
    """Return one image as uint8 ``[size, size, 3]``.

    Each pixel is the mean of the area that it covers. Gray images get three equal channels; transparent ones are laid
    on black.

    Args:
        image: ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]`` with 1, 3 or 4 channels: uint8, or floats from 0 to 1.
        size: Height and width of the result in pixels.
        rule: See ``RESIZE_RULES``.

    Raises:
        ValueError: It is no such image, or holds NaN; the message begins with "it".
    """
    rgb = to_rgb(image)
    height, width = rgb.shape[:2]
    if rule == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        rgb = rgb[top : top + side, left : left + side]
    elif rule == "pad":
        side = max(height, width)
        square = np.zeros((side, side, 3), np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = rgb
        rgb = square
    return resample(rgb, size, size)


def resample(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a uint8 image ``[H, W, 3]`` as ``[height, width, 3]``; each pixel is the mean of the area it covers."""
    old_height, old_width = rgb.shape[:2]
    if (old_height, old_width) == (height, width):
        return np.ascontiguousarray(rgb)
    rows = _weights(old_height, height) @ rgb.reshape(old_height, -1).astype(np.float32)  # [height, W * 3]
    return np.rint(_weights(old_width, width) @ rows.reshape(height, old_width, 3)).astype(np.uint8)


def to_rgb(image: Any) -> np.ndarray:
    """Return one image as uint8 ``[H, W, 3]``; arguments and errors are those of :func:`square_image`."""
    try:
        array = np.asarray(image)
    except (TypeError, ValueError):  # a tuple of different things
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"it is no array of numbers but a {type(image).__name__}; {KINDS}.")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(f"it has the shape {np.shape(image)}; {KINDS}.")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ValueError("it holds NaN or infinite values.")
        if array.min() < -ROUNDING or array.max() > 1 + ROUNDING:
            raise ValueError(
                f"it holds floats from {array.min():g} to {array.max():g}; images are floats from 0 to 1, or uint8."
            )
        array = np.rint(255 * np.clip(array, 0, 1)).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"it is {array.dtype}; images are uint8, or floats from 0 to 1.")
    if array.shape[2] == 4:
        array = np.rint(array[:, :, :3] * (array[:, :, 3:] / 255)).astype(np.uint8)
    return np.broadcast_to(array, (*array.shape[:2], 3))


@functools.lru_cache(maxsize=16)
def _weights(side: int, size: int) -> np.ndarray:
    """Return float32 ``[size, side]``: how much of each old pixel is in each new one; rows add up to 1."""
    edges, cells = np.arange(size + 1) * (side / size), np.arange(side)
    shared = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return (np.maximum(shared, 0.0) * (size / side)).astype(np.float32)
