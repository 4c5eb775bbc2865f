"""What the baselines that learn from recorded images share: options, images, networks, and the agent at the end."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.agents import GCIDM, WorldModelAgent
from wm_agents.checkpoint import versions
from wm_agents.configs import check_counts, check_numbers
from wm_agents.models import ActionStatistics, Head, InverseDynamics, InverseDynamicsConfig
from wm_agents.models.cloned import ClonedConfig, ClonedEncoder
from wm_agents.training import Learner, LearnerConfig, find_device
from wm_agents.training.checks import check_dataset
from wm_agents.training.gc_idm import action_errors

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

PAD = 3
"""Pixels by which a batch is shifted at most when it is augmented."""


@dataclass(frozen=True)
class OfflineTrainingConfig(LearnerConfig):
    """Options that all of these baselines have, with OGBench's values for images (arXiv 2410.20092, ``impls/``).

    Attributes:
        steps: Gradient steps. OGBench takes 500,000, on a GPU.
        batch_size: Samples per step.
        learning_rate: Largest learning rate.
        weight_decay: Weight decay of AdamW.
        width: Hidden units of each of a network's three layers.
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

    def shortened(self) -> OfflineTrainingConfig:
        """The same options for a run of seconds."""
        return dataclasses.replace(super().shortened(), batch_size=32)


class OfflineLearner(Learner):
    """Learns an encoder and a policy on its features together; a subclass has the loss.

    All follow OGBench's reference (arXiv 2410.20092) in goals, losses, constants, batch, augmentation, and width and
    depth of networks. They differ from it in three ways: frame and goal are encoded apart, where OGBench stacks their
    channels; the encoder is this library's small CNN, where OGBench has Impala's; and the learning rate follows this
    library's warm-up and cosine.

    Args:
        dataset: What to learn from.
        config: Options.
        device: "auto", "cpu", "cuda".
    """

    config: OfflineTrainingConfig

    def __init__(
        self,
        dataset: TrajectoryDataset,
        config: OfflineTrainingConfig | None = None,
        device: torch.device | str = "auto",
    ) -> None:
        check_dataset(dataset)
        super().__init__(dataset, config or self.Training(), find_device(device))
        size, actions = dataset.pixels.shape[1], dataset.actions.shape[1]
        self.shape = ClonedConfig(size, actions, encoder=self.config.encoder, choices=dataset.choices)
        self.longest = int(max(dataset.lengths))
        self.check()

    def build(self) -> nn.ModuleDict:
        data = self.dataset
        mean, std = self.train_data.action_mean_std()
        self.encoder = ClonedEncoder(self.shape, ActionStatistics(data.action_low, data.action_high, mean, std))
        self.policy: Any = self.make_policy(self.encoder.spec.feature_size)
        return nn.ModuleDict({"encoder": self.encoder, "policy": self.policy})

    def make_policy(self, features: int) -> Head:
        """The network that acts, on so many features of a frame."""
        return InverseDynamics(
            InverseDynamicsConfig(
                latent_size=features,
                action_size=self.shape.action_size,
                width=self.config.width,
                max_horizon=self.longest,
                lag=0,
                dropout=0.0,
                choices=self.shape.choices,
            )
        )

    def make_agent(self, device: torch.device | str) -> WorldModelAgent:
        """The agent that acts with what was learned."""
        return GCIDM(self.encoder, heads=[self.policy], horizon=None, device=device)

    def depends_on(self) -> dict[str, Any]:
        return {"model": dataclasses.asdict(self.shape)}

    def images(
        self, data: TrajectoryDataset, indices: tuple[np.ndarray, ...], rng: np.random.Generator
    ) -> tuple[torch.Tensor, ...]:
        """Images ``[B, H, W, C]`` of each row of indices; all are shifted alike where the batch is augmented."""
        pixels = torch.from_numpy(data.frames_at(np.concatenate(indices))).to(self.device)
        if self.module.training and rng.random() < self.config.augment:
            pixels = shifted(pixels, rng)
        return pixels.chunk(len(indices))

    def errors(self, predicted: torch.Tensor, actions: np.ndarray) -> torch.Tensor:
        """How far predicted actions are from the recorded ones, ``[B]``; see :func:`action_errors`."""
        return action_errors(predicted, torch.from_numpy(actions).to(self.device), self.shape.choices)

    def towards(self, z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Actions of an inverse dynamics model ``[B, A]`` towards goals at an unknown distance."""
        return self.policy(z, z, goal, torch.zeros(len(z), dtype=torch.int64, device=self.device))

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


def train_offline(
    kind: type[OfflineLearner],
    dataset: TrajectoryDataset,
    training: OfflineTrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    device: torch.device | str = "auto",
    progress: bool = True,
) -> Any:
    """Train a baseline on recorded images; the result acts, saves and loads like every agent of this library.

    Args:
        kind: Class of the learner.
        dataset: What to learn from; split by episode into training and validation.
        training: Options, of the learner's own class.
        run_dir: Keep a resumable state there.
        device: "auto", "cpu", "cuda".
        progress: Show a bar.

    Returns:
        The agent. Only what acts is kept: no values, no targets.

    Raises:
        ValueError: The data do not fit, or there is no such encoder or device.
        CheckpointError: ``run_dir`` holds a run with other data or options.
    """
    learner = kind(dataset, training, device)
    history = learner.fit(run_dir=run_dir, progress=progress)
    learner.finish()  # a run that was loaded as complete has not been stamped in this process
    agent = learner.make_agent(device)
    agent.env_id, agent.history = dataset.env_id, history
    agent.provenance = {
        "baseline": learner.name,
        "training": dataclasses.asdict(learner.config),
        "dataset": dataset.provenance,
        "seed": learner.config.seed,
        "versions": versions(),
    }
    return agent
