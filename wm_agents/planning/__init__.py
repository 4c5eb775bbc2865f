"""Planners: search over action sequences for the cheapest one. They see a cost function and bounds, nothing else."""

from __future__ import annotations

from typing import Any

from wm_agents.planning.base import Planner
from wm_agents.registry import Registry

PLANNERS = Registry("planner", {"cem": "wm_agents.planning.cem:CEM"})
OBJECTIVES = Registry(
    "objective",
    {
        "summed": "wm_agents.planning.objectives:summed",
        "terminal": "wm_agents.planning.objectives:terminal",
    },
)


def make(name: str, *, horizon: int, **options: Any) -> Planner:
    """Make a planner by name.

    Args:
        name: One of :data:`PLANNERS`.
        horizon: H, in blocks.
        **options: The planner's own; see its class.

    Raises:
        ValueError: Unknown name, or an option out of its range.
    """
    return PLANNERS.get(name)(horizon=horizon, **options)


__all__ = ["OBJECTIVES", "PLANNERS", "Planner", "make"]
