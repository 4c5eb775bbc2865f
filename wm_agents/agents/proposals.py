"""Proposals: whole plans from a trained model, from which a planner starts."""

from __future__ import annotations

from collections.abc import Callable

import torch

from wm_agents.models import Denoiser, InverseDynamics, State, WorldModel
from wm_agents.models.imagined_control import imagine_control
from wm_agents.planning.ddim import Denoise, ddim

Proposer = Callable[[State, torch.Tensor, int, torch.Generator], tuple[torch.Tensor, int]]
"""What makes proposals.

From a world model's state of n environments, the goals' latents ``[n, *shape]``, the horizon H and a source of
randomness to sequences ``[n, M, H, K*A]``, normalised and inside the action bounds, and the world-model evaluations
(blocks rolled out) that they took per environment."""

Prior = Callable[[State, torch.Tensor], Denoise]
"""From a state and the goals' latents to what the planner "diffusion" denoises with."""


def inverse_dynamics_proposal(
    world_model: WorldModel,
    inverse_dynamics: InverseDynamics,
    state: State,
    goal: torch.Tensor,
    horizon: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, int]:
    """The plan of GC-IDM, imagined towards a goal at an unknown distance; M is 1. See :data:`Proposer`."""
    unknown = torch.zeros(len(goal), dtype=torch.int64, device=goal.device)
    _, raw = imagine_control(world_model, inverse_dynamics, state, world_model.features(goal), unknown, horizon)
    actions = world_model.executable(raw).flatten(2)
    return world_model.normalize(actions).unsqueeze(1), 2 * horizon


def diffusion_proposals(
    world_model: WorldModel,
    denoiser: Denoiser,
    state: State,
    goal: torch.Tensor,
    horizon: int,
    generator: torch.Generator,
    samples: int = 16,
    steps: int = 10,
) -> tuple[torch.Tensor, int]:
    """Sample the denoiser by DDIM, from half the usual noise, which gives likely rather than varied sequences.

    The denoiser's horizon is cut to the planner's, or continued by repeating the last block. See :data:`Proposer`.

    Args:
        world_model: Gives the bounds; it does not imagine.
        denoiser: The denoiser to sample.
        state: See :data:`Proposer`.
        goal: See :data:`Proposer`.
        horizon: See :data:`Proposer`.
        generator: See :data:`Proposer`.
        samples: M.
        steps: Steps of denoising.
    """
    config = denoiser.config
    noise = 0.5 * torch.randn(samples, config.horizon, config.block_size, generator=generator, device=goal.device)
    sampled = ddim(prior(world_model, denoiser, state, goal), noise.expand(len(goal), -1, -1, -1), steps)
    sampled = sampled.clamp(*world_model.block_bounds())[:, :, :horizon]
    missing = horizon - sampled.shape[2]
    return torch.cat([sampled, sampled[:, :, -1:].expand(-1, -1, missing, -1)], dim=2), 0


def prior(world_model: WorldModel, denoiser: Denoiser, state: State, goal: torch.Tensor) -> Denoise:
    """The denoiser, conditioned on the state and the goals ``[n, *shape]``."""
    now = world_model.features(world_model.latent(state))
    moved = now - world_model.features(world_model.previous(state))
    before = now - denoiser.config.lag / world_model.spec.action_block * moved
    return denoiser.conditioned(now, before, world_model.features(goal))
