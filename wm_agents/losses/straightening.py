"""Temporal straightening: the path of an episode through latent space has little curvature."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from wm_agents.types import LatentBatch, LatentSpec

STILL = 1e-3
"""Steps shorter than this part of the batch's mean step have no direction and do not count."""


class Straightening(nn.Module):
    """One minus the cosine between successive latent velocities (temporal straightening, arXiv 2603.12231).

    Straight paths make the distance to a goal's latent fall along the way to it, which helps planning by gradients.

    Args:
        head: Measure the curvature of an aggregation of the latent, by a network F -> 512 -> 128 that is trained with
            the world model, as in the paper; otherwise of the latent itself, for which the paper uses a tenth of the
            weight.
    """

    least_frames: ClassVar[int] = 3

    def __init__(self, head: bool = True) -> None:
        super().__init__()
        if not isinstance(head, bool):
            raise ValueError(f"head of the loss term 'straightening' must be true or false, not {head!r}.")
        self.head = head

    def prepare(self, spec: LatentSpec, frames: torch.Tensor) -> None:
        """Build the aggregation for latents of this size."""
        layers = (nn.Linear(spec.feature_size, 512), nn.GELU(), nn.Linear(512, 128))
        self.net = nn.Sequential(*layers) if self.head else nn.Identity()

    def forward(self, batch: LatentBatch) -> torch.Tensor:
        """Return the curvature, in [0, 2], averaged over the pairs of steps that move."""
        velocity = self.net(batch.z).diff(dim=1)
        length = velocity.detach().norm(dim=-1)
        moves = length > STILL * length.mean()
        counted = moves[:, 1:] & moves[:, :-1]
        curvature = 1 - torch.cosine_similarity(velocity[:, 1:], velocity[:, :-1], dim=-1)
        return (curvature * counted).sum() / counted.sum().clamp(min=1)
