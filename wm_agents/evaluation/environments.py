"""Environments by their Gymnasium id: look them up, import the module that the id names, and open them."""

from __future__ import annotations

import operator
from typing import Any

import gymnasium as gym
import numpy as np

from wm_agents.envs import WrappedEnv
from wm_agents.envs.foreign import find_spec
from wm_agents.envs.wrapping import open_task


def check_env_id(env_id: str) -> str:
    """Return the id under which Gymnasium knows an environment, after importing the module that the id may name.

    Args:
        env_id: ``"wm/PointMaze-UMaze-v0"``, or Gymnasium's long form ``"my_package:my/Task-v0"``.

    Raises:
        ValueError: The module cannot be imported, or there is no such environment; the message has the nearest match.
    """
    return find_spec(env_id).id


def open_env(env_id: str, **options: Any) -> gym.Env:
    """Open a goal environment; others are wrapped (:func:`wm_agents.wrap`).

    With ``obs_type="state"`` nothing is drawn, unless a wrapped environment's success test needs it.

    Raises:
        ValueError: There is no such environment, or it cannot be wrapped.
    """
    env = open_task(env_id, **options)
    if options.get("obs_type") == "state" and isinstance(env.unwrapped, WrappedEnv):
        env.unwrapped.draws = env.unwrapped.test.looks
    return env


def whole_number(name: str, value: Any, least: int | None = None, what: str = "a whole number") -> int:
    """Return an integer argument as a Python ``int``.

    Args:
        name: Name of the argument, for the message.
        value: An ``int``, a NumPy integer, an array with one integer, or a float without fraction.
        least: The smallest value that is allowed.
        what: Description of what is expected, for the message.

    Raises:
        ValueError: The value is something else, such as a bool, or is too small.
    """
    found: int | None = None
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(())[()]
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        found = int(value)
    elif not isinstance(value, (bool, np.bool_)):
        try:
            found = operator.index(value)
        except TypeError:
            found = None
    if found is None:
        raise ValueError(f"{name} must be {what}, got {value!r}.")
    if least is not None and found < least:
        raise ValueError(f"{name} must be at least {least}, got {found}.")
    return found
