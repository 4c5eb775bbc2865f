"""Learners: each defines its network and the loss of a batch; ``run.py`` does the rest."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import nn

from wm_agents.configs import check_counts, check_numbers
from wm_agents.models import Head, WorldModel
from wm_agents.training.checks import check_kinds
from wm_agents.training.latents import check_dataset_fits, encode_frames
from wm_agents.training.run import run
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

Callback = Callable[["Learner", int], bool | None]
"""Called with the learner and the step after every update; returning False stops the training."""

Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""The loss of a batch, a scalar, and its parts by name."""

C = TypeVar("C", bound="SplitConfig")

VALIDATION_SAMPLES = 2048


@dataclass(frozen=True)
class SplitConfig:
    """Options of everything that is made from data.

    Attributes:
        validation_fraction: Fraction of the episodes that is held out. The split depends on nothing else.
        seed: Seed of everything that is drawn or sampled.
    """

    validation_fraction: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self, ("seed",), least=0)
        check_numbers(self, ("validation_fraction",), 0, 0.9, above=True)

    def shortened(self: C) -> C:
        """The same options for a run of seconds, that shows the parts move and no more."""
        return self


@dataclass(frozen=True)
class LearnerConfig(SplitConfig):
    """Options of every training (arXiv 2605.08732: AdamW, clip 1, cosine schedule after a warm-up).

    Attributes:
        steps: Gradient steps.
        batch_size: Samples per step.
        learning_rate: Largest learning rate, reached after a warm-up over the first 1% of the steps.
        weight_decay: Weight decay of AdamW.
        clip_norm: Largest gradient norm.
        evaluate_every: Steps between validations.
        checkpoint_minutes: Minutes between saves of the resumable state. It is also saved at every validation.
    """

    steps: int = 3000
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    evaluate_every: int = 500
    checkpoint_minutes: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("steps", "batch_size", "evaluate_every"))
        check_numbers(self, ("learning_rate", "clip_norm"), above=True)
        check_numbers(self, ("weight_decay", "checkpoint_minutes"))

    def shortened(self: C) -> C:
        return dataclasses.replace(self, steps=30, evaluate_every=10)  # type: ignore[call-arg]


class ShortEpisodesError(ValueError):
    """No episode is as long as the samples that are learnt from."""


class Learner(ABC):
    """One network in training.

    Args:
        dataset: What to learn from; split by episode into training and validation data.
        config: Options.
        device: Where to train.

    Attributes:
        module: The network that is trained and saved; it exists after :meth:`build`.
    """

    name: ClassVar[str]
    """Names the resumable state, the metrics and the progress bar."""
    Training: ClassVar[type[Any]] = LearnerConfig
    """Class of the options."""
    stream: ClassVar[int] = 3
    """Sets the learner's random numbers apart from those of others with the same seed."""
    final_rate: ClassVar[float] = 0.01
    """Learning rate at the end, as a part of the peak."""
    progress: float = 0.0
    """Part of the training that is done, from 0 to 1."""
    module: nn.Module
    config: Any

    def __init__(self, dataset: TrajectoryDataset, config: Any, device: torch.device) -> None:
        self.dataset = dataset
        self.config = config
        self.device = device
        self.train_data, self.validation_data = dataset.split(config.validation_fraction)

    @abstractmethod
    def build(self) -> nn.Module:
        """Make what is trained; called once, after seeding."""

    @abstractmethod
    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        """Return the loss of a batch.

        Args:
            data: The split to draw from.
            size: Samples.
            rng: Source of randomness for what is drawn.
            generator: Source of randomness on the CPU for what torch samples.
        """

    def check_gradients(self) -> None:  # noqa: B027
        """Look at the gradients of the first step: does the loss train every part?"""

    @abstractmethod
    def depends_on(self) -> dict[str, Any]:
        """Everything except data and options that the result depends on, as JSON types: shapes, hashes of weights."""

    def needs(self) -> tuple[int, str]:
        """Actions that an episode must hold for the longest sample, and what that is: ``30, "windows of 7 frames"``."""
        return 1, "single steps"

    def check(self) -> None:
        """Raise ``ValueError`` if data or options do not fit; called before anything expensive."""
        needed, what = self.needs()
        for data, purpose in ((self.train_data, "training"), (self.validation_data, "validation")):
            longest = max(data.lengths, default=0)
            if longest < needed:
                raise ShortEpisodesError(
                    f"{self.name} learns from {what}, {needed} actions, but the longest episode of {data.name} that is "
                    f"kept for {purpose} has {longest}: learn from fewer at once, or record longer episodes."
                )

    def validate(self) -> dict[str, float]:
        """Metrics on held-out episodes, with the same samples at every call; the first one is shown with the bar."""
        generator = torch.Generator().manual_seed(0)
        value, _ = self.loss(self.validation_data, VALIDATION_SAMPLES, np.random.default_rng(0), generator)
        return {f"validation/{self.key}": float(value)}

    def finish(self) -> None:  # noqa: B027 - most have nothing left to do
        """Finish the module after the last step."""

    @property
    def key(self) -> str:
        """The name as metrics have it."""
        return self.name.replace("-", "_")

    @property
    def result(self) -> Any:
        """The result: a world model or a head."""
        return self.module

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


