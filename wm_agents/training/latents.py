"""Latents of a dataset's frames, which are computed once for all trainings."""

from __future__ import annotations

import math
import tempfile
import weakref
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
import torch

from wm_agents.models import WorldModel
from wm_agents.models.heads import evaluating
from wm_agents.training.checks import check_is_dataset
from wm_agents.training.device import own_modes
from wm_agents.training.display import progress_bar
from wm_agents.training.symmetry import VIEWS, view_pixels

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

LARGE = 1 << 30
"""Bytes of latents that stay in memory."""
BATCH = 128
"""Frames that are encoded at a time. With 512, they overflow a core's cache, and encoding takes a third longer."""
_kept: weakref.WeakKeyDictionary[TrajectoryDataset, tuple[tuple[object, ...], torch.Tensor]] = (
    weakref.WeakKeyDictionary()
)


def encode_frames(world_model: WorldModel, dataset: TrajectoryDataset, *, progress: bool = True) -> torch.Tensor:
    """Encode every frame of the dataset's split.

    Args:
        world_model: Encodes the frames; its mode does not change.
        dataset: The frames.
        progress: Show a bar.

    Returns:
        Features ``[frames, F]`` by index; rows of other frames stay zero. Do not change them: they are kept with the
        dataset, because one head after the other needs them. Above 1 GiB, they are in a file and not in memory.

    Raises:
        OSError: The disk of the user's cache directory has no room for that file.
    """
    return encode_views(world_model, dataset, square_symmetry=False, progress=progress)[0]


def encode_views(
    world_model: WorldModel, dataset: TrajectoryDataset, square_symmetry: bool, *, progress: bool = True
) -> torch.Tensor:
    """Features ``[views, frames, F]`` of a dataset's frames, in all eight views of a square scene or as recorded.

    Args:
        world_model: Encodes the frames; its mode does not change.
        dataset: The frames.
        square_symmetry: All views (:mod:`wm_agents.training.symmetry`), and not the first one alone.
        progress: Show bars.

    Returns:
        See :func:`encode_frames`.

    Raises:
        OSError: See :func:`encode_frames`.
    """
    device = world_model.action_mean.device
    views = VIEWS if square_symmetry else 1
    indices = dataset.frame_indices()
    with own_modes(device), torch.no_grad(), evaluating(world_model):
        # A few frames tell one encoder from another: any change of weights moves them.
        some = dataset.frames_at(indices[:: max(1, len(indices) // 4)][:4])
        shown = world_model.encode(torch.from_numpy(np.ascontiguousarray(some)).to(device))
        encoder = (device, tuple(shown.double().flatten().tolist()))
        known, kept = _kept.get(dataset, (None, torch.empty(0)))
        if known != encoder:
            kept = torch.empty(0)
        if len(kept) >= views:
            return kept[:views]
        latents = _zeros((views, len(dataset.pixels), world_model.spec.feature_size), device)
        for view in range(views):
            if view < len(kept):
                latents[view] = kept[view]
            else:
                _encode(world_model, dataset, indices, view, latents[view], progress)
    _kept[dataset] = (encoder, latents)
    return latents


def _encode(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    indices: np.ndarray,
    view: int,
    latents: torch.Tensor,
    progress: bool,
) -> None:
    """Write the features of the frames at ``indices``, as one view shows them, into their rows of ``latents``."""
    with progress_bar("encoding frames", len(indices), 0, progress) as update:
        for start in range(0, len(indices), BATCH):
            rows = indices[start : start + BATCH]
            pixels = np.ascontiguousarray(view_pixels(dataset.frames_at(rows), view))
            encoded = world_model.encode(torch.from_numpy(pixels).to(latents.device))
            latents[torch.from_numpy(rows)] = world_model.features(encoded)
            update(start + len(rows))


def _zeros(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Zeros; on the CPU, those of large data are in a file without a name, which the system may page out."""
    if device.type != "cpu" or 4 * math.prod(shape) <= LARGE:
        return torch.zeros(shape, device=device)
    folder = platformdirs.user_cache_path("wm-agents", appauthor=False, ensure_exists=True)  # /tmp may be memory
    with tempfile.TemporaryFile(dir=folder) as file:
        return torch.from_numpy(np.memmap(file, dtype=np.float32, mode="w+", shape=shape))


def context(world_model: WorldModel) -> int:
    """Frames that a world model sees before it imagines: its ``history``, or 4 if it remembers any past."""
    return getattr(world_model.config, "history", 4)


def check_dataset_fits(world_model: WorldModel, dataset: TrajectoryDataset) -> None:
    """Raise ``ValueError`` unless it is a dataset whose actions and images are of the world model's sizes."""
    check_is_dataset(dataset)
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
