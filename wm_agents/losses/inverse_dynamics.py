"""Inverse dynamics: two successive latents must show which actions were taken between them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from wm_agents.types import LatentBatch, LatentSpec


class InverseDynamicsLoss(nn.Module):
    """Mean squared error of the action block read off ``(z_t, z_{t+1})`` (sensorimotor world models, arXiv 2606.20104).

    A constant latent says nothing about actions, so this term alone keeps an encoder from collapsing. However, the
    latents may forget everything that actions do not move. The network is the paper's, 2D -> 256 -> 256 -> K*A with
    ReLU.
    """

    reads_actions: ClassVar[bool] = True

    def prepare(self, spec: LatentSpec, frames: torch.Tensor) -> None:
        """Build the network for latents and blocks of these sizes."""
        self.net = nn.Sequential(
            nn.Linear(2 * spec.feature_size, 256),
            nn.ReLU(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Linear(256, spec.block_size),
        )

    def forward(self, batch: LatentBatch) -> torch.Tensor:
        """Return the error, averaged over batch, time and the numbers of a block."""
        read = self.net(torch.cat([batch.z[:, :-1], batch.z[:, 1:]], dim=-1))
        return (read - batch.actions).square().mean()