class LatentLearner(Learner):
    """Learns on the frozen latents of a world model.

    Args:
        world_model: The world model; it does not change.
        dataset: Data of the environment on which the world model was trained.
        model: Shape of the network; the sizes of latents and actions are taken from the world model.
        training: Options.
        heads: Heads on the same world model, for learners that read some.
        progress: Show a bar while frames are encoded.

    Attributes:
        heads: Those that :attr:`reads` names.
        latents: ``[frames, F]``, features of the dataset's frames.

    Raises:
        ValueError: The dataset does not fit the world model or the options, or a head is missing.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    """Names of the heads that it reads."""

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
        training = self.Training() if training is None else training
        check_kinds(dataset, training, self.Training)
        check_dataset_fits(world_model, dataset)
        super().__init__(dataset, training, world_model.action_mean.device)
        self.world_model = world_model
        self.model = self.shape(model)
        for name in self.reads:
            if name not in (heads or {}):
                raise ValueError(f"{self.name} reads the head {name!r}: train it first, and pass it in heads=.")
        self.heads = {name: (heads or {})[name] for name in self.reads}
        for head in self.heads.values():
            head.check(world_model)
        self.check()
        self.latents = self.encode(progress)

    def shape(self, model: Any) -> Any:
        """The configuration of the network to make; None where one is trained further."""
        if model is not None:
            raise ValueError(f"{self.name} trains a network further, and that keeps its shape: leave model out.")
        return None

    def encode(self, progress: bool) -> torch.Tensor:
        """Features ``[frames, F]`` of the dataset's frames."""
        return encode_frames(self.world_model, self.dataset, progress=progress)

    def depends_on(self) -> dict[str, Any]:
        weights = {"world model": weights_hash(self.world_model)}
        return weights | {name: weights_hash(head) for name, head in self.heads.items()}


class HeadLearner(LatentLearner):
    """A head in training; see :class:`LatentLearner`."""

    head: ClassVar[type[Head]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "head" in cls.__dict__ and "name" not in cls.__dict__:
            cls.name = cls.head.name

    def shape(self, model: Any) -> Any:
        return sized(model or self.head.Config(), self.world_model)

    def build(self) -> nn.Module:
        return self.head(self.model)

    def depends_on(self) -> dict[str, Any]:
        return {"model": dataclasses.asdict(self.model), **super().depends_on()}

    def finish(self) -> None:
        assert isinstance(self.result, Head)
        self.result.stamp(self.world_model)


def sized(config: Any, world_model: WorldModel) -> Any:
    """A head's configuration with the sizes that the world model has; only fields that the configuration has."""
    spec = world_model.spec
    sizes = {
        "latent_size": spec.feature_size,
        "image_size": spec.image_size,
        "action_size": spec.action_size,
        "action_block": spec.action_block,
        "block_size": spec.block_size,
        "choices": spec.choices,
    }
    known = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{name: value for name, value in sizes.items() if name in known})


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over all tensors of a module, the same on every device."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
