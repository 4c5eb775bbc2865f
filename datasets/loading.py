"""Find datasets by name: the local ones, then Minari's."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import minari
import numpy as np
from minari.dataset.minari_storage import METADATA_FILE_NAME, MinariStorage
from minari.storage.datasets_root_dir import get_dataset_path
from minari.storage.local import dataset_id_sort_key

from wm_agents.datasets.cache import Cache, open_cache
from wm_agents.datasets.dataset import TrajectoryDataset
from wm_agents.registry import did_you_mean

PROVENANCE = "wm_agents"
"""Key in the Minari metadata under which ``collect`` records how a dataset was made."""


TOLERANCE = 0.1
"""How far outside its bounds an action may lie without a warning, as a share of the distance between them."""


class ActionsOutsideWarning(UserWarning):
    """Actions of a dataset lie far outside its action space: they may have another scale."""


def list_datasets() -> list[str]:
    """Return the Minari ids of all local datasets (in ``MINARI_DATASETS_PATH``, or ``~/.minari/datasets``).

    Whatever else lies there is skipped.
    """
    return sorted(_find(get_dataset_path(), "", frozenset()), key=dataset_id_sort_key)


def _find(folder: Path, name: str, above: frozenset[Path]) -> Iterator[str]:
    """Yield the names of the datasets in ``folder``, which is itself called ``name`` and lies in those ``above``."""
    try:
        here = folder.resolve()
        inside = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:  # it may not be read
        return
    if here in above:  # a link to a folder that it lies in
        return
    if (folder / "data" / METADATA_FILE_NAME).exists():
        if _is_dataset(name, folder):
            yield name
    else:
        for path in inside:
            yield from _find(path, f"{name}/{path.name}" if name else path.name, above | {here})


def _is_dataset(name: str, root: Path) -> bool:
    try:
        dataset_root(name)
        return read_metadata(name, root).get("dataset_id") == name
    except ValueError:
        return False


def dataset_root(name: str) -> Path:
    """Return the folder of a dataset, whether or not it exists.

    Raises:
        ValueError: ``name`` is no Minari id.
    """
    try:
        version = minari.dataset.minari_dataset.parse_dataset_id(name)[2]
        too_long = any(len(part.encode()) > 200 for part in name.split("/"))
    except (ValueError, TypeError):
        version, too_long = None, False
    if version is None or too_long:
        raise ValueError(
            f"{name!r} is not a dataset name: use [namespace/]name-v<number>, for example 'mine/robot-v0', of letters, "
            "digits, - and _; a namespace has at least two of them, and no part more than 200."
        )
    return get_dataset_path(name)


def read_metadata(name: str, root: Path) -> dict[str, Any]:
    """Return the Minari metadata of the dataset at ``root``.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    try:
        metadata = MinariStorage.read_raw_metadata(root / "data")
        if not isinstance(metadata, dict):
            raise ValueError(f"it is {type(metadata).__name__}, not an object")
        return metadata
    except (ValueError, OSError) as error:
        raise ValueError(
            f"Dataset {name!r} has no readable metadata ({error}). Delete {root} and collect or download it again."
        ) from error


def load(name: str) -> TrajectoryDataset:
    """Load a Minari dataset with pixels, by any author, for training.

    A name that is not found locally is downloaded from Minari's server if it is there. The first load builds a
    memory-mapped cache beside the dataset (as large as its frames), or in the user's cache directory where the
    dataset may only be read; later ones only open it. Where the action space has no bounds, those of the result are
    the extremes of the actions.

    Args:
        name: Minari id, for example ``"wm/pointmaze-umaze/waypoint-v0"``.

    Raises:
        ValueError: No such dataset (the message lists the local ones), or it cannot be trained on: no pixels, NaNs,
            episodes of one step, actions of another kind than Box, Discrete or MultiDiscrete, frames of several shapes.
        OSError: The disk has no room for the cache.

    Warns:
        ActionsOutsideWarning: Actions lie far outside the dataset's own action space.
    """
    root = dataset_root(name)
    if not (root / "data").is_dir():
        _download(name)
    metadata = read_metadata(name, root)
    cache = open_cache(name, root)
    _warn_outside(name, cache)
    low, high = _finite_bounds(cache)
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
        action_low=low,
        action_high=high,
        state_names=tuple(made.get("state_names", (f"state_{i}" for i in range(size)))),
        provenance={**made, "episodes": len(cache.lengths), "sha256": cache.sha256},
        episode_ids=np.arange(len(cache.lengths)),
        choices=tuple(int(count) for count in cache.choices),
        goal_states=cache.goal_states,
    )


def _finite_bounds(cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of the action space; where it has none, the extremes of the actions: agents act within."""
    low = cache.actions.min(axis=0, where=_taken(cache), initial=np.inf)
    high = cache.actions.max(axis=0, where=_taken(cache), initial=-np.inf)
    return (
        np.where(np.isfinite(cache.action_low), cache.action_low, low),
        np.where(np.isfinite(cache.action_high), cache.action_high, high),
    )


def _taken(cache: Cache) -> np.ndarray:
    """Return bool ``[N, 1]``, which rows are actions: none is taken at an episode's last frame."""
    taken = np.ones((len(cache.actions), 1), dtype=bool)
    taken[np.cumsum(cache.lengths + 1) - 1] = False
    return taken


def _warn_outside(name: str, cache: Cache) -> None:
    """Warn where actions lie far outside the action space; naming the first episode and the largest value."""
    actions = cache.actions
    span = cache.action_high.astype(np.float64) - cache.action_low
    slack = TOLERANCE * np.where(np.isfinite(span), span, 1.0)
    low, high = cache.action_low - slack, cache.action_high + slack
    ends, taken = np.cumsum(cache.lengths + 1), _taken(cache)
    lowest = actions.min(axis=0, where=taken, initial=np.inf)
    highest = actions.max(axis=0, where=taken, initial=-np.inf)
    if (lowest >= low).all() and (highest <= high).all():  # cheap, and true of most data
        return
    outside = taken & ((actions < low) | (actions > high))
    episode = int(np.searchsorted(ends, np.argmax(outside.any(axis=1)), side="right"))
    sizes = np.where(outside, np.abs(actions), -1.0)
    dimension = int(np.argmax(sizes.max(axis=0)))
    largest = actions[np.argmax(sizes[:, dimension]), dimension]
    warnings.warn(
        f"Dataset {name!r} has actions far outside its action space, in episode {episode} first: the largest is "
        f"{largest:g} in dimension {dimension}, whose bounds are {cache.action_low[dimension]:g} and "
        f"{cache.action_high[dimension]:g}. They may have another scale: agents act within the bounds, so correct the "
        "actions or the action space.",
        ActionsOutsideWarning,
        stacklevel=3,
    )


def _download(name: str) -> None:
    """Fetch ``name`` from Minari's server; the library's own names are never there."""
    unknown = did_you_mean("dataset", name, list_datasets())
    if name.startswith("wm/"):
        raise ValueError(f"{unknown} Record it with `wm-agents collect` or wm_agents.datasets.collect.")
    dataset_root(name)
    from wm_agents.datasets.hub import pull

    try:
        pull(name)
    except (ImportError, OSError, ValueError) as error:
        raise ValueError(f"{unknown} It could not be downloaded from Minari's server either: {error}") from error
