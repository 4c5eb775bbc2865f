"""Training the waypoint model on frozen latents: what lay a stride ahead on the way to a later frame."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from wm_agents.models import Waypoints, WaypointsConfig, WorldModel
from wm_agents.models.fingerprint import fingerprint
from wm_agents.training.heads import HeadTrainingConfig, History, Loss, check_dataset_fits, encode_frames, fit_head

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class WaypointsTrainingConfig(HeadTrainingConfig):
    """How the waypoint model is trained: :class:`HeadTrainingConfig` on triples of an episode's frames.

    Attributes:
        steps: Gradient steps.
        batch_size: Triples per step: now, a stride later, and the goal beyond that.
        weight_decay: Of AdamW.
    """

    steps: int = 8000
    batch_size: int = 768
    weight_decay: float = 1e-2


def train_waypoints(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: WaypointsConfig | None = None,
    training: WaypointsTrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    progress: bool = True,
) -> tuple[Waypoints, History]:
    """Learn to sample waypoints, from the ways that episodes took to later frames of their own.

    Args:
        world_model: Its latents are read, its weights stay.
        dataset: Of the environment that the world model knows.
        model: Shape of the network; the size of latents is taken from the world model.
        training: Options.
        run_dir: Where to keep the resumable state; see :func:`wm_agents.train_world_model`.
        logger: SB3 logger.
        progress: Show bars.

    Returns:
        The network in evaluation mode, and the history ``name -> [(step, value), ...]``.

    Raises:
        ValueError: The dataset does not fit the world model, or no episode is longer than the stride.
    """
    training = training or WaypointsTrainingConfig()
    check_dataset_fits(world_model, dataset)
    config = dataclasses.replace(model or WaypointsConfig(), latent_size=world_model.config.latent_size)
    longest = max(dataset.lengths, default=0)
    if longest <= config.stride:
        raise ValueError(
            f"no episode of {dataset.name} goes on beyond a stride of {config.stride} steps: the longest has "
            f"{longest}. Use a smaller stride."
        )
    latents = encode_frames(world_model, dataset, progress=progress)

    def loss_of(network: Waypoints) -> Loss:
        def loss(data: TrajectoryDataset, size: int, rng: np.random.Generator) -> torch.Tensor:
            pairs = data.hindsight(size, config.max_horizon, rng, min_horizon=config.stride + 1)
            frames = (pairs.frame, pairs.frame + config.stride, pairs.goal)
            z, waypoint, goal = (latents[torch.from_numpy(frame)] for frame in frames)
            time = torch.from_numpy(rng.random((size, 1), np.float32)).to(z.device)
            noise = torch.from_numpy(rng.standard_normal(waypoint.shape, np.float32)).to(z.device)
            far = torch.from_numpy(pairs.steps.astype(np.float32)).to(z.device)
            velocity = network(noise + time * (waypoint - noise), time[:, 0], z, goal, far)
            return (velocity - (waypoint - noise)).square().mean()

        return loss

    network, history = fit_head(
        "waypoints", lambda: Waypoints(config), loss_of, world_model, dataset, latents, training,
        {"model": dataclasses.asdict(config)}, run_dir=run_dir, logger=logger, progress=progress,
    )  # fmt: skip
    with torch.no_grad():
        network.fingerprint.copy_(fingerprint(world_model))
    return network, history
