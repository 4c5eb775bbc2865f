"""Latents of a dataset's frames, which are computed once for all trainings."""

from __future__ import annotations

import tempfile
import weakref
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
import torch

from wm_agents.models import WorldModel
from wm_agents.models.heads import evaluating
from wm_agents.training.device import own_modes
from wm_agents.training.display import progress_bar
from wm_agents.training.symmetry import VIEWS, view_pixels

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

LARGE = 1 << 30
"""Bytes of latents that stay in memory."""
_kept: weakref.WeakKeyDictionary[TrajectoryDataset, tuple[tuple[object, ...], torch.Tensor]] = (
    weakref.WeakKeyDictionary()
)


def encode_frames(
    world_model: WorldModel, dataset: TrajectoryDataset, *, view: int = 0, progress: bool = True, batch_size: int = 512
) -> torch.Tensor:
    """Encode every frame of the dataset's split, in one of the views of :mod:`wm_agents.training.symmetry`.

    The latents of the unchanged images are kept with the dataset, because one head after the other needs them.

    Args:
        world_model: Encodes the frames; its mode does not change.
        dataset: The frames.
        view: 0 to 7.
        progress: Show a bar.
        batch_size: Frames per call.

    Returns:
        Features ``[frames, F]`` by index; rows of other frames stay zero. Do not change them. Above 1 GiB, they are in
        a file and not in memory.

    Raises:
        OSError: The disk of the user's cache directory has no room for that file.
    """
    device = world_model.action_mean.device
    indices = dataset.frame_indices()
    with own_modes(device), torch.no_grad(), evaluating(world_model):
        # A few frames tell one encoder from another: any change of weights moves them.
        some = dataset.frames_at(indices[:: max(1, len(indices) // 4)][:4])
        shown = world_model.encode(torch.from_numpy(np.ascontiguousarray(some)).to(device))
        encoder = (device, tuple(shown.double().flatten().tolist()))
        if view == 0 and dataset in _kept and _kept[dataset][0] == encoder:
            return _kept[dataset][1]
        latents = _zeros(len(dataset.pixels), world_model.spec.feature_size, device)
        with progress_bar("encoding frames", len(indices), 0, progress) as update:
            for start in range(0, len(indices), batch_size):
                rows = indices[start : start + batch_size]
                pixels = np.ascontiguousarray(view_pixels(dataset.frames_at(rows), view))
                encoded = world_model.encode(torch.from_numpy(pixels).to(device))
                latents[torch.from_numpy(rows)] = world_model.features(encoded)
                update(start + len(rows))
    if view == 0:
        _kept[dataset] = (encoder, latents)
    return latents


def encode_views(
    world_model: WorldModel, dataset: TrajectoryDataset, square_symmetry: bool, *, progress: bool = True
) -> torch.Tensor:
    """Features ``[views, frames, F]`` of a dataset's frames, in all eight views of a square scene or as recorded.

    Args:
        world_model: Encodes the frames; its mode does not change.
        dataset: The frames.
        square_symmetry: All views (:mod:`wm_agents.training.symmetry`).
        progress: Show bars.

    Raises:
        OSError: See :func:`encode_frames`.
    """
    if not square_symmetry:
        return encode_frames(world_model, dataset, progress=progress)[None]
    return torch.stack([encode_frames(world_model, dataset, view=view, progress=progress) for view in range(VIEWS)])


def _zeros(frames: int, size: int, device: torch.device) -> torch.Tensor:
    """Zeros ``[frames, size]``; those of large data are in a file without a name, which the system may page out."""
    if device.type != "cpu" or 4 * frames * size <= LARGE:
        return torch.zeros(frames, size, device=device)
    folder = platformdirs.user_cache_path("wm-agents", appauthor=False, ensure_exists=True)  # /tmp may be memory
    with tempfile.TemporaryFile(dir=folder) as file:
        return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="w+", shape=(frames, size)))


def context(world_model: WorldModel) -> int:
    """Frames that a world model sees before it imagines: its ``history``, or 4 if it remembers any past."""
    return getattr(world_model.config, "history", 4)


def check_dataset_fits(world_model: WorldModel, dataset: TrajectoryDataset) -> None:
    """Raise ``ValueError`` unless the dataset's actions and images are of the world model's sizes."""
    spec = world_model.spec
    if dataset.actions.shape[1] != spec.action_size:
        raise ValueError(
            f"{dataset.name} has actions of size {dataset.actions.shape[1]}, the world model was trained with "
            f"{spec.action_size}: fit on data of the world model's environment."
        )
    if dataset.choices != spec.choices:
        raise ValueError(
            f"{dataset.name} has actions of {dataset.choices or 'no'} choices, the world model was trained with "
            f"{spec.choices or 'none'}: fit on data of the world model's environment."
        )
    if dataset.pixels.shape[1:3] != (spec.image_size, spec.image_size):
        raise ValueError(
            f"{dataset.name} has images of {dataset.pixels.shape[1]} x {dataset.pixels.shape[2]} pixels, the world "
            f"model was trained on {spec.image_size} x {spec.image_size}: use data of that size."
        )
