"""The cross-entropy method for discrete actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F

from wm_agents.configs import check_counts, check_numbers, whole_number
from wm_agents.planning.base import Search
from wm_agents.types import CostFn, OnIteration, Plan


@dataclass(frozen=True)
class CategoricalCEM:
    """Cross-entropy method over sequences of discrete actions, given as one-hot vectors.

    Each action of a sequence has probabilities of its own. They begin uniform; samples are drawn from them, and they
    become the frequencies among the elites, mixed with a uniform share so that no action dies out. Candidate 0 is the
    most likely sequence, as in stable-worldmodel. The smoothing and the warm start, half of it on the last plan, are
    ours. The best sequence seen is returned.

    Attributes:
        horizon: H, blocks per plan.
        samples: S, candidates per iteration.
        elites: Candidates that the probabilities are refitted to.
        iterations: Rounds of sampling.
        smoothing: Uniform share of refitted probabilities, in (0, 1].
        choices: Of the primitive actions; the world model's.
    """

    horizon: int
    samples: int = 300
    elites: int = 30
    iterations: int = 10
    smoothing: float = 0.05
    choices: tuple[int, ...] = (2,)

    num_elites: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_counts(self, ("horizon", "samples", "elites", "iterations"))
        check_numbers(self, ("smoothing",), 0, 1, above=True)
        object.__setattr__(self, "choices", tuple(whole_number("choices", count, 1) for count in self.choices))
        if self.elites > self.samples:
            raise ValueError(f"CategoricalCEM elites ({self.elites}) must not exceed samples ({self.samples}).")

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
        """See :meth:`wm_agents.planning.base.Planner.plan`; bounds are 0 and 1, and plans are one-hot.

        Raises:
            ValueError: See there, or the choices do not divide a block.
        """
        if len(low) % sum(self.choices):
            raise ValueError(f"choices {self.choices} do not divide an action block of {len(low)} numbers.")
        groups = self.choices * (len(low) // sum(self.choices))
        start = torch.zeros(batch, 1, self.horizon, len(low), device=low.device) if init is None else init
        search = Search(self.horizon, cost, low, high, batch, _hot(start, groups), generator, on_iteration)
        uniform = torch.cat([low.new_full((count,), 1 / count) for count in groups])
        given = start[:, 0].to(low)
        known = given.sum(dim=-1, keepdim=True) > 0  # where nothing has been planned yet there are zeros
        likely = torch.where(known, (given + uniform) / 2, uniform)
        for _ in range(self.iterations):
            noise = search.uniform(self.samples).clamp(1e-6, 1 - 1e-6)
            gumbel = -torch.log(-torch.log(noise))
            candidates = _hot(likely.clamp(min=1e-9).log().unsqueeze(1) + gumbel, groups)
            candidates[:, 0] = _hot(likely, groups)
            candidates = search.enter(candidates)
            scores, order = search.score(candidates).topk(self.elites, dim=1, largest=False)
            chosen = candidates.gather(1, order[:, :, None, None].expand(-1, -1, *candidates.shape[2:]))
            usable = torch.isfinite(scores).to(chosen)[:, :, None, None]
            counted = usable.sum(dim=1)
            shares = (usable * chosen).sum(dim=1) / counted.clamp(min=1)
            refitted = (1 - self.smoothing) * shares + self.smoothing * uniform
            likely = torch.where(counted > 0, refitted, likely)
        return search.finish()


def _hot(scores: torch.Tensor, groups: tuple[int, ...]) -> torch.Tensor:
    """One-hot vectors of the largest of each group of ``scores [..., K*A]``."""
    parts = scores.split(groups, dim=-1)
    hot = [F.one_hot(part.argmax(dim=-1), count) for part, count in zip(parts, groups, strict=True)]
    return torch.cat(hot, dim=-1).to(scores)
