"""Checks of arguments that every part of the library may use."""

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
