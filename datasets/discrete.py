"""Discrete actions from elsewhere: whole numbers, each from 0 to one less than its number of choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from wm_agents.configs import whole_number
from wm_agents.datasets.checks import ColumnError, numbers

DiscreteSpace = gym.spaces.Discrete | gym.spaces.MultiDiscrete


def discrete_space(choices: Any) -> DiscreteSpace:
    """Return the space of one action: ``Discrete`` for a number of choices, ``MultiDiscrete`` for several.

    Raises:
        ValueError: A number of choices is no whole number, or less than 2.
    """
    if isinstance(choices, Sequence | np.ndarray) and not isinstance(choices, str) and np.ndim(choices) == 1:
        counts = [whole_number("choices", count, 2) for count in choices]
        if counts:
            return gym.spaces.MultiDiscrete(counts)
        raise ValueError("choices is empty: give a number of choices for each action, such as [3, 2].")
    return gym.spaces.Discrete(whole_number("choices", choices, 2))


def whole_actions(values: Any, space: DiscreteSpace) -> np.ndarray:
    """Return the actions of an episode as ``space`` has them, int64 ``[T]`` or ``[T, M]``.

    Args:
        values: ``[T]`` or ``[T, M]``; M is 1 for ``Discrete``.
        space: Made by :func:`discrete_space`.

    Raises:
        ColumnError: They are no whole numbers, of another M, or beyond the choices.
    """
    if not hasattr(values, "ndim"):
        values = np.asarray(list(values) if isinstance(values, Iterator) else values)
    taken = numbers(values[:, None] if values.ndim == 1 else values, "action", "T")
    counts = np.atleast_1d(space.n if isinstance(space, gym.spaces.Discrete) else space.nvec)
    if taken.shape[1] != len(counts):
        raise ColumnError(
            "actions", f"a row has {taken.shape[1]} numbers, and there are choices for {len(counts)} (choices=)."
        )
    wrong = (taken != np.floor(taken)) | (taken < 0) | (taken >= counts)
    if wrong.any():
        row, part = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        problem = f"row {row} has {taken[row, part]:g}, where a whole number from 0 to {counts[part] - 1} is needed"
        raise ColumnError("actions", f"{problem} (choices=).")
    whole = taken.astype(np.int64)
    return whole[:, 0] if isinstance(space, gym.spaces.Discrete) else whole
