"""Training the action denoiser on frozen latents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from wm_agents.models import WorldModel
from wm_agents.models.denoiser import Denoiser, DenoiserConfig
from wm_agents.planning.ddim import signal_and_noise
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
class DenoiserTrainingConfig(HeadTrainingConfig):
    """How the denoiser is trained: :class:`HeadTrainingConfig` on hindsight pairs.

    Attributes:
        hidden_fraction: Of the pairs whose goal is hidden from the network (classifier-free guidance).
        discount: Weight per step of distance: near goals show the direct way to far ones.
    """

    steps: int = 4000
    hidden_fraction: float = 0.1
    discount: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.hidden_fraction <= 1:
            raise ValueError(f"hidden_fraction must lie in [0, 1], not {self.hidden_fraction}.")


def train_denoiser(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: DenoiserConfig | None = None,
    training: DenoiserTrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    on_step: Callable[[Denoiser, int], bool] | None = None,
    progress: bool = True,
) -> tuple[Denoiser, History]:
    """Learn action sequences from hindsight goals: frame ``i``, a later one, the actions from ``i`` on.

    The network estimates the clean sequence (arXiv 2204.06125 found that to work better than the noise) at levels
    drawn evenly from [0, 1] of the cosine schedule; what comes after the goal or the episode's end does not count.

    Args:
        world_model: Its latents are read, its weights stay.
        dataset: The data that the world model was trained on, or other data of the same environment.
        model: Shape of the network; sizes of latents and blocks are taken from the world model.
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
    training = training or DenoiserTrainingConfig()
    check_dataset_fits(world_model, dataset)
    sizes = world_model.config
    config = dataclasses.replace(model or DenoiserConfig(), latent_size=sizes.latent_size, block_size=sizes.block_size)
    device = world_model.action_mean.device
    latents = encode_frames(world_model, dataset, progress=progress)
    span = np.arange(config.horizon * sizes.action_block)
    normalized = world_model.normalize(torch.from_numpy(dataset.actions).to(device))

    def loss_of(network: Denoiser) -> Loss:
        def loss(data: TrajectoryDataset, size: int, rng: np.random.Generator) -> torch.Tensor:
            pairs = data.hindsight(size, config.max_horizon, rng)
            episode = np.searchsorted(data.starts, pairs.frame, side="right") - 1
            first, last = data.starts[episode], data.starts[episode] + data.lengths[episode]
            # Frames near an episode's start have a shorter past, and so has any agent's first step: show both often.
            lag = np.where(rng.random(size) < 0.1, rng.integers(0, config.lag + 1, size), config.lag)
            before = np.maximum(pairs.frame - lag, first)
            index = pairs.frame[:, None] + span
            clean = normalized[torch.from_numpy(np.minimum(index, last[:, None]))]
            counts = index < pairs.goal[:, None]  # what comes after the goal does not count
            weights = counts * (training.discount ** pairs.steps.astype(np.float64))[:, None]
            weights /= weights.sum()

            # Levels and noise come from NumPy's stream too, so that validations are alike.
            level = torch.from_numpy(rng.random(size, np.float32)).to(device)
            noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32)).to(device)
            signal, share = (part[:, None, None] for part in signal_and_noise(level))
            hidden = torch.from_numpy(rng.random(size) < training.hidden_fraction).to(device)
            frames = (latents[torch.from_numpy(rows)] for rows in (pairs.frame, before, pairs.goal))
            blocks = (signal * clean + share * noise).reshape(size, 1, config.horizon, config.block_size)
            estimate = network(blocks, level, *frames, hidden).reshape(clean.shape)
            errors = (estimate - clean).square().mean(dim=-1)
            return (errors * torch.from_numpy(weights.astype(np.float32)).to(device)).sum()

        return loss

    return fit_head(
        "denoiser", lambda: Denoiser(config), loss_of, world_model, dataset, latents, training,
        {"model": dataclasses.asdict(config)}, run_dir=run_dir, logger=logger, on_step=on_step, progress=progress,
    )  # fmt: skip
