"""Which goals ``reset()`` draws: any, or those that the published tables measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from wm_agents.configs import whole_number
from wm_agents.registry import did_you_mean

Goals = Literal["any", "near"] | int
"""Two random states; or two states 25, or another number of, environment steps apart in one episode."""
OPTIONS = ("state", "goal_state")
NEAR = 25
"""Environment steps from start to goal where ``goals="near"``: what the published tables measure."""


def offset_of(goals: Any) -> int | None:
    """Return the distance of goals in environment steps; None for random ones.

    Raises:
        ValueError: ``goals`` is none of :data:`Goals`.
    """
    if isinstance(goals, str):
        if goals not in ("any", "near"):
            raise ValueError(f"{did_you_mean('choice of goals', goals, ('any', 'near'))} Or a number of steps.")
        return NEAR if goals == "near" else None
    try:
        return whole_number("goals", goals, least=1)
    except ValueError:
        way_out = '"any", "near", or a whole number of environment steps from start to goal, at least 1'
        raise ValueError(f"goals must be {way_out}, not {goals!r}.") from None


def checked_reset_options(options: Any) -> dict[str, Any]:
    """Return the options of a task's ``reset`` as a dict.

    Raises:
        ValueError: They are no dict, or one of them is neither ``state`` nor ``goal_state``.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ValueError(f'options must be a dict, such as {{"state": state}}, not {options!r}.')
    for key in options:
        if key not in OPTIONS:
            raise ValueError(did_you_mean("reset option", str(key), OPTIONS))
    return dict(options)
