"""Waypoints: a generative model of the latent after one stride on the way to a goal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from wm_agents.configs import check_counts, check_numbers
from wm_agents.models.heads.base import Head
from wm_agents.models.heads.gc_idm import sinusoid

ITERATIONS = 20  # Euler steps from noise to a waypoint


@dataclass(frozen=True)
class WaypointsConfig:
    """Shape of a waypoint model.

    Attributes:
        latent_size: D; taken from the world model when trained.
        stride: Environment steps from one waypoint to the next.
        max_horizon: Largest distance of a training goal in environment steps; longer distances are clamped to it.
        width: Hidden units.
        depth: Residual layers.
        dropout: Dropout in each residual layer.
    """

    latent_size: int = 64
    stride: int = 30
    max_horizon: int = 120
    width: int = 256
    depth: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_counts(self, ("latent_size", "stride", "max_horizon", "width", "depth"))
        check_numbers(self, ("dropout",), 0, 0.99)
        if self.max_horizon <= self.stride:
            raise ValueError(
                f"WaypointsConfig.max_horizon must be beyond the stride of {self.stride} steps, not {self.max_horizon}."
            )


class Waypoints(Head):
    """Samples the latent ``stride`` steps ahead on a way to a goal: flow matching (arXiv 2210.02747).

    There are many ways to a goal, and their mean may be a place that was never visited, so a waypoint is sampled and
    not predicted. A residual network on ``[x, z, z_goal, steps, time]`` gives the velocity that carries normal noise
    (time 0) along straight lines to a waypoint (time 1).

    Args:
        config: The shape.
    """

    name = "waypoints"
    Config = WaypointsConfig
    learner = "wm_agents.training.waypoints:WaypointsLearner"

    def __init__(self, config: WaypointsConfig) -> None:
        super().__init__(config)
        width = config.width
        self.enter = nn.Linear(3 * config.latent_size + 1 + 64, width)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Dropout(config.dropout),
                nn.Linear(width, width),
            )
            for _ in range(config.depth)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.latent_size))

    def forward(
        self, x: torch.Tensor, time: torch.Tensor, z: torch.Tensor, z_goal: torch.Tensor, steps: torch.Tensor
    ) -> torch.Tensor:
        """Return velocities ``[B, D]``.

        Args:
            x: ``[B, D]``, between noise and waypoint.
            time: ``[B]`` in [0, 1].
            z: ``[B, D]``, now.
            z_goal: ``[B, D]``.
            steps: ``[B]``, environment steps to the goal, more than a stride.
        """
        far = steps.clamp(max=self.config.max_horizon).unsqueeze(1) / self.config.max_horizon
        state = self.enter(torch.cat([x, z, z_goal, far, sinusoid(time)], dim=1))
        for layer in self.layers:
            state = state + layer(state)
        return self.head(state)

    @torch.no_grad()
    def sample(self, noise: torch.Tensor, z: torch.Tensor, z_goal: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Turn normal ``noise [B, D]`` into a waypoint ``[B, D]`` each; the rest as in :meth:`forward`."""
        x = noise
        for iteration in range(ITERATIONS):
            x = x + self(x, steps.new_full((len(z),), iteration / ITERATIONS), z, z_goal, steps) / ITERATIONS
        return x
