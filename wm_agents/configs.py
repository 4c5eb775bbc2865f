"""Checks of numbers from users, and helpers for configurations, which are frozen dataclasses stored as JSON."""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def whole_number(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """Return ``value`` as Python's int; it must be an int or one of NumPy's integers, not a boolean or a float.

    Args:
        name: Name of the number in the message.
        value: The number.
        least: The smallest one that is allowed.
        most: The largest one that is allowed.

    Raises:
        ValueError: It is not a whole number, or is too small or too large.
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        try:
            number = operator.index(value)
            if (least is None or number >= least) and (most is None or number <= most):
                return number
        except TypeError:
            pass
    of = "" if least is None else f" of at least {least}" if most is None else f" from {least} to {most}"
    raise ValueError(f"{name} must be a whole number{of}, such as {max(4, least or 0)}, not {value!r}.")


def checked_image_size(value: Any) -> int:
    """Return the height and width of an environment's images in pixels.

    Raises:
        ValueError: It is not a whole number from 16 to 2048.
    """
    return whole_number("image_size", value, 16, 2048)


def check_counts(config: Any, names: Iterable[str], least: int = 1, most: int | None = None) -> None:
    """Raise ``ValueError`` unless the named fields are whole numbers of at least ``least``, and at most ``most``.

    NumPy's integers become Python's, because JSON only knows these.
    """
    for name in names:
        value = whole_number(f"{type(config).__name__}.{name}", getattr(config, name), least, most)
        object.__setattr__(config, name, value)


def check_numbers(
    config: Any, names: Iterable[str], low: float = 0.0, high: float = math.inf, *, above: bool = False
) -> None:
    """Raise ``ValueError`` unless the named fields are finite, from ``low`` to ``high``; ``above`` excludes ``low``."""
    for name in names:
        value = getattr(config, name)
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and low <= value <= high and not (above and value == low)):
            left = f"{'above' if above else 'at least'} {low:g}" + (f" and at most {high:g}" if high < math.inf else "")
            raise ValueError(f"{type(config).__name__}.{name} must be a finite number, {left}, not {value!r}.")
        object.__setattr__(config, name, value if isinstance(value, int) else float(value))


def check_choices(config: Any) -> None:
    """Raise ``ValueError`` unless ``choices`` are whole numbers that add up to ``action_size``, or none.

    JSON's lists become tuples.
    """
    name = f"{type(config).__name__}.choices"
    if not isinstance(config.choices, list | tuple):
        raise ValueError(f"{name} must be a tuple of whole numbers, not {config.choices!r}.")
    choices = tuple(whole_number(name, count, 1) for count in config.choices)
    if choices and sum(choices) != config.action_size:
        raise ValueError(f"{name} {choices} must add up to the action size, {config.action_size}.")
    object.__setattr__(config, "choices", choices)


def check_texts(config: Any, names: Iterable[str]) -> None:
    """Raise ``ValueError`` unless the named fields are tuples of text; JSON's lists become tuples."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
            raise ValueError(f"{type(config).__name__}.{name} must be a tuple of text, not {value!r}.")
        object.__setattr__(config, name, tuple(value))


def check_flag(name: str, value: Any) -> bool:
    """Return ``value`` as Python's bool, or raise ``ValueError`` unless it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, not {value!r}.")
    return bool(value)


def check_flags(config: Any, names: Iterable[str]) -> None:
    """Raise ``ValueError`` unless the named fields are True or False."""
    for name in names:
        object.__setattr__(config, name, check_flag(f"{type(config).__name__}.{name}", getattr(config, name)))


def build_config(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a configuration from JSON values, refusing fields that it does not have.

    Raises:
        ValueError: An unknown field, or a value that the configuration refuses.
    """
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := set(values) - known:
        raise ValueError(f"{kind.__name__} has no field {sorted(unknown)}")
    return kind(**values)


def bare_id(env_id: str) -> str:
    """Return an environment's id without the module that Gymnasium's long form names.

    ``"wm_agents:wm/PushT-v0"`` -> ``"wm/PushT-v0"``.
    """
    return env_id.rpartition(":")[2]


def task_name(env_id: str) -> str:
    """Return the short name of a task: ``"wm/PointMaze-UMaze-v0"`` -> ``"pointmaze-umaze"``.

    Ids of other packages stay whole, ``"Reacher-v5"`` -> ``"reacher-v5"``, so that their data are no task's of ours.
    """
    name = bare_id(env_id)
    return (name.removeprefix("wm/").rpartition("-v")[0] if name.startswith("wm/") else name).lower()
