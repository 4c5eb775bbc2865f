"""What configurations have in common: frozen dataclasses that check themselves, and that JSON can hold."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def check_counts(config: Any, names: Iterable[str], least: int = 1) -> None:
    """Raise ``ValueError`` unless the named fields are whole numbers of at least ``least``.

    NumPy's integers become Python's, since JSON knows no others.
    """
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"{type(config).__name__}.{name} must be a whole number of at least {least}, not {value!r}."
            )
        object.__setattr__(config, name, int(value))


def check_numbers(
    config: Any, names: Iterable[str], low: float = 0.0, high: float = math.inf, *, above: bool = False
) -> None:
    """Raise ``ValueError`` unless the named fields are finite numbers in ``[low, high]``; not ``low`` if ``above``."""
    for name in names:
        value = getattr(config, name)
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and low <= value <= high and not (above and value == low)):
            left = f"{'above' if above else 'at least'} {low:g}" + (f" and at most {high:g}" if high < math.inf else "")
            raise ValueError(f"{type(config).__name__}.{name} must be a finite number, {left}, not {value!r}.")
        object.__setattr__(config, name, value if isinstance(value, int) else float(value))


def check_flags(config: Any, names: Iterable[str]) -> None:
    """Raise ``ValueError`` unless the named fields are True or False."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{type(config).__name__}.{name} must be True or False, not {value!r}.")
        object.__setattr__(config, name, bool(value))


def build_config(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a configuration from JSON values, refusing fields that it does not have.

    Raises:
        ValueError: An unknown field, or a value that the configuration refuses.
    """
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := set(values) - known:
        raise ValueError(f"{kind.__name__} has no field {sorted(unknown)}")
    return kind(**values)
