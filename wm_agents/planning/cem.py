"""The cross-entropy method."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wm_agents.planning.base import check_bounds, check_solved, finite_costs
from wm_agents.types import CostFn, Plan


@dataclass(frozen=True)
class CEM:
    """Cross-entropy method: sample from a Gaussian, keep the elites, refit, repeat (de Boer et al., 2005).

    Defaults are those of the LeWorldModel experiments (arXiv 2603.19312): 300 samples, 30 elites, initial standard
    deviation 1 in z-scored actions, plain refit without momentum, candidate 0 is the mean, and the final mean is
    returned. Their released code runs 30 iterations everywhere; their paper 10 except on Push-T, as here.

    Two things differ. Candidates are clipped into the bounds, so no plan ever leaves them. And one set of noise
    serves all environments of the batch, so each gets the plan that it would get alone.

    Attributes:
        horizon: H, blocks per plan.
        samples: S, candidates per iteration.
        elites: Candidates that the Gaussian is refitted to.
        iterations: Rounds of sampling.
        initial_std: Standard deviation of the first round, in the units of the bounds.
        min_std: Floor of the refitted standard deviation; 0 is none.
    """

    horizon: int
    samples: int = 300
    elites: int = 30
    iterations: int = 10
    initial_std: float = 1.0
    min_std: float = 0.0

    def __post_init__(self) -> None:
        for name in ("horizon", "samples", "elites", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"CEM {name} must be at least 1, not {getattr(self, name)}.")
        if self.elites > self.samples:
            raise ValueError(f"CEM elites ({self.elites}) must not exceed samples ({self.samples}).")
        if self.initial_std <= 0 or self.min_std < 0:
            raise ValueError("CEM initial_std must be positive and min_std at least 0.")

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
        """See :meth:`wm_agents.planning.base.Planner.plan`. Costs ``[B]`` are of the returned mean."""
        check_bounds(low, high)
        shape = (batch, self.horizon, low.numel())
        mean = ((low + high) / 2).expand(shape) if init is None else init
        mean = mean.clamp(low, high)
        std = torch.full_like(mean, self.initial_std)
        best = torch.full((batch,), torch.inf, device=low.device)
        for _ in range(self.iterations):
            noise = torch.randn(self.samples, *shape[1:], generator=generator, device=low.device)
            noise[0] = 0.0
            candidates = (mean.unsqueeze(1) + std.unsqueeze(1) * noise).clamp(low, high)
            costs = finite_costs(cost(candidates))
            best = torch.minimum(best, costs.amin(dim=1))
            _, order = costs.topk(self.elites, dim=1, largest=False)
            elites = candidates.gather(1, order[:, :, None, None].expand(-1, -1, *shape[1:]))
            mean = elites.mean(dim=1)
            std = elites.std(dim=1, correction=0).clamp(min=self.min_std)
        check_solved(best)
        return Plan(mean, cost(mean.unsqueeze(1)).squeeze(1), evaluations=self.samples * self.iterations + 1)
