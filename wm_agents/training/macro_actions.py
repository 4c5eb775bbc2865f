"""Training macro-actions on frozen latents: from waypoint to waypoint of recorded trajectories."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from wm_agents.models import MacroActions, MacroActionsConfig, WorldModel
from wm_agents.models.fingerprint import fingerprint
from wm_agents.training.heads import HeadTrainingConfig, History, Loss, check_dataset_fits, encode_frames, fit_head

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class MacroActionsTrainingConfig(HeadTrainingConfig):
    """How macro-actions are trained: :class:`HeadTrainingConfig` on consecutive stretches of random lengths.

    Attributes:
        steps: Gradient steps.
        batch_size: Trajectories per step.
        segments: Consecutive stretches of each.
    """

    steps: int = 2000
    batch_size: int = 128
    segments: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segments < 1:
            raise ValueError(
                f"macro-actions are trained on at least 1 stretch of each trajectory, not {self.segments}."
            )


def train_macro_actions(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: MacroActionsConfig | None = None,
    training: MacroActionsTrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    on_step: Callable[[MacroActions, int], bool] | None = None,
    progress: bool = True,
) -> tuple[MacroActions, History]:
    """Learn macro-actions and where they lead, by teacher forcing with an L1 loss (arXiv 2604.03208).

    Args:
        world_model: Its latents are read, its weights stay.
        dataset: Of the environment that the world model knows.
        model: Shape of the networks; sizes of latents and blocks are taken from the world model.
        training: Options.
        run_dir: Where to keep the resumable state; see :func:`wm_agents.train_world_model`.
        logger: SB3 logger.
        on_step: Called with the network and the step after every update; returning False stops the training.
        progress: Show bars.

    Returns:
        The network in evaluation mode with its bank filled, and the history ``name -> [(step, value), ...]``.

    Raises:
        ValueError: The dataset does not fit the world model, or its episodes are shorter than the stretches.
    """
    training = training or MacroActionsTrainingConfig()
    check_dataset_fits(world_model, dataset)
    sizes = world_model.config
    config = dataclasses.replace(
        model or MacroActionsConfig(), latent_size=sizes.latent_size, block_size=sizes.block_size
    )
    needed = training.segments * config.longest * sizes.action_block
    if not len(dataset) or dataset.lengths.max() < needed:
        raise ValueError(
            f"no episode of {dataset.name} holds {training.segments} stretches of {config.longest} blocks ({needed} "
            f"steps): the longest has {max(dataset.lengths, default=0)}. Use fewer segments, or a smaller longest."
        )
    latents = encode_frames(world_model, dataset, progress=progress)

    def stretches(
        data: TrajectoryDataset, size: int, segments: int, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Frames of waypoints ``[B, segments + 1]``, blocks between ``[B*segments, longest, K*A]``, their lengths."""
        k = sizes.action_block
        lengths = rng.integers(config.shortest, config.longest, (size, segments), endpoint=True)
        first = data.segments(size, segments * config.longest * k, rng)
        waypoints = first[:, None] + k * np.concatenate([np.zeros((size, 1), np.int64), lengths.cumsum(axis=1)], axis=1)
        steps = waypoints[:, :-1, None] + np.arange(config.longest * k)
        blocks = torch.from_numpy(data.actions[steps]).reshape(size * segments, config.longest, sizes.block_size)
        return (
            torch.from_numpy(waypoints),
            world_model.normalize(blocks.to(latents.device)),
            torch.from_numpy(lengths.reshape(-1)).to(latents.device),
        )

    def loss_of(network: MacroActions) -> Loss:
        def loss(data: TrajectoryDataset, size: int, rng: np.random.Generator) -> torch.Tensor:
            waypoints, blocks, lengths = stretches(data, size, training.segments, rng)
            z = latents[waypoints]
            macros = network.encode(blocks, lengths).unflatten(0, (size, training.segments))
            return (network.predict(z[:, :-1], macros) - z[:, 1:]).abs().mean()

        return loss

    network, history = fit_head(
        "macro-actions", lambda: MacroActions(config), loss_of, world_model, dataset, latents, training,
        {"model": dataclasses.asdict(config)}, run_dir=run_dir, logger=logger, on_step=on_step, progress=progress,
    )  # fmt: skip
    train = dataset.split(training.validation_fraction)[0]
    with torch.no_grad():
        _, blocks, lengths = stretches(train, config.bank_size, 1, np.random.default_rng(training.seed))
        network.bank.copy_(network.encode(blocks, lengths))
        network.fingerprint.copy_(fingerprint(world_model))
    return network, history
