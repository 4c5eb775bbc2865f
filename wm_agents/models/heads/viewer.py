"""The viewer: draws what a latent shows, for people to look at. No agent acts on its pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.configs import check_counts
from wm_agents.models.heads.base import Head

SIZE = 64
"""Height and width at which pictures are drawn, in pixels; they are resized to the world model's images."""


@dataclass(frozen=True)
class ViewerConfig:
    """Shape of the decoder.

    Attributes:
        latent_size: F; taken from the world model when trained.
        image_size: Height and width of the pictures, in pixels; taken from the world model when trained.
        width: Channels of the largest feature map.
    """

    latent_size: int = 32
    image_size: int = 64
    width: int = 32

    def __post_init__(self) -> None:
        check_counts(self, ("latent_size", "image_size", "width"))


class Viewer(Head):
    """Draws the frame that a latent was made of, as the mean frame and what differs from it.

    It is trained on a finished world model, whose latents it does not change: what its pictures lack, the latents may
    lack, too. DINO-WM (arXiv 2411.04983) shows imagined latents by a decoder that is trained for viewing only.

    Args:
        config: The shape.
    """

    name = "viewer"
    Config = ViewerConfig
    learner = "wm_agents.training.viewer:ViewerLearner"
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, config: ViewerConfig) -> None:
        super().__init__(config)
        width = config.width
        layers: list[nn.Module] = [nn.Linear(config.latent_size, 4 * width * 64), nn.Unflatten(1, (4 * width, 8, 8))]
        for inside, outside in ((4 * width, 2 * width), (2 * width, width), (width, 3)):
            layers += [nn.SiLU(), nn.ConvTranspose2d(inside, outside, 4, stride=2, padding=1)]
        self.net = nn.Sequential(*layers)
        self.register_buffer("mean", torch.full((3, SIZE, SIZE), 0.5))
        self.register_buffer("scale", torch.ones(()))

    def measure(self, pixels: torch.Tensor) -> None:
        """Set the mean frame, and the size of what differs from it, by uint8 frames ``[M, H, W, 3]``."""
        frames = shrink(pixels)
        self.mean.copy_(frames.mean(dim=0))
        self.scale.copy_((frames - self.mean).square().mean().sqrt().clamp(min=1e-3))

    def error(self, z: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the drawings of ``z [B, F]``, relative to that of always drawing the mean frame."""
        return (self.net(z) - (shrink(pixels) - self.mean) / self.scale).square().mean()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Pictures ``[..., H, W, 3]`` of latents ``z [..., F]``, uint8."""
        drawn = self.mean + self.scale * self.net(z.reshape(-1, z.shape[-1]))
        size = self.config.image_size
        if size != SIZE:
            drawn = F.interpolate(drawn, (size, size), mode="bilinear", antialias=size < SIZE)
        pictures = (255 * drawn.clamp(0, 1)).round().to(torch.uint8).permute(0, 2, 3, 1)
        return pictures.reshape(*z.shape[:-1], size, size, 3)


def shrink(pixels: torch.Tensor) -> torch.Tensor:
    """Float ``[B, 3, 64, 64]`` in [0, 1] of uint8 frames ``[B, H, W, 3]`` of any size."""
    frames = pixels.permute(0, 3, 1, 2).float() / 255
    if frames.shape[-1] < SIZE:
        return F.interpolate(frames, (SIZE, SIZE), mode="bilinear")
    return frames if frames.shape[-1] == SIZE else F.adaptive_avg_pool2d(frames, SIZE)
