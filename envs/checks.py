"""Checks of arguments that environments and datasets share."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


def whole_number(name: str, value: Any) -> int:
    """Return ``value`` as Python's int: ints and NumPy's integers are taken, booleans and floats are not.

    Args:
        name: What the number is called in the message.
        value: The number.

    Raises:
        ValueError: It is no whole number.
    """
    if not isinstance(value, (bool, np.bool_)):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise ValueError(f"{name} must be a whole number, such as 4, not {value!r}.")


def checked_image_size(value: Any) -> int:
    """Return the height and width of an environment's images in pixels.

    Raises:
        ValueError: It is no whole number from 16 to 2048.
    """
    size = whole_number("image_size", value)
    if not 16 <= size <= 2048:
        raise ValueError(f"image_size is 16 to 2048 pixels, not {size}.")
    return size
