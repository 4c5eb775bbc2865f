"""Several datasets of one task as one."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wm_agents.configs import bare_id
from wm_agents.datasets.dataset import TrajectoryDataset
from wm_agents.datasets.frame_files import take


def concatenate(datasets: Sequence[TrajectoryDataset]) -> TrajectoryDataset:
    """Join datasets of one task, episode after episode; no frame is copied.

    Args:
        datasets: One or more, with the same images, actions and states.

    Raises:
        ValueError: None were given, or they differ in task, image size, action bounds or states.
    """
    if not datasets:
        raise ValueError("concatenate needs at least one dataset.")
    first = datasets[0]
    for other in datasets[1:]:
        for what, a, b in (
            ("task", bare_id(first.env_id), bare_id(other.env_id)),
            ("image shape", first.pixels.shape[1:], other.pixels.shape[1:]),
            ("choices", first.choices, other.choices),
            ("lowest action", first.action_low.tolist(), other.action_low.tolist()),
            ("highest action", first.action_high.tolist(), other.action_high.tolist()),
            ("state", first.state_names, other.state_names),
        ):
            if a != b:
                raise ValueError(f"cannot join {first.name!r} and {other.name!r}: their {what} differs, {a} and {b}.")
    offsets = np.cumsum([0, *(len(data.pixels) for data in datasets[:-1])])
    hashes = [str(data.provenance.get("sha256", data.name)) for data in datasets]
    pixels: Any = ChainedFrames([data.pixels for data in datasets])
    return replace(
        first,
        name=" + ".join(data.name for data in datasets),
        pixels=pixels,
        actions=np.concatenate([data.actions for data in datasets]),
        states=np.concatenate([data.states for data in datasets]),
        starts=np.concatenate([data.starts + offset for data, offset in zip(datasets, offsets, strict=True)]),
        lengths=np.concatenate([data.lengths for data in datasets]),
        episode_ids=np.arange(sum(len(data) for data in datasets)),
        goal_states=np.concatenate(
            [np.full(data.states.shape, np.nan) if data.goal_states is None else data.goal_states for data in datasets]
        ),
        provenance={
            "datasets": [data.provenance for data in datasets],
            "sha256": hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
        },
    )


class ChainedFrames:
    """Memory maps of frames behind each other: ``len``, ``shape``, and indexing by arrays of frame numbers."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = list(parts)
        self.ends = np.cumsum([len(part) for part in parts]).tolist()
        self.shape = (self.ends[-1], *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = np.asarray(index)
        if rows.ndim == 0:
            part = bisect_right(self.ends, int(rows))
            return np.asarray(self.parts[part][int(rows) - (self.ends[part - 1] if part else 0)])
        out = np.empty((*rows.shape, *self.shape[1:]), self.dtype)
        which = np.searchsorted(self.ends, rows, side="right")
        for part, frames in enumerate(self.parts):
            here = which == part
            out[here] = take(frames, rows[here] - (self.ends[part - 1] if part else 0))
        return out
