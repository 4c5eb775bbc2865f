"""The cross-entropy method."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from wm_agents.planning.base import check_bounds, check_init, check_solved, finite_costs
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
        if not (0 < self.initial_std < math.inf and 0 <= self.min_std < math.inf):
            raise ValueError(
                f"CEM initial_std ({self.initial_std}) must be positive and min_std ({self.min_std}) at least 0, "
                "both finite."
            )

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
        if init is not None:
            check_init(init, shape)
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
            scores, order = costs.topk(self.elites, dim=1, largest=False)
            elites = candidates.gather(1, order[:, :, None, None].expand(-1, -1, *shape[1:]))
            # Elites without a finite cost do not count; where no elite has one, the Gaussian stays as it is.
            usable = torch.isfinite(scores)[:, :, None, None].to(elites)
            weights = usable / usable.sum(dim=1, keepdim=True).clamp(min=1)
            found = usable.amax(dim=1) > 0
            # The clamp: rounding can carry the mean of values on the bound past it.
            mean = torch.where(found, (weights * elites).sum(dim=1).clamp(low, high), mean)
            spread = (weights * (elites - mean.unsqueeze(1)).square()).sum(dim=1).sqrt()
            std = torch.where(found, spread, std).clamp(min=self.min_std)
        check_solved(best)
        final = finite_costs(cost(mean.unsqueeze(1))).squeeze(1)
        return Plan(mean, final, evaluations=self.samples * self.iterations + 1)
