"""Tiny networks of latent actions, one of each kind, and latents for them."""

from __future__ import annotations

import torch

from wm_agents.models import LatentActionConfig, LatentActions

KINDS = ["vae", "sparse", "vq"]


def network(regulariser: str = "vae", **shape) -> LatentActions:
    """A tiny one on 6 latents and blocks of 3 x 2."""
    torch.manual_seed(0)
    defaults = {"latent_size": 6, "action_size": 2, "action_block": 3, "size": 4, "codes": 5, "width": 16}
    return LatentActions(LatentActionConfig(regulariser=regulariser, **{**defaults, **shape})).eval()


def latents(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
