"""Training the temporal-distance head on frozen latents, real and imagined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wm_agents.configs import check_counts, check_numbers
from wm_agents.models import TemporalDistance, TemporalDistanceConfig, WorldModel
from wm_agents.models.heads import evaluating
from wm_agents.training.heads import train_head
from wm_agents.training.latents import context
from wm_agents.training.learner import HeadLearner, LearnerConfig, Loss
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class TemporalDistanceTrainingConfig(LearnerConfig):
    """How the temporal distance is trained: :class:`LearnerConfig` on hindsight pairs.

    Attributes:
        expectile: Weight of distances predicted too large, in [0, 1]; the rest is the weight of those too small.
            Above 0.5, the head tends to the fastest way that the data shows between two states, because the recorded
            steps are only an upper bound.
        imagined_fraction: Fraction of batches whose first latent the world model imagines from earlier frames and the
            recorded actions, because planners show the head imagined latents.
        imagined_blocks: Largest number of imagined blocks.
    """

    expectile: float = 0.8
    imagined_fraction: float = 0.5
    imagined_blocks: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, ("expectile", "imagined_fraction"), 0, 1)
        check_counts(self, ("imagined_blocks",))


class TemporalDistanceLearner(HeadLearner):
    """Learns the steps between two frames of one episode by expectile regression on ``log(1 + steps)``."""

    head = TemporalDistance
    Training = TemporalDistanceTrainingConfig

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        config = self.config
        pairs = data.hindsight(size, self.model.max_steps, rng)
        if rng.random() < config.imagined_fraction:
            blocks = int(rng.integers(1, config.imagined_blocks + 1))
            z = imagine(self.world_model, data, self.latents, pairs.frame, blocks)
        else:
            z = self.latents[torch.from_numpy(pairs.frame)]
        predicted = self.module(z, self.latents[torch.from_numpy(pairs.goal)])
        error = torch.log1p(torch.from_numpy(pairs.steps).to(predicted)) - torch.log1p(predicted)
        weight = torch.where(error < 0, config.expectile, 1 - config.expectile)
        value = (weight * error.square()).mean()
        return value, {self.key: value}


@torch.no_grad()
def imagine(
    world_model: WorldModel, data: TrajectoryDataset, latents: torch.Tensor, frames: np.ndarray, blocks: int
) -> torch.Tensor:
    """Imagined latents at ``frames [B]``, from the frames ``blocks`` blocks earlier and the recorded actions.

    Args:
        world_model: Imagines.
        data: The data with the actions.
        latents: ``[frames, F]`` of all frames.
        frames: int64 ``[B]``.
        blocks: Blocks to go back; less if the episode began later.

    Returns:
        ``[B, F]``; the real latent if the past of the episode is too short.
    """
    k, seen = world_model.spec.action_block, context(world_model)
    device = latents.device
    first = data.starts[data.episode_of(frames)]
    depth = np.minimum((frames - first) // k - (seen - 1), blocks)
    real = latents[torch.from_numpy(frames)]
    start = np.where(depth > 0, frames - k * (depth + seen - 1), first)
    steps = np.minimum(start[:, None] + np.arange(k * (seen - 1 + blocks)), len(data.actions) - 1)
    actions = torch.from_numpy(data.actions[steps]).to(device).reshape(len(frames), seen - 1 + blocks, -1)
    past, future = world_model.normalize(actions).split([seen - 1, blocks], dim=1)
    shown = latents[torch.from_numpy(np.minimum(start[:, None] + k * np.arange(seen), len(latents) - 1))]
    with evaluating(world_model):
        state = world_model.remember(world_model.unflatten(shown), past)
        imagined = world_model.features(world_model.imagine(state, future.unsqueeze(1))).squeeze(1)
    reached = imagined[torch.arange(len(frames)), torch.from_numpy(np.maximum(depth - 1, 0))]
    return torch.where(torch.from_numpy(depth > 0).to(device).unsqueeze(1), reached, real)


def train_temporal_distance(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: TemporalDistanceConfig | None = None,
    training: TemporalDistanceTrainingConfig | None = None,
    **options: Any,
) -> tuple[TemporalDistance, History]:
    """Learn the steps between frames; arguments, results and errors are those of :func:`train_head`."""
    return train_head("temporal-distance", world_model, dataset, model, training, **options)
