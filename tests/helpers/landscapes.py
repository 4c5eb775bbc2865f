"""Costs with known minima, and the planners that search them."""

from __future__ import annotations

from typing import Any

import torch

from wm_agents.planning import PLANNERS
from wm_agents.types import CostFn

# Diffusion planners have tests of their own.
NAMES = [name for name in PLANNERS if not name.startswith("diffusion")]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box(size: int, bound: float = 2.0) -> dict[str, torch.Tensor]:
    return {"low": torch.full((size,), -bound), "high": torch.full((size,), bound)}


def bowl(centre: torch.Tensor, weights: torch.Tensor | float = 1.0) -> CostFn:
    """Weighted squared distance of the whole sequence to ``centre [B, H, K*A]``."""
    return lambda actions: (weights * (actions - centre[:, None]).square()).sum((-1, -2))


def two_wells(gap: float, place: float = 1.2) -> CostFn:
    """Two bowls on either side of the origin; the one at ``-place`` is ``gap`` worse."""

    def cost(actions: torch.Tensor) -> torch.Tensor:
        good, bad = (actions - place).square().sum((-1, -2)), (actions + place).square().sum((-1, -2))
        return torch.minimum(good, bad + gap)

    return cost


def budget(name: str, samples: int, rounds: int, elites: int = 1) -> dict[str, Any]:
    """Options that give a planner about this many sequences a round, and rounds."""
    if name in ("cem", "icem", "mppi"):
        return {"samples": samples, "elites": min(elites, samples), "iterations": rounds}
    if name in ("random-shooting", "predictive-sampling"):
        return {"samples": samples, "iterations": rounds}
    return {{"gradient": "restarts", "sgld": "chains"}[name]: samples, "steps": rounds}
