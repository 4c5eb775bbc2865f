"""Assemble finished episodes into a Minari dataset and put it in place in one step."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
from gymnasium.envs.registration import EnvSpec
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset._storages import hdf5_storage
from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import METADATA_FILE_NAME, MinariStorage
from minari.namespace import NAMESPACE_METADATA_FILENAME
from minari.serialization import serialize_space
from PIL import Image

from wm_agents.datasets.episodes import load_episode
from wm_agents.datasets.loading import PROVENANCE
from wm_agents.datasets.space import require_space, stored_size
from wm_agents.envs.wrapping import spec_json

ASSEMBLED = "dataset"
PREVIEW = "preview.png"
"""Name of the image beside a dataset's ``data``: a row for each of the first episodes, from start to end."""

_PREVIEW_ROWS, _PREVIEW_COLUMNS = 4, 8


def write_dataset(env: gym.Env, name: str, folder: Path, made: dict[str, Any]) -> None:
    """Write the Minari dataset ``name`` from the episodes in ``folder``, under ``folder/dataset``.

    Args:
        env: The task; its specification goes into the metadata, so that ``recover_environment`` works.
        name: Minari id.
        folder: Holds the finished episodes.
        made: How the dataset was made; recorded in the metadata.
    """
    task: Any = env.unwrapped
    write_episodes(
        _buffers(folder, made["episodes"]),
        name,
        folder,
        pixel_space=task.observation_space["pixels"],
        action_space=task.action_space,
        env_spec=env.spec if spec_json(env.spec) else None,
        description=f"Reward-free exploration of {made['env_id']} by the {made['policy']} policy.",
        made={**made, "state_names": list(task.state_names)},
    )


def write_episodes(
    episodes: Iterable[EpisodeBuffer],
    name: str,
    folder: Path,
    *,
    pixel_space: gym.Space[Any],
    action_space: gym.Space[Any],
    env_spec: EnvSpec | None,
    description: str,
    made: dict[str, Any],
) -> None:
    """Write ``episodes`` as the Minari dataset ``name``, with a preview image, under ``folder/dataset``.

    One episode at a time is in memory. Images are stored as they are: Minari's own default is lossy. Nothing is left
    where the writing fails.

    Args:
        episodes: See :func:`episode_buffer`.
        name: Minari id.
        folder: Work folder of the dataset to be.
        pixel_space: Of one frame.
        action_space: Of one action: Box, Discrete or MultiDiscrete; infinite bounds become the extremes of the actions.
        env_spec: The task's specification, or None where there is no such task.
        description: One sentence for the metadata.
        made: How the dataset was made; recorded in the metadata, as it is after the last episode.

    Raises:
        OSError: The disk is full.
    """
    root = folder / ASSEMBLED
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    shape = action_space.shape or ()
    seen = _Seen(np.full(shape, np.inf), np.full(shape, -np.inf))
    with _removed_on_failure(root), lossless_images() as options:
        storage = MinariStorage.new(
            root / "data",
            observation_space=gym.spaces.Dict(pixels=pixel_space),
            action_space=action_space,
            env_spec=env_spec,
            data_format="hdf5",
            **options,
        )
        storage.update_metadata({"dataset_id": name, "minari_version": minari.__version__, "description": description})
        storage.update_episodes(_watched(episodes, seen, root))
        storage.update_metadata({"algorithm_name": made["policy"], PROVENANCE: {**made, "preview": PREVIEW}})
        if isinstance(action_space, gym.spaces.Box) and not action_space.is_bounded():
            _set_action_space(root / "data", bounded(action_space, seen.low, seen.high))
        Image.fromarray(np.concatenate(seen.rows)).save(root / PREVIEW)


@dataclass
class _Seen:
    """What has been written so far: the extremes of the actions, and rows of the preview."""

    low: np.ndarray
    high: np.ndarray
    rows: list[np.ndarray] = field(default_factory=list)


def bounded(space: gym.spaces.Box, low: np.ndarray, high: np.ndarray) -> gym.spaces.Box:
    """Return the space with ``low`` and ``high`` ``[A]`` where it has no finite bounds."""
    low, high = np.where(np.isfinite(space.low), space.low, low), np.where(np.isfinite(space.high), space.high, high)
    return gym.spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)


