"""Measuring: held-out tasks with their floors, and one cell at a time, each written to disk when it is done."""

from __future__ import annotations

import dataclasses
import json
import signal
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wm_agents import evaluation
from wm_agents.evaluation import Manifest, Outcomes
from wm_agents.evaluation.report.comparison import Cell
from wm_agents.evaluation.tasks import atomic_path
from wm_agents.recipes import RECIPES

SEED = 0
"""Of the tasks, of the random floor and of the agents' own randomness."""
VIDEO_TASKS = 3

Tasks = tuple[Manifest, Mapping[str, Outcomes]]


def start_worker() -> None:
    """Prepare a process that measures cells: one thread, and no traceback when Ctrl-C ends it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    warnings.filterwarnings("ignore", message=".*MINARI.*")


def write_tasks(cell: Cell, out: Path) -> None:
    """Make a cell's held-out tasks and their floors, unless they are there; tasks that are there stay."""
    try:
        manifest = _read_manifest(cell, out)
    except (OSError, ValueError):
        recipe = RECIPES[cell.source.task]
        manifest = evaluation.make_manifest(
            recipe.env_id, tasks=cell.tasks, offset=cell.protocol.offset, budget=cell.protocol.budget, seed=SEED,
            policy=recipe.policy,
        )  # fmt: skip
        manifest.save(_manifest_path(cell, out))
    try:
        read_tasks(cell, out)
    except (OSError, ValueError, KeyError):
        floors = {name: floor.to_dict() for name, floor in evaluation.floors(manifest, SEED).items()}
        with atomic_path(_floors_path(cell, out)) as temporary:
            temporary.write_text(json.dumps({"manifest_sha256": manifest.sha256, "floors": floors}), encoding="utf-8")


def read_tasks(cell: Cell, out: Path) -> Tasks:
    """Return what :func:`write_tasks` wrote.

    Raises:
        OSError: It is not there.
        ValueError: It is damaged, or of other tasks.
    """
    manifest = _read_manifest(cell, out)
    content = json.loads(_floors_path(cell, out).read_text(encoding="utf-8"))
    if content["manifest_sha256"] != manifest.sha256:
        raise ValueError(f"{_floors_path(cell, out)} is of other tasks than {_manifest_path(cell, out)}: remove it.")
    steps = {
        name: Outcomes(*(np.array([step or 0 for step in floor[mode]], np.int64) for mode in ("moderate", "strict")))
        for name, floor in content["floors"].items()
    }
    return manifest, steps


def _read_manifest(cell: Cell, out: Path) -> Manifest:
    manifest, recipe = Manifest.load(_manifest_path(cell, out)), RECIPES[cell.source.task]
    found = (manifest.env_id, manifest.offset, manifest.budget, manifest.seed, len(manifest))
    asked = (recipe.env_id, cell.protocol.offset, cell.protocol.budget, SEED, cell.tasks)
    if found != asked or manifest.policy not in ("", recipe.policy):
        raise ValueError(f"{_manifest_path(cell, out)} holds other tasks than {asked}: remove it.")
    return manifest


def measure(cell: Cell, out: Path, num_envs: int, device: str, videos: bool) -> None:
    """Evaluate a cell and write its JSON, after its video."""
    manifest, floors = read_tasks(cell, out)
    agent: Any = cell.open(device)
    began = time.process_time()
    result = evaluation.evaluate(
        agent, manifest, num_envs=num_envs, seed=SEED, video=VIDEO_TASKS if videos else None, progress=False,
        name=cell.agent, known_floors=floors,
    )  # fmt: skip
    if videos:
        evaluation.write_video(out / "videos" / f"{cell.name}.mp4", result.recordings)
    seconds = time.process_time() - began
    made = {"cell": cell.key(manifest.sha256), "device": str(agent.device), "cpu_seconds": round(seconds, 2),
            "training": dict(result.provenance)}  # fmt: skip
    dataclasses.replace(result, provenance=made).save(cell_path(cell, out))


def read_cell(cell: Cell, out: Path, manifest: Manifest) -> dict[str, Any] | None:
    """Return a cell's stored result; None where it is missing, damaged, or of other tasks, weights or options."""
    try:
        content = json.loads(cell_path(cell, out).read_text(encoding="utf-8"))
        same = content["provenance"]["cell"] == cell.key(manifest.sha256)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if same else None


def cell_path(cell: Cell, out: Path) -> Path:
    """Where a cell's result is."""
    return out / "cells" / f"{cell.name}.json"


def _manifest_path(cell: Cell, out: Path) -> Path:
    return out / "manifests" / f"{cell.tasks_name}.json"


def _floors_path(cell: Cell, out: Path) -> Path:
    return out / "floors" / f"{cell.tasks_name}.json"
