"""Files of replay buffers: safetensors, of which nothing is executed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from wm_agents.models import WorldModel
from wm_agents.tensorfile import CheckpointError, read_tensors, write_tensors

if TYPE_CHECKING:
    from wm_agents.datasets import ReplayBuffer

SUFFIX = ".safetensors"


def write_replay(buffer: ReplayBuffer | None, path: str | Path) -> None:
    """Write a replay buffer; see :meth:`wm_agents.agents.base.WorldModelAgent.save_replay_buffer`."""
    if buffer is None or not len(buffer):
        raise ValueError("there is no replay buffer to save yet: call learn() first.")
    rows = buffer.dataset().frame_indices()
    order = sorted(range(len(buffer)), key=buffer.starts.__getitem__)
    tensors = {"pixels": torch.from_numpy(buffer.pixels[rows]), "actions": torch.from_numpy(buffer.actions[rows])}
    write_tensors(tensors, {"lengths": [buffer.lengths[episode] for episode in order]}, _path(path))


def read_replay(path: str | Path, world_model: WorldModel, size: int) -> ReplayBuffer:
    """Read a replay buffer; see :meth:`wm_agents.agents.base.WorldModelAgent.load_replay_buffer`."""
    if not _path(path).is_file():
        raise CheckpointError(f"there is no file {_path(path)}: give one that save_replay_buffer() wrote.")
    tensors, header = read_tensors(_path(path))
    spec = world_model.spec
    pixels, actions, lengths = tensors.get("pixels"), tensors.get("actions"), header.get("lengths")
    if pixels is None or actions is None or not lengths:
        raise CheckpointError(f"{path} is no replay buffer: give a file that save_replay_buffer() wrote.")
    if pixels.shape[1:] != (spec.image_size, spec.image_size, 3) or actions.shape[1] != spec.action_size:
        raise CheckpointError(
            f"{path} has images {tuple(pixels.shape[1:])} and {actions.shape[1]} numbers in an action, the agent "
            f"{spec.image_size} pixels and {spec.action_size}: it is of another environment."
        )
    buffer = empty_replay(world_model, size)
    first = 0
    for length in lengths:
        last = first + length + 1
        buffer.add(pixels[first:last].numpy(), actions[first : last - 1].numpy())
        first = last
    return buffer


def empty_replay(world_model: WorldModel, size: int) -> ReplayBuffer:
    """A replay buffer for the images and actions of a world model."""
    from wm_agents.datasets import ReplayBuffer

    low, high = world_model.action_low.cpu().numpy(), world_model.action_high.cpu().numpy()
    return ReplayBuffer(size, world_model.spec.image_size, low, high, world_model.spec.choices)


def _path(path: str | Path) -> Path:
    """The path with the suffix of the file's kind; SB3's callbacks ask for ".pkl"."""
    target = Path(path)
    return (
        target.with_suffix(SUFFIX)
        if target.suffix == ".pkl"
        else target.with_name(target.name if target.suffix == SUFFIX else target.name + SUFFIX)
    )
