"""Latent prediction error."""

from __future__ import annotations

import torch

from wm_agents.types import LatentBatch


class Prediction:
    """Mean squared error between predicted and encoded next latents (LeWorldModel, arXiv 2603.19312).

    Gradients flow through the targets too: no stop-gradient and no moving average. On its own it collapses; it also
    needs a regulariser.
    """

    def __call__(self, batch: LatentBatch) -> torch.Tensor:
        """Return the error, averaged over batch, time and dimensions."""
        return (batch.predicted - batch.z[:, 1:]).square().mean()
