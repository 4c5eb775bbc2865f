"""Training a world model from images without rewards."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import nn

from wm_agents.configs import check_counts
from wm_agents.losses import (
    LatentBatch,
    LearnedLossTerm,
    LossTerm,
    LossWeights,
    make_losses,
    objective_weights,
    split_options,
)
from wm_agents.models import ActionStatistics, LeWMConfig, WorldModel
from wm_agents.registry import WORLD_MODELS, did_you_mean
from wm_agents.training.balance import Balance
from wm_agents.training.checks import check_dataset, check_kinds, check_terms, check_without_actions
from wm_agents.training.device import find_device
from wm_agents.training.learner import Callback, Learner, LearnerConfig, Loss
from wm_agents.training.probe import effective_dimension, position_probes, spread
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

COLLAPSE_STD = 0.1
Precision = Literal["auto", "fp32", "bf16"]


class CollapseWarning(UserWarning):
    """The latents have almost no spread: the encoder maps every image to nearly the same point."""


class UntrainedWarning(UserWarning):
    """A part of the world model gets no gradient from any loss term."""


@dataclass(frozen=True)
class TrainingConfig(LearnerConfig):
    """How a world model is trained. Optimiser and schedule follow LeWorldModel (arXiv 2603.19312) at CPU scale.

    Attributes:
        steps: Gradient steps.
        batch_size: Windows per step.
        weight_decay: Weight decay of AdamW.
        evaluate_every: Steps between validations.
        frames: T, frames per window. If it is not larger than the model's ``history``, the predictor never sees a full
            history, which it does see in planning: train it further with :func:`train_predictor` then.
        loss_weights: Weight of each loss term by name, or weight and options,
            ``{"sigreg": {"weight": 0.09, "directions": 1024}}``; None uses the kind's own. A weight "auto" is found
            in training, from the sizes of gradients. SIGReg's effective strength grows with ``batch_size``.
        precision: "fp32", "bf16", or "auto" (bf16 on a GPU).
    """

    steps: int = 1500
    batch_size: int = 64
    weight_decay: float = 1e-3
    evaluate_every: int = 250
    frames: int = 4
    loss_weights: LossWeights | None = None
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("batch_size", "frames"), least=2)
        if self.loss_weights is not None:
            split_options(self.loss_weights, changes=True)
        if self.precision not in get_args(Precision):
            raise ValueError(did_you_mean("precision", str(self.precision), get_args(Precision)))


class WorldModelLearner(Learner):
    """A world model of any kind in training.

    Args:
        dataset: What to learn from.
        model: Configuration of a kind of world model, or the kind's name.
        training: Options.
        device: "auto", "cpu", "cuda".
    """

    name = "world-model"
    stream = 1
    final_rate = 0.0
    config: TrainingConfig
    Training: ClassVar[type] = TrainingConfig
    fetches: bool = True
    """Whether the world model gets weights from elsewhere first; not if it goes on from weights that it has."""

    def __init__(
        self,
        dataset: TrajectoryDataset,
        model: Any = None,
        training: TrainingConfig | None = None,
        *,
        device: torch.device | str = "auto",
    ) -> None:
        training = TrainingConfig() if training is None else training
        check_kinds(dataset, training, TrainingConfig)
        check_dataset(dataset)
        self.kind: Any
        self.kind, config = kind_of(model or LeWMConfig())
        sizes = {"image_size": dataset.pixels.shape[1], "action_size": dataset.actions.shape[1]}
        if dataset.choices:
            if not hasattr(config, "choices"):
                raise ValueError(f"{type(config).__name__} has no field choices, so it knows no discrete actions.")
            sizes["choices"] = dataset.choices
        self.model = dataclasses.replace(config, **sizes)
        weights = self.kind.losses if training.loss_weights is None else training.loss_weights
        if not weights:
            raise ValueError(f"{self.kind.__name__} has no loss terms of its own: choose another kind of world model.")
        self.loss_weights = weights
        super().__init__(dataset, training, find_device(device))
        self.check()

    def build(self) -> nn.Module:
        data, seed = self.dataset, self.config.seed
        mean, std = self.train_data.action_mean_std()
        self.world_model = self.kind(self.model, ActionStatistics(data.action_low, data.action_high, mean, std))
        if self.fetches:
            self.world_model.fetch()
        self.terms: dict[str, LossTerm] = make_losses(self.loss_weights, self.kind.losses)
        frames = self.train_data.frame_indices()
        sample = np.random.default_rng([seed, 4]).choice(frames, min(1000, len(frames)), False)
        for term in self.terms.values():
            if isinstance(term, LearnedLossTerm):
                term.prepare(self.world_model.spec, torch.from_numpy(data.frames_at(np.sort(sample))))
        weights = {name: weight for name, (weight, _) in split_options(self.loss_weights).items() if weight}
        self.balance = Balance(weights)
        learned = {name: term for name, term in self.terms.items() if isinstance(term, nn.Module)}
        automatic = {"automatic weights": self.balance} if self.balance.automatic else {}
        return nn.ModuleDict({"world_model": self.world_model, **learned, **automatic})

    @property
    def result(self) -> WorldModel:
        return self.world_model

    def check(self) -> None:
        """Raise ``ValueError`` if data or options do not fit, or a loss term is unknown or needs what they lack."""
        super().check()
        terms = make_losses(self.loss_weights, self.kind.losses)  # made anew after seeding
        check_terms(terms, self.train_data, self.config.frames)
        if not self.kind.reads_actions:
            check_without_actions(terms, self.kind.__name__)

    def needs(self) -> tuple[int, str]:
        frames = self.config.frames
        return (frames - 1) * self.model.action_block, f"windows of {frames} frames"

    def depends_on(self) -> dict[str, Any]:
        return {"kind": WORLD_MODELS.name_of(self.kind), "model": dataclasses.asdict(self.model)}

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        values, self.z, _ = self._losses(data, size, rng, generator)
        self.balance.update(values, self.z)
        return self.balance(values), values

    def check_gradients(self) -> None:
        """Warn of parts of the world model that no loss term trains."""
        idle = []
        for name, part in self.world_model.named_children():
            weights = [weight for weight in part.parameters() if weight.requires_grad]
            if weights and all(weight.grad is None for weight in weights):
                idle.append(name)
        if idle:
            terms = ", ".join(self.balance.given)
            warnings.warn(
                f"none of the loss terms ({terms}) trains the world model's {' and '.join(idle)}, so it stays random. "
                "Planners need a term about the future, such as 'prediction'.",
                UntrainedWarning,
                stacklevel=2,
            )

    def _losses(
        self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, np.ndarray]:
        """Each term, the features ``[B, T, F]``, and the simulator's states ``[B, T, S]``."""
        window = data.windows(size, self.config.frames, self.world_model.spec.action_block, rng)
        pixels = torch.from_numpy(window.pixels).to(self.device)
        actions = self.world_model.normalize(torch.from_numpy(window.actions).to(self.device))
        with autocast(self.device, self.config.precision):
            batch = self.world_model.learn(pixels, actions, generator)
        progress = self.progress if self.world_model.training else 1.0
        batch = dataclasses.replace(batch, rollout=functools.partial(self._rollout, batch), progress=progress)
        # A kind's own term goes before a registered one of the same name.
        own, names = batch.own, self.balance.given
        return {name: own[name] if name in own else self.terms[name](batch) for name in names}, batch.z, window.states

    def _rollout(self, batch: LatentBatch, seen: int = 1, blocks: int | None = None) -> torch.Tensor:
        """Features ``[B, blocks, F]`` imagined from the first frames of a window; see :class:`LatentBatch`."""
        model = self.world_model
        past, future = batch.actions[:, : seen - 1], batch.actions[:, seen - 1 :][:, :blocks]
        with autocast(self.device, self.config.precision):
            state = model.remember(model.unflatten(batch.z[:, :seen]), past)
            return model.features(model.imagine(state, future.unsqueeze(1)))[:, 0].float()

    def validate(self) -> dict[str, float]:
        """Validation loss, latent spread, and linear probes where the data have simulator states."""
        batch_z = self.z.detach()
        generator = torch.Generator().manual_seed(0)
        values, z, states = self._losses(self.validation_data, 256, np.random.default_rng(0), generator)
        metrics = {"validation/loss": float(self.balance(values)), "latent/std": spread(z)}
        metrics |= {f"validation/{name}": float(value) for name, value in values.items()}
        metrics["latent/dimension"] = effective_dimension(z)
        weights = self.balance.weights()
        metrics |= {f"weight/{name}": weights[name] for name in self.balance.automatic}
        # The batch's own spread too: early on, BatchNorm's moving averages lag and make the other look small.
        # Latents of fixed weights cannot collapse.
        if self.z.requires_grad and max(metrics["latent/std"], spread(batch_z)) < COLLAPSE_STD:
            warnings.warn(
                f"latents have collapsed: their standard deviation is {metrics['latent/std']:.3f}, below "
                f"{COLLAPSE_STD}. Raise the weight of the regulariser.",
                CollapseWarning,
                stacklevel=2,
            )
        if states.shape[-1]:
            _, train_z, train_states = self._losses(self.train_data, 256, np.random.default_rng(1), generator)
            metrics |= position_probes(train_z, train_states, z, states, self.dataset.state_names)
        return metrics

    def finish(self) -> None:
        """Replace BatchNorm's moving averages, which lag behind the weights, by means over fresh batches."""
        self.world_model.train()
        norms = [part for part in self.world_model.modules() if isinstance(part, nn.BatchNorm1d) and part.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
        rng, generator = np.random.default_rng([self.config.seed, 2]), torch.Generator().manual_seed(self.config.seed)
        with torch.no_grad():
            for _ in range(20 if norms else 0):
                self._losses(self.train_data, self.config.batch_size, rng, generator)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.world_model.eval()


def train_world_model(
    dataset: TrajectoryDataset,
    model: Any = None,
    training: TrainingConfig | None = None,
    *,
    objective: str | None = None,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    callback: Callback | None = None,
    device: torch.device | str = "auto",
    progress: bool = True,
) -> tuple[WorldModel, History]:
    """Learn encoder and predictor from windows of frames and action blocks; no reward, no goal.

    Args:
        dataset: What to learn from; split by episode into training and validation.
        model: Configuration of a kind of world model (:class:`wm_agents.models.LeWMConfig` is the default), or the
            kind's name: "lewm", "patch", "dino-wm", "rssm" or "video-lewm"; ``action_size`` and ``image_size`` are
            taken from the data.
        training: Options.
        objective: What to train for, a name in ``wm_agents.registry.TRAINING_OBJECTIVES`` such as "smwm"; the weights
            in ``training.loss_weights`` change single terms of it. None trains for ``training.loss_weights`` alone.
        run_dir: Where to keep the resumable state; see :func:`wm_agents.training.run.run`.
        logger: SB3 logger for losses, latent spread and probes.
        callback: Called with the learner and the step after every update; returning False stops the training.
        device: "auto", "cpu", "cuda".
        progress: Show a bar.

    Returns:
        The world model in evaluation mode, and the history ``name -> [(step, value), ...]``.

    Raises:
        ValueError: The episodes are shorter than a window, an objective, a loss term or a kind is unknown, or a term
            needs more frames than a window has, or actions that change.
        CheckpointError: ``run_dir`` holds a run with other options.
        DivergedError: The loss became NaN or infinite.
    """
    if objective is not None:
        training = training or TrainingConfig()
        weights = objective_weights(objective, training.loss_weights)
        training = dataclasses.replace(training, loss_weights=weights)
    learner = WorldModelLearner(dataset, model, training, device=device)
    history = learner.fit(run_dir=run_dir, logger=logger, callback=callback, progress=progress)
    return learner.result, history


def kind_of(model: Any) -> tuple[type[WorldModel], Any]:
    """The kind of world model that a name or a configuration stands for, and the configuration.

    Raises:
        ValueError: An unknown name, or an object that is not a configuration of a registered kind.
    """
    if isinstance(model, str):
        kind = WORLD_MODELS.get(model)
        return kind, kind.Config()
    for name in WORLD_MODELS:
        if type(model) is (kind := WORLD_MODELS.get(name)).Config:
            return kind, model
    raise ValueError(
        f"{type(model).__name__} is not a configuration of a world model: give one of the names "
        f"{', '.join(WORLD_MODELS)}, or a configuration such as wm_agents.LeWMConfig()."
    )


def autocast(device: torch.device, precision: str) -> Any:
    """bf16 autocast when ``precision`` is "bf16", or "auto" on a GPU; else full precision.

    On a CPU with native bf16, training is only a tenth faster (docs/benchmarks.md). So "auto" uses float32 there, and
    results do not depend on the processor's abilities.
    """
    enabled = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
