"""Training the viewer, which draws latents: only for people to look at, and after the world model is finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from wm_agents.models import Viewer, ViewerConfig, WorldModel
from wm_agents.training.heads import train_head
from wm_agents.training.learner import HeadLearner, LearnerConfig, Loss
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

FRAMES = 256
"""Held-out frames that a validation draws; as many as other heads use would take gigabytes."""


@dataclass(frozen=True)
class ViewerTrainingConfig(LearnerConfig):
    """How the viewer is trained: :class:`LearnerConfig` on single frames, for about a minute on one core."""

    steps: int = 1000
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3


class ViewerLearner(HeadLearner):
    """Learns to draw frames from their latents."""

    head = Viewer
    Training = ViewerTrainingConfig
    module: Viewer

    def build(self) -> nn.Module:
        viewer = Viewer(self.model)
        rng = np.random.default_rng([self.config.seed, 4])
        frames = np.sort(self.train_data.segments(1000, 1, rng))
        viewer.measure(torch.from_numpy(self.dataset.frames_at(frames)))
        return viewer

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        frames = data.segments(size, 1, rng)
        pixels = torch.from_numpy(data.frames_at(frames)).to(self.device)
        value = self.module.error(self.latents[torch.from_numpy(frames)], pixels)
        return value, {self.key: value}

    def validate(self) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        value, _ = self.loss(self.validation_data, FRAMES, np.random.default_rng(0), generator)
        return {f"validation/{self.key}": float(value)}


def train_viewer(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: ViewerConfig | None = None,
    training: ViewerTrainingConfig | None = None,
    **options: Any,
) -> tuple[Viewer, History]:
    """Learn to draw latents; arguments, results and errors are those of :func:`train_head`."""
    return train_head("viewer", world_model, dataset, model, training, **options)
