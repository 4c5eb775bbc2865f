"""Environments by their Gymnasium id: look them up, import the module that the id names, and open them."""

from __future__ import annotations

import importlib
import operator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator

from wm_agents.registry import did_you_mean, load_plugins


def check_env_id(env_id: str) -> str:
    """Return the id under which Gymnasium knows an environment, after importing the module that the id may name.

    Args:
        env_id: ``"wm/PointMaze-UMaze-v0"``, or Gymnasium's long form ``"my_package:my/Task-v0"``.

    Raises:
        ValueError: The module cannot be imported, or there is no such environment; the message has the nearest match.
    """
    module, separator, name = str(env_id).rpartition(":")
    if separator:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a foreign module does wrong when it is imported
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"cannot import the module {module!r} of {str(env_id)!r} ({reason}).") from error
    if name not in gym.registry:
        load_plugins()
    if name not in gym.registry:
        known = [
            known for known in gym.registry if known.startswith("wm/") or known.split("/")[0] == name.split("/")[0]
        ]
        advice = "" if separator else " If another module registers it, write module:id."
        raise ValueError(did_you_mean("environment", name, known) + advice)
    return name


def open_env(env_id: str, **options: Any) -> gym.Env:
    """Open a goal environment.

    Raises:
        ValueError: See :func:`check_env_id`; or the environment's goals are not states to reach.
    """
    name = check_env_id(env_id)
    foreign = (
        f"{name} is no goal environment, so there are no tasks to evaluate on: choose one of wm-agents list envs, or "
        "write yours as a GoalEnv (docs/extending.md)."
    )
    try:
        entry: Any = gym.spec(name).entry_point
        creator: Any = load_env_creator(entry) if isinstance(entry, str) else entry
        if isinstance(creator, type) and not hasattr(creator, "successes"):
            raise ValueError(foreign)
        env = gym.make(name, disable_env_checker=True, **options)
    except (TypeError, AttributeError, ImportError, gym.error.Error) as error:
        if name.startswith("wm/"):
            raise
        raise ValueError(f"{foreign} ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    if not hasattr(env.unwrapped, "successes"):
        env.close()
        raise ValueError(foreign)
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
