"""Pytest plugin: a small report's settings, and the checkpoints that it can be of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wm_agents
from wm_agents.evaluation.report.comparison import Source, sources

UMAZE = "pointmaze-umaze"
SMALL: dict[str, Any] = {
    "tasks": (UMAZE,),
    "agents": ("gc-idm", "cem-mpc"),
    "protocols": ("20/20", "25/30"),
    "tasks_per_cell": 3,
    "workers": 0,
    "command": "wm-agents report --small",
}


@pytest.fixture(scope="session")
def shipped() -> Source:
    return sources([UMAZE], [])[0]


@pytest.fixture(scope="session")
def other_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of seed 1: the shipped one under another name, with other provenance."""
    folder = tmp_path_factory.mktemp("runs")
    for task, seed in ((UMAZE, 0), (UMAZE, 1), (UMAZE, 2)):
        agent = wm_agents.load(f"{task}/gc-idm")
        agent.provenance = {**agent.provenance, "seed": seed, "note": "a copy"}
        agent.save(folder / f"{task}-{seed}" / "agent.safetensors")
    return folder
