"""The action denoiser: from a noisy sequence of action blocks, a start and a goal to the clean sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from wm_agents.configs import check_counts
from wm_agents.models.heads.base import Head
from wm_agents.models.heads.gc_idm import sinusoid


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of a denoiser.

    Attributes:
        latent_size: D of the world model whose latents it reads.
        block_size: K*A, numbers in one action block.
        horizon: H, blocks per sequence.
        width: Hidden units.
        depth: Residual layers.
        max_horizon: Training goals lie at most this many environment steps ahead.
        lag: Environment steps back to the earlier frame whose latent shows the velocity.
    """

    latent_size: int = 32
    block_size: int = 10
    horizon: int = 8
    width: int = 224
    depth: int = 2
    max_horizon: int = 100
    lag: int = 5

    def __post_init__(self) -> None:
        check_counts(self, ("latent_size", "block_size", "horizon", "width", "depth", "max_horizon"))
        check_counts(self, ("lag",), least=0)


class Denoiser(Head):
    """Estimates clean action sequences from noisy ones, given start and goal latents: a learned prior of plans.

    A residual network on ``[actions, z, z - z_before, z_goal, sinusoid(level)]`` in the manner of Diffuser
    (arXiv 2205.09991) and Decision Diffuser (arXiv 2211.15657), but over actions alone, because the world model
    imagines. If the goal is hidden, a learned embedding takes its place (classifier-free guidance,
    arXiv 2207.12598). Actions are normalised blocks.

    Args:
        config: The shape of the network.
    """

    name = "denoiser"
    Config = DenoiserConfig
    learner = "wm_agents.training.denoiser:DenoiserLearner"

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(config)
        sequence, width = config.horizon * config.block_size, config.width
        self.no_goal = nn.Parameter(torch.zeros(config.latent_size))
        self.noisy = nn.Linear(sequence, width)
        self.condition = nn.Linear(3 * config.latent_size, width)
        self.level = nn.Linear(64, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(config.depth)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sequence))

    def forward(
        self,
        actions: torch.Tensor,
        level: torch.Tensor,
        z: torch.Tensor,
        z_before: torch.Tensor,
        z_goal: torch.Tensor,
        hidden: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Estimate the clean sequences ``[B, S, H, K*A]``.

        Args:
            actions: ``[B, S, H, K*A]``, noisy.
            level: ``[B]`` or a single number, in [0, 1]: 0 is clean, 1 is noise alone.
            z: ``[B, D]``, now.
            z_before: ``[B, D]``, ``lag`` steps ago; ``z`` itself where there was no frame yet.
            z_goal: ``[B, D]``.
            hidden: ``[B]`` booleans, where the goal is hidden; None nowhere.

        Raises:
            ValueError: The sequences are of another horizon or block size than those of training.
        """
        config = self.config
        if tuple(actions.shape[2:]) != (config.horizon, config.block_size):
            raise ValueError(
                f"sequences {list(actions.shape[2:])}, the denoiser was trained on "
                f"{[config.horizon, config.block_size]}: plan with horizon={config.horizon}."
            )
        if hidden is not None:
            z_goal = torch.where(hidden.unsqueeze(-1), self.no_goal, z_goal)
        context = self.condition(torch.cat([z, z - z_before, z_goal], dim=-1)) + self.level(sinusoid(level))
        state = self.noisy(actions.flatten(2)) + context.unsqueeze(1)
        for layer in self.layers:
            state = state + layer(state)
        return self.head(state).unflatten(-1, actions.shape[2:])

    def conditioned(
        self, z: torch.Tensor, z_before: torch.Tensor, z_goal: torch.Tensor, *, guidance: float = 1.0
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Fix starts and goals: the ``denoise`` of :class:`wm_agents.planning.diffusion.Diffusion`.

        Args:
            z: ``[B, D]``, now.
            z_before: ``[B, D]``, ``lag`` steps ago; ``z`` itself where there was no frame yet.
            z_goal: ``[B, D]``.
            guidance: Weight w of the goal, ``free + w (towards the goal - free)``: 0 ignores it, 1 trusts the network,
                more exaggerates it. Any but 1 costs a second forward pass.

        Returns:
            ``(actions [B, S, H, K*A], level) -> clean estimate [B, S, H, K*A]``.
        """

        def denoise(actions: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            towards = self(actions, level, z, z_before, z_goal)
            if guidance == 1:
                return towards
            everywhere = torch.ones(len(z), dtype=torch.bool, device=z.device)
            free = self(actions, level, z, z_before, z_goal, everywhere)
            return free + guidance * (towards - free)

        return denoise
