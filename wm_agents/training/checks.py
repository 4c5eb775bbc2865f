"""What a dataset must have for the training of a world model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_agents.losses import LossTerm

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


def check_kinds(dataset: Any, config: Any, kind: type[Any]) -> None:
    """Raise ``ValueError`` unless the first is a dataset, and the second of the class of a training's options."""
    check_is_dataset(dataset)
    check_options(config, kind)


def check_options(options: Any, kind: type[Any], name: str = "training") -> None:
    """Raise ``ValueError`` unless the argument ``name`` is of the class of a training's options."""
    if not isinstance(options, kind):
        raise ValueError(f"{name} must be of the class {kind.__name__}, not {type(options).__name__}.")


def check_is_dataset(dataset: Any) -> None:
    """Raise ``ValueError`` unless it is a dataset."""
    if not all(hasattr(dataset, name) for name in ("pixels", "actions", "lengths", "split")):
        raise ValueError(
            f"the data must be a dataset, not {type(dataset).__name__}: open one with datasets.load(name), or make "
            "one with datasets.from_episodes(images, actions, name=...)."
        )


def check_dataset(dataset: TrajectoryDataset) -> None:
    """Raise ``ValueError`` unless images are square and in colour, and actions have bounds."""
    shape = tuple(dataset.pixels.shape[1:])
    if len(shape) != 3 or shape[0] != shape[1] or shape[2] != 3:
        raise ValueError(
            f"{dataset.name} has images {shape}; square ones in colour, (size, size, 3), are needed. Make a dataset of "
            f"such: wm-agents import {dataset.name} --name mine/square-v0"
        )
    bounds = np.stack([dataset.action_low, dataset.action_high])
    if not np.isfinite(bounds).all() or (bounds[0] > bounds[1]).any():
        raise ValueError(
            f"{dataset.name} has actions without finite bounds, {bounds.tolist()}: set action_low and action_high."
        )


def check_terms(terms: Mapping[str, LossTerm], data: TrajectoryDataset, frames: int) -> None:
    """Raise ``ValueError`` if a loss term needs more than windows of ``frames`` frames, or actions that change."""
    changing = actions_change(data)
    for name, term in terms.items():
        least = getattr(term, "least_frames", 2)
        if frames < least:
            raise ValueError(
                f"the loss term {name!r} needs windows of {least} frames, not {frames}: set frames={least} in "
                "TrainingConfig, or give the term the weight 0."
            )
        if getattr(term, "reads_actions", False) and not changing:
            raise ValueError(
                f"the loss term {name!r} learns from actions, and those of {data.name} never change: give the term "
                "the weight 0, or record data with actions."
            )


def check_without_actions(terms: Mapping[str, LossTerm], kind: str) -> None:
    """Raise ``ValueError`` if a loss term reads actions, or imagines with them; ``kind`` trains without any."""
    for name, term in terms.items():
        if getattr(term, "reads_actions", False) or getattr(term, "imagines", False):
            raise ValueError(
                f"the loss term {name!r} reads actions, and {kind} is trained without: give the term the weight 0."
            )


def actions_change(data: TrajectoryDataset) -> bool:
    """Whether not all actions are one and the same."""
    rows = data.frame_indices()
    taken = data.actions[rows[~np.isin(rows, data.starts + data.lengths)]]  # without the zeros at ends of episodes
    return bool((taken != taken[:1]).any())
