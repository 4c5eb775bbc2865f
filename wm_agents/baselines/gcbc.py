"""Goal-conditioned behaviour cloning from pixels, the usual baseline on the data that world models learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wm_agents.agents import GCIDM
from wm_agents.baselines.offline import OfflineLearner, OfflineTrainingConfig, train_offline
from wm_agents.training.learner import Loss

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class GCBCTrainingConfig(OfflineTrainingConfig):
    """How GCBC is trained: :class:`wm_agents.baselines.OfflineTrainingConfig`."""


class GCBCLearner(OfflineLearner):
    """Learns the recorded actions towards later frames of their episode, and the encoder with them."""

    name = "gcbc"
    stream = 5
    Training = GCBCTrainingConfig

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        pairs = data.hindsight(size, self.longest, rng)  # goals are uniform over the rest of the episode
        z, goal = (self.encoder.encode(pixels) for pixels in self.images(data, (pairs.frame, pairs.goal), rng))
        error = self.errors(self.towards(z, goal), pairs.actions).mean()
        return error, {self.key: error}


def train_gcbc(dataset: TrajectoryDataset, training: GCBCTrainingConfig | None = None, **options: Any) -> GCIDM:
    """Train goal-conditioned behaviour cloning; arguments and errors are those of :func:`train_offline`.

    It is GC-IDM without what makes GC-IDM more than cloning: the encoder is no world model's, but is trained end to end
    with the policy; no distance is known; and one frame is seen, so no velocity.
    """
    return train_offline(GCBCLearner, dataset, training, **options)
