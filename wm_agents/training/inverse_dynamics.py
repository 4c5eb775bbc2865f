"""Training the goal-conditioned inverse dynamics model on frozen latents."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from wm_agents.models import InverseDynamics, InverseDynamicsConfig, WorldModel
from wm_agents.training.heads import (
    HeadTrainingConfig,
    History,
    Loss,
    check_dataset_fits,
    encode_frames,
    fit_head,
)

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class InverseDynamicsTrainingConfig(HeadTrainingConfig):
    """How GC-IDM is trained: :class:`HeadTrainingConfig` on hindsight pairs.

    Attributes:
        unknown_fraction: Of the pairs whose distance is hidden from the network.
        discount: Weight per step of distance where the distance is hidden: near goals show the direct way to far ones.
    """

    unknown_fraction: float = 0.5
    discount: float = 0.99


def train_inverse_dynamics(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: InverseDynamicsConfig | None = None,
    training: InverseDynamicsTrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    on_step: Callable[[InverseDynamics, int], bool] | None = None,
    progress: bool = True,
) -> tuple[InverseDynamics, History]:
    """Learn actions from hindsight goals: frame ``i``, a later frame of its episode, the action taken at ``i``.

    The action error is no measure of control (the paper's R2 is 0.2 at 100% success: many actions lead to a far
    goal), so the last weights are kept, not those of the lowest validation error.

    Args:
        world_model: Its latents are read, its weights stay.
        dataset: The data that the world model was trained on, or other data of the same environment.
        model: Shape of the network; sizes of latents and actions are taken from the world model.
        training: Options.
        run_dir: Where to keep the resumable state; see :func:`train_world_model`.
        logger: SB3 logger.
        on_step: Called with the network and the step after every update; returning False stops the training.
        progress: Show bars.

    Returns:
        The network in evaluation mode, and the history ``name -> [(step, value), ...]``.

    Raises:
        ValueError: The dataset's actions or images do not fit the world model.
    """
    training = training or InverseDynamicsTrainingConfig()
    check_dataset_fits(world_model, dataset)
    sizes = world_model.config
    config = dataclasses.replace(
        model or InverseDynamicsConfig(), latent_size=sizes.latent_size, action_size=sizes.action_size
    )
    latents = encode_frames(world_model, dataset, progress=progress)

    def loss_of(network: InverseDynamics) -> Loss:
        return functools.partial(imitation, network, latents, training)

    return fit_head(
        "gc-idm", lambda: InverseDynamics(config), loss_of, world_model, dataset, latents, training,
        {"model": dataclasses.asdict(config)}, run_dir=run_dir, logger=logger, on_step=on_step, progress=progress,
    )  # fmt: skip


def imitation(
    network: InverseDynamics, latents: torch.Tensor, training: InverseDynamicsTrainingConfig, data: TrajectoryDataset,
    size: int, rng: np.random.Generator, nearest: int = 0,
) -> torch.Tensor:  # fmt: skip
    """Return the weighted squared error of ``size`` recorded actions, towards hindsight goals.

    Args:
        network: Acts.
        latents: ``[frames, D]``, of the dataset's frames.
        training: Options.
        data: Drawn from.
        size: Pairs.
        rng: Source of randomness.
        nearest: Goals at a known distance of up to so many steps do not count.
    """
    config = network.config
    pairs = data.hindsight(size, config.max_horizon, rng)
    # Frames near an episode's start have a shorter past, and so has any agent's first step: show both often.
    first = data.starts[np.searchsorted(data.starts, pairs.frame, side="right") - 1]
    lag = np.where(rng.random(size) < 0.1, rng.integers(0, config.lag + 1, size), config.lag)
    before = np.maximum(pairs.frame - lag, first)
    hidden = rng.random(size) < training.unknown_fraction
    weights = np.where(hidden, training.discount ** pairs.steps.astype(np.float64), pairs.steps > nearest)
    if hidden.any():
        weights[hidden] /= weights[hidden].mean()
    predicted = network(
        latents[torch.from_numpy(pairs.frame)],
        latents[torch.from_numpy(before)],
        latents[torch.from_numpy(pairs.goal)],
        torch.from_numpy(np.where(hidden, 0, pairs.steps)).to(latents.device),
    )
    errors = (predicted - torch.from_numpy(pairs.actions).to(latents.device)).square().mean(dim=1)
    return (errors * torch.from_numpy(weights.astype(np.float32)).to(latents.device)).mean()
