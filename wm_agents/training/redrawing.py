"""A second lesson for the embeddings of GC-IDM: where the largest object of a frame is, and how it looks."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.losses.reconstruction import SIZE, shrink

CROP = 16
"""Height and width of what is drawn around the object, in pixels of the shrunk frames."""
BLUR = 5
"""Width of the window that tells a large object from a small one, in pixels of the shrunk frames."""


class Redrawing(nn.Module):
    """One linear layer finds the largest object of a frame from the frame's embedding, and draws it in the middle.

    SIGReg spreads latents evenly, and winds the angle of an object so tightly into them that the errors of actions do
    not teach a network to read it: Push-T's GC-IDM brought the block's centre to its goal and never turned it. The
    drawing does not depend on the place of the object, so that it is about its angle. It needs nothing but the
    recorded frames.

    An object is what differs from the background, which is the median of the frames: the camera must not move.

    Args:
        embedding: Numbers in an embedding.
        frames: uint8 ``[N, H, W, C]``, some hundred frames from which background and scales are measured.
    """

    background: torch.Tensor
    crop_mean: torch.Tensor
    crop_scale: torch.Tensor
    centre_scale: torch.Tensor

    def __init__(self, embedding: int, frames: np.ndarray) -> None:
        super().__init__()
        shown = shrink(torch.from_numpy(np.ascontiguousarray(frames)))
        self.register_buffer("background", shown.median(dim=0).values)
        centres, crops = self.find(shown)
        self.register_buffer("crop_mean", crops.mean(dim=0))
        self.register_buffer("crop_scale", (crops - self.crop_mean).square().mean().sqrt().clamp(min=1e-3))
        self.register_buffer("centre_scale", centres.square().mean().sqrt().clamp(min=1e-3))
        self.layer = nn.Linear(embedding, crops[0].numel() + 2)

    def find(self, shown: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the objects' places ``[B, 2]`` (x and y, from -1 to 1) and them drawn in the middle, ``[B, C, h, w]``.

        Args:
            shown: Frames that are shrunk, ``[B, C, 32, 32]``.
        """
        apart = shown - self.background
        mass = F.avg_pool2d(apart.abs().sum(dim=1, keepdim=True), BLUR, stride=1, padding=BLUR // 2)[:, 0] ** 3
        mass = mass / mass.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        place = (torch.arange(SIZE, device=shown.device) + 0.5) / SIZE * 2 - 1
        centres = torch.stack([mass.sum(dim=1) @ place, mass.sum(dim=2) @ place], dim=1)
        near = (torch.arange(CROP, device=shown.device) + 0.5 - CROP / 2) / SIZE * 2
        offsets = torch.stack(torch.meshgrid(near, near, indexing="xy"), dim=-1)
        crops = F.grid_sample(apart, centres[:, None, None] + offsets, align_corners=False)
        return centres, crops

    def forward(self, embedded: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Return the squared error of the place plus that of the drawing, each relative to always saying the mean.

        Args:
            embedded: ``[B, E]``, embeddings of the frames.
            pixels: uint8 ``[B, H, W, C]``, the frames.
        """
        with torch.no_grad():
            centres, crops = self.find(shrink(pixels))
            drawing = ((crops - self.crop_mean) / self.crop_scale).flatten(1)
        said = self.layer(embedded)
        return (said[:, :2] - centres / self.centre_scale).square().mean() + (said[:, 2:] - drawing).square().mean()
