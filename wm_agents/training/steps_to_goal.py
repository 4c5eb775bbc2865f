"""Training the steps-to-goal head on frozen latents, real and imagined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from wm_agents.configs import check_counts, check_numbers
from wm_agents.models import StepsToGoal, StepsToGoalConfig, WorldModel
from wm_agents.training.heads import train_head
from wm_agents.training.learner import HeadLearner, LearnerConfig, Loss
from wm_agents.training.state import History
from wm_agents.training.temporal_distance import imagine

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class StepsToGoalTrainingConfig(LearnerConfig):
    """How the head is trained: :class:`LearnerConfig` on hindsight pairs.

    Attributes:
        near_fraction: Fraction of the pairs from one episode whose steps are drawn evenly on a logarithmic scale; the
            others are drawn evenly up to ``max_steps``.
        beyond_fraction: Fraction of all pairs that are two frames drawn at random from the whole data.
        imagined_fraction: Fraction of batches whose first latent the world model imagines from earlier frames and the
            recorded actions, because planners show the head imagined latents.
        imagined_blocks: Largest number of imagined blocks.
    """

    steps: int = 4000
    near_fraction: float = 0.5
    beyond_fraction: float = 0.2
    imagined_fraction: float = 0.3
    imagined_blocks: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, ("near_fraction", "beyond_fraction", "imagined_fraction"), 0, 1)
        check_counts(self, ("imagined_blocks",))


class StepsToGoalLearner(HeadLearner):
    """Learns the range of steps between two frames by cross-entropy."""

    head = StepsToGoal
    Training = StepsToGoalTrainingConfig

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        config = self.config
        frame, goal, steps = self._pairs(data, size, rng)
        if rng.random() < config.imagined_fraction:
            blocks = int(rng.integers(1, config.imagined_blocks + 1))
            z = imagine(self.world_model, data, self.latents, frame, blocks)
        else:
            z = self.latents[torch.from_numpy(frame)]
        logits = self.module(z, self.latents[torch.from_numpy(goal)])
        assert isinstance(self.module, StepsToGoal)
        target = self.module.range_of(torch.from_numpy(steps).to(z.device))
        value = F.cross_entropy(logits, target)
        return value, {self.key: value}

    def _pairs(
        self, data: TrajectoryDataset, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frames, goals and the steps between them, int64 ``[size]``; beyond ``max_steps`` for unrelated frames."""
        config, longest = self.config, self.model.max_steps
        pairs = data.hindsight(size, longest, rng)
        frame, episode = pairs.frame, data.episode_of(pairs.frame)
        most = np.minimum(data.starts[episode] + data.lengths[episode] - frame, longest)
        near = np.exp(rng.random(size) * np.log(most + 1)).astype(np.int64).clip(1, most)
        goal = frame + np.where(rng.random(size) < config.near_fraction, near, pairs.steps)
        unrelated = rng.random(size) < config.beyond_fraction
        goal[unrelated] = data.hindsight(size, 1, rng).frame[unrelated]
        later = (data.episode_of(goal) == episode) & (goal >= frame)
        return frame, goal, np.where(later, goal - frame, longest + 1)


def train_steps_to_goal(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: StepsToGoalConfig | None = None,
    training: StepsToGoalTrainingConfig | None = None,
    **options: Any,
) -> tuple[StepsToGoal, History]:
    """Learn the steps between frames; arguments, results and errors are those of :func:`train_head`."""
    return train_head("steps-to-goal", world_model, dataset, model, training, **options)
