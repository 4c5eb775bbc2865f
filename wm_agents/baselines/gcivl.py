"""Goal-conditioned implicit value learning from pixels: offline reinforcement learning on recorded images."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from wm_agents.agents import GCIDM
from wm_agents.baselines.offline import OfflineLearner, OfflineTrainingConfig, train_offline
from wm_agents.configs import check_numbers
from wm_agents.models.encoders import make_encoder
from wm_agents.models.heads.hiql import perceptron
from wm_agents.training.learner import Loss

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

CURRENT, FUTURE = 0.2, 0.5
"""Parts of the goals of values that are the frame itself, and a later one of its episode; the others are any frame."""
MOST = 100.0
"""Largest weight of an action."""


@dataclass(frozen=True)
class GCIVLTrainingConfig(OfflineTrainingConfig):
    """How GCIVL is trained: :class:`OfflineTrainingConfig`, with OGBench's values (arXiv 2410.20092, ``impls/``).

    Attributes:
        discount: Of values; also sets how far ahead their goals lie.
        expectile: Of the values of actions that the value of a frame is.
        temperature: How much more an action counts that raises the value.
        target_rate: Part of the values' weights by which those of their targets follow at each step.
    """

    discount: float = 0.99
    expectile: float = 0.9
    temperature: float = 10.0
    target_rate: float = 0.005

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, ("discount", "expectile"), 0, 0.9999, above=True)
        check_numbers(self, ("temperature",))
        check_numbers(self, ("target_rate",), 0, 1, above=True)


class Values(nn.Module):
    """Two estimates of minus the discounted steps from frames to goals, on an encoder of their own.

    Args:
        encoder: Name in ``wm_agents.registry.ENCODERS``.
        image_size: Height and width of the images, in pixels.
        width: Hidden units of each of three layers.
        goal_size: Numbers by which a goal is known; None: its features.
    """

    def __init__(self, encoder: str, image_size: int, width: int, goal_size: int | None = None) -> None:
        super().__init__()
        self.encoder = make_encoder(encoder, image_size)
        inputs = self.encoder.features + (goal_size or self.encoder.features)
        self.estimates = nn.ModuleList(perceptron(inputs, width, 1) for _ in range(2))

    def forward(self, z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Values ``[2, B]`` of encoded frames and goals ``[B, features]``."""
        pairs = torch.cat([z, goal], dim=-1)
        return torch.stack([estimate(pairs).squeeze(-1) for estimate in self.estimates])


class GCIVLLearner(OfflineLearner):
    """Learns values of frames towards goals, and clones those actions most that raise the value.

    The reward of a step is -1 until the frame is the goal: hindsight alone, no reward of the task. Values are an
    expectile of what follows in the data (implicit Q-learning without actions); an action's weight in cloning is the
    exponential of how much the value rises over its step.
    """

    name = "gcivl"
    stream = 6
    Training = GCIVLTrainingConfig
    config: GCIVLTrainingConfig

    def build(self) -> nn.ModuleDict:
        module = super().build()
        self.values = self.make_values()
        self.targets = copy.deepcopy(self.values).requires_grad_(False)
        module.update({"value": self.values, "target": self.targets})
        return module

    def make_values(self) -> Values:
        """The values to learn."""
        return Values(self.config.encoder, self.shape.image_size, self.config.width)

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        if self.module.training:
            self._follow()
        frame = data.segments(size, 1, rng)
        near, far = self._goals(data, frame, rng)
        now, then, near_goal, far_goal = self.images(data, (frame, frame + 1, near, far), rng)
        value = self._value_loss(now, then, near_goal, torch.from_numpy(frame == near).to(self.device))
        errors = self._errors(self.towards(self.encoder.encode(now), self.encoder.encode(far_goal)), data, frame)
        with torch.no_grad():
            weights = self._weights(*(self.values.encoder(images) for images in (now, then, far_goal)))
        policy = (weights * errors).mean()
        return value + policy, {self.key: value + policy, "value": value, "policy": policy}

    def _value_loss(
        self, now: torch.Tensor, then: torch.Tensor, goal: torch.Tensor, there: torch.Tensor
    ) -> torch.Tensor:
        """The expectile loss of both estimates, each towards its own target; ``there [B]``: the frame is the goal."""
        with torch.no_grad():
            z, z_next, z_goal = (self.targets.encoder(images) for images in (now, then, goal))
            following = self.targets(z_next, z_goal)
            reward, left = there.float() - 1, self.config.discount * (~there).float()
            advantage = reward + left * following.amin(dim=0) - self.targets(z, z_goal).mean(dim=0)
            wanted = reward + left * following
        found = self.values(self.values.encoder(now), self.values.encoder(goal))
        weight = torch.where(advantage >= 0, self.config.expectile, 1 - self.config.expectile)
        return (weight * (wanted - found).square()).mean(dim=1).sum()

    @torch.no_grad()
    def _weights(self, z: torch.Tensor, z_later: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Weights ``[B]`` of what led from a frame to a later one, by how much the value of the goal rose.

        All are features ``[B, features]`` of the values' encoder.
        """
        rise = (self.values(z_later, goal) - self.values(z, goal)).mean(dim=0)
        return (self.config.temperature * rise).exp().clamp(max=MOST)

    def _errors(self, predicted: torch.Tensor, data: TrajectoryDataset, frame: np.ndarray) -> torch.Tensor:
        """Minus the log-probability of the recorded actions ``[B]``; Gaussians have a standard deviation of 1."""
        errors = self.errors(predicted, data.actions[frame])
        return errors if self.shape.choices else errors * predicted.shape[1] / 2

    def _goals(
        self, data: TrajectoryDataset, frame: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Goals of values and of actions, indices ``[B]``."""
        episode = data.episode_of(frame)
        last = data.starts[episode] + data.lengths[episode]
        later = np.minimum(frame + rng.geometric(1 - self.config.discount, len(frame)), last)
        anywhere = rng.choice(data.frame_indices(), len(frame))
        chance = rng.random(len(frame))
        near = np.where(chance < CURRENT, frame, np.where(chance < CURRENT + FUTURE, later, anywhere))
        return near, rng.integers(frame + 1, last, endpoint=True)

    @torch.no_grad()
    def _follow(self) -> None:
        for target, weight in zip(self.targets.parameters(), self.values.parameters(), strict=True):
            target.lerp_(weight, self.config.target_rate)


def train_gcivl(dataset: TrajectoryDataset, training: GCIVLTrainingConfig | None = None, **options: Any) -> GCIDM:
    """Train goal-conditioned implicit value learning; arguments and errors are those of :func:`train_offline`."""
    return train_offline(GCIVLLearner, dataset, training, **options)
