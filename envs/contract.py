"""What a foreign environment must have and return, by Gymnasium's interface; what is wrong is said in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Inner:
    """A foreign environment whose every answer is checked.

    Args:
        env: The environment.
        name: What errors call it.
        reset_options: For every reset.

    Raises:
        ValueError: It lacks a space, or the options are no dict.
    """

    def __init__(self, env: gym.Env, name: str, reset_options: Mapping[str, Any] | None = None) -> None:
        self.env, self.name = env, name
        if reset_options is not None and not isinstance(reset_options, Mapping):
            raise ValueError(f"reset_options must be a dict, not {reset_options!r}.")
        self._options = None if reset_options is None else dict(reset_options)
        for space in ("action_space", "observation_space"):
            if not isinstance(getattr(env, space, None), spaces.Space):
                raise ValueError(f"{name} has no {space}: set self.{space} in its constructor.")
        self._sizes: int | None = None

    def reset(self, seed: int) -> tuple[Any, dict[str, Any]]:
        """Reset to a seed.

        Raises:
            ValueError: ``reset`` takes no seed or options, or returns something else than an observation and a dict.
            RuntimeError: It fails.
        """
        try:
            with failing(self.name, "reset"):
                result = self.env.reset(seed=int(seed), options=self._options)
        except RuntimeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise ValueError(f"{self.name}: reset must take seed=None and options=None.") from error
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
            raise ValueError(f"{self.name}: reset must return (observation, info), with a dict as info. {UPDATE}")
        return result

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            ValueError: ``step`` returns something else than Gymnasium's five values.
            RuntimeError: It fails.
        """
        with failing(self.name, "step"):
            result: Any = self.env.step(action)
        if not isinstance(result, tuple) or len(result) != 5 or not isinstance(result[4], dict):
            raise ValueError(
                f"{self.name}: step must return (observation, reward, terminated, truncated, info), with a dict as "
                f"info. {UPDATE}"
            )
        observation, reward, terminated, truncated, info = result
        if np.size(reward) != 1 or np.asarray(reward).dtype.kind not in "bfiu":
            raise ValueError(f"{self.name}: the reward must be a number, not {reward!r}.")
        return observation, float(np.asarray(reward).item()), bool(terminated), bool(truncated), info

    def numbers(self, observation: Any) -> np.ndarray:
        """The numbers of an observation, float64 ``[S]``, without the goal's; none where it holds anything else.

        Raises:
            ValueError: They are not all there, not finite, or not as many as before.
        """
        found = self._vector(self.env.observation_space, observation)
        if not np.isfinite(found).all():
            which = np.flatnonzero(~np.isfinite(found)).tolist()
            raise ValueError(f"{self.name}: numbers {which} of the observation are NaN or infinite.")
        if self._sizes not in (None, len(found)):
            raise ValueError(
                f"{self.name}: the observation changes its size, from {self._sizes} numbers to {len(found)}."
            )
        self._sizes = len(found)
        return found

    def _vector(self, space: spaces.Space[Any], observation: Any) -> np.ndarray:
        if not isinstance(space, spaces.Dict):
            return self._flat(space, observation) if is_vector(space) else np.zeros(0)
        if not isinstance(observation, Mapping) or (missing := set(space.spaces) - set(observation)):
            lacks = f"lacks {sorted(missing)}" if isinstance(observation, Mapping) else "is no dict"
            raise ValueError(f"{self.name}: the observation {lacks}, unlike observation_space.")
        kept = [key for key, part in space.spaces.items() if key != "desired_goal" and is_vector(part)]
        parts = [self._flat(space.spaces[key], observation[key]) for key in kept]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _flat(self, space: spaces.Space[Any], value: Any) -> np.ndarray:
        try:
            numbers = np.ravel(value).astype(np.float64)
        except (TypeError, ValueError):
            numbers = np.zeros(0)
        if numbers.size != np.prod(space.shape or ()):
            got = type(value).__name__ if not numbers.size else f"{numbers.size} numbers"
            raise ValueError(f"{self.name}: the observation is {got} where observation_space has {space}.")
        return numbers


@contextlib.contextmanager
def failing(name: str, where: str) -> Iterator[None]:
    """Turn whatever a foreign environment raises into a ``RuntimeError`` of one line, which names the environment."""
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RuntimeError(f"the environment {name} fails in {where}: {reason}") from error


UPDATE = "Environments of the old Gym need Gymnasium's interface first."


def is_vector(space: spaces.Space[Any]) -> bool:
    """Whether its elements are a number, or a row of numbers."""
    return isinstance(space, spaces.Box) and (len(space.shape) == 1 or space.shape == ())
