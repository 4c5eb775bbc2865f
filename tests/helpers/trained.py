"""Pytest plugin: one small dataset and one briefly trained agent, made once per session and never changed."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from wm_agents import GCIDM, WorldModel, datasets, train_world_model
from wm_agents.datasets import TrajectoryDataset
from wm_agents.training import CollapseWarning, History, InverseDynamicsTrainingConfig, TrainingConfig

UMAZE = "wm/PointMaze-UMaze-v0"
DATASET = "wm/small/waypoint-v0"
TRAINING = TrainingConfig(steps=200, batch_size=64, frames=3, evaluate_every=100)


@dataclass(frozen=True)
class Trained:
    """What the session's training made.

    Attributes:
        world_model: Trained for ``TRAINING.steps`` steps.
        agent: GC-IDM on it.
        history: The world model's curves.
        file: The agent's checkpoint.
    """

    world_model: WorldModel
    agent: GCIDM
    history: History
    file: Path


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the parallel workers of one test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def data_root(shared: Path) -> Path:
    """Return the Minari root that holds ``DATASET``; set ``MINARI_DATASETS_PATH`` to it to find that by name."""
    root = shared / "datasets"
    root.mkdir(exist_ok=True)
    with FileLock(shared / "data.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        datasets.collect(UMAZE, episodes=24, steps=100, name=DATASET, workers=1, progress=False)
    return root


@pytest.fixture(scope="session")
def small_dataset(data_root: Path) -> TrajectoryDataset:
    """24 episodes of 100 steps in UMaze."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(data_root))
        return datasets.load(DATASET)


@pytest.fixture(scope="session")
def trained(small_dataset: TrajectoryDataset, shared: Path) -> Trained:
    """A world model and GC-IDM, trained for some seconds; a collapse is an error."""
    file, curves = shared / "agent.safetensors", shared / "history.json"
    with FileLock(shared / "training.lock"):
        if not curves.exists():
            curves.write_text(json.dumps(_train(small_dataset, file)))
    agent = GCIDM.load(file, device="cpu")
    return Trained(agent.world_model, agent, json.loads(curves.read_text()), file)


def _train(dataset: TrajectoryDataset, file: Path) -> History:
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        world_model, history = train_world_model(dataset, training=TRAINING, device="cpu", progress=False)
    agent = GCIDM(world_model, device="cpu")
    agent.fit(dataset, training=InverseDynamicsTrainingConfig(steps=500, batch_size=256, evaluate_every=250))
    agent.env_id = UMAZE
    agent.save(file)
    return history
