"""GC-IDM inside the world model: it acts on imagined latents, and the result is differentiable."""

from __future__ import annotations

import functools

import torch

from wm_agents.models.base import State, WorldModel
from wm_agents.models.heads.gc_idm import InverseDynamics


def imagine_control(
    world_model: WorldModel,
    inverse_dynamics: InverseDynamics,
    state: State,
    goal: torch.Tensor,
    steps: torch.Tensor,
    blocks: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Roll GC-IDM through the world model: act, imagine the next latent, act from there.

    GC-IDM acts at every step, but the world model predicts a block at a time. So each block is imagined twice: first
    with the first action repeated, and then with the actions of GC-IDM at latents interpolated towards that result.
    Only the second has gradients. Actions are clipped into their bounds, and gradients pass as if they were not.

    Args:
        world_model: Imagines the blocks.
        inverse_dynamics: Gives the actions.
        state: Of B environments, after the frames seen.
        goal: ``[B, F]``.
        steps: ``[B]``, whole environment steps to the goal, counted down to 1 on the way; 0 if this is not known.
        blocks: H.

    Returns:
        The features after each block ``[B, H, F]``, and the actions ``[B, H, K, A]``, in environment units, before
        they are clipped.
    """
    k = world_model.spec.action_block
    latents: list[torch.Tensor] = []
    actions: list[torch.Tensor] = []

    def block_of(raw: torch.Tensor) -> torch.Tensor:
        taken = world_model.executable(raw.detach())
        return world_model.normalize((taken + (raw - raw.detach())).flatten(1))

    now = world_model.features(world_model.latent(state))
    velocity = now - world_model.features(world_model.previous(state))
    act = functools.partial(_act, inverse_dynamics, k, goal, steps)
    for block in range(blocks):
        first = act(block, range(1), now, torch.zeros_like(now), velocity)
        with torch.no_grad():
            held = world_model.advance(state, block_of(first.expand(-1, k, -1)))
            ahead = world_model.features(world_model.latent(held)) - now
        raw = torch.cat([first, act(block, range(1, k), now, ahead, velocity)], dim=1)
        state = world_model.advance(state, block_of(raw))
        following = world_model.features(world_model.latent(state))
        now, velocity = following, following - now
        latents.append(following)
        actions.append(raw)
    return torch.stack(latents, dim=1), torch.stack(actions, dim=1)


def _act(
    network: InverseDynamics,
    k: int,
    goal: torch.Tensor,
    steps: torch.Tensor,
    block: int,
    part: range,
    now: torch.Tensor,
    ahead: torch.Tensor,
    velocity: torch.Tensor,
) -> torch.Tensor:
    """Actions ``[B, S, A]`` at the S steps ``part`` of a block, on the straight way from ``now`` to ``now + ahead``."""
    fractions = torch.arange(k, device=goal.device)[part.start : part.stop] / k
    share = fractions.view(-1, 1, 1)
    here = now + share * ahead
    before = here - network.config.lag / k * ((1 - share) * velocity + share * ahead)
    elapsed = k * (block + fractions.unsqueeze(1))
    left = torch.where(steps > 0, (steps - elapsed).round().clamp(min=1), 0)
    raw = network(here.flatten(0, 1), before.flatten(0, 1), goal.repeat(len(part), 1), left.flatten().long())
    return raw.view(len(part), len(now), network.config.action_size).transpose(0, 1)
