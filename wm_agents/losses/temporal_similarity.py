"""Temporal similarity: latents of successive frames lie near each other."""

from __future__ import annotations

import torch

from wm_agents.types import LatentBatch


class TemporalSimilarity:
    """Mean squared difference of successive latents (PLDM, arXiv 2502.14819).

    On its own it collapses; it needs a term that keeps latents apart.
    """

    def __call__(self, batch: LatentBatch) -> torch.Tensor:
        """Return the difference, averaged over batch, time and dimensions."""
        return batch.z.diff(dim=1).square().mean()
