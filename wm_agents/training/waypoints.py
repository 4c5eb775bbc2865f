"""Training the waypoint model on frozen latents: which latent lay a stride ahead on the way to a later frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wm_agents.models import Waypoints, WaypointsConfig, WorldModel
from wm_agents.training.heads import train_head
from wm_agents.training.learner import HeadLearner, LearnerConfig, Loss
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class WaypointsTrainingConfig(LearnerConfig):
    """How the waypoint model is trained: :class:`LearnerConfig` on triples of an episode's frames.

    Attributes:
        steps: Gradient steps.
        batch_size: Triples per step: a frame, the frame one stride later, and a goal after that.
        weight_decay: Weight decay of AdamW.
    """

    steps: int = 8000
    batch_size: int = 768
    weight_decay: float = 1e-2


class WaypointsLearner(HeadLearner):
    """Learns to sample waypoints, from the routes of episodes to their own later frames."""

    head = Waypoints
    Training = WaypointsTrainingConfig

    def needs(self) -> tuple[int, str]:
        stride = self.model.stride
        return stride + 1, f"goals beyond a stride of {stride} steps"

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        config = self.model
        pairs = data.hindsight(size, config.max_horizon, rng, min_horizon=config.stride + 1)
        frames = (pairs.frame, pairs.frame + config.stride, pairs.goal)
        z, waypoint, goal = (self.latents[torch.from_numpy(frame)] for frame in frames)
        time = torch.from_numpy(rng.random((size, 1), np.float32)).to(z.device)
        noise = torch.from_numpy(rng.standard_normal(waypoint.shape, np.float32)).to(z.device)
        far = torch.from_numpy(pairs.steps.astype(np.float32)).to(z.device)
        velocity = self.module(noise + time * (waypoint - noise), time[:, 0], z, goal, far)
        value = (velocity - (waypoint - noise)).square().mean()
        return value, {self.key: value}


def train_waypoints(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: WaypointsConfig | None = None,
    training: WaypointsTrainingConfig | None = None,
    **options: Any,
) -> tuple[Waypoints, History]:
    """Learn to sample waypoints; arguments, results and errors are those of :func:`train_head`."""
    return train_head("waypoints", world_model, dataset, model, training, **options)
