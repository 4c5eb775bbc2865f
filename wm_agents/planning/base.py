"""The protocol of planners, and code that they share.

Your own planner is a class with ``horizon`` and ``plan``, or a function of ``horizon`` that returns an instance of one.
``num_elites`` is 1 if it is missing. The other arguments are the planner's options. It must stay within the bounds,
treat NaN and infinite costs as the worst, and draw random numbers only from the given generator. :class:`Search` does
all of this.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from wm_agents.configs import check_numbers
from wm_agents.types import CostFn, OnIteration, Plan


class Planner(Protocol):
    """Searches for action sequences that minimise a cost, for a batch of environments at once.

    Attributes:
        horizon: H, blocks per plan.
        num_elites: E, sequences in ``Plan.elites``, from which the next search starts.
    """

    @property
    def horizon(self) -> int: ...  # noqa: D102
    @property
    def num_elites(self) -> int: ...  # noqa: D102

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
        """Search.

        Args:
            cost: ``actions [B, S, H, K*A] -> [B, S]``. Planners that follow its gradient call it with gradients on.
            low: ``[K*A]``, lower bounds.
            high: ``[K*A]``, upper bounds.
            batch: B.
            init: ``[B, M, H, K*A]``, proposals: the elites of an earlier plan, shifted by the executed actions, or
                plans of another method. The search starts from the first, and scores all of them. By default the middle
                of the bounds.
            generator: Source of randomness; the same generator state gives the same plan. All environments of the
                batch share one stream, so each gets the plan that it would get alone.
            on_iteration: Called with each iteration's costs.

        Raises:
            ValueError: Bounds are crossed, not finite or of two sizes, ``init`` has another shape or holds NaN, the
                cost returns another shape or device, or every candidate's cost is NaN or infinite.
        """
        ...


class Search:
    """One call of :meth:`Planner.plan`: checks, warm start, noise, scores, the best sequence and the counts.

    Args:
        horizon: H.
        (others): Those of :meth:`Planner.plan`.

    Attributes:
        shape: ``(B, H, K*A)``.
        proposals: ``[B, M, H, K*A]`` inside the bounds: ``init``, or the middle of the bounds alone.
        active: ``[B]`` booleans: environments whose search has not converged.
        best: ``[B, H, K*A]``, the cheapest sequence scored so far.
        best_cost: ``[B]``.
        evaluations: ``[B]``, sequences scored while the environment was active.
    """

    def __init__(
        self,
        horizon: int,
        cost: CostFn,
        low: torch.Tensor,
        high: torch.Tensor,
        batch: int,
        init: torch.Tensor | None,
        generator: torch.Generator | None,
        on_iteration: OnIteration | None,
    ) -> None:
        check_bounds(low, high)
        if not low.is_floating_point():
            low, high = low.float(), high.float()
        self.cost, self.low, self.high = cost, low, high
        self.generator, self.on_iteration = generator, on_iteration
        self.shape = (batch, horizon, low.numel())
        self._place: dict[str, Any] = {"dtype": low.dtype, "device": low.device}
        if init is not None:
            check_init(init, self.shape)
        middle = ((low + high) / 2).expand(batch, 1, horizon, -1)
        self.proposals = self.clamp(middle if init is None else init.to(low))
        self.active = torch.ones(batch, dtype=torch.bool, device=low.device)
        self.best = self.proposals[:, 0].clone()
        self.best_cost = low.new_full((batch,), torch.inf)
        self.evaluations = torch.zeros(batch, dtype=torch.int64, device=low.device)
        self.iteration = 0

    def clamp(self, actions: torch.Tensor) -> torch.Tensor:
        """Bring actions ``[..., K*A]`` into the bounds."""
        return actions.clamp(self.low, self.high)

    def enter(self, candidates: torch.Tensor) -> torch.Tensor:
        """Candidates ``[B, S, H, K*A]`` inside the bounds; in the first round the proposals take the first places."""
        candidates = self.clamp(candidates)
        if self.iteration:
            return candidates
        return torch.cat([self.proposals, candidates[:, self.proposals.shape[1] :]], dim=1)

    def noise(self, samples: int) -> torch.Tensor:
        """Standard normal noise ``[S, H, K*A]``, the same for all environments."""
        return torch.randn(samples, *self.shape[1:], generator=self.generator, **self._place)

    def uniform(self, samples: int) -> torch.Tensor:
        """Sequences ``[S, H, K*A]`` spread evenly between the bounds, the same for all environments."""
        unit = torch.rand(samples, *self.shape[1:], generator=self.generator, **self._place)
        return self.low + unit * (self.high - self.low)

    def score(self, candidates: torch.Tensor) -> torch.Tensor:
        """Cost ``[B, S]`` of candidates ``[B, S, H, K*A]``; +inf where it is NaN or infinite. Keeps the best."""
        with torch.no_grad():
            costs = self.cost(candidates)
        self.record(candidates, costs)
        return finite_costs(costs.detach()).to(candidates.dtype)

    def gradient(self, candidates: torch.Tensor) -> torch.Tensor:
        """Score candidates ``[B, S, H, K*A]``; return the gradient of their costs, 0 where it is NaN or infinite.

        Raises:
            ValueError: The cost has no gradient.
        """
        with torch.inference_mode(False), torch.enable_grad():
            leaves = candidates.detach().clone().requires_grad_()
            costs = self.cost(leaves)
            if not costs.requires_grad:
                raise ValueError(
                    "the cost has no gradient with respect to the actions: compute it with torch operations and "
                    'without torch.no_grad(), or use a planner that only samples, such as "cem".'
                )
            self.record(candidates, costs)
            (slopes,) = torch.autograd.grad(costs.sum(), leaves)
        # Squares of the largest slopes must not overflow.
        return torch.where(torch.isfinite(slopes), slopes, 0.0).clamp(-1e15, 1e15)

    def record(self, candidates: torch.Tensor, costs: torch.Tensor) -> None:
        """Record costs that a planner computed itself, for example because it needs their gradient."""
        check_costs(costs, candidates)
        candidates, costs = candidates.detach(), finite_costs(costs.detach()).to(self.best_cost)
        if self.on_iteration is not None:
            self.on_iteration(self.iteration, costs)
        self.iteration += 1
        self.evaluations = self.evaluations + self.active * candidates.shape[1]
        cheapest, index = costs.min(dim=1)
        better = self.active & (cheapest < self.best_cost)
        found = candidates.gather(1, index[:, None, None, None].expand(-1, 1, *self.shape[1:])).squeeze(1)
        self.best = torch.where(better[:, None, None], found, self.best)
        self.best_cost = torch.where(better, cheapest, self.best_cost)

    def settle(self, converged: torch.Tensor) -> bool:
        """Stop counting and improving the environments marked in ``converged [B]``; tell whether all have converged."""
        self.active = self.active & ~converged
        return not bool(self.active.any())

    def keep(self, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
        """``new [B, ...]`` where the environment is active, ``old`` where its search has ended."""
        return torch.where(self.active.view(-1, *[1] * (new.dim() - 1)), new, old)

    def finish(self, actions: torch.Tensor | None = None, elites: torch.Tensor | None = None) -> Plan:
        """Return the plan: the best sequence scored, or ``actions [B, H, K*A]``, scored once, where they are usable.

        Args:
            actions: What to return instead of the best.
            elites: ``[B, E-1, H, K*A]``, further sequences for the next search.
        """
        check_solved(self.best_cost)
        evaluations, cost = self.evaluations, self.best_cost
        if actions is None:
            actions = self.best
        else:
            with torch.no_grad():
                costs = self.cost(actions.unsqueeze(1))
            check_costs(costs, actions.unsqueeze(1))
            cost, evaluations = finite_costs(costs).squeeze(1), evaluations + 1
            usable = torch.isfinite(cost)  # a mean of usable candidates need not be usable: the best of them is
            actions = torch.where(usable[:, None, None], actions, self.best)
            cost = torch.where(usable, cost, self.best_cost)
        first = actions.unsqueeze(1)
        return Plan(actions, cost, first if elites is None else torch.cat([first, elites], dim=1), evaluations)


def check_share(planner: Any, name: str) -> None:
    """Raise ``ValueError`` unless an option is a number in [0, 1)."""
    check_numbers(planner, (name,), 0, 1)
    if getattr(planner, name) == 1:
        raise ValueError(f"{type(planner).__name__}.{name} must be less than 1.")


def check_bounds(low: torch.Tensor, high: torch.Tensor) -> None:
    """Raise ``ValueError`` unless the bounds are vectors of one size, finite and not crossed."""
    if low.dim() != 1 or low.shape != high.shape:
        raise ValueError(
            f"action bounds have shapes {tuple(low.shape)} and {tuple(high.shape)}: pass two vectors [K*A] of one size."
        )
    if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
        raise ValueError("action bounds must be finite: planners sample between them.")
    if (low > high).any():
        raise ValueError("action bounds are crossed: every low must be at most its high.")


def check_init(init: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless proposals have the shape ``[B, M, H, K*A]`` and hold no NaN."""
    batch, *sequence = shape
    if init.dim() != 4 or init.shape[1] < 1 or (init.shape[0], *init.shape[2:]) != shape:
        expected = f"[{batch}, M, {', '.join(str(n) for n in sequence)}]"
        raise ValueError(f"init has shape {list(init.shape)}, expected {expected} with M at least 1, or None.")
    if torch.isnan(init).any():
        raise ValueError("init holds NaN: pass an earlier plan, or None to start from the middle of the bounds.")


def check_costs(costs: Any, candidates: torch.Tensor) -> None:
    """Raise ``ValueError`` unless costs are ``[B, S]`` on the candidates' device."""
    if tuple(costs.shape) != tuple(candidates.shape[:2]):
        raise ValueError(
            f"the cost returned shape {tuple(costs.shape)} for candidates {tuple(candidates.shape)}: one number for "
            f"each of [B, S] = {tuple(candidates.shape[:2])} is needed."
        )
    if costs.device != candidates.device:
        raise ValueError(f"the cost returned a tensor on {costs.device}, the candidates are on {candidates.device}.")


def finite_costs(costs: torch.Tensor) -> torch.Tensor:
    """Replace NaN and infinite costs by +inf, so that such candidates are never chosen."""
    return torch.where(torch.isfinite(costs), costs, torch.inf)


def check_solved(costs: torch.Tensor) -> None:
    """Raise ``ValueError`` when a best cost ``[B]`` is still infinite: no candidate was usable."""
    bad = torch.nonzero(~torch.isfinite(costs)).flatten().tolist()
    if bad:
        raise ValueError(
            f"every candidate's cost is NaN or infinite for environments {bad}: "
            "check the world model's latents (a collapsed or diverged model?) and the goal."
        )
