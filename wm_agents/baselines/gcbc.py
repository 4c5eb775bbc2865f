"""Goal-conditioned behaviour cloning from pixels, the usual baseline on the data that world models learn from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.agents import GCIDM
from wm_agents.checkpoint import versions
from wm_agents.configs import check_counts, check_numbers
from wm_agents.models import ActionStatistics, InverseDynamics, InverseDynamicsConfig
from wm_agents.models.cloned import ClonedConfig, ClonedEncoder
from wm_agents.training import Learner, LearnerConfig, find_device
from wm_agents.training.checks import check_dataset
from wm_agents.training.gc_idm import action_errors
from wm_agents.training.learner import Loss

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

PAD = 3
"""Pixels by which a batch is shifted at most when it is augmented."""


@dataclass(frozen=True)
class GCBCTrainingConfig(LearnerConfig):
    """How GCBC is trained: :class:`LearnerConfig`, with OGBench's values for images (arXiv 2410.20092, ``impls/``).

    Attributes:
        steps: Gradient steps. OGBench takes 500,000, on a GPU.
        batch_size: Pairs per step.
        learning_rate: Largest learning rate.
        weight_decay: Weight decay of AdamW.
        width: Hidden units of each of the policy's three layers.
        encoder: One of ``wm_agents.registry.ENCODERS``.
        augment: Part of the batches whose images, goals among them, are all shifted alike by up to 3 pixels.
    """

    steps: int = 10_000
    batch_size: int = 256
    learning_rate: float = 3e-4
    weight_decay: float = 0.0
    width: int = 512
    encoder: str = "conv"
    augment: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("width",))
        check_numbers(self, ("augment",), 0, 1)

    def shortened(self) -> GCBCTrainingConfig:
        """The same options for a run of seconds."""
        return dataclasses.replace(super().shortened(), batch_size=32)


class GCBCLearner(Learner):
    """Learns the recorded actions towards later frames of their episode, and the encoder with them.

    Args:
        dataset: What to learn from.
        config: Options.
        device: "auto", "cpu", "cuda".
    """

    name = "gcbc"
    stream = 5
    Training = GCBCTrainingConfig
    config: GCBCTrainingConfig

    def __init__(
        self, dataset: TrajectoryDataset, config: GCBCTrainingConfig | None = None, device: torch.device | str = "auto"
    ) -> None:
        check_dataset(dataset)
        super().__init__(dataset, config or self.Training(), find_device(device))
        size, actions = dataset.pixels.shape[1], dataset.actions.shape[1]
        self.shape = ClonedConfig(size, actions, encoder=self.config.encoder, choices=dataset.choices)
        self.longest = int(max(dataset.lengths))
        self.check()

    def build(self) -> nn.ModuleDict:
        data, shape = self.dataset, self.shape
        mean, std = self.train_data.action_mean_std()
        self.encoder = ClonedEncoder(shape, ActionStatistics(data.action_low, data.action_high, mean, std))
        self.policy = InverseDynamics(
            InverseDynamicsConfig(
                latent_size=self.encoder.spec.feature_size,
                action_size=shape.action_size,
                width=self.config.width,
                max_horizon=self.longest,
                lag=0,
                dropout=0.0,
                choices=shape.choices,
            )
        )
        return nn.ModuleDict({"encoder": self.encoder, "policy": self.policy})

    def depends_on(self) -> dict[str, Any]:
        return {"model": dataclasses.asdict(self.shape)}

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        pairs = data.hindsight(size, self.longest, rng)  # goals are uniform over the rest of the episode
        pixels = torch.from_numpy(data.frames_at(np.concatenate([pairs.frame, pairs.goal]))).to(self.device)
        if self.module.training and rng.random() < self.config.augment:
            pixels = shifted(pixels, rng)
        z, goal = self.encoder.encode(pixels).chunk(2)
        unknown = torch.zeros(size, dtype=torch.int64, device=self.device)
        predicted = self.policy(z, z, goal, unknown)
        error = action_errors(predicted, torch.from_numpy(pairs.actions).to(self.device), self.shape.choices).mean()
        return error, {self.key: error}

    def validate(self) -> dict[str, float]:
        # Fewer samples than for heads, whose images are encoded beforehand.
        error, _ = self.loss(self.validation_data, 512, np.random.default_rng(0), torch.Generator())
        return {f"validation/{self.key}": float(error)}

    def finish(self) -> None:
        self.policy.stamp(self.encoder)


def shifted(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return images ``[B, H, W, C]``, all shifted by the same few pixels; their edges are repeated."""
    height, width = pixels.shape[1:3]
    padded = F.pad(pixels.permute(0, 3, 1, 2).float(), (PAD,) * 4, mode="replicate").to(pixels.dtype)
    top, left = rng.integers(0, 2 * PAD, 2, endpoint=True)
    return padded[:, :, top : top + height, left : left + width].permute(0, 2, 3, 1).contiguous()


def train_gcbc(
    dataset: TrajectoryDataset,
    training: GCBCTrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    device: torch.device | str = "auto",
    progress: bool = True,
) -> GCIDM:
    """Train goal-conditioned behaviour cloning; the result acts, saves and loads like every agent of this library.

    It is GC-IDM without what makes GC-IDM more than cloning: the encoder is no world model's, but is trained end to end
    with the policy; no distance is known; and one frame is seen, so no velocity. It follows OGBench's GCBC on images
    (arXiv 2410.20092) in goals, loss, batch, learning rate, augmentation, and width and depth of the policy. It differs
    in three ways: frame and goal are encoded apart, where OGBench stacks their channels; the encoder is this library's
    small CNN, where OGBench has Impala's; and the learning rate follows this library's warm-up and cosine.

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
    return trained_agent(GCBCLearner(dataset, training, device), run_dir, device, progress)


def trained_agent(
    learner: GCBCLearner, run_dir: str | Path | None, device: torch.device | str, progress: bool
) -> GCIDM:
    """Train and return the agent that acts with what was learned."""
    history = learner.fit(run_dir=run_dir, progress=progress)
    learner.finish()  # a run that was loaded as complete has not been stamped in this process
    agent = GCIDM(learner.encoder, heads=[learner.policy], horizon=None, device=device)
    agent.env_id, agent.history = learner.dataset.env_id, history
    agent.provenance = {
        "baseline": learner.name,
        "training": dataclasses.asdict(learner.config),
        "dataset": learner.dataset.provenance,
        "seed": learner.config.seed,
        "versions": versions(),
    }
    return agent
