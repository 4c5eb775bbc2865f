"""What every loss term is given, and what it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class LatentBatch:
    """One training window in latent space.

    Attributes:
        z: ``[B, T, D]``, encoded frames, with gradients.
        predicted: ``[B, T-1, D]``; row ``t`` predicts ``z[:, t+1]``.
        actions: ``[B, T-1, K*A]``, normalised blocks between the frames.
        generator: Source of randomness for terms that sample.
    """

    z: torch.Tensor
    predicted: torch.Tensor
    actions: torch.Tensor
    generator: torch.Generator


class LossTerm(Protocol):
    """A differentiable scalar of a latent batch; lower is better."""

    def __call__(self, batch: LatentBatch) -> torch.Tensor:
        """Return the loss, a scalar."""
        ...
