"""Planning by gradient descent through the world model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from wm_agents.configs import check_counts, check_flags, check_numbers
from wm_agents.planning.base import Search
from wm_agents.types import CostFn, OnIteration, Plan


@dataclass(frozen=True)
class Gradient:
    """Gradient descent on the actions, from several starts at once, projected into the bounds after each step.

    The defaults are those of Temporal Straightening (arXiv 2603.12231, appendix): Adam with step size 0.1 that falls
    to 0 along a cosine over 100 steps, from an empty plan. Three random restarts are added, because descent ends in the
    nearest valley. In the LeWorldModel paper (arXiv 2603.19312, table 10), Adam solves 84 of 100 tasks on Push-T,
    CEM 96 and plain descent 26.

    Gradients are exact, by automatic differentiation of the cost; a restart whose gradient is NaN or infinite stands
    still for that step. The cheapest sequence over all restarts and steps is the plan.

    The descent of the comparison of planners in latent action spaces (its equation 7) is ``Gradient(horizon,
    optimizer="sgd", step_size=0.05, cosine=False, restarts=1)``; it uses finite differences instead of gradients.

    Attributes:
        horizon: H, blocks per plan.
        steps: Steps of descent.
        step_size: Size of the first step. For Adam, it is in the units of the bounds; for "sgd", a factor of the
            gradient.
        optimizer: "adam" (beta 0.9 and 0.999) or "sgd", plain descent.
        cosine: Let the step size fall to 0 along a cosine; otherwise it stays constant.
        restarts: Sequences descended at once, at least one for each proposal. Those beyond the proposals start around
            the first.
        spread: Standard deviation of the random starts, in the units of the bounds.
        tolerance: The search for an environment ends early if no entry of its sequences moves by this much, with or
            without momentum; 0 never.
    """

    horizon: int
    steps: int = 100
    step_size: float = 0.1
    optimizer: Literal["adam", "sgd"] = "adam"
    cosine: bool = True
    restarts: int = 4
    spread: float = 1.0
    tolerance: float = 0.0

    num_elites: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_counts(self, ("horizon", "steps", "restarts"))
        check_numbers(self, ("spread", "tolerance"))
        check_numbers(self, ("step_size",), above=True)
        check_flags(self, ("cosine",))
        if self.optimizer not in ("adam", "sgd"):
            raise ValueError(f'Gradient optimizer must be "adam" or "sgd", not {self.optimizer!r}.')

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
        actions = starts(search, self.restarts, self.spread)
        first, second = torch.zeros_like(actions), torch.zeros_like(actions)
        for step in range(self.steps):
            slope = direction = search.gradient(actions)
            if self.optimizer == "adam":
                first, second = first.lerp(slope, 0.1), second.lerp(slope.square(), 0.001)
                unit = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                slope, direction = slope / unit, first / (1 - 0.9 ** (step + 1)) / unit
            size = self.step_size * (falling(step, self.steps) if self.cosine else 1.0)
            moved = search.clamp(actions - size * direction)
            # Where momentum turns it stands still for a moment, though the slope still pulls.
            pulled = search.clamp(actions - size * slope)
            way = torch.maximum((moved - actions).abs(), (pulled - actions).abs())
            converged = way.amax((1, 2, 3)) < self.tolerance
            actions = search.keep(moved, actions)
            if self.tolerance and search.settle(converged):
                break
        else:
            search.score(actions)
        return search.finish()


def starts(search: Search, rows: int, spread: float) -> torch.Tensor:
    """Sequences ``[B, S, H, K*A]`` to descend from: every proposal, then up to S random ones around the first."""
    first = search.proposals[:, :1]
    return search.enter(first + spread * search.noise(max(rows, search.proposals.shape[1])))


def falling(step: int, steps: int) -> float:
    """Share of the first step size that is left: from 1 along a cosine, to 0 after the last step."""
    return (1 + math.cos(math.pi * step / steps)) / 2
