"""Planners that sample without fitting a distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from wm_agents.configs import check_counts, check_numbers
from wm_agents.planning.base import Search
from wm_agents.types import CostFn, OnIteration, Plan


@dataclass(frozen=True)
class RandomShooting:
    """Random shooting (as in Nagabandi et al., 2018, arXiv 1708.02596): uniform sequences, the cheapest is the plan.

    The baseline that every other planner has to beat: its search is not guided by what it has seen.

    Attributes:
        horizon: H, blocks per plan.
        samples: Candidates per round.
        iterations: Rounds; more rounds mean more candidates with the same memory.
    """

    horizon: int
    samples: int = 300
    iterations: int = 10

    num_elites: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_counts(self, ("horizon", "samples", "iterations"))

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
        for _ in range(self.iterations):
            search.score(search.enter(search.uniform(self.samples).expand(batch, -1, -1, -1)))
        return search.finish()


@dataclass(frozen=True)
class PredictiveSampling:
    """Predictive sampling (Howell et al., 2022, arXiv 2212.00541): Gaussian samples around the best plan so far.

    The paper has only one round per control step, with 10 samples and a fixed standard deviation, because the plan
    improves while it is executed. Here, a plan has to be good at once, so there are several rounds, and the standard
    deviation falls geometrically from round to round. (With a fixed one, plans stop improving at a distance of about
    its size.) ``iterations=1`` with few ``samples`` is the paper's planner.

    Attributes:
        horizon: H, blocks per plan.
        samples: Candidates per round.
        iterations: Rounds around the best sequence so far.
        initial_std: Standard deviation of the first round, in the units of the bounds.
        final_std: Standard deviation of the last round.
    """

    horizon: int
    samples: int = 50
    iterations: int = 100
    initial_std: float = 0.5
    final_std: float = 0.02

    num_elites: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_counts(self, ("horizon", "samples", "iterations"))
        check_numbers(self, ("initial_std", "final_std"), above=True)

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
        fall = self.final_std / self.initial_std
        for iteration in range(self.iterations):
            std = self.initial_std * fall ** (iteration / max(self.iterations - 1, 1))
            search.score(search.enter(search.best.unsqueeze(1) + std * search.noise(self.samples)))
        return search.finish()
