"""Pytest plugin: small files in foreign layouts, and an empty folder of datasets to import them into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest

from wm_agents.datasets import rollout_states
from wm_agents.datasets.episodes import episode_seed

MARKS = [
    pytest.mark.usefixtures("datasets_path"),
    pytest.mark.filterwarnings("ignore:`:UserWarning:minari"),  # on authors and links, of the tests' own data
]
UMAZE, CUBE, PUSHT, REACHER = "wm/PointMaze-UMaze-v0", "wm/Cube-Single-v0", "wm/PushT-v0", "wm/Reacher-v0"
QUIET: dict[str, Any] = {"progress": False}
LENGTHS = (6, 4)  # rows of the two episodes of most files here


@pytest.fixture
def datasets_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "minari"
    root.mkdir()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    return root


def lewm_columns(lengths: tuple[int, ...] = LENGTHS, side: int = 32) -> dict[str, np.ndarray]:
    """Random frames, actions (NaN in the last row of an episode, as in the public files) and proprioception."""
    rng, rows = np.random.default_rng(0), sum(lengths)
    ends = np.cumsum(lengths)
    action = rng.uniform(-2, 2, (rows, 2)).astype(np.float32)
    action[ends - 1] = np.nan
    return {
        "pixels": rng.integers(0, 256, (rows, side, side, 3), dtype=np.uint8),
        "action": action,
        "proprio": rng.normal(size=(rows, 4)),
        "ep_len": np.array(lengths, dtype=np.int32),
        "ep_offset": (ends - lengths).astype(np.int64),
    }


def write_h5(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, **(options if np.ndim(values) > 1 else {}))
    return path


def rollouts(env_id: str, steps: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    with gym.make(env_id, obs_type="state") as env:
        policy = env.unwrapped.exploration_policy
        return [rollout_states(env, policy, n, episode_seed("collect", 0, i)) for i, n in enumerate(steps)]


def state_columns(env_id: str, positions: int) -> dict[str, np.ndarray]:
    """States and actions of a task of this library as rows; the last row of an episode has an action to drop."""
    episodes = rollouts(env_id, tuple(length - 1 for length in LENGTHS))
    states = np.concatenate([states for states, _ in episodes]).astype(np.float32)
    actions = np.concatenate([np.concatenate([actions, np.ones_like(actions[:1])]) for _, actions in episodes])
    return {"actions": actions, "qpos": states[:, :positions], "qvel": states[:, positions:]}


@pytest.fixture(scope="session")
def cube_columns() -> dict[str, np.ndarray]:
    """What OGBench writes: float32 rows, the last of each episode marked."""
    columns = state_columns(CUBE, 21)
    terminals = np.zeros(sum(LENGTHS), dtype=bool)
    terminals[np.cumsum(LENGTHS) - 1] = True
    return {"observations": np.zeros((sum(LENGTHS), 28), np.float32), "terminals": terminals, **columns}


@pytest.fixture
def cube_file(cube_columns: dict[str, np.ndarray], tmp_path: Path) -> Path:
    path = tmp_path / "cube-single-play-v0.npz"
    np.savez_compressed(path, **cube_columns)  # type: ignore[arg-type]
    return path
