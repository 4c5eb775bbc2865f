"""Images of foreign environments as the library has them: square, uint8, three channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from wm_agents.registry import did_you_mean

RESIZE = ("stretch", "crop", "pad")
"""What happens to an image that is not square: squeezed, cut to its middle, or put between black bars."""


def to_rgb(image: Any, what: str = "the environment's image") -> np.ndarray:
    """Return an image as uint8 ``[H, W, 3]``.

    Args:
        image: ``[H, W]``, or with 1, 3 or 4 channels, last or first; uint8, bool, or floats in [0, 1]. A fourth
            channel is dropped.
        what: What to call it in messages.

    Raises:
        ValueError: It is no such image, or holds NaN.
    """
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape or array.dtype.kind not in "bfiu":
        raise ValueError(
            f"{what} must be [H, W], or have 1, 3 or 4 channels, in uint8 or floats from 0 to 1; "
            f"it is {array.dtype} {array.shape}."
        )
    array = np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array[..., :3]
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255
    low, high = (0.0, 1.0) if array.dtype.kind == "f" else (0, 255)
    if not (np.isfinite(array).all() and low <= array.min() and array.max() <= high):
        raise ValueError(f"{what} is {array.dtype} and must lie between {low} and {high} without NaN; scale it first.")
    return np.rint(array * 255).astype(np.uint8) if array.dtype.kind == "f" else array.astype(np.uint8)


def to_square(image: np.ndarray, size: int, resize: str = "stretch") -> np.ndarray:
    """Return an image of ``size`` by ``size`` pixels; each of them is the mean of the area that it covers.

    Args:
        image: uint8 ``[H, W, 3]``.
        size: Height and width of the result.
        resize: One of :data:`RESIZE`.
    """
    height, width = image.shape[:2]
    if resize == "crop" and height != width:
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    elif resize == "pad" and height != width:
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        padded = np.zeros((side, side, 3), np.uint8)
        padded[top : top + height, left : left + width] = image
        image = padded
    if image.shape[:2] == (size, size):
        return np.ascontiguousarray(image)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX)).copy()


def check_resize(resize: str) -> str:
    """Return the name of a rule, or raise ``ValueError`` with those that there are."""
    if resize not in RESIZE:
        raise ValueError(did_you_mean("resize", str(resize), RESIZE))
    return resize
