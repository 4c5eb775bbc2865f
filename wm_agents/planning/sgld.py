"""Stochastic gradient Langevin dynamics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from wm_agents.configs import check_counts, check_flags, check_numbers
from wm_agents.planning.base import Search
from wm_agents.planning.gradient import falling, starts
from wm_agents.types import CostFn, OnIteration, Plan


@dataclass(frozen=True)
class SGLD:
    """Stochastic gradient Langevin dynamics (Welling and Teh, 2011): gradient descent with noise, best of the chains.

    A step is ``a - step_size * gradient + noise * N(0, 1)``, projected into the bounds. With ``preconditioned`` each
    entry's gradient is divided by the root of its running mean square, as in pSGLD (Li et al., 2016, arXiv 1512.07666,
    with its decay 0.99), so that ``step_size`` is a length in the units of the bounds, for costs of any size. The
    noise does not change, because the chain searches and does not need to sample exactly. With ``cosine``, both fall:
    the step size to 0, and the noise with its square root, as in equation 8 of the comparison of planners in latent
    action spaces.

    That comparison's constants are ``SGLD(horizon, step_size=0.01, noise=0.005, preconditioned=False, cosine=False,
    chains=1)``: they suit costs whose curvature is about 1.

    Attributes:
        horizon: H, blocks per plan.
        steps: Steps of each chain.
        step_size: Size of the first step.
        noise: Standard deviation of the first step's noise, in the units of the bounds.
        preconditioned: Divide gradients by their running size.
        cosine: Let step size and noise fall; otherwise they stay constant.
        chains: Chains run at once, at least one for each proposal. Those beyond the proposals start around the first.
        spread: Standard deviation of the random starts, in the units of the bounds.
    """

    horizon: int
    steps: int = 200
    step_size: float = 0.1
    noise: float = 0.02
    preconditioned: bool = True
    cosine: bool = True
    chains: int = 4
    spread: float = 1.0

    num_elites: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_counts(self, ("horizon", "steps", "chains"))
        check_numbers(self, ("noise", "spread"))
        check_numbers(self, ("step_size",), above=True)
        check_flags(self, ("preconditioned", "cosine"))

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
        actions = starts(search, self.chains, self.spread)
        square = torch.zeros_like(actions)
        for step in range(self.steps):
            direction = search.gradient(actions)
            if self.preconditioned:
                square = square.lerp(direction.square(), 0.01)
                direction = direction / ((square / (1 - 0.99 ** (step + 1))).sqrt() + 1e-8)
            left = falling(step, self.steps) if self.cosine else 1.0
            noise = self.noise * left**0.5 * search.noise(actions.shape[1])
            actions = search.clamp(actions - self.step_size * left * direction + noise)
        search.score(actions)
        return search.finish()
