"""Steps to the goal: a distribution over how many environment steps lie between two latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from wm_agents.configs import check_counts, check_numbers
from wm_agents.models.heads.base import Head


@dataclass(frozen=True)
class StepsToGoalConfig:
    """Shape of the head.

    Attributes:
        latent_size: D; taken from the world model when trained.
        width: Hidden units.
        max_steps: Largest distance that it distinguishes, in environment steps; anything farther is "beyond".
        bins: Ranges of steps, narrow near the goal and wide far from it.
        quantile: Quantile of the distribution that :meth:`StepsToGoal.steps` reports. Recorded steps are an upper bound
            on the steps that are needed, so a low quantile is nearer to the truth than the mean.
    """

    latent_size: int = 32
    width: int = 256
    max_steps: int = 150
    bins: int = 32
    quantile: float = 0.3

    def __post_init__(self) -> None:
        check_counts(self, ("latent_size", "width", "max_steps", "bins"))
        check_numbers(self, ("quantile",), 0.01, 0.99)


class StepsToGoal(Head):
    """Classifies the steps between a latent and a goal into ranges, the last of which is "farther than any episode".

    Trained by hindsight: on pairs of one episode, whose steps are known, and on pairs of different episodes, which
    count as beyond. The head is not symmetric, since the way back can be longer than the way there.

    Args:
        config: The shape.
    """

    name = "steps-to-goal"
    Config = StepsToGoalConfig
    learner = "wm_agents.training.steps_to_goal:StepsToGoalLearner"
    edges: torch.Tensor

    def __init__(self, config: StepsToGoalConfig) -> None:
        super().__init__(config)
        width = config.width
        self.body = nn.Sequential(
            nn.Linear(3 * config.latent_size, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, config.bins + 1),
        )
        growth = torch.linspace(0, 1, config.bins + 1)
        self.register_buffer("edges", torch.expm1(growth * torch.log1p(torch.tensor(float(config.max_steps)))))

    def forward(self, z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Logits ``[..., bins + 1]`` of the ranges, for ``z [..., D]`` and ``goal [..., D]`` (shapes broadcast)."""
        z, goal = torch.broadcast_tensors(z, goal)
        return self.body(torch.cat([z, goal, z - goal], dim=-1))

    def range_of(self, steps: torch.Tensor) -> torch.Tensor:
        """The range, 0 to ``bins``, that each number of steps lies in; ``bins`` is "beyond"."""
        return torch.bucketize(steps.to(self.edges), self.edges[1:])

    def steps(self, z: torch.Tensor, goal: torch.Tensor, quantile: float | None = None) -> torch.Tensor:
        """Environment steps ``[...]`` from ``z [..., D]`` to ``goal [..., D]``, if the goal is within reach.

        Args:
            z: The present.
            goal: The goal.
            quantile: Quantile of the distribution, given that the goal is not beyond; the configuration's by default.

        Returns:
            Between 0 and ``max_steps``.
        """
        share = self(z, goal)[..., :-1].softmax(-1)
        below = share.cumsum(-1)
        wanted = self.config.quantile if quantile is None else quantile
        at = (below < wanted).sum(-1, keepdim=True).clamp(max=self.config.bins - 1)
        before = torch.gather(below - share, -1, at)
        part = ((wanted - before) / torch.gather(share, -1, at).clamp(min=1e-6)).clamp(0, 1)
        low, high = self.edges[at], self.edges[at + 1]
        return (low + part * (high - low)).squeeze(-1)

    def beyond(self, z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Probability ``[...]`` that no recorded episode leads from ``z`` to ``goal`` within ``max_steps``."""
        return self(z, goal).softmax(-1)[..., -1]
