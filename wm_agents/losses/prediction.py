"""Latent prediction error."""

from __future__ import annotations

import torch

from wm_agents.types import LatentBatch


class Prediction:
    """Mean squared error between predicted and encoded next latents (LeWorldModel, arXiv 2603.19312).

    On its own it collapses; it also needs a regulariser.

    Args:
        stop_gradient: Let no gradient flow through the targets, as in temporal straightening (arXiv 2603.12231);
            LeWorldModel lets it flow. There is no moving average in either.
    """

    def __init__(self, stop_gradient: bool = False) -> None:
        if not isinstance(stop_gradient, bool):
            raise ValueError(
                f"stop_gradient of the loss term 'prediction' must be true or false, not {stop_gradient!r}."
            )
        self.stop_gradient = stop_gradient

    def __call__(self, batch: LatentBatch) -> torch.Tensor:
        """Return the error, averaged over batch, time and dimensions."""
        target = batch.z[:, 1:].detach() if self.stop_gradient else batch.z[:, 1:]
        return (batch.predicted - target).square().mean()
