"""Training small networks ("heads") on the frozen latents of a world model: one loop for all of them."""

from __future__ import annotations

import dataclasses
import weakref
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import nn

from wm_agents.models import WorldModel
from wm_agents.training.common import TrainingState, held_interrupt, progress_bar, set_learning_rate, warmup_cosine
from wm_agents.training.symmetry import view_pixels

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

History = dict[str, list[tuple[int, float]]]
_kept: weakref.WeakKeyDictionary[TrajectoryDataset, tuple[Any, torch.Tensor]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class HeadTrainingConfig:
    """What the training of every head has in common (arXiv 2605.08732: AdamW, clip 1, cosine to 1% of the peak).

    Attributes:
        steps: Gradient steps.
        batch_size: Samples per step.
        learning_rate: Peak.
        weight_decay: Of AdamW.
        clip_norm: Largest gradient norm.
        validation_fraction: Of the episodes, held out; the same split as the world model's.
        evaluate_every: Steps between validations.
        seed: Of initial weights, samples and dropout.
    """

    steps: int = 3000
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    validation_fraction: float = 0.1
    evaluate_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError("training needs at least 1 step and 1 sample per batch.")


class Loss(Protocol):
    """What a head minimises."""

    def __call__(self, data: TrajectoryDataset, size: int, rng: np.random.Generator) -> torch.Tensor:
        """Return the loss of one batch of ``size`` samples, drawn from ``data`` with ``rng``."""
        ...


@torch.no_grad()
def encode_frames(
    world_model: WorldModel, dataset: TrajectoryDataset, *, view: int = 0, progress: bool = True, batch_size: int = 512
) -> torch.Tensor:
    """Encode every frame of the dataset's split, in one of the views of :mod:`wm_agents.training.symmetry`.

    As one head after another asks for the images as they are, the last answer for a dataset is kept with it.

    Returns ``[frames, D]`` by index; rows of other frames stay zero. Not to be changed.
    """
    device = world_model.action_mean.device
    parts = [*world_model.encoder.state_dict().values(), *world_model.projector.state_dict().values()]
    weights = zlib.crc32(b"".join(part.cpu().numpy().tobytes() for part in parts))
    encoder = (device, weights)
    world_model.eval()
    if view == 0 and dataset in _kept and _kept[dataset][0] == encoder:
        return _kept[dataset][1]
    latents = torch.zeros(len(dataset.pixels), world_model.config.latent_size, device=device)
    indices = dataset.frame_indices()
    with progress_bar("encoding frames", len(indices), 0, progress) as update:
        for start in range(0, len(indices), batch_size):
            rows = indices[start : start + batch_size]
            pixels = np.ascontiguousarray(view_pixels(dataset.pixels[rows], view))
            latents[torch.from_numpy(rows)] = world_model.encode(torch.from_numpy(pixels).to(device))
            update(start + len(rows))
    if view == 0:
        _kept[dataset] = (encoder, latents)
    return latents


def check_dataset_fits(world_model: WorldModel, dataset: TrajectoryDataset) -> None:
    """Raise ``ValueError`` unless the dataset's actions are of the world model's size."""
    if dataset.actions.shape[1] != world_model.config.action_size:
        raise ValueError(
            f"{dataset.name} has actions of size {dataset.actions.shape[1]}, the world model was trained with "
            f"{world_model.config.action_size}: fit on data of the world model's environment."
        )


def fit_head(
    name: str,
    make: Callable[[], nn.Module],
    loss_of: Callable[[Any], Loss],
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    latents: torch.Tensor,
    training: HeadTrainingConfig,
    fingerprint: dict[str, Any],
    *,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    on_step: Callable[[Any, int], bool] | None = None,
    progress: bool = True,
) -> tuple[Any, History]:
    """Train one head; the last weights are kept.

    Args:
        name: Of the head, with hyphens; names its resumable state, metrics and progress bar.
        make: Builds the network; called after seeding.
        loss_of: Makes the :class:`Loss` of a network.
        world_model: Its device is used.
        dataset: Split by episode into training and validation data.
        latents: ``[frames, D]``, the latents of the dataset's frames; only their sum of squares is used, to tell a
            run on another world model apart.
        training: Options.
        fingerprint: What else tells this run from others, beside ``training``, data and latents.
        run_dir: Keep a resumable state there; None keeps none.
        logger: SB3 logger.
        on_step: Called with the network and the step after every update; returning False stops the training.
        progress: Show a bar.

    Returns:
        The network in evaluation mode, and the history ``name -> [(step, value), ...]``.
    """
    device = world_model.action_mean.device
    train, validation = dataset.split(training.validation_fraction)
    torch.manual_seed(training.seed)
    network = make().to(device)
    loss = loss_of(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    rng = np.random.default_rng([training.seed, 3])
    generator = torch.Generator().manual_seed(training.seed)
    fingerprint = {
        **fingerprint,
        "training": dataclasses.asdict(training),
        "data": dataset.provenance.get("sha256", dataset.name),
        "latents": float(latents.double().square().sum()),
    }
    state = TrainingState(Path(run_dir) / f"{name}.safetensors" if run_dir else None, fingerprint)
    step, history = state.restore(network, optimizer, rng, generator)
    key = name.replace("-", "_")

    def save() -> None:
        state.save(step, network, optimizer, rng, generator, history)

    warmup = max(1, training.steps // 100)
    with (
        progress_bar(name.replace("-", " "), training.steps, step, progress) as update,
        held_interrupt() as interrupted,
    ):
        while step < training.steps and not interrupted():
            factor = warmup_cosine(step, training.steps, warmup, final=0.01)
            set_learning_rate(optimizer, training.learning_rate * factor)
            value = loss(train, training.batch_size, rng)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
            optimizer.step()
            step += 1
            update(step)
            if step % training.evaluate_every == 0 or step == training.steps:
                network.eval()
                with torch.no_grad():
                    held_out = float(loss(validation, 2048, np.random.default_rng(0)))
                network.train()
                metrics = {f"train/{key}": float(value.detach()), f"validation/{key}": held_out}
                for metric, number in metrics.items():
                    history.setdefault(metric, []).append((step, number))
                    if logger is not None:
                        logger.record(metric, number)
                if logger is not None:
                    logger.dump(step)
                update(step, f"validation loss {held_out:.3f}")
                save()
            if on_step is not None and not on_step(network, step):
                break
    save()
    if interrupted():
        raise KeyboardInterrupt
    return network.eval(), history
