"""Training macro-actions on frozen latents: from waypoint to waypoint of recorded trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wm_agents.configs import check_counts
from wm_agents.models import MacroActions, MacroActionsConfig, WorldModel
from wm_agents.training.heads import train_head
from wm_agents.training.learner import HeadLearner, LearnerConfig, Loss
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class MacroActionsTrainingConfig(LearnerConfig):
    """How macro-actions are trained: :class:`LearnerConfig` on consecutive stretches of random lengths.

    Attributes:
        steps: Gradient steps.
        batch_size: Trajectories per step.
        segments: Consecutive stretches of each trajectory.
    """

    steps: int = 2000
    batch_size: int = 128
    segments: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("segments",))


class MacroActionsLearner(HeadLearner):
    """Learns macro-actions and their results, by teacher forcing with an L1 loss (arXiv 2604.03208)."""

    head = MacroActions
    Training = MacroActionsTrainingConfig

    def needs(self) -> tuple[int, str]:
        segments, longest = self.config.segments, self.model.longest
        steps = segments * longest * self.world_model.spec.action_block
        return steps, f"{segments} stretches of {longest} blocks"

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        segments, network = self.config.segments, self.module
        assert isinstance(network, MacroActions)
        waypoints, blocks, lengths = self._stretches(data, size, segments, rng)
        z = self.latents[waypoints]
        macros = network.encode(blocks, lengths).unflatten(0, (size, segments))
        value = (network.predict(z[:, :-1], macros) - z[:, 1:]).abs().mean()
        return value, {self.key: value}

    def finish(self) -> None:
        """Fill the bank with macro-actions of the training data and the blocks that they begin with."""
        super().finish()
        network = self.module
        assert isinstance(network, MacroActions)
        rng = np.random.default_rng(self.config.seed)
        with torch.no_grad():
            _, blocks, lengths = self._stretches(self.train_data, self.model.bank_size, 1, rng)
            network.bank.copy_(network.encode(blocks, lengths))
            network.bank_blocks.copy_(blocks[:, 0])

    def _stretches(
        self, data: TrajectoryDataset, size: int, segments: int, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Frames of waypoints ``[B, segments + 1]``, blocks between ``[B*segments, longest, K*A]``, their lengths."""
        config, k = self.model, self.world_model.spec.action_block
        lengths = rng.integers(config.shortest, config.longest, (size, segments), endpoint=True)
        first = data.segments(size, segments * config.longest * k, rng)
        waypoints = first[:, None] + k * np.concatenate([np.zeros((size, 1), np.int64), lengths.cumsum(axis=1)], axis=1)
        steps = waypoints[:, :-1, None] + np.arange(config.longest * k)
        blocks = torch.from_numpy(data.actions[steps]).reshape(size * segments, config.longest, config.block_size)
        return (
            torch.from_numpy(waypoints),
            self.world_model.normalize(blocks.to(self.device)),
            torch.from_numpy(lengths.reshape(-1)).to(self.device),
        )


def train_macro_actions(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: MacroActionsConfig | None = None,
    training: MacroActionsTrainingConfig | None = None,
    **options: Any,
) -> tuple[MacroActions, History]:
    """Learn macro-actions; arguments, results and errors are those of :func:`train_head`."""
    return train_head("macro-actions", world_model, dataset, model, training, **options)
