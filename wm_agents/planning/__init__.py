"""Planners: search for the cheapest action sequence. They only see a cost function and bounds."""

from __future__ import annotations

import inspect
from typing import Any

from wm_agents.planning.base import Planner
from wm_agents.planning.objectives import Objective, ObjectiveSpec, learned_distance, make_objective
from wm_agents.registry import OBJECTIVES, PLANNERS, Registry, did_you_mean


def make(name: str, *, horizon: int, table: Registry = PLANNERS, **options: Any) -> Planner:
    """Make a planner by name.

    Args:
        name: One of :data:`PLANNERS`.
        horizon: H, in blocks.
        table: Where the name is looked up: :data:`PLANNERS`, or ``wm_agents.registry.DISCRETE_PLANNERS``.
        **options: Options of the planner; see its class.

    Raises:
        ValueError: Unknown name, unknown option, or an option out of its range.
    """
    kind = table.get(name)
    for option in options:
        if not takes_option(kind, option):
            raise ValueError(did_you_mean(f"option of planner {name!r}", option, option_names(kind)))
    return kind(horizon=horizon, **options)


def option_names(kind: Any) -> set[str]:
    """Names of the options that a planner takes. It can be a dataclass, another class or a function."""
    return {name for name, parameter in inspect.signature(kind).parameters.items() if parameter.kind in NAMED}


def takes_option(kind: Any, name: str) -> bool:
    """Whether a planner takes an option of this name, by itself or among ``**options``."""
    parameters = inspect.signature(kind).parameters.values()
    return name in option_names(kind) or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

__all__ = [
    "OBJECTIVES",
    "PLANNERS",
    "Objective",
    "ObjectiveSpec",
    "Planner",
    "learned_distance",
    "make",
    "make_objective",
    "option_names",
    "takes_option",
]
