"""Training a world model from reward-free pixels."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import get_device
from torch import nn

from wm_agents.losses import LOSSES, LatentBatch, LearnedLossTerm, LossTerm
from wm_agents.models.world_model import ActionStatistics, WorldModel, WorldModelConfig
from wm_agents.training.common import (
    TrainingState,
    autocast,
    held_interrupt,
    progress_bar,
    set_learning_rate,
    warmup_cosine,
)
from wm_agents.training.probe import linear_probe_r2, probe_targets

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset
    from wm_agents.types import Window

History = dict[str, list[tuple[int, float]]]
COLLAPSE_STD = 0.1


class CollapseWarning(UserWarning):
    """The latents have next to no spread: the encoder maps every image to one point."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a world model is trained. Optimiser and schedule follow LeWorldModel (arXiv 2603.19312) at CPU scale.

    Attributes:
        steps: Gradient steps.
        batch_size: Windows per step.
        frames: T, frames per window. With no more than the model's ``history`` the predictor never sees a full one,
            which planners show it: train it further with :func:`train_predictor` then.
        learning_rate: Peak, after a warm-up over the first 1% of the steps; then a cosine to 0.
        weight_decay: Of AdamW.
        clip_norm: Largest gradient norm.
        loss_weights: Weight of each loss term, by name. SIGReg's effective strength grows with ``batch_size``.
        validation_fraction: Of the episodes, held out.
        evaluate_every: Steps between validations.
        checkpoint_minutes: Minutes between saves of the resumable state.
        precision: "fp32", "bf16", or "auto" (bf16 on a GPU).
        seed: Of initial weights, batches, projections and dropout.
    """

    steps: int = 1500
    batch_size: int = 64
    frames: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    loss_weights: dict[str, float] = field(default_factory=lambda: {"prediction": 1.0, "sigreg": 0.09})
    validation_fraction: float = 0.1
    evaluate_every: int = 250
    checkpoint_minutes: float = 2.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2 or self.frames < 2:
            raise ValueError("training needs at least 1 step, 2 windows per batch and 2 frames per window.")
        if not self.loss_weights:
            raise ValueError(f"loss_weights is empty: give a weight to at least one of {', '.join(LOSSES)}.")


def train_world_model(
    dataset: TrajectoryDataset,
    model: WorldModelConfig | None = None,
    training: TrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    device: torch.device | str = "auto",
    progress: bool = True,
) -> tuple[WorldModel, History]:
    """Learn encoder and predictor from windows of frames and action blocks; no reward, no goal.

    With a ``run_dir`` the state is saved every few minutes and on Ctrl-C, and a later call with the same arguments
    goes on from there; on the same machine it ends with the weights of an uninterrupted run.

    Args:
        dataset: What to learn from; split by episode into training and validation.
        model: Shape of the networks; ``action_size`` and ``image_size`` are taken from the data.
        training: Options.
        run_dir: Where to keep the resumable state.
        logger: SB3 logger for losses, latent spread and probes.
        device: "auto", "cpu", "cuda".
        progress: Show a bar.

    Returns:
        The world model in evaluation mode, and the history ``name -> [(step, value), ...]``.

    Raises:
        ValueError: The episodes are shorter than a window, or a loss term is unknown.
        CheckpointError: ``run_dir`` holds a run with other options.
    """
    training = training or TrainingConfig()
    config = dataclasses.replace(
        model or WorldModelConfig(), image_size=dataset.pixels.shape[1], action_size=dataset.actions.shape[1]
    )
    target = get_device(device)
    train, validation = dataset.split(training.validation_fraction)
    mean, std = train.action_mean_std()
    torch.manual_seed(training.seed)
    world_model = WorldModel(config, ActionStatistics(dataset.action_low, dataset.action_high, mean, std)).to(target)
    terms: dict[str, LossTerm] = {name: LOSSES.get(name)() for name in training.loss_weights}
    sample = np.random.default_rng([training.seed, 4]).choice(train.frame_indices(), min(1000, train.frames), False)
    for term in terms.values():
        if isinstance(term, LearnedLossTerm):
            term.prepare(config, torch.from_numpy(dataset.pixels[np.sort(sample)]))
    learned = {name: term for name, term in terms.items() if isinstance(term, nn.Module)}
    trained = nn.ModuleDict({"world_model": world_model, **learned}).to(target)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    rng = np.random.default_rng([training.seed, 1])
    generator = torch.Generator().manual_seed(training.seed)
    fingerprint = {
        "model": dataclasses.asdict(config),
        "training": dataclasses.asdict(training),
        "data": dataset.provenance.get("sha256", dataset.name),
    }
    state = TrainingState(Path(run_dir) / "training.safetensors" if run_dir else None, fingerprint)
    step, history = state.restore(trained, optimizer, rng, generator)

    def losses(window: Window) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        pixels = torch.from_numpy(window.pixels).to(target)
        actions = world_model.normalize(torch.from_numpy(window.actions).to(target))
        with autocast(target, training.precision):
            z = world_model.encode(pixels)
            predicted = world_model(z[:, :-1], actions)
        batch = LatentBatch(z, predicted, actions, pixels, generator)
        values = {name: term(batch) for name, term in terms.items()}
        total = torch.stack([training.loss_weights[name] * value for name, value in values.items()]).sum()
        return total, values, z

    def batch_of(data: TrajectoryDataset, size: int, source: np.random.Generator) -> Window:
        return data.windows(size, training.frames, config.action_block, source)

    def save() -> None:
        state.save(step, trained, optimizer, rng, generator, history)

    saved = time.monotonic()
    warmup = max(1, training.steps // 100)
    with progress_bar("world model", training.steps, step, progress) as update, held_interrupt() as interrupted:
        while step < training.steps and not interrupted():
            set_learning_rate(optimizer, training.learning_rate * warmup_cosine(step, training.steps, warmup))
            total, values, z = losses(batch_of(train, training.batch_size, rng))
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            nn.utils.clip_grad_norm_(trained.parameters(), training.clip_norm)
            optimizer.step()
            step += 1
            update(step)
            if step % training.evaluate_every == 0 or step == training.steps:
                metrics = {f"train/{name}": float(value.detach()) for name, value in values.items()}
                metrics |= _validate(world_model, train, validation, batch_of, losses)
                for name, number in metrics.items():
                    history.setdefault(name, []).append((step, number))
                _log(logger, metrics, step)
                update(step, f"val {metrics['validation/loss']:.3f}  probe R2 {metrics['probe/position']:.2f}")
                # The batch's own spread too: early on, BatchNorm's moving averages lag and make the other look small.
                if max(metrics["latent/std"], _spread(z.detach())) < COLLAPSE_STD:
                    warnings.warn(
                        f"latents have collapsed at step {step}: their standard deviation is "
                        f"{metrics['latent/std']:.3f}, below {COLLAPSE_STD}. Raise the weight of the regulariser.",
                        CollapseWarning,
                        stacklevel=2,
                    )
            if time.monotonic() - saved > 60 * training.checkpoint_minutes:
                save()
                saved = time.monotonic()
    save()
    if interrupted():
        raise KeyboardInterrupt
    fresh = np.random.default_rng([training.seed, 2])
    _recalibrate(world_model, lambda: losses(batch_of(train, training.batch_size, fresh)))
    return world_model.eval(), history


def _validate(
    world_model: WorldModel,
    train: TrajectoryDataset,
    validation: TrajectoryDataset,
    batch_of: Callable[[TrajectoryDataset, int, np.random.Generator], Window],
    losses: Callable[[Window], tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]],
) -> dict[str, float]:
    """Validation loss, latent spread and linear probes, on windows that are the same at every call."""
    world_model.eval()
    with torch.no_grad():
        window, reference = (
            batch_of(data, 256, np.random.default_rng(seed)) for seed, data in enumerate((validation, train))
        )
        total, values, z = losses(window)
        _, _, train_z = losses(reference)
    world_model.train()
    metrics = {"validation/loss": float(total), "latent/std": _spread(z)}
    metrics |= {f"validation/{name}": float(value) for name, value in values.items()}
    fit, names = probe_targets(reference.states.reshape(-1, reference.states.shape[-1]), train.state_names)
    test, _ = probe_targets(window.states.reshape(-1, window.states.shape[-1]), train.state_names)
    r2 = dict(zip(names, linear_probe_r2(train_z.flatten(0, 1), fit, z.flatten(0, 1), test), strict=True))
    metrics |= {f"probe/{name}": float(value) for name, value in r2.items()}
    positions = [value for name, value in r2.items() if not name.startswith("v")]
    return metrics | {"probe/position": float(np.median(positions))}  # median: some entries hardly vary


def _spread(z: torch.Tensor) -> float:
    """Standard deviation of latents ``[B, T, D]``, averaged over the dimensions."""
    return float(z.flatten(0, 1).std(dim=0).mean())


def _recalibrate(world_model: WorldModel, forward: Callable[[], object], batches: int = 20) -> None:
    """Replace BatchNorm's moving averages, which lag behind the weights, by means over fresh batches."""
    norms = [m for m in world_model.modules() if isinstance(m, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    world_model.train()
    with torch.no_grad():
        for _ in range(batches):
            forward()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _log(logger: Logger | None, metrics: dict[str, float], step: int) -> None:
    if logger is not None:
        for name, value in metrics.items():
            logger.record(name, value)
        logger.dump(step)
