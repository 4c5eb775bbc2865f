"""Variance and covariance regularisation, an older way to prevent collapse."""

from __future__ import annotations

import torch

from wm_agents.configs import check_numbers
from wm_agents.types import LatentBatch


class VICReg:
    """Variance hinge and covariance penalty of the latents, at each time index (VICReg, arXiv 2105.04906).

    ``mean_d max(0, 1 - std_d) + covariance * (sum of squared off-diagonal covariances) / D``; prediction is the third
    part, invariance.

    Args:
        covariance: Weight of the covariances relative to the variances: 1/25 in the paper.
    """

    def __init__(self, covariance: float = 1 / 25) -> None:
        self.covariance = covariance
        check_numbers(self, ("covariance",))

    def __call__(self, batch: LatentBatch) -> torch.Tensor:
        """Return the penalty, averaged over time."""
        z = batch.z.transpose(0, 1)
        centred = z - z.mean(dim=1, keepdim=True)
        moments = centred.transpose(1, 2) @ centred / (z.shape[1] - 1)
        variances = moments.diagonal(dim1=1, dim2=2)
        hinge = (1 - (variances + 1e-4).sqrt()).clamp(min=0).mean()
        off_diagonal = (moments.square().sum(dim=(1, 2)) - variances.square().sum(dim=1)).mean() / z.shape[2]
        return hinge + self.covariance * off_diagonal
