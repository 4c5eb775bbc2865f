"""Tiny world models of every kind, and latents, blocks and images for them."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from wm_agents.models import ActionStatistics, LeWMConfig
from wm_agents.models.dino_wm import DinoWMConfig
from wm_agents.models.patch import PatchConfig
from wm_agents.models.public_lewm import PublicLeWMConfig
from wm_agents.models.rssm import RSSMConfig
from wm_agents.models.video_lewm import VideoLeWMConfig
from wm_agents.registry import WORLD_MODELS

SIZE, BLOCK = 32, 6
SMALL = {"image_size": SIZE, "action_block": BLOCK // 2}
CONFIGS = {
    "dino-wm": DinoWMConfig(
        **SMALL,
        backbone="random",
        backbone_image_size=28,
        token_size=6,
        backbone_depth=1,
        backbone_heads=2,
        predictor_width=8,
        predictor_depth=2,
        predictor_heads=2,
    ),
    "lewm": LeWMConfig(**SMALL, latent_size=6, predictor_width=16),
    "patch": PatchConfig(**SMALL, token_size=3, predictor_width=8, predictor_heads=2),
    "public-lewm": PublicLeWMConfig(
        **SMALL,
        latent_size=6,
        patch_size=16,
        encoder_depth=1,
        encoder_heads=2,
        predictor_depth=2,
        predictor_heads=1,
    ),
    "rssm": RSSMConfig(**SMALL, latent_size=6, recurrent_size=16),
    "video-lewm": VideoLeWMConfig(**SMALL, latent_size=6, predictor_width=16, action_width=16),
}
SHAPES = {"dino-wm": (4, 6), "lewm": (6,), "patch": (4, 3), "public-lewm": (6,), "rssm": (6,), "video-lewm": (6,)}
ACTIONS = ActionStatistics(-np.ones(2), np.ones(2), np.array([-0.1, 0.2]), np.array([0.3, 0.7]))


def make(kind, **changes):
    """A tiny model whose weights and BatchNorm averages are off their initial values, in evaluation mode."""
    torch.manual_seed(0)
    model = WORLD_MODELS.get(kind)(dataclasses.replace(CONFIGS[kind], **changes), ACTIONS)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape) * weight.requires_grad
    if kind == "video-lewm":
        model.mapped.fill_(True)
    model.train()
    model.encode(images(40))
    return model.eval()


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(*lead, size=SIZE, seed=0):
    return torch.randint(
        0, 256, (*lead, size, size, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def close(one, other, tolerance=1e-5):
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
