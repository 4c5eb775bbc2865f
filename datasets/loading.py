"""Find datasets by name: the local ones, then Minari's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import minari
import numpy as np
from minari.dataset.minari_storage import MinariStorage
from minari.storage.datasets_root_dir import get_dataset_path

from wm_agents.datasets.cache import open_cache
from wm_agents.datasets.dataset import TrajectoryDataset
from wm_agents.registry import did_you_mean

PROVENANCE = "wm_agents"
"""Key in the Minari metadata under which ``collect`` records how a dataset was made."""


def list_datasets() -> list[str]:
    """Return the Minari ids of all local datasets (in ``MINARI_DATASETS_PATH``, or ``~/.minari/datasets``)."""
    return list(minari.list_local_datasets())


def dataset_root(name: str) -> Path:
    """Return the folder of a dataset, whether or not it exists.

    Raises:
        ValueError: ``name`` is no Minari id.
    """
    try:
        minari.dataset.minari_dataset.parse_dataset_id(name)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{name!r} is not a dataset name: use [namespace/]name-v<number>, for example 'wm/tworoom/waypoint-v0'."
        ) from error
    return get_dataset_path(name)


def read_metadata(name: str, root: Path) -> dict[str, Any]:
    """Return the Minari metadata of the dataset at ``root``.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    try:
        return MinariStorage.read_raw_metadata(root / "data")
    except ValueError as error:
        raise ValueError(
            f"Dataset {name!r} has no readable metadata ({error}). Delete {root} and collect or download it again."
        ) from error


def load(name: str) -> TrajectoryDataset:
    """Load a Minari dataset with pixels, by any author, for training.

    A name that is not found locally is downloaded from Minari's server if it is there. The first load builds a
    memory-mapped cache beside the dataset (as large as its frames); later ones only open it.

    Args:
        name: Minari id, for example ``"wm/pointmaze-umaze/waypoint-v0"``.

    Raises:
        ValueError: No such dataset (the message lists the local ones), or it cannot be trained on: no pixels, NaNs,
            episodes of one step, actions that are not continuous, frames of several shapes.
    """
    if not (get_dataset_path(name) / "data").is_dir():
        _download(name)
    root = dataset_root(name)
    metadata = read_metadata(name, root)
    cache = open_cache(name, root)
    made = metadata.get(PROVENANCE, {})
    size = cache.states.shape[1]
    return TrajectoryDataset(
        name=name,
        env_id=made.get("env_id") or json.loads(metadata.get("env_spec") or "{}").get("id", ""),
        pixels=cache.pixels,
        actions=cache.actions,
        states=cache.states,
        starts=np.cumsum(cache.lengths + 1) - (cache.lengths + 1),
        lengths=cache.lengths,
        action_low=cache.action_low,
        action_high=cache.action_high,
        state_names=tuple(made.get("state_names", (f"state_{i}" for i in range(size)))),
        provenance={**made, "episodes": len(cache.lengths), "sha256": cache.sha256},
        episode_ids=np.arange(len(cache.lengths)),
    )


def _download(name: str) -> None:
    """Fetch ``name`` from Minari's server; the library's own names are never there."""
    unknown = did_you_mean("dataset", name, list_datasets())
    if name.startswith("wm/"):
        raise ValueError(f"{unknown} Record it with `wm-agents collect` or wm_agents.datasets.collect.")
    dataset_root(name)
    try:
        minari.download_dataset(name)
    except Exception as error:
        raise ValueError(f"{unknown} It could not be downloaded from Minari's server either: {error}") from error
