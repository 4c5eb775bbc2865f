"""The cross-entropy method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from wm_agents.configs import check_counts, check_numbers
from wm_agents.planning.base import Search, check_share
from wm_agents.types import CostFn, OnIteration, Plan


@dataclass(frozen=True)
class CEM:
    """Cross-entropy method: sample from a Gaussian, keep the elites, refit, repeat (de Boer et al., 2005).

    Defaults are those of the LeWorldModel experiments (arXiv 2603.19312): 300 samples, 30 elites, initial standard
    deviation 1 in z-scored actions, plain refit without momentum, candidate 0 is the mean, and the final mean is
    returned. Their released code always runs 30 iterations; their paper runs 10 except on Push-T, as here.

    Candidates are clipped into the bounds, so no plan ever leaves them. Proposals take the places of the first
    samples of the first iteration.

    Attributes:
        horizon: H, blocks per plan.
        samples: S, candidates per iteration.
        elites: Candidates that the Gaussian is refitted to.
        iterations: Rounds of sampling.
        initial_std: Standard deviation of the first round, in the units of the bounds.
        min_std: Floor of the refitted standard deviation; 0 means no floor.
        momentum: Share of the old mean and standard deviation that a refit keeps, in [0, 1).
        returns: "mean" of the last Gaussian (scored once more), or the "best" candidate seen.
        tolerance: The search for an environment ends early if its largest standard deviation is below this; 0 never.
    """

    horizon: int
    samples: int = 300
    elites: int = 30
    iterations: int = 10
    initial_std: float = 1.0
    min_std: float = 0.0
    momentum: float = 0.0
    returns: Literal["mean", "best"] = "mean"
    tolerance: float = 0.0

    num_elites: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_counts(self, ("horizon", "samples", "elites", "iterations"))
        check_numbers(self, ("min_std", "tolerance"))
        check_numbers(self, ("initial_std",), above=True)
        check_share(self, "momentum")
        if self.elites > self.samples:
            raise ValueError(f"CEM elites ({self.elites}) must not exceed samples ({self.samples}).")
        if self.returns not in ("mean", "best"):
            raise ValueError(f'CEM returns must be "mean" or "best", not {self.returns!r}.')

    def plan(
        self,
        cost: CostFn,
        *,
        low: torch.Tensor,
        high: torch.Tensor,
        batch: int = 1,
        init: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        on_iteration: OnIteration | None = None,
    ) -> Plan:
        """See :meth:`wm_agents.planning.base.Planner.plan`."""
        search = Search(self.horizon, cost, low, high, batch, init, generator, on_iteration)
        mean = search.proposals[:, 0]
        std = torch.full_like(mean, self.initial_std)
        for _ in range(self.iterations):
            candidates = mean.unsqueeze(1) + std.unsqueeze(1) * search.noise(self.samples)
            candidates[:, 0] = mean
            candidates = search.enter(candidates)
            new_mean, new_std = refit(candidates, search.score(candidates), self.elites, mean, std)
            mean = search.keep(search.clamp(self.momentum * mean + (1 - self.momentum) * new_mean), mean)
            blended = (self.momentum * std + (1 - self.momentum) * new_std).clamp(min=self.min_std)
            std = search.keep(blended, std)
            if self.tolerance and search.settle(std.amax((1, 2)) < self.tolerance):
                break
        return search.finish(mean if self.returns == "mean" else None)


def refit(
    candidates: torch.Tensor, costs: torch.Tensor, elites: int, mean: torch.Tensor, std: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation ``[B, H, K*A]`` of the cheapest ``elites`` of ``candidates [B, S, H, K*A]``.

    Elites without a finite cost do not count; where no elite has one, ``mean`` and ``std`` stay as they are.
    """
    scores, order = costs.topk(elites, dim=1, largest=False)
    chosen = candidates.gather(1, order[:, :, None, None].expand(-1, -1, *candidates.shape[2:]))
    usable = torch.isfinite(scores).to(chosen)
    return moments(chosen, usable / usable.sum(dim=1, keepdim=True).clamp(min=1), mean, std)


def moments(
    candidates: torch.Tensor, weights: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted mean and standard deviation ``[B, H, K*A]`` of ``candidates [B, S, H, K*A]``.

    ``weights [B, S]`` sum to 1; where they are all 0, ``mean`` and ``std`` stay as they are.
    """
    weights = weights[:, :, None, None]
    found = weights.amax(dim=1) > 0
    new_mean = torch.where(found, (weights * candidates).sum(dim=1), mean)
    spread = (weights * (candidates - new_mean.unsqueeze(1)).square()).sum(dim=1).sqrt()
    return new_mean, torch.where(found, spread, std)
