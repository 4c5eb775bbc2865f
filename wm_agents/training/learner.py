"""What is trained: a learner says what its network is and what a batch costs; ``run.py`` does the rest."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import nn

from wm_agents.configs import check_counts, check_numbers
from wm_agents.models import Head, WorldModel
from wm_agents.training.latents import check_dataset_fits, encode_frames
from wm_agents.training.run import run
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

Callback = Callable[["Learner", int], bool | None]
"""Called with the learner and the step after every update; returning False stops the training."""


@dataclass(frozen=True)
class LearnerConfig:
    """What every training has in common (arXiv 2605.08732: AdamW, clip 1, cosine schedule after a warm-up).

    Attributes:
        steps: Gradient steps.
        batch_size: Samples per step.
        learning_rate: Peak, after a warm-up over the first 1% of the steps.
        weight_decay: Of AdamW.
        clip_norm: Largest gradient norm.
        validation_fraction: Of the episodes, held out; the split depends on nothing else.
        evaluate_every: Steps between validations.
        checkpoint_minutes: Minutes between saves of the resumable state; it is saved at every validation, too.
        seed: Of initial weights, samples and dropout.
    """

    steps: int = 3000
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    validation_fraction: float = 0.1
    evaluate_every: int = 500
    checkpoint_minutes: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self, ("steps", "batch_size", "evaluate_every"))
        check_counts(self, ("seed",), least=0)
        check_numbers(self, ("learning_rate", "clip_norm"), above=True)
        check_numbers(self, ("weight_decay", "checkpoint_minutes"))
        check_numbers(self, ("validation_fraction",), 0, 0.9)


class Learner(ABC):
    """One network in training.

    Args:
        dataset: What to learn from; split by episode into training and validation data.
        config: Options.
        device: Where to train.

    Attributes:
        module: What is trained and saved, once :meth:`build` was called.
    """

    name: ClassVar[str]
    """Names the resumable state, the metrics and the progress bar."""
    stream: ClassVar[int] = 3
    """Sets the learner's random numbers apart from those of others with the same seed."""
    final_rate: ClassVar[float] = 0.01
    """Learning rate at the end, as a part of the peak."""
    module: nn.Module

    def __init__(self, dataset: TrajectoryDataset, config: LearnerConfig, device: torch.device) -> None:
        self.dataset = dataset
        self.config = config
        self.device = device
        self.train_data, self.validation_data = dataset.split(config.validation_fraction)

    @abstractmethod
    def build(self) -> nn.Module:
        """Make what is trained; called once, after seeding."""

    @abstractmethod
    def loss(
        self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of a batch, a scalar, and its parts by name.

        Args:
            data: The split to draw from.
            size: Samples.
            rng: Source of randomness for what is drawn.
            generator: Source of randomness on the CPU for what torch samples.
        """

    @abstractmethod
    def depends_on(self) -> dict[str, Any]:
        """Everything beside data and options that the result depends on, as JSON types: shapes, hashes of weights."""

    def validate(self) -> dict[str, float]:
        """Metrics on held-out episodes, the same samples at every call; the first one is shown beside the bar."""
        generator = torch.Generator().manual_seed(0)
        value, _ = self.loss(self.validation_data, 2048, np.random.default_rng(0), generator)
        return {f"validation/{self.name.replace('-', '_')}": float(value)}

    def finish(self) -> None:
        """What is left to do after the last step."""

    def fit(
        self,
        *,
        run_dir: str | Path | None = None,
        logger: Logger | None = None,
        callback: Callback | None = None,
        progress: bool = True,
    ) -> History:
        """Train; see :func:`wm_agents.training.run.run`."""
        return run(self, run_dir=run_dir, logger=logger, callback=callback, progress=progress)


class HeadLearner(Learner):
    """A head in training on the frozen latents of a world model.

    Args:
        world_model: Its latents are read, its weights stay.
        dataset: Of the environment that the world model knows.
        model: Shape of the network; the sizes of latents and actions are taken from the world model.
        training: Options.
        heads: Other heads of the same world model, for learners that read them.
        progress: Show a bar while frames are encoded.

    Raises:
        ValueError: The dataset's actions or images do not fit the world model.
    """

    head: ClassVar[type[Head]]
    Training: ClassVar[type[Any]] = LearnerConfig

    def __init__(
        self,
        world_model: WorldModel,
        dataset: TrajectoryDataset,
        model: Any = None,
        training: Any = None,
        *,
        heads: Mapping[str, Head] | None = None,
        progress: bool = True,
    ) -> None:
        check_dataset_fits(world_model, dataset)
        super().__init__(dataset, training or self.Training(), world_model.action_mean.device)
        self.world_model = world_model
        self.heads = dict(heads or {})
        self.model = sized(model or self.head.Config(), world_model)
        self.check()
        self.latents = encode_frames(world_model, dataset, progress=progress)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "head" in cls.__dict__ and "name" not in cls.__dict__:
            cls.name = cls.head.name

    def check(self) -> None:
        """Raise ``ValueError`` where the data or the options do not suit; called before anything expensive."""

    def build(self) -> nn.Module:
        return self.head(self.model)

    def depends_on(self) -> dict[str, Any]:
        return {"model": dataclasses.asdict(self.model), "world model": weights_hash(self.world_model)}

    def finish(self) -> None:
        assert isinstance(self.module, Head)
        self.module.stamp(self.world_model)


def sized(config: Any, world_model: WorldModel) -> Any:
    """A head's configuration with the sizes that the world model has; only fields that the configuration has."""
    spec = world_model.spec
    sizes = {
        "latent_size": spec.feature_size,
        "action_size": spec.action_size,
        "action_block": spec.action_block,
        "block_size": spec.block_size,
    }
    known = {field.name for field in dataclasses.fields(config)}
    properties = {name: value for name, value in sizes.items() if name in known}
    return dataclasses.replace(config, **properties)


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over all tensors of a module, the same on every device."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
