"""Training latent action spaces on frozen latents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from wm_agents.models.latent_actions import LatentActionConfig, LatentActions
from wm_agents.models.world_model import WorldModel
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
class LatentActionTrainingConfig(HeadTrainingConfig):
    """How a latent action space is trained: :class:`HeadTrainingConfig` on unrolled windows.

    Attributes:
        blocks: The forward model is unrolled over this many blocks, from its own predictions.
        first_fraction: Of the windows that show no earlier frame, as at the start of an episode.
    """

    batch_size: int = 256
    blocks: int = 4
    first_fraction: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks < 1:
            raise ValueError(f"LatentActionTrainingConfig.blocks must be at least 1, not {self.blocks}.")
        if not 0 <= self.first_fraction <= 1:
            raise ValueError(
                f"LatentActionTrainingConfig.first_fraction must lie in [0, 1], not {self.first_fraction}."
            )


@dataclass(frozen=True)
class LatentWindows:
    """Latents K steps apart, and the action blocks between them.

    Attributes:
        frame: int64 ``[B]``, index in the dataset of the first of ``z``.
        before: ``[B, D]``, one block before the first of ``z``; that itself where there was no earlier frame.
        z: ``[B, R+1, D]``.
        blocks: ``[B, R, K*A]``, normalised; block ``r`` leads from ``z[:, r]`` to ``z[:, r+1]``.
    """

    frame: np.ndarray
    before: torch.Tensor
    z: torch.Tensor
    blocks: torch.Tensor

    @property
    def previous(self) -> torch.Tensor:
        """The latent one block before each of ``z[:, :-1]``: ``[B, R, D]``."""
        return torch.cat([self.before.unsqueeze(1), self.z[:, :-2]], dim=1)


def draw_windows(
    world_model: WorldModel, data: TrajectoryDataset, latents: torch.Tensor, blocks: int, size: int,
    rng: np.random.Generator, first_fraction: float = 0.0,
) -> LatentWindows:  # fmt: skip
    """Draw windows of ``blocks`` action blocks, every one that fits into an episode equally likely.

    Args:
        world_model: Its block size and action statistics are used.
        data: One split.
        latents: ``[frames, D]``, of the whole dataset.
        blocks: R.
        size: B.
        rng: Source of randomness.
        first_fraction: Of the windows whose earlier frame is hidden.

    Raises:
        ValueError: No episode is long enough.
    """
    k = world_model.config.action_block
    counts = np.maximum(data.lengths - blocks * k + 1, 0)
    if not counts.sum():
        longest = int(data.lengths.max()) if len(data) else 0
        raise ValueError(
            f"no episode of {data.name} holds {blocks} blocks of {k} actions, the longest has {longest} actions: "
            "use fewer blocks, or collect longer episodes."
        )
    ends = np.cumsum(counts)
    position = rng.integers(ends[-1], size=size)
    episode = np.searchsorted(ends, position, side="right")
    start = data.starts[episode]
    frame = start + position - (ends - counts)[episode]
    hidden = (frame - start < k) | (rng.random(size) < first_fraction)
    steps = frame[:, None] + np.arange(blocks * k)
    actions = torch.from_numpy(data.actions[steps].reshape(size, blocks, -1)).to(latents.device)
    return LatentWindows(
        frame=frame,
        before=latents[torch.from_numpy(np.where(hidden, frame, frame - k))],
        z=latents[torch.from_numpy(frame[:, None] + k * np.arange(blocks + 1))],
        blocks=world_model.normalize(actions),
    )


def train_latent_actions(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: LatentActionConfig | None = None,
    training: LatentActionTrainingConfig | None = None,
    *,
    latents: torch.Tensor | None = None,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    on_step: Callable[[LatentActions, int], bool] | None = None,
    progress: bool = True,
) -> tuple[LatentActions, History]:
    """Learn a latent action space from trajectories.

    The space itself is learned from latents alone: the inverse dynamics and the forward model never see an action.
    The decoder, on latent actions that its error does not reach, is the only part that does.

    Args:
        world_model: Its latents are read, its weights stay.
        dataset: The data that the world model was trained on, or other data of the same environment.
        model: Shape and regulariser; the sizes of latents and actions are taken from the world model.
        training: Options.
        latents: ``[frames, D]`` of the dataset's frames, to train several spaces on one encoding; None encodes.
        run_dir: Where to keep the resumable state; see :func:`train_world_model`.
        logger: SB3 logger.
        on_step: Called with the network and the step after every update; returning False stops the training.
        progress: Show bars.

    Returns:
        The network in evaluation mode, its bounds measured on the training split, and the history
        ``name -> [(step, value), ...]``.

    Raises:
        ValueError: The dataset's actions or images do not fit the world model, or its episodes are too short.
    """
    training = training or LatentActionTrainingConfig()
    check_dataset_fits(world_model, dataset)
    sizes = world_model.config
    config = dataclasses.replace(
        model or LatentActionConfig(),
        latent_size=sizes.latent_size, action_size=sizes.action_size, action_block=sizes.action_block,
    )  # fmt: skip
    if latents is None:
        latents = encode_frames(world_model, dataset, progress=progress)
    drawn: dict[str, Any] = dict(blocks=training.blocks, first_fraction=training.first_fraction)

    def loss_of(network: LatentActions) -> Loss:
        def loss(data: TrajectoryDataset, size: int, rng: np.random.Generator) -> torch.Tensor:
            return latent_action_loss(network, draw_windows(world_model, data, latents, size=size, rng=rng, **drawn))

        return loss

    network, history = fit_head(
        f"latent-actions-{config.regulariser}-{config.size}", lambda: LatentActions(config), loss_of, world_model,
        dataset, latents, training, {"model": dataclasses.asdict(config)}, run_dir=run_dir, logger=logger,
        on_step=on_step, progress=progress,
    )  # fmt: skip
    train, _ = dataset.split(training.validation_fraction)
    windows = draw_windows(world_model, train, latents, 1, 20_000, np.random.default_rng(0))
    with torch.no_grad():
        network.measure(network.infer(windows.before, windows.z[:, 0], windows.z[:, 1]))
    return network, history


def latent_action_loss(network: LatentActions, windows: LatentWindows) -> torch.Tensor:
    """Error of the unrolled forward model, the regulariser's penalty, and the decoder's error, which stops at ``u``."""
    previous, z, z_next = windows.previous, windows.z[:, :-1], windows.z[:, 1:]
    u, penalty = network(previous.flatten(0, 1), z.flatten(0, 1), z_next.flatten(0, 1))
    u = u.unflatten(0, z.shape[:2])
    before, now, error = windows.before, windows.z[:, 0], torch.zeros((), device=u.device)
    for r in range(u.shape[1]):
        now, before = network.predict(before, now, u[:, r]), now
        error = error + (now - z_next[:, r]).square().mean()
    decoded = network.decode(previous, z, u.detach())
    return error / u.shape[1] + penalty + (decoded - windows.blocks).square().mean()
