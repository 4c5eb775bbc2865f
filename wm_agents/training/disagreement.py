"""Training the ensemble whose disagreement guides exploration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from wm_agents.models import Disagreement
from wm_agents.training.learner import HeadLearner, LearnerConfig, Loss

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class DisagreementTrainingConfig(LearnerConfig):
    """How the ensemble is trained: :class:`LearnerConfig`. Every member sees half of each batch."""


class DisagreementLearner(HeadLearner):
    """Learns the features one block later by mean squared error."""

    head = Disagreement
    Training = DisagreementTrainingConfig

    def needs(self) -> tuple[int, str]:
        return self.world_model.spec.action_block, "single blocks"

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        model = self.world_model
        start = data.segments(size, model.spec.action_block, rng)
        taken = torch.from_numpy(data.actions[start[:, None] + np.arange(model.spec.action_block)]).to(self.device)
        z, later = (self.latents[torch.from_numpy(frame)] for frame in (start, start + model.spec.action_block))
        predicted = self.module(z, model.normalize(taken.flatten(1)))
        # Every member learns from its own half of the samples.
        own = (torch.rand(len(predicted), size, generator=generator) < 0.5).to(self.device)
        value = (predicted - later).square().mean(-1)[own].mean()
        return value, {self.key: value}
