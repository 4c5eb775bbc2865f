"""Measuring: held-out tasks with their floors, and one grid cell for each trial."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wm_agents import evaluation
from wm_agents.evaluation.grid import Cell
from wm_agents.evaluation.report.comparison import Trial
from wm_agents.evaluation.report.protocols import SEED
from wm_agents.evaluation.results import Outcomes
from wm_agents.evaluation.tasks import Manifest
from wm_agents.recipes import RECIPES

VIDEO_TASKS = 3

Content = dict[str, Any]
Floors = Mapping[str, Outcomes]


def write_tasks(trial: Trial, out: Path) -> None:
    """Make a trial's held-out tasks, unless they are there; tasks that are there stay."""
    try:
        read_tasks(trial, out)
    except (OSError, ValueError):
        recipe = RECIPES[trial.source.task]
        evaluation.make_manifest(
            recipe.env_id,
            tasks=trial.tasks,
            offset=trial.protocol.offset,
            budget=trial.protocol.budget,
            seed=trial.protocol.seed,
            policy=recipe.policy,
        ).save(_manifest_path(trial, out))


def read_tasks(trial: Trial, out: Path) -> Manifest:
    """Return the tasks that :func:`write_tasks` wrote.

    Raises:
        OSError: They are not there.
        ValueError: They are damaged, or other tasks.
    """
    path = _manifest_path(trial, out)
    manifest, recipe = Manifest.load(path), RECIPES[trial.source.task]
    found = (manifest.env_id, manifest.offset, manifest.budget, manifest.seed, len(manifest))
    asked = (recipe.env_id, trial.protocol.offset, trial.protocol.budget, trial.protocol.seed, trial.tasks)
    if found != asked or manifest.policy not in ("", recipe.policy):
        raise ValueError(f"{path} holds other tasks than {asked}: remove it.")
    return manifest


def floors_cell(trial: Trial, manifest: Manifest) -> Cell:
    """Return the cell of what random actions and no actions reach on a trial's tasks."""
    key = {"manifest_sha256": manifest.sha256, "seed": SEED}
    return Cell(trial.tasks_name, key, functools.partial(measure_floors, manifest))


def measure_floors(manifest: Manifest) -> Content:
    """Measure the floors on a set of tasks."""
    return {"floors": {name: floor.to_dict() for name, floor in evaluation.floors(manifest, SEED).items()}}


def read_floors(content: Content) -> Floors:
    """Return the floors that :func:`measure_floors` measured."""
    return {
        name: Outcomes(*(np.array([step or 0 for step in floor[mode]], np.int64) for mode in ("moderate", "strict")))
        for name, floor in content["floors"].items()
    }


def trial_cell(
    trial: Trial, manifest: Manifest, floors: Floors, num_envs: int, device: str, video: Path | None
) -> Cell:
    """Return the cell of a trial; with ``video``, its first tasks are filmed to that file."""
    measured = functools.partial(measure, trial, manifest, floors, num_envs, device, video)
    return Cell(trial.name, {**trial.identity, "manifest_sha256": manifest.sha256}, measured)


def measure(
    trial: Trial, manifest: Manifest, floors: Floors, num_envs: int, device: str, video: Path | None
) -> Content:
    """Evaluate a trial and write its video."""
    agent: Any = trial.open(device)
    began = time.process_time()
    result = evaluation.evaluate(
        agent,
        manifest,
        num_envs=num_envs,
        seed=SEED,
        video=VIDEO_TASKS if video else None,
        progress=False,
        name=trial.agent,
        known_floors=floors,
    )
    if video:
        evaluation.write_video(video, result.recordings)
    seconds = time.process_time() - began
    return {**result.to_dict(), "device": str(agent.device), "cpu_seconds": round(seconds, 2)}


def _manifest_path(trial: Trial, out: Path) -> Path:
    return out / "manifests" / f"{trial.tasks_name}.json"
