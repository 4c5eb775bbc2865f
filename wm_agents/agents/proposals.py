"""Proposals: whole plans from an amortised model, for a planner to start from."""

from __future__ import annotations

from collections.abc import Callable

import torch

from wm_agents.models import Denoiser, InverseDynamics, WorldModel
from wm_agents.planning.ddim import Denoise, ddim

Proposer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int, torch.Generator], tuple[torch.Tensor, int]]
"""What makes proposals.

From the latents seen ``z [B, T, D]``, oldest first, the blocks executed between them ``past [B, T-1, K*A]``, the goal's
latent ``[B, D]``, the horizon H and a source of randomness to sequences ``[B, M, H, K*A]``, normalised and inside the
action bounds, and the world-model evaluations (blocks rolled out) that they took per environment."""


def inverse_dynamics_proposal(
    world_model: WorldModel, inverse_dynamics: InverseDynamics, z: torch.Tensor, past: torch.Tensor,
    goal: torch.Tensor, horizon: int, generator: torch.Generator,
) -> tuple[torch.Tensor, int]:  # fmt: skip
    """Roll GC-IDM through the world model: act, imagine the next latent, act from there.

    GC-IDM acts every step, the world model moves a block at a time, so each block is imagined twice: once with the
    first action held, and again with the actions that GC-IDM gives at latents interpolated towards what that led to.
    The goal's distance is taken as unknown.

    Args:
        world_model: Imagines.
        inverse_dynamics: Acts.
        z: See :data:`Proposer`.
        past: The same.
        goal: The same.
        horizon: The same.
        generator: Not used; M is 1.
    """
    k = world_model.config.action_block
    lag = inverse_dynamics.config.lag / k  # in blocks
    unknown = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    blocks: list[torch.Tensor] = []

    def act(now: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
        raw = inverse_dynamics(now, now - lag * velocity, goal, unknown)
        return world_model.normalize(raw.clamp(world_model.action_low, world_model.action_high))

    def imagine(block: torch.Tensor) -> torch.Tensor:
        return world_model.predict(z, torch.cat([past, block.unsqueeze(1)], dim=1))

    velocity = block_velocity(z)
    for _ in range(horizon):
        now = z[:, -1]
        first = act(now, velocity)
        ahead = imagine(first.repeat(1, k)) - now
        rest = []
        for step in range(1, k):
            part = step / k
            rest.append(act(now + part * ahead, (1 - part) * velocity + part * ahead))
        block = torch.cat([first, *rest], dim=-1)
        blocks.append(block)
        following = imagine(block)
        velocity = following - now
        z = torch.cat([z, following.unsqueeze(1)], dim=1)[:, -world_model.config.history :]
        past = torch.cat([past, block.unsqueeze(1)], dim=1)
        past = past[:, past.shape[1] - (z.shape[1] - 1) :]
    return torch.stack(blocks, dim=1).unsqueeze(1), 2 * horizon


def diffusion_proposals(
    world_model: WorldModel, denoiser: Denoiser, samples: int, steps: int, z: torch.Tensor, past: torch.Tensor,
    goal: torch.Tensor, horizon: int, generator: torch.Generator,
) -> tuple[torch.Tensor, int]:  # fmt: skip
    """Sample the denoiser by DDIM, from half the usual noise: likely sequences rather than varied ones.

    Args:
        world_model: Knows the bounds; it is not asked.
        denoiser: Its horizon is cut to the planner's, or continued by repeating the last block.
        samples: M.
        steps: Of denoising.
        z: See :data:`Proposer`.
        past: Not used: the denoiser knows the velocity from ``z``.
        goal: See :data:`Proposer`.
        horizon: The same.
        generator: The same.
    """
    config = denoiser.config
    noise = 0.5 * torch.randn(samples, config.horizon, config.block_size, generator=generator, device=z.device)
    sampled = ddim(prior(world_model, denoiser, z, goal), noise.expand(len(z), -1, -1, -1), steps)
    sampled = sampled.clamp(*world_model.block_bounds())[:, :, :horizon]
    missing = horizon - sampled.shape[2]
    return torch.cat([sampled, sampled[:, :, -1:].expand(-1, -1, missing, -1)], dim=2), 0


def prior(world_model: WorldModel, denoiser: Denoiser, z: torch.Tensor, goal: torch.Tensor) -> Denoise:
    """The denoiser, told start ``z [B, T, D]`` and goal ``[B, D]``."""
    now = z[:, -1]
    before = now - denoiser.config.lag / world_model.config.action_block * block_velocity(z)
    return denoiser.conditioned(now, before, goal)


def block_velocity(z: torch.Tensor) -> torch.Tensor:
    """Change of the latent over the last block, ``z [B, T, D] -> [B, D]``; 0 where a single frame is known."""
    return z[:, -1] - z[:, -2] if z.shape[1] > 1 else torch.zeros_like(z[:, -1])
