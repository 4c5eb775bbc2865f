"""Proposals: whole plans from an amortised model, for a planner to start from."""

from __future__ import annotations

from collections.abc import Callable

import torch

from wm_agents.models import Denoiser, InverseDynamics, WorldModel
from wm_agents.models.imagined_control import block_velocity, imagine_control
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
    """What GC-IDM does in imagination, towards a goal at an unknown distance.

    Args:
        world_model: Imagines.
        inverse_dynamics: Acts.
        z: See :data:`Proposer`.
        past: The same.
        goal: The same.
        horizon: The same.
        generator: Not used; M is 1.
    """
    unknown = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    _, raw = imagine_control(world_model, inverse_dynamics, z, past, goal, unknown, horizon)
    actions = raw.clamp(world_model.action_low, world_model.action_high).flatten(2)
    return world_model.normalize(actions).unsqueeze(1), 2 * horizon


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
