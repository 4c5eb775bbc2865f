"""What every loss term is given, and what it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch


@dataclass(frozen=True)
class LatentBatch:
    """One training window in latent space.

    Attributes:
        z: ``[B, T, D]``, encoded frames, with gradients.
        predicted: ``[B, T-1, D]``; row ``t`` predicts ``z[:, t+1]``.
        actions: ``[B, T-1, K*A]``, normalised blocks between the frames.
        pixels: uint8 ``[B, T, H, W, C]``, the frames themselves.
        generator: Source of randomness for terms that sample.
    """

    z: torch.Tensor
    predicted: torch.Tensor
    actions: torch.Tensor
    pixels: torch.Tensor
    generator: torch.Generator


class LossTerm(Protocol):
    """A differentiable scalar of a latent batch; lower is better."""

    def __call__(self, batch: LatentBatch) -> torch.Tensor:
        """Return the loss, a scalar."""
        ...


@runtime_checkable
class LearnedLossTerm(Protocol):
    """A term with a network of its own, an ``nn.Module``: it is trained beside the world model and then dropped."""

    def prepare(self, config: Any, frames: torch.Tensor) -> None:
        """Build the network, before training.

        Args:
            config: The world model's ``WorldModelConfig``.
            frames: uint8 ``[M, H, W, C]``, a sample of the training frames.
        """
        ...
