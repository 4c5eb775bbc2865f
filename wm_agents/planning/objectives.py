"""What planners minimise: ``(predicted [B, S, H, *shape], goal [B, *shape], actions [B, S, H, d]) -> cost [B, S]``.

``predicted[:, :, h]`` is the latent after action ``h``, of whatever shape latents have; actions are those of the action
space that the planner searches, for example normalised blocks. Lower is better.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping

import torch

from wm_agents.registry import OBJECTIVES, did_you_mean

Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
ObjectiveSpec = str | Objective | Mapping[str | Objective, float]


def make_objective(spec: ObjectiveSpec, learned: Mapping[str, Callable[[], Objective]] | None = None) -> Objective:
    """Build an objective.

    Args:
        spec: A name of :data:`OBJECTIVES` or of ``learned``; your own function with the same signature (a constraint
            returns by how much it is violated, and 0 where it holds); or a weighted sum, ``{"summed": 1.0,
            "smoothness": 0.1, my_constraint: 100.0}``.
        learned: Functions that make the objectives that need a network, by name.

    Raises:
        ValueError: An unknown name, or a weight that is not finite.
    """
    if isinstance(spec, Mapping):
        if not spec:
            raise ValueError('an objective needs at least one term, for example {"summed": 1.0}.')
        for term, weight in spec.items():
            if isinstance(weight, bool) or not isinstance(weight, numbers.Real) or not math.isfinite(weight):
                raise ValueError(f"the weight of the objective {term!r} must be a finite number, not {weight!r}.")
        terms = [(make_objective(term, learned), float(weight)) for term, weight in spec.items()]

        def weighted_sum(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
            return torch.stack([weight * term(predicted, goal, actions) for term, weight in terms]).sum(0)

        return weighted_sum
    if callable(spec):
        return spec
    if learned and spec in learned:
        return learned[spec]()
    if spec not in OBJECTIVES:
        raise ValueError(did_you_mean("objective", str(spec), [*OBJECTIVES, *(learned or ())]))
    return OBJECTIVES.get(spec)


def squared_distance(predicted: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Squared L2 distance of every imagined latent to the goal, ``[B, S, H]``."""
    return (predicted - goal[:, None, None]).square().flatten(3).sum(-1)


def terminal(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Squared distance of the last latent to the goal (LeWorldModel, arXiv 2603.19312).

    If plans are replaced after every block, the end of the plan moves away, and the agent may never arrive.
    """
    return squared_distance(predicted[:, :, -1:], goal).squeeze(-1)


def summed(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Squared distance to the goal, averaged over the horizon: arrive early, and stay (PLDM, arXiv 2502.14819)."""
    return squared_distance(predicted, goal).mean(-1)


def discounted(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Squared distances weighted by 0.9 per block, so that near blocks count most; weights sum to 1."""
    return _weigh(squared_distance(predicted, goal), 0.9)


def doubling(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Squared distances weighted by 2 per block, so that the end counts most (Temporal Straightening, 2603.12231)."""
    return _weigh(squared_distance(predicted, goal), 2.0)


def cosine(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """One minus the cosine between latent and goal, averaged over the horizon; ignores the latents' lengths."""
    return (1 - torch.cosine_similarity(predicted.flatten(3), goal.flatten(1)[:, None, None], dim=-1)).mean(-1)


def control(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Mean squared action: a penalty on effort, for weighted sums."""
    return actions.square().mean((-1, -2))


def smoothness(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """Mean squared change from block to block: a penalty on jerky plans, for weighted sums; 0 for a single block."""
    if actions.shape[2] < 2:
        return torch.zeros_like(actions[:, :, 0, 0])
    return actions.diff(dim=2).square().mean((-1, -2))


def learned_distance(distance: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Objective:
    """Average a distance between features, ``(z [B, S, H, F], goal [B, 1, 1, F]) -> [B, S, H]``, over the horizon."""

    def objective(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return distance(predicted.flatten(3), goal.flatten(1)[:, None, None]).mean(-1)

    return objective


def _weigh(distances: torch.Tensor, factor: float) -> torch.Tensor:
    """Weighted mean of ``[B, S, H]`` over the horizon, weights ``factor ** h``."""
    weights = factor ** torch.arange(distances.shape[-1], device=distances.device, dtype=distances.dtype)
    return (distances * (weights / weights.sum())).sum(-1)
