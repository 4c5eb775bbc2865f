"""Multi-step prediction: the error of an open-loop rollout through the window."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch

from wm_agents.configs import check_numbers
from wm_agents.registry import did_you_mean
from wm_agents.types import LatentBatch

Weighting = Literal["exponential", "linear"]


class Rollout:
    """Mean squared error of the latents imagined from a window's first frame with its actions, by weights of the step.

    Planners imagine many blocks in a row; teacher forcing (the term "prediction") only ever trains one. Gradients flow
    through the targets. It needs a regulariser, as prediction does.

    Args:
        weighting: "exponential" weights step h by ``exp(-alpha h)`` (Dual-WM, arXiv 2609.37644), "linear" by ``h``
            (RC-aux, arXiv 2605.07278). Weights are scaled to a sum of 1.
        alpha: How fast the exponential weights fall: 0.5 or 0.05 to 0.2 in Dual-WM, by task.
    """

    imagines: ClassVar[bool] = True

    def __init__(self, weighting: Weighting = "exponential", alpha: float = 0.5) -> None:
        if weighting not in get_args(Weighting):
            raise ValueError(did_you_mean("weighting of the loss term 'rollout'", str(weighting), get_args(Weighting)))
        self.weighting, self.alpha = weighting, alpha
        check_numbers(self, ("alpha",))

    def __call__(self, batch: LatentBatch) -> torch.Tensor:
        """Return the weighted error, averaged over batch and dimensions."""
        error = (batch.rollout() - batch.z[:, 1:]).square().mean(dim=(0, 2))
        steps = torch.arange(1, len(error) + 1, device=error.device)
        weights = steps if self.weighting == "linear" else torch.exp(self.alpha * (1 - steps))
        return error @ (weights / weights.sum()).to(error)
