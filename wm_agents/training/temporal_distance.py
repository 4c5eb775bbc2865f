"""Training the temporal-distance head on frozen latents, real and imagined."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from wm_agents.models import TemporalDistance, TemporalDistanceConfig, WorldModel
from wm_agents.training.heads import HeadTrainingConfig, History, Loss, check_dataset_fits, encode_frames, fit_head

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class TemporalDistanceTrainingConfig(HeadTrainingConfig):
    """How the temporal distance is trained: :class:`HeadTrainingConfig` on hindsight pairs.

    Attributes:
        expectile: Weight of distances that come out too large, in (0, 1); the rest is the weight of those too small.
            Above 0.5 the head leans towards the fastest way that the data shows between two states, for the recorded
            steps are only an upper bound.
        imagined_fraction: Of the batches whose first latent is imagined by the world model from earlier frames and the
            recorded actions: what planners show the head.
        imagined_blocks: Longest imagination, in blocks.
    """

    expectile: float = 0.8
    imagined_fraction: float = 0.5
    imagined_blocks: int = 16


def train_temporal_distance(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: TemporalDistanceConfig | None = None,
    training: TemporalDistanceTrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    on_step: Callable[[TemporalDistance, int], bool] | None = None,
    progress: bool = True,
) -> tuple[TemporalDistance, History]:
    """Learn the steps between two frames of one episode by expectile regression on ``log(1 + steps)``.

    Args:
        world_model: Its latents are read, its weights stay.
        dataset: Of the environment that the world model knows.
        model: Shape of the network; the size of latents is taken from the world model.
        training: Options.
        run_dir: Where to keep the resumable state; see :func:`wm_agents.train_world_model`.
        logger: SB3 logger.
        on_step: Called with the network and the step after every update; returning False stops the training.
        progress: Show bars.

    Returns:
        The network in evaluation mode, and the history ``name -> [(step, value), ...]``.

    Raises:
        ValueError: The dataset's actions or images do not fit the world model.
    """
    training = training or TemporalDistanceTrainingConfig()
    check_dataset_fits(world_model, dataset)
    config = dataclasses.replace(model or TemporalDistanceConfig(), latent_size=world_model.config.latent_size)
    latents = encode_frames(world_model, dataset, progress=progress)

    def loss_of(network: TemporalDistance) -> Loss:
        def loss(data: TrajectoryDataset, size: int, rng: np.random.Generator) -> torch.Tensor:
            pairs = data.hindsight(size, config.max_steps, rng)
            if rng.random() < training.imagined_fraction:
                z = imagine(world_model, data, latents, pairs.frame, int(rng.integers(1, training.imagined_blocks + 1)))
            else:
                z = latents[torch.from_numpy(pairs.frame)]
            predicted = network(z, latents[torch.from_numpy(pairs.goal)])
            error = torch.log1p(torch.from_numpy(pairs.steps).to(predicted)) - torch.log1p(predicted)
            weight = torch.where(error < 0, training.expectile, 1 - training.expectile)
            return (weight * error.square()).mean()

        return loss

    return fit_head(
        "temporal-distance", lambda: TemporalDistance(config), loss_of, world_model, dataset, latents, training,
        {"model": dataclasses.asdict(config)}, run_dir=run_dir, logger=logger, on_step=on_step, progress=progress,
    )  # fmt: skip


@torch.no_grad()
def imagine(
    world_model: WorldModel, data: TrajectoryDataset, latents: torch.Tensor, frames: np.ndarray, blocks: int
) -> torch.Tensor:
    """What the world model expects at ``frames [B]`` from ``blocks`` blocks earlier and the recorded actions.

    Args:
        world_model: Imagines.
        data: Holds the actions.
        latents: ``[frames, D]`` of all frames.
        frames: int64 ``[B]``.
        blocks: How far back to start; as far as the episode goes where it is younger than that.

    Returns:
        ``[B, D]``; the real latent where the episode has no past long enough.
    """
    k, context = world_model.config.action_block, world_model.config.history
    device = latents.device
    first = data.starts[np.searchsorted(data.starts, frames, side="right") - 1]
    depth = np.minimum((frames - first) // k - (context - 1), blocks)
    real = latents[torch.from_numpy(frames)]
    start = np.where(depth > 0, frames - k * (depth + context - 1), first)
    steps = np.minimum(start[:, None] + np.arange(k * (context - 1 + blocks)), len(data.actions) - 1)
    actions = torch.from_numpy(data.actions[steps]).to(device).reshape(len(frames), context - 1 + blocks, -1)
    past, future = world_model.normalize(actions).split([context - 1, blocks], dim=1)
    seen = latents[torch.from_numpy(np.minimum(start[:, None] + k * np.arange(context), len(latents) - 1))]
    imagined = world_model.rollout(seen, past, future.unsqueeze(1)).squeeze(1)
    reached = imagined[torch.arange(len(frames)), torch.from_numpy(np.maximum(depth - 1, 0))]
    return torch.where(torch.from_numpy(depth > 0).to(device).unsqueeze(1), reached, real)
