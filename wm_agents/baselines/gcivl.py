"""Goal-conditioned implicit value learning from pixels: offline reinforcement learning on recorded images."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from wm_agents.agents import GCIDM
from wm_agents.baselines.gcbc import GCBCLearner, GCBCTrainingConfig, shifted, trained_agent
from wm_agents.configs import check_numbers
from wm_agents.models.encoders import make_encoder
from wm_agents.training.gc_idm import action_errors
from wm_agents.training.learner import Loss

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

CURRENT, FUTURE = 0.2, 0.5
"""Parts of the goals of values that are the frame itself, and a later one of its episode; the others are any frame."""
MOST = 100.0
"""Largest weight of an action."""


@dataclass(frozen=True)
class GCIVLTrainingConfig(GCBCTrainingConfig):
    """How GCIVL is trained: :class:`GCBCTrainingConfig`, with OGBench's values (arXiv 2410.20092, ``impls/``).

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
    """

    def __init__(self, encoder: str, image_size: int, width: int) -> None:
        super().__init__()
        self.encoder = make_encoder(encoder, image_size)
        sizes = (2 * self.encoder.features, width, width, width)
        self.estimates = nn.ModuleList(
            nn.Sequential(
                *(
                    layer
                    for inputs, outputs in itertools.pairwise(sizes)
                    for layer in (nn.Linear(inputs, outputs), nn.GELU(), nn.LayerNorm(outputs))
                ),
                nn.Linear(width, 1),
            )
            for _ in range(2)
        )

    def forward(self, z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Values ``[2, B]`` of encoded frames and goals ``[B, features]``."""
        pairs = torch.cat([z, goal], dim=-1)
        return torch.stack([estimate(pairs).squeeze(-1) for estimate in self.estimates])


class GCIVLLearner(GCBCLearner):
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
        self.values = Values(self.config.encoder, self.shape.image_size, self.config.width)
        self.targets = copy.deepcopy(self.values).requires_grad_(False)
        module.update({"value": self.values, "target": self.targets})
        return module

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        if self.module.training:
            self._follow()
        frame = data.segments(size, 1, rng)
        near, far = self._goals(data, frame, rng)
        now, then, near_goal, far_goal = self._images(data, (frame, frame + 1, near, far), rng)
        value = self._value_loss(now, then, near_goal, torch.from_numpy(frame == near).to(self.device))
        with torch.no_grad():
            z, z_next, goal = (self.values.encoder(images) for images in (now, then, far_goal))
            rise = (self.values(z_next, goal) - self.values(z, goal)).mean(dim=0)
            weight = (self.config.temperature * rise).exp().clamp(max=MOST)
        z, goal = self.encoder.encode(now), self.encoder.encode(far_goal)
        predicted = self.policy(z, z, goal, torch.zeros(size, dtype=torch.int64, device=self.device))
        actions = torch.from_numpy(data.actions[frame]).to(self.device)
        errors = action_errors(predicted, actions, self.shape.choices)
        if not self.shape.choices:
            errors = errors * actions.shape[1] / 2  # minus the log-probability of a Gaussian of deviation 1
        policy = (weight * errors).mean()
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

    def _images(
        self, data: TrajectoryDataset, indices: tuple[np.ndarray, ...], rng: np.random.Generator
    ) -> tuple[torch.Tensor, ...]:
        """Images ``[B, H, W, C]`` of each row of indices; all are shifted alike where the batch is augmented."""
        pixels = torch.from_numpy(data.frames_at(np.concatenate(indices))).to(self.device)
        if self.module.training and rng.random() < self.config.augment:
            pixels = shifted(pixels, rng)
        return pixels.chunk(len(indices))

    @torch.no_grad()
    def _follow(self) -> None:
        for target, weight in zip(self.targets.parameters(), self.values.parameters(), strict=True):
            target.lerp_(weight, self.config.target_rate)


def train_gcivl(
    dataset: TrajectoryDataset,
    training: GCIVLTrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    device: torch.device | str = "auto",
    progress: bool = True,
) -> GCIDM:
    """Train goal-conditioned implicit value learning; the result acts, saves and loads like every agent.

    It follows OGBench's GCIVL on images (arXiv 2410.20092) in losses, goals, constants, augmentation, and width and
    depth of all networks, and differs as :func:`wm_agents.baselines.train_gcbc` does: frame and goal are encoded apart,
    by this library's small CNN, and the learning rate follows this library's warm-up and cosine. The values are not
    kept, since the policy alone acts.

    Args:
        dataset: What to learn from; split by episode into training and validation.
        training: Options.
        run_dir: Keep a resumable state there.
        device: "auto", "cpu", "cuda".
        progress: Show a bar.

    Raises:
        ValueError: The data do not fit, or there is no such encoder or device.
        CheckpointError: ``run_dir`` holds a run with other data or options.
    """
    return trained_agent(GCIVLLearner(dataset, training, device), run_dir, device, progress)
