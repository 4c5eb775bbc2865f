"""Automatic weights of loss terms, from the sizes of their gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from wm_agents.losses import AUTO

LOWEST, HIGHEST = 0.01, 100.0
"""Bounds of an automatic weight; those of the paper on sensorimotor world models lie between 0.1 and 30."""
MEMORY = 100
"""Steps that an automatic weight averages over."""


class Balance(nn.Module):
    """The weighted sum of loss terms, where some weights are automatic.

    An automatic weight gives its term a gradient at the latents, where all terms meet, as large as that of the terms
    with numbers for weights together, for latents of unit variance: ``|d fixed / dz| / |d term / dz| / var(z)``,
    averaged in its logarithm over about 100 steps. Without the variance, the weight would follow the prediction error
    down, which falls with the scale of the latents, and nothing would keep them from shrinking to a point. Balancing by
    gradient norms is common for losses with several terms (GradNorm, arXiv 1711.02257); how a sensorimotor world model
    finds its weight by itself is left open in arXiv 2606.20104. The averages are buffers, so they are in the resumable
    state.

    Args:
        weights: Numbers, or "auto", by name.
    """

    logarithms: torch.Tensor
    steps: torch.Tensor

    def __init__(self, weights: Mapping[str, float | str]) -> None:
        super().__init__()
        self.given = dict(weights)
        self.automatic = [name for name, weight in weights.items() if weight == AUTO]
        self.fixed = {name: float(weight) for name, weight in weights.items() if weight != AUTO}
        self.register_buffer("logarithms", torch.zeros(len(self.automatic), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def weights(self) -> dict[str, float]:
        """Present weights by name."""
        return self.fixed | dict(zip(self.automatic, self.logarithms.exp().tolist(), strict=True))

    def forward(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The weighted sum of the terms' values."""
        weights = self.weights()
        return torch.stack([weights[name] * value for name, value in values.items()]).sum()

    def update(self, values: Mapping[str, torch.Tensor], z: torch.Tensor) -> None:
        """Set the automatic weights anew, from terms with gradients at the latents ``z``."""
        if not (self.automatic and z.requires_grad):  # fixed latents have no gradients to balance
            return
        fixed = torch.stack([weight * values[name] for name, weight in self.fixed.items()]).sum()
        size = _slope(fixed, z) / max(float(z.detach().float().flatten(0, -2).var(dim=0).mean()), 1e-12)
        self.steps += 1
        rate = max(1 / int(self.steps), 1 / MEMORY)
        for index, name in enumerate(self.automatic):
            ratio = size / max(_slope(values[name], z), 1e-12)
            new = math.log(min(max(ratio, LOWEST), HIGHEST))
            self.logarithms[index] += rate * (new - self.logarithms[index])


def _slope(value: torch.Tensor, z: torch.Tensor) -> float:
    """Norm of a value's gradient at ``z``; 0 where it does not depend on it."""
    (slope,) = torch.autograd.grad(value, z, retain_graph=True, allow_unused=True)
    return 0.0 if slope is None else float(slope.float().norm())
