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
            raise ValueError(f"the environment's actions are {' '.join(str(space).split())}: {WAY_OUT}.")
        if np.prod(self.space.shape or (), dtype=int) == 0 or (isinstance(space, spaces.Discrete) and space.n < 2):
            raise ValueError(f"the environment's actions are {space}: there is nothing to choose.")

    def to_inner(self, action: Any) -> Any:
        """Return the environment's action; continuous ones are clipped.

        Raises:
            ValueError: The action has another shape, is not finite, or is no action of the space.
        """
        inner, space = self._inner, self.space
        values = checked_action(action, space)
        if isinstance(space, spaces.Box):
            assert isinstance(inner, spaces.Box)
            clipped = np.clip(values, space.low, space.high).reshape(inner.shape)
            return (np.rint(clipped) if inner.dtype.kind in "iu" else clipped).astype(inner.dtype)
        if values.dtype.kind == "f" or not space.contains(values.astype(np.int64) if values.ndim else int(values)):
            raise ValueError(f"{values} is no action of {space}.")
        if isinstance(inner, spaces.Discrete):
            return inner.dtype.type(int(values) + int(inner.start))
        return values.astype(inner.dtype)  # type: ignore[arg-type]


def checked_action(action: Any, space: spaces.Space[Any]) -> np.ndarray:
    """Return an action as an array.

    Raises:
        ValueError: It has another shape than the space, or is not finite.
    """
    try:
        values = np.asarray(action)
    except (TypeError, ValueError):  # lists of different lengths
        values = np.asarray(None)
    if values.shape != space.shape or values.dtype.kind not in "bfiu" or not np.isfinite(values).all():
        shown = " ".join(str(action).split())
        raise ValueError(
            f"An action must be finite and of shape {space.shape}, as `env.action_space.sample()` returns it; got "
            f"{f'shape {values.shape}, values ' if values.ndim else ''}{shown}."
        )
    return values


def _bounded(space: spaces.Box, bounds: tuple[Any, Any] | None) -> spaces.Box:
    low, high = np.asarray(space.low, dtype=np.float64), np.asarray(space.high, dtype=np.float64)
    if bounds is not None:
        try:
            lowest, highest = (np.broadcast_to(np.asarray(bound, np.float64), space.shape) for bound in bounds)
        except (TypeError, ValueError):
            raise ValueError(
                f"bounds must be two, the lowest action and the highest, each a number or of shape {space.shape}; got "
                f"{bounds!r}."
            ) from None
        if not (lowest < highest).all() or not (np.maximum(low, lowest) < np.minimum(high, highest)).all():
            raise ValueError(
                f"bounds must leave room between the lowest action and the highest, inside {space}; got {bounds!r}."
            )
        low, high = np.maximum(low, lowest), np.minimum(high, highest)
    large = 1e6  # some environments write "no bound" as the largest float
    if not ((low > -large) & (high < large)).all():
        raise ValueError(
            f"the action space {space} has no finite bounds: give bounds=(lowest, highest), for example bounds=(-1, 1)."
        )
    if not (low < high).all():
        fixed = np.flatnonzero(np.ravel(low >= high)).tolist()
        raise ValueError(
            f"numbers {fixed} of the action space {space} cannot change: leave them out (gymnasium's TransformAction)."
        )
    return spaces.Box(low.ravel().astype(np.float32), high.ravel().astype(np.float32), dtype=np.float32)
