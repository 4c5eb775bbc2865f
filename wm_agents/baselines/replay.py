"""The content of Stable-Baselines3's replay buffers as named tensors, in place of its pickles."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

NUMBERS = ("pos", "full")


def buffer_tensors(buffer: Any) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Return what a replay buffer holds, the used rows of its arrays by name, and where it will write next."""
    tensors = {name: torch.from_numpy(array[: _rows(buffer, array)].copy()) for name, array in _arrays(buffer)}
    return tensors, {name: int(getattr(buffer, name)) for name in NUMBERS}


def fill_buffer(buffer: Any, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, int]) -> None:
    """Put back what :func:`buffer_tensors` returned, into a buffer of the same size; an unfinished episode ends."""
    for name in NUMBERS:
        setattr(buffer, name, type(getattr(buffer, name))(numbers[name]))
    for name, array in _arrays(buffer):
        array[: _rows(buffer, array)] = tensors[name].numpy()
    if hasattr(buffer, "truncate_last_trajectory"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            buffer.truncate_last_trajectory()


def _arrays(buffer: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays of numbers in a buffer, those in dictionaries too."""
    for name, value in vars(buffer).items():
        parts = value if isinstance(value, dict) else {"": value}
        for key, part in parts.items():
            if isinstance(part, np.ndarray) and part.dtype != object:
                yield (f"{name}.{key}" if key else name), part


def _rows(buffer: Any, array: np.ndarray) -> int:
    """How many rows of an array are in use; arrays without a row for each transition are used whole."""
    return buffer.pos if len(array) == buffer.buffer_size and not buffer.full else len(array)
