"""Actions of foreign environments as the library has them: a flat Box with finite bounds, or whole numbers from 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

WAY_OUT = "Box, Discrete, MultiDiscrete and MultiBinary of one dimension can be wrapped"


class Actions:
    """The action space that agents see, and what their actions mean to the environment.

    Args:
        space: The environment's.
        bounds: Lowest and highest action where it has none, numbers or arrays.

    Attributes:
        space: ``Box [A]`` in float32, ``Discrete`` from 0, or ``MultiDiscrete``.

    Raises:
        ValueError: A space of another kind, or a Box without finite bounds.
    """

    def __init__(self, space: spaces.Space[Any], bounds: tuple[Any, Any] | None = None) -> None:
        self._inner = space
        if bounds is not None and not isinstance(space, spaces.Box):
            raise ValueError(f"bounds are for continuous actions; these are {space}.")
        self.space: spaces.Space[Any]
        if isinstance(space, spaces.Box):
            self.space = _bounded(space, bounds)
        elif isinstance(space, spaces.Discrete):
            self.space = spaces.Discrete(int(space.n))
        elif isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
            self.space = spaces.MultiDiscrete(space.nvec.tolist())
        elif isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
            self.space = spaces.MultiDiscrete([2] * space.shape[0])
        else:
            raise ValueError(f"the environment's actions are {space}: {WAY_OUT}.")

    def to_inner(self, action: Any) -> Any:
        """Return the environment's action; continuous ones are clipped.

        Raises:
            ValueError: The action has another shape, is not finite, or is no action of the space.
        """
        inner, space = self._inner, self.space
        values = np.asarray(action)
        if values.shape != space.shape or values.dtype.kind not in "bfiu" or not np.isfinite(values).all():
            raise ValueError(
                f"An action must be finite and of shape {space.shape}, as `env.action_space.sample()` returns it; "
                f"got shape {values.shape}, values {values}."
            )
        if isinstance(space, spaces.Box):
            assert isinstance(inner, spaces.Box)
            clipped = np.clip(values, space.low, space.high).reshape(inner.shape)
            return (np.rint(clipped) if inner.dtype.kind in "iu" else clipped).astype(inner.dtype)
        if values.dtype.kind == "f" or not space.contains(values.astype(np.int64) if values.ndim else int(values)):
            raise ValueError(f"{values} is no action of {space}.")
        if isinstance(inner, spaces.Discrete):
            return inner.dtype.type(int(values) + int(inner.start))
        return values.astype(inner.dtype)  # type: ignore[arg-type]


def _bounded(space: spaces.Box, bounds: tuple[Any, Any] | None) -> spaces.Box:
    low, high = np.asarray(space.low, dtype=np.float64), np.asarray(space.high, dtype=np.float64)
    if bounds is not None:
        if len(bounds) != 2:
            raise ValueError("bounds are two: the lowest action and the highest.")
        given = [np.broadcast_to(np.asarray(bound, dtype=np.float64), space.shape) for bound in bounds]
        low, high = np.maximum(low, given[0]), np.minimum(high, given[1])
    large = 1e6  # some environments write "no bound" as the largest float
    if not ((low > -large) & (high < large)).all():
        raise ValueError(
            f"the action space {space} has no finite bounds: give bounds=(lowest, highest), for example bounds=(-1, 1)."
        )
    if not (low < high).all():
        raise ValueError(f"bounds must leave room between the lowest action and the highest; got {low} and {high}.")
    return spaces.Box(low.ravel().astype(np.float32), high.ravel().astype(np.float32), dtype=np.float32)
