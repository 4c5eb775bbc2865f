"""The improved cross-entropy method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from wm_agents.configs import check_counts, check_numbers
from wm_agents.planning.base import Search, check_share
from wm_agents.planning.cem import refit
from wm_agents.planning.noise import coloured, to_blocks, to_steps
from wm_agents.types import CostFn, OnIteration, Plan


@dataclass(frozen=True)
class ICEM:
    """Improved cross-entropy method (iCEM; Pinneri et al., 2020, arXiv 2008.06389, algorithm 1).

    It differs from CEM as follows. Noise is correlated in time, so that candidates move instead of trembling on the
    spot. Elites stay in the pool from iteration to iteration and, shifted, from plan to plan. The population shrinks.
    The mean is among the candidates of the last iteration, and the best candidate seen is the result. Kept elites keep
    their costs and are not evaluated twice within a plan.

    ``keep`` and ``momentum`` are the paper's. The paper replans at every step, with 3 iterations, 10 elites and a decay
    of 1.25. Here, a plan has to be good at once, so the defaults keep more elites for longer. The paper tunes the
    colour to the task, from 0.25 to 4. A higher colour gives smoother plans, and makes plans that are not smooth harder
    to find.

    Attributes:
        horizon: H, blocks per plan.
        samples: Candidates of the first iteration.
        elites: Candidates that the Gaussian is refitted to.
        iterations: Rounds of sampling.
        initial_std: Standard deviation of the first round, in the units of the bounds.
        colour: Exponent of the noise's power spectrum over time: 0 white, 1 pink, 2 red.
        action_block: K, primitive actions per block: the noise runs over the H*K primitive steps. Left at 1 it runs
            over blocks, and each of a block's entries has its own stream.
        keep: Share of the elites that stays, within a plan and in ``Plan.elites``, in [0, 1).
        momentum: Share of the old mean and standard deviation that a refit keeps, in [0, 1).
        decay: The population shrinks by this factor with each iteration, but not below twice the elites; 1 is constant.
        tolerance: The search for an environment ends early if its largest standard deviation is below this; 0 never.
    """

    horizon: int
    samples: int = 300
    elites: int = 45
    iterations: int = 20
    initial_std: float = 1.0
    colour: float = 0.5
    action_block: int = 1
    keep: float = 0.3
    momentum: float = 0.1
    decay: float = 1.1
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        check_counts(self, ("horizon", "samples", "elites", "iterations", "action_block"))
        check_numbers(self, ("decay",), 1)
        check_numbers(self, ("colour", "tolerance"))
        check_numbers(self, ("initial_std",), above=True)
        for name in ("keep", "momentum"):
            check_share(self, name)
        if self.elites > self.samples:
            raise ValueError(f"ICEM elites ({self.elites}) must not exceed samples ({self.samples}).")

    @property
    def kept(self) -> int:
        """Elites that stay in the pool of the next iteration."""
        return int(self.keep * self.elites)

    @property
    def num_elites(self) -> int:
        """The best sequence and the elites kept after it."""
        return 1 + self.kept

    def population(self, iteration: int) -> int:
        """Candidates drawn in an iteration, counted from 0."""
        return min(self.samples, max(int(self.samples * self.decay**-iteration), 2 * self.elites))

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
        elites = mean.unsqueeze(1).repeat(1, self.num_elites, 1, 1)
        elite_costs = mean.new_full((batch, self.num_elites), torch.inf)
        for iteration in range(self.iterations):
            candidates = mean.unsqueeze(1) + std.unsqueeze(1) * self._noise(search, self.population(iteration))
            if iteration == self.iterations - 1:
                candidates[:, 0] = mean
            candidates = search.enter(candidates)
            pool = torch.cat([elites[:, : self.kept], candidates], dim=1)
            costs = torch.cat([elite_costs[:, : self.kept], search.score(candidates)], dim=1)
            new_mean, new_std = refit(pool, costs, self.elites, mean, std)
            ranked, order = costs.topk(self.num_elites, dim=1, largest=False)
            ranking = order[:, :, None, None].expand(-1, -1, *mean.shape[1:])
            elites, elite_costs = search.keep(pool.gather(1, ranking), elites), search.keep(ranked, elite_costs)
            mean = search.keep(search.clamp(self.momentum * mean + (1 - self.momentum) * new_mean), mean)
            std = search.keep(self.momentum * std + (1 - self.momentum) * new_std, std)
            if self.tolerance and search.settle(std.amax((1, 2)) < self.tolerance):
                break
        return search.finish(elites=elites[:, 1:])

    def _noise(self, search: Search, samples: int) -> torch.Tensor:
        """Noise ``[S, H, K*A]``, correlated over primitive steps."""
        _, steps, size = to_steps(search.best, self.action_block).shape
        place: dict[str, Any] = {"device": search.low.device, "dtype": search.low.dtype}
        noise = coloured(samples, steps, size, exponent=self.colour, generator=search.generator, **place)
        return to_blocks(noise, self.action_block)
