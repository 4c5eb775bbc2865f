"""Telling one world model from another by what it makes of a black image: heads keep it, and refuse a stranger."""

from __future__ import annotations

from typing import Any

import torch

from wm_agents.models.world_model import WorldModel


@torch.no_grad()
def fingerprint(world_model: WorldModel) -> torch.Tensor:
    """The latent ``[D]`` of a black image."""
    size = world_model.config.image_size
    black = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=world_model.action_mean.device)
    return world_model.eval().encode(black)[0]


def check_fingerprint(world_model: WorldModel, head: Any, name: str) -> None:
    """Raise ``ValueError`` unless ``head`` was made on the latents of ``world_model``.

    Other world models are as far apart as the latents are long; rounding the weights to half precision moves PushT's by
    0.03% of its length.

    Args:
        world_model: Whose latents the head is going to read.
        head: Has a buffer ``fingerprint [D]``.
        name: What to call it.
    """
    own, known = fingerprint(world_model).cpu(), head.fingerprint.cpu()
    if own.shape != known.shape or not (own - known).norm() <= 0.02 * own.norm():
        raise ValueError(
            f"the {name} was made on another world model: its latents mean something else. Make one on this world "
            "model, or pass the world model that it was made on."
        )
