"""Model predictive path integral control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from wm_agents.configs import check_counts, check_flags, check_numbers
from wm_agents.planning.base import Search
from wm_agents.planning.cem import moments
from wm_agents.planning.noise import to_blocks, to_steps
from wm_agents.types import CostFn, OnIteration, Plan


@dataclass(frozen=True)
class MPPI:
    """Model predictive path integral control (MPPI; Williams et al., 2017): refit a Gaussian to weighted candidates.

    The weight of a candidate is ``exp(-(cost - least) / (temperature * scale))``. With ``normalise``, the scale of an
    environment is the mean cost of the weighted candidates above the least of them, so that a temperature means the
    same for costs of any size and at any stage of the search. Otherwise, the scale is 1.

    The defaults follow TD-MPC2 (arXiv 2310.16828): only the elites have a weight, and the standard deviation is also
    refitted, within bounds. Classical MPPI, as in the comparison of planners in latent action spaces (its equation 6),
    is::

        MPPI(horizon, samples=200, elites=None, temperature=1.0, normalise=False, adaptive_std=False, initial_std=0.8)

    ``smooth`` puts the noise on the differences between successive primitive actions and adds it up over time (smooth
    MPPI; Kim et al., 2022, arXiv 2112.09988, section III); ``smoothness`` is the weight of its penalty on differences.
    The differences' noise is divided by the square root of the number of steps, so that at the end of the plan the
    actions' deviate by about as much as without.

    Attributes:
        horizon: H, blocks per plan.
        samples: S, candidates per iteration.
        elites: Number of cheapest candidates that have a weight; None means all of them.
        iterations: Rounds of sampling.
        temperature: A high one averages over candidates, a low one picks the cheapest.
        normalise: Divide costs by their scale.
        initial_std: Standard deviation of the first round, in the units of the bounds.
        adaptive_std: Refit the standard deviation; otherwise it stays constant.
        min_std: Floor of the refitted standard deviation.
        max_std: Ceiling of the refitted standard deviation.
        smooth: Put the noise on the differences between actions instead of on the actions.
        smoothness: Weight of the squared differences of successive primitive actions, added to the costs for the
            weights. ``Plan.cost`` and the best candidate only use the cost itself.
        action_block: K, primitive actions per block, for the differences.
        returns: "mean" of the last Gaussian (scored once more), or the "best" candidate seen.
        tolerance: The search for an environment ends early if no entry of its mean moves by this much; 0 never.
    """

    horizon: int
    samples: int = 300
    elites: int | None = 64
    iterations: int = 10
    temperature: float = 0.5
    normalise: bool = True
    initial_std: float = 1.0
    adaptive_std: bool = True
    min_std: float = 0.02
    max_std: float = 2.0
    smooth: bool = False
    smoothness: float = 0.0
    action_block: int = 1
    returns: Literal["mean", "best"] = "mean"
    tolerance: float = 0.0

    num_elites: ClassVar[int] = 1

    def __post_init__(self) -> None:
        counts = ("horizon", "samples", "iterations", "action_block")
        check_counts(self, counts if self.elites is None else (*counts, "elites"))
        check_numbers(self, ("min_std", "smoothness", "tolerance"))
        check_numbers(self, ("temperature", "initial_std", "max_std"), above=True)
        check_flags(self, ("normalise", "adaptive_std", "smooth"))
        if self.elites is not None and self.elites > self.samples:
            raise ValueError(f"MPPI elites ({self.elites}) must not exceed samples ({self.samples}).")
        if self.min_std > self.max_std:
            raise ValueError(f"MPPI min_std ({self.min_std}) must not exceed max_std ({self.max_std}).")
        if self.returns not in ("mean", "best"):
            raise ValueError(f'MPPI returns must be "mean" or "best", not {self.returns!r}.')

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
            candidates = mean.unsqueeze(1) + self._from_noise(std.unsqueeze(1) * search.noise(self.samples))
            candidates[:, 0] = mean
            candidates = search.enter(candidates)
            costs = search.score(candidates)
            if self.smoothness:
                differences = to_steps(candidates, self.action_block).diff(dim=-2)
                costs = costs + self.smoothness * differences.square().sum((-1, -2))
            costs, order = costs.topk(self.elites or costs.shape[1], dim=1, largest=False)
            chosen = candidates.gather(1, order[:, :, None, None].expand(-1, -1, *mean.shape[1:]))
            deviations = self._to_noise(chosen - mean.unsqueeze(1))
            move, new_std = moments(deviations, self._weights(costs), torch.zeros_like(mean), std)
            new_mean = search.clamp(mean + self._from_noise(move))
            converged = (new_mean - mean).abs().amax((1, 2)) < self.tolerance
            mean = search.keep(new_mean, mean)
            if self.adaptive_std:
                std = search.keep(new_std.clamp(self.min_std, self.max_std), std)
            if self.tolerance and search.settle(converged):
                break
        return search.finish(mean if self.returns == "mean" else None)

    def _weights(self, costs: torch.Tensor) -> torch.Tensor:
        """Weights ``[B, S]`` that sum to 1; unusable candidates weigh 0."""
        usable = torch.isfinite(costs)
        gap = torch.where(usable, costs - costs.amin(dim=1, keepdim=True), 0.0)
        if self.normalise:
            scale = gap.sum(dim=1, keepdim=True) / usable.sum(dim=1, keepdim=True).clamp(min=1)
            gap = gap / scale.clamp(min=torch.finfo(gap.dtype).tiny)
        logits = torch.where(usable, -gap / self.temperature, -torch.inf)
        return torch.where(usable, torch.softmax(logits, dim=1), 0.0)

    def _from_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """Deviations of actions ``[..., H, K*A]`` from independent noise of the same shape."""
        if not self.smooth:
            return noise
        steps = to_steps(noise, self.action_block)
        return to_blocks((steps * _step_sizes(steps)).cumsum(dim=-2), self.action_block)

    def _to_noise(self, deviations: torch.Tensor) -> torch.Tensor:
        """Undo :meth:`_from_noise`."""
        if not self.smooth:
            return deviations
        steps = to_steps(deviations, self.action_block)
        differences = torch.cat([steps[..., :1, :], steps.diff(dim=-2)], dim=-2)
        return to_blocks(differences / _step_sizes(steps), self.action_block)


def _step_sizes(steps: torch.Tensor) -> torch.Tensor:
    """``[T, 1]``: 1 for the first of T steps, which starts anywhere, and ``T ** -0.5`` for each that follows it."""
    sizes = steps.new_full((steps.shape[-2], 1), steps.shape[-2] ** -0.5)
    sizes[0] = 1.0
    return sizes
