"""Reconstruction: latents must contain what is needed to draw the frame."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.types import LatentBatch, LatentSpec

SIZE = 32
"""Height and width of the drawn frames, in pixels."""


class Reconstruction(nn.Module):
    """Mean squared error of a small decoder's 32x32 drawing, relative to that of always drawing the mean frame.

    A world model trained with it is not a pure JEPA. At the scale of a CPU, it quickly gives what prediction and SIGReg
    find late: when Push-T's block turns, only few pixels change, and its angle is the last thing that latents contain.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def prepare(self, spec: LatentSpec, frames: torch.Tensor) -> None:
        """Build the decoder, and measure the mean frame and the variance around it."""
        target = shrink(frames)
        self.register_buffer("mean", target.mean(dim=0))
        self.register_buffer("scale", (target - self.mean).square().mean().sqrt().clamp(min=1e-3))
        self.net = nn.Sequential(
            nn.Linear(spec.feature_size, 64 * 8 * 8),
            nn.SiLU(),
            nn.Unflatten(1, (64, 8, 8)),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1),
        )

    def forward(self, batch: LatentBatch) -> torch.Tensor:
        """Return the error of the window's first frames; 1 is that of the mean frame."""
        target = (shrink(batch.pixels[:, 0]) - self.mean) / self.scale
        return (self.net(batch.z[:, 0]) - target).square().mean()


def shrink(pixels: torch.Tensor) -> torch.Tensor:
    """Average uint8 ``[B, H, W, 3]`` over areas: float ``[B, 3, 32, 32]`` in [0, 1]."""
    return F.adaptive_avg_pool2d(pixels.permute(0, 3, 1, 2).float() / 255, SIZE)
