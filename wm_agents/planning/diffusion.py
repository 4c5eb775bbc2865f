"""Diffusion planners: they turn noise into plans, guided by the cost alone or by a learned prior of plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from wm_agents.configs import check_counts, check_numbers
from wm_agents.planning.base import Search
from wm_agents.planning.ddim import Denoise, ddim
from wm_agents.types import CostFn, OnIteration, Plan


@dataclass(frozen=True)
class Diffusion:
    """Model-based diffusion, or sampling from a learned prior of plans.

    **Without a prior** (``denoise`` is None), model-based diffusion (Pan et al. 2024, arXiv 2407.01573): the reverse
    process of a diffusion whose clean distribution is ``exp(-cost / temperature)``. The score at a noise level follows
    from the mean of clean sequences around the present one, weighted by that distribution and estimated by samples of
    standard deviation ``sqrt(1 / alpha_bar - 1)``; one step of score ascent then lands on that mean. The deviation
    falls geometrically from ``initial_std`` to ``final_std``, and costs are standardised over each environment's
    samples. Their settings are 2048 samples, 100 steps and temperatures from 0.1 to 0.4. The defaults here score 3001
    sequences, as CEM does. This is enough for a round bowl in 10 dimensions (within 0.01 of its minimum in every
    coordinate). On a bowl with curvatures 100 apart, whose flat directions freeze early, plans end up to 0.08 above the
    minimum; 128 samples in 50 steps bring this below 0.01. Proposals take the places of the first samples of the first
    step. Every step also scores its mean, and so does the end.

    **With a prior**, deterministic DDIM (arXiv 2010.02502) from scaled normal noise, optionally pulled by the cost's
    gradient at each clean estimate (in the manner of Diffuser, arXiv 2205.09991), and the best of the samples and
    proposals by the cost. The world model is then evaluated once for each sample, and with ``guidance`` once more for
    each sample and step.

    Attributes:
        horizon: H, blocks per plan.
        samples: S, sequences per step.
        steps: Steps of the reverse process.
        elites: Sequences from which the next plan starts, cheapest first.
        initial_std: First standard deviation without a prior, in the units of the bounds.
        final_std: Last standard deviation without a prior.
        temperature: Temperature of the weights without a prior, in standard deviations of the cost.
        denoise: The prior, set for each call with its start and goal, as ``Denoiser.conditioned`` makes it.
        guidance: Strength with which the cost's gradient pulls a clean estimate at noise level 1: a root mean square
            over the sequence, in the units of the bounds. It shrinks with the level. 0 means no pull.
        spread: Standard deviation of the noise that a prior starts from: less than 1 gives likelier, less varied
            sequences.
    """

    horizon: int
    samples: int = 150
    steps: int = 20
    elites: int = 1
    initial_std: float = 1.0
    final_std: float = 0.01
    temperature: float = 0.2
    denoise: Denoise | None = None
    guidance: float = 0.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        check_counts(self, ("horizon", "samples", "steps", "elites"))
        check_numbers(self, ("guidance", "spread"))
        check_numbers(self, ("initial_std", "final_std", "temperature"), above=True)
        if self.elites > self.samples:
            raise ValueError(f"Diffusion elites ({self.elites}) must not exceed samples ({self.samples}).")
        if self.final_std > self.initial_std:
            raise ValueError(
                f"Diffusion final_std ({self.final_std}) must not exceed initial_std ({self.initial_std})."
            )

    @property
    def num_elites(self) -> int:
        """Sequences that ``Plan.elites`` hands to the next search."""
        return self.elites

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
        if self.denoise is None:
            candidates, costs = self._anneal(search)
        else:
            candidates, costs = self._sample(search, self.denoise, None if init is None else search.proposals)
        order = costs.topk(self.elites, dim=1, largest=False).indices[:, :, None, None]
        chosen = candidates.gather(1, order.expand(-1, -1, *search.shape[1:]))
        return search.finish(elites=chosen[:, 1:])

    def _anneal(self, search: Search) -> tuple[torch.Tensor, torch.Tensor]:
        """Model-based diffusion; return the last samples and their mean, and the costs."""
        mean = search.proposals[:, 0]
        for step in range(self.steps):
            std = self.initial_std * (self.final_std / self.initial_std) ** (step / max(1, self.steps - 1))
            samples = max(self.samples, search.proposals.shape[1]) if step == 0 else self.samples
            candidates = search.enter(mean.unsqueeze(1) + std * search.noise(samples))
            candidates[:, 0] = mean
            costs = search.score(candidates)
            weights = boltzmann(costs, self.temperature)
            found = torch.isfinite(costs).any(dim=1)[:, None, None]
            mean = torch.where(found, search.clamp((weights[:, :, None, None] * candidates).sum(dim=1)), mean)
        ends = mean.unsqueeze(1)
        return torch.cat([ends, candidates], dim=1), torch.cat([search.score(ends), costs], dim=1)

    def _sample(
        self, search: Search, denoise: Denoise, proposals: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """DDIM from the prior; return proposals and samples, and their costs."""

        def pull(clean: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            clean = search.clamp(clean)
            slopes = search.gradient(clean)
            size = slopes.square().mean((2, 3), keepdim=True).sqrt().clamp(min=1e-12)
            return search.clamp(clean - self.guidance * level * slopes / size)

        noise = (self.spread * search.noise(self.samples)).expand(search.shape[0], -1, -1, -1)
        candidates = search.clamp(ddim(denoise, noise, self.steps, pull if self.guidance else None))
        if proposals is not None:
            candidates = torch.cat([proposals, candidates], dim=1)
        return candidates, search.score(candidates)


@dataclass(frozen=True)
class DiffusionGuidance:
    """The untrained diffusion planner of "Planning in Latent Action Spaces" (2026, equations 9 and 10), for comparison.

    From standard normal noise around the first proposal, every step mixes each sequence with a pull towards the goal::

        a <- alpha a + (1 - alpha) g + sigma noise,    g_t = -guidance (t / H) gradient_t / H

    with alpha = (k + 1) / steps and sigma = 0.3 (1 - alpha) at step k. This does not denoise anything: as alpha grows,
    sequences forget their noise and shrink towards small actions along the pull, and the last step changes nothing.

    In the paper, ``B^T (s_T - s*)`` takes the place of the gradient for all t, where B is the input matrix of its
    synthetic world. This is the gradient of ``|s_T - s*|^2 / 2`` with respect to the last action, without the slope of
    the tanh. Here, it is the exact gradient of the cost with respect to each block. This is the same for the last
    block of a linear world under that cost, and is defined for any cost. The scale of the cost sets the strength of the
    pull.

    The cheapest of the final samples is the plan; steps and end are counted, 50 * 20 + 50 = 1050 evaluations.

    Attributes:
        horizon: H, blocks per plan.
        samples: S, sequences refined side by side.
        steps: Steps of refinement.
        guidance: gamma of equation 10.
        residual: Standard deviation of the added noise where alpha is 0.
    """

    horizon: int
    samples: int = 50
    steps: int = 20
    guidance: float = 2.0
    residual: float = 0.3

    num_elites: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_counts(self, ("horizon", "samples", "steps"))
        check_numbers(self, ("guidance", "residual"))

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
        rows = self.samples if init is None else max(self.samples, init.shape[1])
        start = search.proposals[:, :1] + search.noise(rows)
        actions = search.clamp(start) if init is None else search.enter(start)
        time = torch.arange(1, self.horizon + 1).to(low)[:, None] / self.horizon
        for step in range(self.steps):
            alpha = (step + 1) / self.steps
            pull = -self.guidance * time * search.gradient(actions) / self.horizon
            noise = self.residual * (1 - alpha) * search.noise(rows)
            actions = search.clamp(alpha * actions + (1 - alpha) * pull + noise)
        search.best_cost = torch.full_like(search.best_cost, torch.inf)  # the paper chooses among the final samples
        search.score(actions)
        return search.finish()


def boltzmann(costs: torch.Tensor, temperature: float) -> torch.Tensor:
    """Weights ``[B, S]`` that fall exponentially with standardised costs; 0 where a cost is not finite.

    Costs are standardised over each environment's finite ones, so that their scale and offset do not matter; where all
    are equal, all weigh the same.
    """
    usable = torch.isfinite(costs)
    count = usable.sum(dim=1, keepdim=True).clamp(min=1)
    lowest = torch.where(usable, costs, torch.inf).amin(dim=1, keepdim=True)
    above = torch.where(usable, costs - lowest, 0.0)
    mean = above.sum(dim=1, keepdim=True) / count
    deviation = (torch.where(usable, above - mean, 0.0).square().sum(dim=1, keepdim=True) / count).sqrt()
    weights = torch.where(usable, torch.exp(-above / (temperature * deviation).clamp(min=1e-12)), 0.0)
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
