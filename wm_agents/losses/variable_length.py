"""Variable-length prediction: the error of latents some random number of blocks ahead, farther as training goes on."""

from __future__ import annotations

import math
from typing import ClassVar

import torch

from wm_agents.configs import whole_number
from wm_agents.types import LatentBatch


class VariableLength:
    """Mean squared error of latents imagined k blocks ahead, for a k that is drawn anew for each batch.

    VLWM (arXiv 2606.21775) draws k uniformly from 1 to ``min(K, ceil(K * progress))``, where progress is the part of
    the training that is done: with long horizons from the start, its training collapses. Only the k-th latent counts.
    It is imagined from every frame of the window that has k blocks after it, with all frames before that one as its
    past, so contexts have all lengths, too. For k = 1, it is the term "prediction". Gradients flow through the targets,
    and it needs a regulariser.

    The difference: VLWM's predictor reads k actions at once. Here it reads one block at a time, k times.

    Args:
        longest: K, blocks; None: as many as the window has.
        curriculum: Let the longest horizon grow with the training; otherwise it is K from the start.
    """

    imagines: ClassVar[bool] = True

    def __init__(self, longest: int | None = None, curriculum: bool = True) -> None:
        if longest is not None:
            longest = whole_number("longest of the loss term 'variable_length'", longest, 1)
        if not isinstance(curriculum, bool):
            raise ValueError(
                f"curriculum of the loss term 'variable_length' must be true or false, not {curriculum!r}."
            )
        self.longest, self.curriculum = longest, curriculum
        self.least_frames = 1 + (longest or 1)

    def __call__(self, batch: LatentBatch) -> torch.Tensor:
        """Return the error, averaged over batch, starts and dimensions."""
        frames = batch.z.shape[1]
        longest = self.longest or frames - 1
        if self.curriculum:
            longest = min(longest, max(1, math.ceil(longest * batch.progress)))
        ahead = int(torch.randint(1, longest + 1, (), generator=batch.generator)) if longest > 1 else 1
        imagined = [batch.rollout(seen, ahead)[:, -1] for seen in range(1, frames - ahead + 1)]
        return (torch.stack(imagined, dim=1) - batch.z[:, ahead:]).square().mean()
