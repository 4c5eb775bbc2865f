"""Latents of a dataset's frames, computed once for all that learn from them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
import torch

from wm_agents.models import WorldModel
from wm_agents.models.heads import evaluating
from wm_agents.training.device import own_modes
from wm_agents.training.display import progress_bar
from wm_agents.training.symmetry import view_pixels

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

_kept: weakref.WeakKeyDictionary[TrajectoryDataset, tuple[tuple[object, ...], torch.Tensor]] = (
    weakref.WeakKeyDictionary()
)


def encode_frames(
    world_model: WorldModel, dataset: TrajectoryDataset, *, view: int = 0, progress: bool = True, batch_size: int = 512
) -> torch.Tensor:
    """Encode every frame of the dataset's split, in one of the views of :mod:`wm_agents.training.symmetry`.

    As one head after another asks for the images as they are, the last answer for a dataset is kept with it.

    Args:
        world_model: Encodes; it stays in the mode that it is in.
        dataset: Whose frames.
        view: 0 to 7.
        progress: Show a bar.
        batch_size: Frames per call.

    Returns:
        Features ``[frames, F]`` by index; rows of other frames stay zero. Not to be changed.
    """
    device = world_model.action_mean.device
    indices = dataset.frame_indices()
    with own_modes(device), torch.no_grad(), evaluating(world_model):
        # A few frames tell one encoder from another: any change of weights moves them.
        some = dataset.pixels[indices[:: max(1, len(indices) // 4)][:4]]
        shown = world_model.encode(torch.from_numpy(np.ascontiguousarray(some)).to(device))
        encoder = (device, tuple(shown.double().flatten().tolist()))
        if view == 0 and dataset in _kept and _kept[dataset][0] == encoder:
            return _kept[dataset][1]
        latents = torch.zeros(len(dataset.pixels), world_model.spec.feature_size, device=device)
        with progress_bar("encoding frames", len(indices), 0, progress) as update:
            for start in range(0, len(indices), batch_size):
                rows = indices[start : start + batch_size]
                pixels = np.ascontiguousarray(view_pixels(dataset.pixels[rows], view))
                encoded = world_model.encode(torch.from_numpy(pixels).to(device))
                latents[torch.from_numpy(rows)] = world_model.features(encoded)
                update(start + len(rows))
    if view == 0:
        _kept[dataset] = (encoder, latents)
    return latents


def context(world_model: WorldModel) -> int:
    """Frames that a world model is shown before it imagines: its ``history``, or 4 where any past is remembered."""
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
