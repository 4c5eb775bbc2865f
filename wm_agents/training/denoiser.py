"""Training the action denoiser on frozen latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from wm_agents.configs import check_numbers
from wm_agents.models import Denoiser, DenoiserConfig, WorldModel
from wm_agents.planning.ddim import signal_and_noise
from wm_agents.training.gc_idm import frames_before
from wm_agents.training.heads import train_head
from wm_agents.training.learner import HeadLearner, LearnerConfig, Loss
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class DenoiserTrainingConfig(LearnerConfig):
    """How the denoiser is trained: :class:`LearnerConfig` on hindsight pairs.

    Attributes:
        steps: Gradient steps.
        hidden_fraction: Fraction of pairs whose goal is hidden from the network (classifier-free guidance).
        discount: Weight per step of distance: near goals show the direct way to far ones.
    """

    steps: int = 4000
    hidden_fraction: float = 0.1
    discount: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, ("hidden_fraction",), 0, 1)
        check_numbers(self, ("discount",), 0, 1, above=True)


class DenoiserLearner(HeadLearner):
    """Learns action sequences from hindsight goals: frame ``i``, a later one, the actions from ``i`` on.

    The network estimates the clean sequence (arXiv 2204.06125 found that to work better than the noise) at levels
    drawn evenly from [0, 1] of the cosine schedule; what comes after the goal or the episode's end does not count.
    """

    head = Denoiser
    Training = DenoiserTrainingConfig

    def build(self) -> nn.Module:
        actions = torch.from_numpy(np.asarray(self.dataset.actions)).to(self.device)
        self.normalized = self.world_model.normalize(actions)
        return super().build()

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        config, latents, device = self.model, self.latents, self.device
        pairs = data.hindsight(size, config.max_horizon, rng)
        episode = np.searchsorted(data.starts, pairs.frame, side="right") - 1
        last = data.starts[episode] + data.lengths[episode]
        before = frames_before(data, pairs.frame, config.lag, rng)
        index = pairs.frame[:, None] + np.arange(config.horizon * self.world_model.spec.action_block)
        clean = self.normalized[torch.from_numpy(np.minimum(index, last[:, None]))]
        counts = index < pairs.goal[:, None]  # what comes after the goal does not count
        weights = counts * (self.config.discount ** pairs.steps.astype(np.float64))[:, None]
        weights /= weights.sum()

        # Levels and noise come from NumPy's stream too, so that validations are alike.
        level = torch.from_numpy(rng.random(size, np.float32)).to(device)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32)).to(device)
        signal, share = (part[:, None, None] for part in signal_and_noise(level))
        hidden = torch.from_numpy(rng.random(size) < self.config.hidden_fraction).to(device)
        frames = (latents[torch.from_numpy(rows)] for rows in (pairs.frame, before, pairs.goal))
        blocks = (signal * clean + share * noise).reshape(size, 1, config.horizon, config.block_size)
        estimate = self.module(blocks, level, *frames, hidden).reshape(clean.shape)
        errors = (estimate - clean).square().mean(dim=-1)
        value = (errors * torch.from_numpy(weights.astype(np.float32)).to(device)).sum()
        return value, {self.key: value}


def train_denoiser(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: DenoiserConfig | None = None,
    training: DenoiserTrainingConfig | None = None,
    **options: Any,
) -> tuple[Denoiser, History]:
    """Learn action sequences; arguments, results and errors are those of :func:`train_head`."""
    return train_head("denoiser", world_model, dataset, model, training, **options)
