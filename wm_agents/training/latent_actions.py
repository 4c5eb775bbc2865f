"""Training latent action spaces on frozen latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wm_agents.configs import check_counts, check_numbers
from wm_agents.models import LatentActionConfig, LatentActions, WorldModel
from wm_agents.training.heads import train_head
from wm_agents.training.learner import HeadLearner, LearnerConfig, Loss
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class LatentActionTrainingConfig(LearnerConfig):
    """How a latent action space is trained: :class:`LearnerConfig` on unrolled windows.

    Attributes:
        batch_size: Windows per step.
        blocks: The forward model is unrolled over this many blocks, from its own predictions.
        first_fraction: Fraction of windows that show no earlier frame, as at the start of an episode.
    """

    batch_size: int = 256
    blocks: int = 4
    first_fraction: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("blocks",))
        check_numbers(self, ("first_fraction",), 0, 1)


class LatentActionLearner(HeadLearner):
    """Learns a latent action space from trajectories.

    The space itself is learned from latents alone: the inverse dynamics and the forward model never see an action.
    Only the decoder sees actions, and its error does not influence the latent actions.
    """

    head = LatentActions
    Training = LatentActionTrainingConfig

    def needs(self) -> tuple[int, str]:
        blocks = self.config.blocks
        return blocks * self.world_model.spec.action_block, f"windows of {blocks} blocks"

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        config = self.config
        windows = draw_windows(self.world_model, data, self.latents, config.blocks, size, rng, config.first_fraction)
        assert isinstance(self.module, LatentActions)
        value = latent_action_loss(self.module, windows)
        return value, {self.key: value}

    def finish(self) -> None:
        """Measure the space's units and bounds on the training data."""
        super().finish()
        network = self.module
        assert isinstance(network, LatentActions)
        windows = draw_windows(self.world_model, self.train_data, self.latents, 1, 20_000, np.random.default_rng(0))
        with torch.no_grad():
            network.measure(network.infer(windows.before, windows.z[:, 0], windows.z[:, 1]))


@dataclass(frozen=True)
class LatentWindows:
    """Latents K steps apart, and the action blocks between them.

    Attributes:
        frame: int64 ``[B]``, index in the dataset of the first of ``z``.
        before: ``[B, D]``, one block before the first of ``z``; the first of ``z`` itself if there was no earlier
            frame.
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
    world_model: WorldModel,
    data: TrajectoryDataset,
    latents: torch.Tensor,
    blocks: int,
    size: int,
    rng: np.random.Generator,
    first_fraction: float = 0.0,
) -> LatentWindows:
    """Draw windows of ``blocks`` action blocks, every one that fits into an episode equally likely.

    Args:
        world_model: Its block size and action statistics are used.
        data: One split.
        latents: ``[frames, D]``, of the whole dataset.
        blocks: R.
        size: B.
        rng: Source of randomness.
        first_fraction: Fraction of windows whose earlier frame is hidden.

    Raises:
        ValueError: No episode is long enough.
    """
    k = world_model.spec.action_block
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
    **options: Any,
) -> tuple[LatentActions, History]:
    """Learn a latent action space; arguments, results and errors are those of :func:`train_head`."""
    return train_head("latent-actions", world_model, dataset, model, training, **options)


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
