"""Bounds and statistics of primitive actions, which are stored with a world model's weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class ActionStatistics:
    """Bounds and statistics of the primitive actions, each ``[A]``, in environment units."""

    low: np.ndarray = field(default_factory=lambda: np.zeros(0))
    high: np.ndarray = field(default_factory=lambda: np.zeros(0))
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    std: np.ndarray = field(default_factory=lambda: np.zeros(0))


def one_hot(scores: torch.Tensor, choices: tuple[int, ...]) -> torch.Tensor:
    """One-hot vectors ``[..., A]`` of the largest of each group of ``scores [..., A]``; groups have ``choices``."""
    groups = scores.split(choices, dim=-1)
    hot = [F.one_hot(group.argmax(dim=-1), count) for group, count in zip(groups, choices, strict=True)]
    return torch.cat(hot, dim=-1).to(scores)


class ScaledActions(nn.Module):
    """Converts actions between environment units and z-scores per primitive dimension.

    Args:
        actions: Bounds and statistics of the training split.
        action_size: A.
        action_block: K.
        choices: Of discrete actions, which are one-hot vectors; empty for continuous ones.

    Raises:
        ValueError: A statistic is not of size A.
    """

    action_low: torch.Tensor
    action_high: torch.Tensor
    action_mean: torch.Tensor
    action_std: torch.Tensor

    def __init__(
        self, actions: ActionStatistics, action_size: int, action_block: int, choices: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self._choices = choices
        self._sizes = (action_size, action_block)
        for name in ("low", "high", "mean", "std"):
            values = torch.as_tensor(np.asarray(getattr(actions, name)), dtype=torch.float32)
            if values.shape != (action_size,):
                raise ValueError(f"action {name} has shape {tuple(values.shape)}, expected ({action_size},).")
            self.register_buffer(f"action_{name}", values)

    def normalize(self, actions: torch.Tensor) -> torch.Tensor:
        """Environment units to z-scores; the last dimension is A or K*A."""
        repeat = actions.shape[-1] // self._sizes[0]
        return (actions - self.action_mean.repeat(repeat)) / self.action_std.repeat(repeat)

    def denormalize(self, actions: torch.Tensor) -> torch.Tensor:
        """Z-scores to environment units, clipped into the action bounds; the last dimension is A or K*A."""
        repeat = actions.shape[-1] // self._sizes[0]
        raw = actions * self.action_std.repeat(repeat) + self.action_mean.repeat(repeat)
        return torch.clamp(raw, self.action_low.repeat(repeat), self.action_high.repeat(repeat))

    def executable(self, actions: torch.Tensor) -> torch.Tensor:
        """Actions ``[..., A]`` in environment units that can be taken: clipped, or one-hot for the largest entries."""
        if not self._choices:
            return torch.clamp(actions, self.action_low, self.action_high)
        return one_hot(actions, self._choices)

    def block_bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The action bounds as normalised blocks: ``low [K*A], high [K*A]``."""
        repeat = self._sizes[1]
        return self.normalize(self.action_low.repeat(repeat)), self.normalize(self.action_high.repeat(repeat))
