"""The training loop of all learners: train mode, seeds, resume, Ctrl-C, validation and logging."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import nn

from wm_agents.training.device import own_modes
from wm_agents.training.display import held_interrupt, progress_bar
from wm_agents.training.state import History, Progress, TrainingState

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset
    from wm_agents.training.learner import Callback, Learner

FOLDER = "training"
"""Where the resumable states lie in a run's directory, one file per learner."""


class DivergedError(RuntimeError):
    """A loss, a gradient or a metric became NaN or infinite; in the saved state, all were still finite."""


def run(
    learner: Learner,
    *,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    callback: Callback | None = None,
    progress: bool = True,
) -> History:
    """Train ``learner.module``; the last weights are kept.

    With a ``run_dir`` the state is saved at every validation, every few minutes and on Ctrl-C, and a later call with
    the same arguments continues from there. It ends with the weights of an uninterrupted run, on the same machine with
    the same number of threads.

    Args:
        learner: What to train.
        run_dir: Keep the resumable state in ``run_dir/training/NAME.safetensors``; None keeps none.
        logger: SB3 logger for the metrics.
        callback: Called with the learner and the step after every update; returning False stops the training.
        progress: Show a bar.

    Returns:
        The history ``name -> [(step, value), ...]``.

    Raises:
        CheckpointError: ``run_dir`` holds the state of a run with other data, options or weights.
        DivergedError: The loss is not finite.
    """
    config = learner.config
    with own_modes(learner.device):
        torch.manual_seed(config.seed)
        module = learner.module = learner.build().to(learner.device)
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        now = Progress(
            module,
            torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay),
            np.random.default_rng([config.seed, learner.stream]),
            torch.Generator().manual_seed(config.seed),
        )
        path = Path(run_dir) / FOLDER / f"{learner.name}.safetensors" if run_dir else None
        state = TrainingState(path, fingerprint(learner))
        state.restore(now)
        _loop(learner, now, state, logger, callback, progress)
        module.eval()
        if not now.finished:
            learner.finish()
            now.finished = now.step == config.steps
            if now.finished:
                state.save(now)
        module.eval()
    return now.history


def _loop(
    learner: Learner,
    now: Progress,
    state: TrainingState,
    logger: Logger | None,
    callback: Callback | None,
    progress: bool,
) -> None:
    """Take the steps that are left; raise ``KeyboardInterrupt`` after Ctrl-C, with all saved."""
    config, saved, stopped = learner.config, time.monotonic(), False
    label = learner.name.replace("-", " ")
    with progress_bar(label, config.steps, now.step, progress) as update, held_interrupt() as interrupted:
        while now.step < config.steps and not stopped and not interrupted():
            parts, health = take_step(learner, now)
            update(now.step)
            if now.step % config.evaluate_every == 0 or now.step == config.steps:
                held_out = _validate(learner)
                metrics = {f"train/{name}": float(value.detach()) for name, value in parts.items()} | held_out
                check_finite({**health, **metrics}, learner, now.step)
                update(now.step, "  ".join(f"{name} {value:.3f}" for name, value in list(held_out.items())[:1]))
                record(metrics, now.step, now.history, logger)
                state.save(now)
                saved = time.monotonic()
            stopped = callback is not None and callback(learner, now.step) is False
            due = time.monotonic() - saved > 60 * config.checkpoint_minutes
            if state.path and (due or stopped or interrupted()):
                check_finite(health, learner, now.step)
                state.save(now)
                saved = time.monotonic()
    if interrupted():
        raise KeyboardInterrupt


def fingerprint(learner: Learner) -> dict[str, object]:
    """What distinguishes a learner's run from others: data, options, and everything that the learner depends on."""
    training = dataclasses.asdict(learner.config)
    return {**learner.depends_on(), "training": training, "data": data_hash(learner.dataset)}


def data_hash(data: TrajectoryDataset) -> str:
    """SHA-256 over the episodes and actions of a dataset, what is known of its frames, and some of them."""
    frames = data.frame_indices()
    digest = hashlib.sha256(str(data.provenance.get("sha256", data.name)).encode())
    shown = data.frames_at(frames[:: max(1, len(frames) // 32)])
    for values in (data.starts, data.lengths, data.actions, shown):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def take_step(learner: Learner, now: Progress) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Make one update; return the parts of the loss, and what must be finite."""
    config = learner.config
    learner.module.train()
    learner.progress = now.step / config.steps
    warmup = max(1, config.steps // 100)
    rate = config.learning_rate * warmup_cosine(now.step, config.steps, warmup, learner.final_rate)
    for group in now.optimizer.param_groups:
        group["lr"] = rate
    loss, parts = learner.loss(learner.train_data, config.batch_size, now.rng, now.generator)
    now.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if now.step == 0:
        learner.check_gradients()
    weights = [weight for group in now.optimizer.param_groups for weight in group["params"]]
    norm = nn.utils.clip_grad_norm_(weights, config.clip_norm)
    health = {"the loss": loss.detach(), "the gradient": norm}
    if learner.device.type == "cpu":  # on a GPU, looking at every loss would stop the queue of work
        check_finite(health, learner, now.step + 1)
    now.optimizer.step()
    now.step += 1
    return parts, health


def _validate(learner: Learner) -> dict[str, float]:
    """Metrics of the module in evaluation mode, without gradients."""
    learner.module.eval()
    with torch.no_grad():
        return learner.validate()


def check_finite(values: Mapping[str, torch.Tensor | float], learner: Learner, step: int) -> None:
    """Raise ``DivergedError`` when a loss, a gradient or a metric is NaN or infinite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"training of {learner.name} diverged: {name} is {float(value)} at step {step}. Lower the learning "
                f"rate ({learner.config.learning_rate:g}), or look for NaN in the data."
            )


def record(metrics: dict[str, float], step: int, history: History, logger: Logger | None) -> None:
    """Append metrics to the history and log them."""
    for name, value in metrics.items():
        history.setdefault(name, []).append((step, value))
        if logger is not None:
            logger.record(name, value)
    if logger is not None:
        logger.dump(step)


def warmup_cosine(step: int, steps: int, warmup: int, final: float = 0.0) -> float:
    """Learning-rate factor: linear warm-up, then a cosine from 1 to ``final``."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
