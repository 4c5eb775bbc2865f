"""The study of sensorimotor world models on dot worlds: is what the latent holds what actions control?

Source: "Sensorimotor World Models: Perception for Action via Inverse Dynamics" (arXiv 2606.20104). Its claims: inverse
dynamics alone prevents collapse, the latent has as many significant components as there are degrees of freedom that
actions control, and what moves by itself is ignored.
"""

from __future__ import annotations

import functools
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from wm_agents.evaluation.figures import save_figure
from wm_agents.evaluation.files import check_output, write_json, write_text
from wm_agents.evaluation.grid import Cell, Grid, Runner
from wm_agents.losses import objective_weights
from wm_agents.models import LeWMConfig, WorldModel
from wm_agents.studies import sensorimotor_report as report
from wm_agents.studies.dots import WORLDS, DotWorld
from wm_agents.training import TrainingConfig, train_world_model
from wm_agents.training.probe import effective_dimension, linear_probe_r2, spread
from wm_agents.training.world_model import COLLAPSE_STD, CollapseWarning

MODEL = LeWMConfig(latent_size=64, history=1, action_block=1)
"""As in the paper, 64 numbers and pairs of frames; encoder and predictor are this library's."""
STEPS = {2: 400, 4: 800, 6: 1500}
"""Gradient steps by the degrees of freedom of a world."""
BATCH, RATE = 64, 2e-3
RECORDED, HELD_OUT = 50_000, 1000
"""Steps of a world that are recorded, and others that are measured; the paper has 250,000 and 1,000."""
FLOOR = 0.01
"""Eigenvalues below this part of the largest count as nothing, and as equal."""


def run(
    out: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    quick: bool = False,
    progress: bool = True,
    *,
    workers: int | None = None,
) -> dict[str, Any]:
    """Run the study; write ``sensorimotor.json``, ``sensorimotor.md`` and ``sensorimotor.png``.

    A seed took 280 s of processor time.

    Args:
        out: Directory for them; created if missing. Cells that an earlier run left in ``out/cells`` stay.
        seeds: Of the data and the trainings.
        quick: The first seed and a few training steps: a check that everything works, not a result.
        progress: Show a progress bar.
        workers: Processes; 0 runs everything in this one, None takes one for each core.

    Returns:
        What the JSON file holds.
    """
    out = Path(out)
    check_output(out, folder=True)
    started = time.perf_counter()
    cells = [
        _cell(world, objective, seed, quick)
        for seed in tuple(seeds)[: 1 if quick else None]
        for world, objective in (*((world, "smwm") for world in WORLDS), (WORLDS[0], "forward-only"))
    ]
    grid = Grid(out / "cells")
    with Runner(_cores() if workers is None else workers, Console(stderr=True) if progress else None) as runner:
        failed = grid.run(cells, runner, "dot worlds")
    if failed:
        raise RuntimeError(f"{len(failed)} cells failed: {next(iter(failed.items()))}")
    found = [{name: value for name, value in (grid.read(cell) or {}).items() if name != "key"} for cell in cells]
    settings = {
        "model": asdict(MODEL),
        "smwm": objective_weights("smwm"),
        "steps": STEPS,
        "batch": BATCH,
        "learning_rate": RATE,
        "recorded": RECORDED,
        "quick": quick,
        "seconds": round(time.perf_counter() - started),
        "core_seconds": round(sum(cell["core_seconds"] for cell in found)),
    }
    results = {"settings": settings, "cells": found}
    save_figure(report.figure(results), out / "sensorimotor.png", dpi=100)
    write_json(out / "sensorimotor.json", results)
    write_text(out / "sensorimotor.md", report.markdown(results))
    return results


def _cell(world: DotWorld, objective: str, seed: int, quick: bool) -> Cell:
    steps = 10 if quick else STEPS[world.controlled]
    training = TrainingConfig(
        steps=steps,
        batch_size=BATCH,
        learning_rate=RATE,
        frames=2,
        evaluate_every=steps,
        loss_weights=objective_weights(objective),  # type: ignore[arg-type]
        seed=seed,
    )
    recorded = 500 if quick else RECORDED
    key = {"world": asdict(world), "model": asdict(MODEL), "training": asdict(training), "recorded": recorded}
    name = f"{world.name.replace(' ', '-')}_{objective}_{seed}"
    return Cell(name, key, functools.partial(measure, world, objective, training, recorded))


def measure(world: DotWorld, objective: str, training: TrainingConfig, recorded: int) -> dict[str, Any]:
    """Train a world model on a dot world, and measure its latents on steps that it has not seen.

    Returns:
        ``eigenvalues``, the 16 largest of the latents' covariance over both frames of the held-out steps;
        ``significant``, how many of them are (:func:`significant`); ``effective_dimension``, their participation
        ratio; ``std``; ``r2``, of a linear probe of each dot's place, by dot; validation errors, the automatic weight,
        and the processor time.
    """
    began = time.process_time()
    data = world.dataset(recorded, training.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)  # it is measured here
        model, history = train_world_model(data, MODEL, training, progress=False, device="cpu")
    z, places = encode(model, world, 10_000 + training.seed)
    test_z, test_places = encode(model, world, 20_000 + training.seed)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(test_z.double().T)).flip(0).clamp(min=0).tolist()
    std = spread(test_z.unsqueeze(1))
    r2 = linear_probe_r2(z, places, test_z, test_places).reshape(world.dots, 2).mean(axis=1)
    return {
        "world": asdict(world),
        "objective": objective,
        "seed": training.seed,
        "controlled": world.controlled,
        "significant": significant(eigenvalues) if std > COLLAPSE_STD else 0,
        "effective_dimension": effective_dimension(test_z),
        "std": std,
        "eigenvalues": eigenvalues[:16],
        "r2": r2.tolist(),
        **{name: points[-1][1] for name, points in history.items() if name.startswith(("validation/", "weight/"))},
        "core_seconds": time.process_time() - began,
    }


@torch.no_grad()
def encode(model: WorldModel, world: DotWorld, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Latents ``[2 * HELD_OUT, 64]`` of both frames of new steps, and the places of the dots."""
    data = world.dataset(HELD_OUT, seed)
    return model.encode(torch.from_numpy(data.frames_at(data.frame_indices()))), data.states


def significant(eigenvalues: Sequence[float]) -> int:
    """Number of eigenvalues, in falling order, before the largest drop from one to the next: the knee of the spectrum.

    The paper reads the number off such a plot; a threshold is ours only for what counts as nothing, :data:`FLOOR`.
    """
    values = np.maximum(np.asarray(eigenvalues), FLOOR * eigenvalues[0])
    return int(np.argmax(values[:-1] / values[1:])) + 1


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
