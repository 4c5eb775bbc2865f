"""Assemble finished episodes into a Minari dataset and put it in place in one step."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset._storages import hdf5_storage
from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces
from PIL import Image

from wm_agents.datasets.episodes import load_episode
from wm_agents.datasets.loading import PROVENANCE

ASSEMBLED = "dataset"


def write_dataset(env: gym.Env, name: str, folder: Path, made: dict[str, Any]) -> None:
    """Write the Minari dataset ``name`` from the episodes in ``folder``, under ``folder/dataset``.

    One episode at a time is in memory. Images are stored as they are: Minari's own default is lossy.

    Args:
        env: The task; its specification goes into the metadata, so that ``recover_environment`` works.
        name: Minari id.
        folder: Holds the finished episodes.
        made: How the dataset was made; recorded in the metadata.
    """
    root = folder / ASSEMBLED
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    task: Any = env.unwrapped
    with lossless_images() as options:
        storage = MinariStorage.new(
            root / "data",
            observation_space=gym.spaces.Dict(pixels=task.observation_space["pixels"]),
            action_space=task.action_space,
            env_spec=env.spec,
            data_format="hdf5",
            **options,
        )
        storage.update_metadata(
            {
                "dataset_id": name,
                "minari_version": minari.__version__,
                "algorithm_name": made["policy"],
                "description": f"Reward-free exploration of {made['env_id']} by the {made['policy']} policy.",
                PROVENANCE: {**made, "state_names": list(task.state_names)},
            }
        )
        storage.update_episodes(_buffers(folder, made["episodes"]))


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
        steps = len(episode.actions)
        yield EpisodeBuffer(
            id=index,
            observations={"pixels": episode.pixels},
            actions=episode.actions,
            rewards=np.zeros(steps),
            terminations=np.zeros(steps, dtype=bool),
            truncations=np.arange(steps) == steps - 1,
            infos={"state": episode.states, "goal_state": episode.goal_states},
        )


def put_in_place(name: str, folder: Path, root: Path) -> None:
    """Move the assembled dataset to ``root``, in place of what is there."""
    namespace = parse_dataset_id(name)[0]
    if namespace is not None and namespace not in list_local_namespaces():
        create_namespace(namespace)
    replaced = folder / "replaced"
    if root.exists():
        os.rename(root, replaced)
    os.rename(folder / ASSEMBLED, root)
    shutil.rmtree(replaced, ignore_errors=True)