def _set_action_space(data: Path, space: gym.spaces.Box) -> None:
    """Replace the action space in the metadata, which Minari wants to know before the first episode."""
    path = data / METADATA_FILE_NAME
    metadata = json.loads(path.read_text(encoding="utf-8"))
    metadata["action_space"] = serialize_space(space)
    path.write_text(json.dumps(metadata), encoding="utf-8")


@contextlib.contextmanager
def _removed_on_failure(root: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise


def episode_buffer(index: int, pixels: np.ndarray, actions: np.ndarray, **infos: np.ndarray) -> EpisodeBuffer:
    """Return a reward-free episode of L actions as Minari stores it.

    Args:
        index: Its place in the dataset.
        pixels: uint8 ``[L+1, H, W, C]``.
        actions: float32 ``[L, A]``, environment units.
        **infos: ``state`` and more, ``[L+1, ...]`` each.
    """
    steps = len(actions)
    return EpisodeBuffer(
        id=index,
        observations={"pixels": pixels},
        actions=actions,
        rewards=np.zeros(steps),
        terminations=np.zeros(steps, dtype=bool),
        truncations=np.arange(steps) == steps - 1,
        infos=infos,
    )


def _watched(episodes: Iterable[EpisodeBuffer], seen: _Seen, root: Path) -> Iterator[EpisodeBuffer]:
    """Pass episodes on while there is space for them; note their extremes, and show some frames of the first few."""
    for episode in episodes:
        pixels: Any = episode.observations["pixels"]  # type: ignore[index, call-overload]
        require_space(root, stored_size(1, pixels.nbytes))
        seen.low = np.minimum(seen.low, episode.actions.min(axis=0))
        seen.high = np.maximum(seen.high, episode.actions.max(axis=0))
        if len(seen.rows) < _PREVIEW_ROWS:
            moments = np.linspace(0, len(pixels) - 1, _PREVIEW_COLUMNS).round().astype(int)
            seen.rows.append(np.concatenate(list(pixels[moments]), axis=1))
        yield episode


@contextlib.contextmanager
def lossless_images() -> Iterator[dict[str, Any]]:
    """Yield the options that make Minari store images as they are; create and fill a dataset within.

    Minari 0.5.3, the last for Python 3.10, has no such option and always compresses, as JPEG. Here it is given PNG
    instead, which is lossless, and which its reader opens as well.
    """
    if minari.__version__ != "0.5.3":
        yield {"jpeg_encoding": False}
        return

    def encode(frame: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, format="PNG", compress_level=1)
        return np.frombuffer(buffer.getvalue(), dtype=np.uint8)

    original = hdf5_storage.encode_frame
    hdf5_storage.encode_frame = encode
    try:
        yield {}
    finally:
        hdf5_storage.encode_frame = original


def _buffers(folder: Path, episodes: int) -> Iterator[EpisodeBuffer]:
    for index in range(episodes):
        episode = load_episode(folder, index)
        assert episode.pixels is not None, "only episodes with pixels are kept"
        yield episode_buffer(
            index, episode.pixels, episode.actions, state=episode.states, goal_state=episode.goal_states
        )


def put_in_place(name: str, folder: Path, root: Path) -> None:
    """Move the assembled dataset to ``root``, in place of what is there."""
    _register_namespace(parse_dataset_id(name)[0], root.parent)
    replaced = folder / "replaced"
    if root.exists():
        os.rename(root, replaced)
    os.rename(folder / ASSEMBLED, root)
    shutil.rmtree(replaced, ignore_errors=True)


def _register_namespace(namespace: str | None, folder: Path) -> None:
    """Make ``folder`` and those above it known to Minari; its own function fails where it may not read a neighbour."""
    for _ in namespace.split("/") if namespace else ():
        card = folder / NAMESPACE_METADATA_FILENAME
        if not card.exists():
            card.write_text("{}", encoding="utf-8")
        folder = folder.parent
