"""Training the goal-conditioned inverse dynamics model on frozen latents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from wm_agents.models import InverseDynamics, InverseDynamicsConfig, WorldModel
from wm_agents.training.common import TrainingState, held_interrupt, progress_bar, set_learning_rate, warmup_cosine

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

History = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class InverseDynamicsTrainingConfig:
    """How GC-IDM is trained (arXiv 2605.08732: AdamW, weight decay 1e-4, clip 1, cosine to 1% of the peak).

    Attributes:
        steps: Gradient steps.
        batch_size: Hindsight pairs per step.
        learning_rate: Peak.
        weight_decay: Of AdamW.
        clip_norm: Largest gradient norm.
        validation_fraction: Of the episodes, held out; the same split as the world model's.
        unknown_fraction: Of the pairs whose distance is hidden from the network.
        discount: Weight per step of distance where the distance is hidden: near goals show the direct way to far ones.
        evaluate_every: Steps between validations.
        seed: Of initial weights, pairs and dropout.
    """

    steps: int = 3000
    batch_size: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    validation_fraction: float = 0.1
    unknown_fraction: float = 0.5
    discount: float = 0.99
    evaluate_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError("training needs at least 1 step and 1 pair per batch.")


@torch.no_grad()
def encode_frames(
    world_model: WorldModel, dataset: TrajectoryDataset, *, progress: bool = True, batch_size: int = 512
) -> torch.Tensor:
    """Encode every frame of the dataset's split; rows of other frames stay zero. Returns ``[frames, D]`` by index."""
    device = world_model.action_mean.device
    latents = torch.zeros(len(dataset.pixels), world_model.config.latent_size, device=device)
    indices = dataset.frame_indices()
    world_model.eval()
    with progress_bar("encoding frames", len(indices), 0, progress) as update:
        for start in range(0, len(indices), batch_size):
            rows = indices[start : start + batch_size]
            latents[torch.from_numpy(rows)] = world_model.encode(torch.from_numpy(dataset.pixels[rows]).to(device))
            update(start + len(rows))
    return latents


def train_inverse_dynamics(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: InverseDynamicsConfig | None = None,
    training: InverseDynamicsTrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    on_step: Callable[[InverseDynamics, int], bool] | None = None,
    progress: bool = True,
) -> tuple[InverseDynamics, History]:
    """Learn actions from hindsight goals: frame ``i``, a later frame of its episode, the action taken at ``i``.

    The action error is no measure of control (the paper's R2 is 0.2 at 100% success: many actions lead to a far
    goal), so the last weights are kept, not those of the lowest validation error.

    Args:
        world_model: Its latents are read, its weights stay.
        dataset: The data that the world model was trained on, or other data of the same environment.
        model: Shape of the network; sizes of latents and actions are taken from the world model.
        training: Options.
        run_dir: Where to keep the resumable state; see :func:`train_world_model`.
        logger: SB3 logger.
        on_step: Called with the network and the step after every update; returning False stops the training.
        progress: Show bars.

    Returns:
        The network in evaluation mode, and the history ``name -> [(step, value), ...]``.

    Raises:
        ValueError: The dataset's actions or images do not fit the world model.
    """
    training = training or InverseDynamicsTrainingConfig()
    sizes = world_model.config
    if dataset.actions.shape[1] != sizes.action_size:
        raise ValueError(
            f"{dataset.name} has actions of size {dataset.actions.shape[1]}, the world model was trained with "
            f"{sizes.action_size}: fit on data of the world model's environment."
        )
    config = dataclasses.replace(
        model or InverseDynamicsConfig(), latent_size=sizes.latent_size, action_size=sizes.action_size
    )
    device = world_model.action_mean.device
    train, validation = dataset.split(training.validation_fraction)
    latents = encode_frames(world_model, dataset, progress=progress)

    torch.manual_seed(training.seed)
    network = InverseDynamics(config).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    rng = np.random.default_rng([training.seed, 3])
    generator = torch.Generator().manual_seed(training.seed)
    fingerprint = {
        "model": dataclasses.asdict(config),
        "training": dataclasses.asdict(training),
        "data": dataset.provenance.get("sha256", dataset.name),
        "latents": float(latents.double().square().sum()),
    }
    state = TrainingState(Path(run_dir) / "inverse-dynamics.safetensors" if run_dir else None, fingerprint)
    step, history = state.restore(network, optimizer, rng, generator)

    def error(data: TrajectoryDataset, size: int, source: np.random.Generator) -> torch.Tensor:
        pairs = data.hindsight(size, config.max_horizon, source)
        # Frames near an episode's start have a shorter past, and so has any agent's first step: show both often.
        first = data.starts[np.searchsorted(data.starts, pairs.frame, side="right") - 1]
        lag = np.where(source.random(size) < 0.1, source.integers(0, config.lag + 1, size), config.lag)
        before = np.maximum(pairs.frame - lag, first)
        hidden = source.random(size) < training.unknown_fraction
        weights = np.where(hidden, training.discount ** pairs.steps.astype(np.float64), 1.0)
        if hidden.any():
            weights[hidden] /= weights[hidden].mean()
        predicted = network(
            latents[torch.from_numpy(pairs.frame)],
            latents[torch.from_numpy(before)],
            latents[torch.from_numpy(pairs.goal)],
            torch.from_numpy(np.where(hidden, 0, pairs.steps)).to(device),
        )
        errors = (predicted - torch.from_numpy(pairs.actions).to(device)).square().mean(dim=1)
        return (errors * torch.from_numpy(weights.astype(np.float32)).to(device)).mean()

    def save() -> None:
        state.save(step, network, optimizer, rng, generator, history)

    warmup = max(1, training.steps // 100)
    with progress_bar("inverse dynamics", training.steps, step, progress) as update, held_interrupt() as interrupted:
        while step < training.steps and not interrupted():
            factor = warmup_cosine(step, training.steps, warmup, final=0.01)
            set_learning_rate(optimizer, training.learning_rate * factor)
            loss = error(train, training.batch_size, rng)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
            optimizer.step()
            step += 1
            update(step)
            if step % training.evaluate_every == 0 or step == training.steps:
                network.eval()
                with torch.no_grad():
                    held_out = float(error(validation, 2048, np.random.default_rng(0)))
                network.train()
                metrics = {"train/inverse_dynamics": float(loss.detach()), "validation/inverse_dynamics": held_out}
                for name, number in metrics.items():
                    history.setdefault(name, []).append((step, number))
                    if logger is not None:
                        logger.record(name, number)
                if logger is not None:
                    logger.dump(step)
                update(step, f"val action MSE {held_out:.3f}")
                save()
            if on_step is not None and not on_step(network, step):
                break
    save()
    if interrupted():
        raise KeyboardInterrupt
    return network.eval(), history
