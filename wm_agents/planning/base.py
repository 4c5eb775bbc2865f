"""The face of every planner, and what they share."""

from __future__ import annotations

from typing import Protocol

import torch

from wm_agents.types import CostFn, Plan


class Planner(Protocol):
    """Searches for action sequences that minimise a cost, for a batch of environments at once."""

    horizon: int

    def plan(
        self,
        cost: CostFn,
        *,
        low: torch.Tensor,
        high: torch.Tensor,
        batch: int = 1,
        init: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Search.

        Args:
            cost: ``actions [B, S, H, K*A] -> [B, S]``.
            low: ``[K*A]``, lower bounds.
            high: ``[K*A]``, upper bounds.
            batch: B.
            init: ``[B, H, K*A]``, where to start (a shifted earlier plan); by default the middle of the bounds.
            generator: Source of randomness; the same generator state gives the same plan.

        Raises:
            ValueError: Bounds are crossed or not finite, ``init`` has another shape or holds NaN, or every
                candidate's cost is NaN or infinite.
        """
        ...


def check_bounds(low: torch.Tensor, high: torch.Tensor) -> None:
    """Raise ``ValueError`` unless the bounds are finite and not crossed."""
    if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
        raise ValueError("action bounds must be finite: planners sample between them.")
    if (low > high).any():
        raise ValueError("action bounds are crossed: every low must be at most its high.")


def check_init(init: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless a warm start has the plan's shape ``[B, H, K*A]`` and holds no NaN."""
    if tuple(init.shape) != shape:
        raise ValueError(f"init has shape {tuple(init.shape)}, the plan {shape}: pass [B, H, K*A] or None.")
    if torch.isnan(init).any():
        raise ValueError("init holds NaN: pass an earlier plan, or None to start from the middle of the bounds.")


def finite_costs(costs: torch.Tensor) -> torch.Tensor:
    """Replace NaN and infinite costs by +inf, so that such candidates are never chosen."""
    return torch.where(torch.isfinite(costs), costs, torch.inf)


def check_solved(costs: torch.Tensor) -> None:
    """Raise ``ValueError`` when a best cost ``[B]`` is still infinite: no candidate was usable."""
    bad = torch.nonzero(~torch.isfinite(costs)).flatten().tolist()
    if bad:
        raise ValueError(
            f"every candidate's cost is NaN or infinite for environments {bad}: "
            "check the world model's latents (a collapsed or diverged model?) and the goal."
        )
