"""The memory-mapped cache of a Minari dataset, built in one sequential pass that also checks every episode.

``<dataset>/wm_agents_cache/``, or a folder of the user's cache directory where the dataset may only be read, holds
``pixels.bin`` (uint8 frames, one after the other), ``arrays.npz`` (the small arrays) and ``index.json`` (shape, content
hash and what the cache was built from). It is written under another name and renamed into place, and rebuilt whenever
it does not match the dataset.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import platformdirs

from wm_agents.datasets.space import require_space

FOLDER = "wm_agents_cache"
FORMAT = 4  # raise when the layout of the cache or the meaning of an array changes


@dataclass(frozen=True)
class Cache:
    """What the cache of a dataset holds; shapes as in ``TrajectoryDataset``."""

    pixels: np.ndarray
    actions: np.ndarray
    states: np.ndarray
    goal_states: np.ndarray
    lengths: np.ndarray
    action_low: np.ndarray
    action_high: np.ndarray
    choices: np.ndarray
    sha256: str


def open_cache(name: str, root: Path) -> Cache:
    """Open the cache of the Minari dataset at ``root``; build it first if it is missing, stale or damaged.

    Raises:
        ValueError: The dataset cannot be trained on; the message names the episode and the problem.
        OSError: The disk has no room for the cache.
    """
    cache = _read(root)
    if cache is None:
        _build(name, root)
        cache = _read(root)
    if cache is None:
        raise RuntimeError(f"Dataset {name!r} changed while its cache was built; load it again when nobody writes it.")
    return cache


def _fingerprint(root: Path) -> list[list[Any]]:
    """Tell one state of the dataset's files from another: names, sizes and times of modification."""
    files = sorted(path for path in (root / "data").rglob("*") if path.is_file())
    return [[path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _places(root: Path) -> list[Path]:
    """Return where the cache may be: beside the data, and in the user's cache directory."""
    own = f"{root.name}-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}"
    return [root / FOLDER, platformdirs.user_cache_path("wm-agents", appauthor=False) / own]


def _read(root: Path) -> Cache | None:
    """Open the cache, or return None if there is none that matches the dataset."""
    return next((cache for folder in _places(root) if (cache := _open(root, folder)) is not None), None)


def _open(root: Path, folder: Path) -> Cache | None:
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["format"] != FORMAT or index["fingerprint"] != _fingerprint(root):
            return None
        pixels = folder / "pixels.bin"
        if pixels.stat().st_size != int(np.prod(index["shape"])):
            return None
        with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
            return Cache(
                pixels=np.memmap(pixels, dtype=np.uint8, mode="r", shape=tuple(index["shape"])),
                sha256=index["sha256"],
                **arrays,
            )
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _build(name: str, root: Path) -> None:
    dataset = _read_or_explain(name, lambda: minari.load_dataset(name))
    space = dataset.action_space
    choices = _choices(space)
    if choices is None:
        raise ValueError(
            f"Dataset {name!r} has the action space {space}; a one-dimensional Box, Discrete or MultiDiscrete is "
            "needed. Choose another dataset, or record one with wm_agents.datasets.collect."
        )
    low, high = (np.zeros(sum(choices)), np.ones(sum(choices))) if choices else (space.low, space.high)
    fingerprint = _fingerprint(root)
    beside, own = _places(root)
    place = beside if os.access(root, os.W_OK) else own
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{FOLDER}.", dir=place.parent))
    try:
        actions, states, goals, lengths, shape = [], [], [], [], None
        digest = hashlib.sha256()
        with (work / "pixels.bin").open("wb") as file:
            for episode in _episodes(name):
                frames, taken, state = _arrays(name, episode, shape, space)
                goal = _goals(episode, state)
                if shape is None:
                    total = int(dataset.total_steps) + int(dataset.total_episodes)
                    require_space(place.parent, total * sum(array[0].nbytes for array in (frames, taken, state, goal)))
                shape = frames.shape[1:]
                frames.tofile(file)
                for array in (taken, state, frames):
                    digest.update(array.data)
                actions += [taken, np.zeros_like(taken[:1])]
                states.append(state)
                goals.append(goal)
                lengths.append(len(taken))
        if shape is None:
            raise ValueError(f"Dataset {name!r} has no episodes. Collect it again, or choose another dataset.")
        if len({state.shape[1] for state in states}) > 1:
            raise ValueError(f"Dataset {name!r}: the size of infos['state'] differs from episode to episode.")
        np.savez(
            work / "arrays.npz",
            actions=np.concatenate(actions),
            states=np.concatenate(states),
            goal_states=np.concatenate(goals),
            lengths=np.asarray(lengths, dtype=np.int64),
            action_low=np.asarray(low, dtype=np.float32),
            action_high=np.asarray(high, dtype=np.float32),
            choices=np.asarray(choices, dtype=np.int64),
        )
        index = {
            "format": FORMAT,
            "fingerprint": fingerprint,
            "shape": [sum(lengths) + len(lengths), *shape],
            "sha256": digest.hexdigest(),
        }
        (work / "index.json").write_text(json.dumps(index), encoding="utf-8")
        if _read(root) is None:  # otherwise another process was quicker
            shutil.rmtree(place, ignore_errors=True)
            os.rename(work, place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _episodes(name: str) -> Iterator[Any]:
    episodes = _read_or_explain(name, lambda: iter(minari.load_dataset(name).iterate_episodes()))
    while (episode := _read_or_explain(name, lambda: next(episodes, None))) is not None:
        yield episode


def _read_or_explain(name: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, KeyError, RuntimeError, AssertionError) as error:
        raise ValueError(
            f"Dataset {name!r} is damaged and cannot be read ({type(error).__name__}: {error}). "
            "Collect it again with overwrite=True, or download it again."
        ) from error


def _arrays(
    name: str, episode: Any, shape: tuple[int, ...] | None, space: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return contiguous frames ``[L+1, H, W, C]``, actions ``[L, A]`` and states ``[L+1, S]`` of a checked episode."""
    problems = _problems(episode, shape, space)
    problem = next(problems, None)
    if problem is not None:
        raise ValueError(
            f"Dataset {name!r}, episode {episode.id}: {problem} Leave the episode out when creating the dataset, "
            "or record one with wm_agents.datasets.collect."
        )
    frames = np.ascontiguousarray(_pixels(episode))
    state = (episode.infos or {}).get("state", np.zeros((len(frames), 0)))
    return (
        frames,
        np.ascontiguousarray(_one_hot(episode.actions, space), dtype=np.float32),
        np.ascontiguousarray(state, dtype=np.float64),
    )


def _goals(episode: Any, state: np.ndarray) -> np.ndarray:
    """Return the goal ``[L+1, S]`` of the policy at each frame, NaN where the dataset does not tell states as goals."""
    goals = np.asarray((episode.infos or {}).get("goal_state", np.nan))
    told = goals.shape == state.shape and goals.dtype.kind == "f"
    return goals.astype(np.float64) if told else np.full(state.shape, np.nan)


def _choices(space: Any) -> tuple[int, ...] | None:
    """Return the choices of discrete actions, none of continuous ones, and None for a space that nobody can learn."""
    if isinstance(space, gym.spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, gym.spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return tuple(space.nvec.tolist())
    return () if isinstance(space, gym.spaces.Box) and len(space.shape) == 1 else None


def _one_hot(actions: Any, space: Any) -> np.ndarray:
    """Return discrete actions as one-hot vectors ``[L, A]``, and continuous ones as they are."""
    if isinstance(space, gym.spaces.Box):
        return np.asarray(actions)
    numbers = np.asarray(actions).reshape(len(actions), -1) - np.asarray(space.start)
    columns = [np.eye(count)[number] for count, number in zip(_choices(space) or (), numbers.T, strict=True)]
    return np.concatenate(columns, axis=1)


def _pixels(episode: Any) -> Any:
    """Return the frames: the observation itself, its part 'pixels', or its only part that is images."""
    observations = episode.observations
    if not isinstance(observations, dict) or "pixels" in observations:
        return observations["pixels"] if isinstance(observations, dict) else observations
    images = [part for part in observations.values() if getattr(part, "dtype", None) == np.uint8 and part.ndim == 4]
    return images[0] if len(images) == 1 else None


def _problems(episode: Any, shape: tuple[int, ...] | None, space: Any) -> Iterator[str]:
    """Yield what makes an episode unfit for training, in words; ``shape`` is that of the frames before."""
    pixels, actions = _pixels(episode), np.asarray(episode.actions)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 4:
        found = f"{pixels.dtype} {pixels.shape[1:]}" if isinstance(pixels, np.ndarray) else sorted(episode.observations)
        yield (
            f"it has no pixels, uint8 images [H, W, C] under the observation key 'pixels'; it has {found}. Other "
            "images can be imported: wm-agents import NAME --pixels KEY."
        )
    if len(actions) < 2:
        yield f"it has {len(actions)} action(s); two or more are needed."
    if len(pixels) != len(actions) + 1:
        yield f"it has {len(pixels)} frames for {len(actions)} actions; one frame more than actions is needed."
    choices = _choices(space)
    if choices:
        numbers = actions.reshape(len(actions), -1) - space.start
        if actions.dtype.kind not in "iu" or (numbers < 0).any() or (numbers >= np.array(choices)).any():
            yield f"its actions are not all of {space}."
    if shape is not None and pixels.shape[1:] != shape:
        yield f"its frames are {pixels.shape[1:]}, those of the episodes before it {shape}."
    if not np.isfinite(actions).all():
        yield f"its actions have {int((~np.isfinite(actions)).sum())} NaN or infinite value(s)."
    state = np.asarray((episode.infos or {}).get("state", np.zeros((len(pixels), 0))))
    if state.ndim != 2 or len(state) != len(pixels):
        yield f"infos['state'] has the shape {state.shape}; one row a frame is needed ({len(pixels)})."
    if not np.isfinite(state).all():
        yield f"infos['state'] has {int((~np.isfinite(state)).sum())} NaN or infinite value(s)."
