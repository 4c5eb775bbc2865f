"""Temporal distance: how many environment steps lie between two latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from wm_agents.configs import check_counts
from wm_agents.models.heads.base import Head


@dataclass(frozen=True)
class TemporalDistanceConfig:
    """Shape of the temporal-distance head.

    Attributes:
        latent_size: D; taken from the world model when trained.
        width: Hidden units.
        embedding_size: Coordinates of the space in which distance is measured.
        max_steps: Largest distance that it is trained on, in environment steps.
    """

    latent_size: int = 32
    width: int = 128
    embedding_size: int = 32
    max_steps: int = 150

    def __post_init__(self) -> None:
        check_counts(self, ("latent_size", "width", "embedding_size", "max_steps"))


class TemporalDistance(Head):
    """A learned metric on latents, in environment steps.

    Both latents pass the same MLP, and the distance is the Euclidean one between the results. It is never negative,
    zero for equal latents, and obeys the triangle inequality, so short paths in parts of the data can be joined. It is
    symmetric, unlike some real dynamics.

    Args:
        config: The shape.
    """

    name = "temporal-distance"
    Config = TemporalDistanceConfig
    learner = "wm_agents.training.temporal_distance:TemporalDistanceLearner"

    def __init__(self, config: TemporalDistanceConfig) -> None:
        super().__init__(config)
        self.embed = nn.Sequential(
            nn.Linear(config.latent_size, config.width),
            nn.ReLU(),
            nn.Linear(config.width, config.width),
            nn.ReLU(),
            nn.Linear(config.width, config.embedding_size),
        )

    def forward(self, z: torch.Tensor, z_goal: torch.Tensor) -> torch.Tensor:
        """Distance in steps, ``[...]``, between ``z [..., D]`` and ``z_goal [..., D]`` (shapes broadcast)."""
        gap = self.embed(z) - self.embed(z_goal)
        return self.config.max_steps * (gap.square().sum(-1) + 1e-8).sqrt()
