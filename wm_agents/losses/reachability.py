"""Reachability: two latents must tell whether one is reached from the other within a number of blocks."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.types import LatentBatch, LatentSpec


class Reachability(nn.Module):
    """Cross-entropy of "the second latent is reached from the first within b blocks" (RC-aux, arXiv 2605.07278).

    The pairs are those of a window. Each is a positive at a random budget of at least its distance, a negative at a
    smaller one, and, with a second frame from another window, a negative again; positives count as much as both kinds
    of negatives together. The network reads ``[s, g, |s - g|, s * g]`` and an embedding of the budget.

    The network is dropped after the training: RC-aux also lets its planner read it, which is not part of this term.
    """

    least_frames: ClassVar[int] = 3

    def prepare(self, spec: LatentSpec, frames: torch.Tensor) -> None:
        """Build the network for latents of this size; budgets are embedded as sines, 32 numbers."""
        size = 4 * spec.feature_size + 32
        self.net = nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU(), nn.Linear(512, 1)
        )

    def forward(self, batch: LatentBatch) -> torch.Tensor:
        """Return the cross-entropy in nats, averaged over pairs."""
        z, longest = batch.z, batch.z.shape[1] - 1
        first, second = torch.triu_indices(longest + 1, longest + 1, 1, device=z.device)
        apart = (second - first).expand(len(z), -1)
        draw, shifted = torch.rand(2, *apart.shape, generator=batch.generator).to(z)
        enough = apart + (draw * (longest - apart + 1)).long().clamp(max=longest - apart)
        short = 1 + (shifted * (apart - 1)).long().clamp(min=0)
        start, end = z[:, first], z[:, second]
        positive = F.softplus(-self.score(start, end, enough)).mean()
        near = F.softplus(self.score(start, end, short))[apart > 1].mean()
        other = F.softplus(self.score(start, end.roll(1, dims=0), enough)).mean()
        return (positive + (near + other) / 2) / 2

    def score(self, start: torch.Tensor, end: torch.Tensor, budget: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, P]`` for latents ``[B, P, F]`` and budgets ``[B, P]``."""
        waves = budget.unsqueeze(-1) * torch.logspace(0, -2, 16, device=start.device)
        pair = torch.cat([start, end, (start - end).abs(), start * end, waves.sin(), waves.cos()], dim=-1)
        return self.net(pair).squeeze(-1)
