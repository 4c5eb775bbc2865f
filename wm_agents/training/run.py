"""The one training loop: train mode, seeds, resume, Ctrl-C, validation, logging, for whatever a learner is."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import nn

from wm_agents.training.display import held_interrupt, progress_bar
from wm_agents.training.state import History, TrainingState

if TYPE_CHECKING:
    from wm_agents.training.learner import Callback, Learner

FOLDER = "training"
"""Where the resumable states lie in a run's directory, one file per learner."""


class DivergedError(RuntimeError):
    """A loss became NaN or infinite; nothing was saved since it was last finite."""


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
    the same arguments goes on from there. It ends with the weights of an uninterrupted run, on the same machine with
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
    with _own_modes(learner.device):
        torch.manual_seed(config.seed)
        module = learner.module = learner.build().to(learner.device)
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
        rng = np.random.default_rng([config.seed, learner.stream])
        generator = torch.Generator().manual_seed(config.seed)
        path = Path(run_dir) / FOLDER / f"{learner.name}.safetensors" if run_dir else None
        state = TrainingState(path, fingerprint(learner))
        step, history = state.restore(module, optimizer, rng, generator)
        label = learner.name.replace("-", " ")
        saved = time.monotonic()
        stopped = False
        with progress_bar(label, config.steps, step, progress) as update, held_interrupt() as interrupted:
            while step < config.steps and not stopped and not interrupted():
                total, parts = _step(learner, optimizer, weights, step, rng, generator)
                step += 1
                update(step)
                if step % config.evaluate_every == 0 or step == config.steps:
                    check_finite(total, learner, step)
                    metrics = {f"train/{name}": float(value.detach()) for name, value in parts.items()}
                    found = _validate(learner)
                    update(step, "  ".join(f"{name} {value:.3f}" for name, value in list(found.items())[:1]))
                    record(metrics | found, step, history, logger)
                    state.save(step, module, optimizer, rng, generator, history)
                    saved = time.monotonic()
                elif path and time.monotonic() - saved > 60 * config.checkpoint_minutes:
                    check_finite(total, learner, step)
                    state.save(step, module, optimizer, rng, generator, history)
                    saved = time.monotonic()
                stopped = callback is not None and callback(learner, step) is False
            if step and (interrupted() or stopped):
                state.save(step, module, optimizer, rng, generator, history)
        if interrupted():
            raise KeyboardInterrupt
        module.eval()
        learner.finish()
        module.eval()
    return history


def fingerprint(learner: Learner) -> dict[str, object]:
    """What tells a learner's run from others: data, options, and whatever the learner depends on."""
    data = learner.dataset.provenance.get("sha256", learner.dataset.name)
    return {**learner.depends_on(), "training": dataclasses.asdict(learner.config), "data": data}


def _step(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    weights: list[nn.Parameter],
    step: int,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One update; return the loss and its parts."""
    config = learner.config
    learner.module.train()
    warmup = max(1, config.steps // 100)
    rate = config.learning_rate * warmup_cosine(step, config.steps, warmup, learner.final_rate)
    for group in optimizer.param_groups:
        group["lr"] = rate
    total, parts = learner.loss(learner.train_data, config.batch_size, rng, generator)
    if learner.device.type == "cpu":  # on a GPU, looking at every loss would stop the queue of work
        check_finite(total, learner, step + 1)
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    nn.utils.clip_grad_norm_(weights, config.clip_norm)
    optimizer.step()
    return total, parts


def _validate(learner: Learner) -> dict[str, float]:
    """Metrics of the module in evaluation mode, without gradients."""
    learner.module.eval()
    with torch.no_grad():
        return learner.validate()


def check_finite(loss: torch.Tensor, learner: Learner, step: int) -> None:
    """Raise ``DivergedError`` when a loss is NaN or infinite."""
    if not bool(torch.isfinite(loss)):
        raise DivergedError(
            f"the loss of {learner.name} is {float(loss)} at step {step}: lower the learning rate "
            f"({learner.config.learning_rate:g}), or look for NaN in the data."
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


@contextlib.contextmanager
def _own_modes(device: torch.device) -> Iterator[None]:
    """Gradients on and float32 whatever the caller has set; on a CPU, sums in an order that threads do not change.

    Without the latter, gradients of indexed tensors are added up in whatever order the threads arrive.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill, dtype = torch.utils.deterministic.fill_uninitialized_memory, torch.get_default_dtype()
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill
