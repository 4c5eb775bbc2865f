"""Frames of large memory maps, read from their file: only what is asked for, and not into the process for good."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

LARGE = 1 << 30
"""Bytes of a memory map that does not stay in the memory of the process."""

_files: weakref.WeakKeyDictionary[mmap.mmap, int | None] = weakref.WeakKeyDictionary()
"""Open files of memory maps; None where the file is no longer what is mapped."""


def take(frames: Any, index: np.ndarray) -> np.ndarray:
    """Return ``frames[index]`` as an array of its own.

    Random frames of a map of more than :data:`LARGE` bytes are read from its file. Through the map, the system would
    read the surroundings of each of them, too: 24 times as many bytes, and 9 times the processor's time, for windows of
    64 x 64 pixels that are on the disk alone. And what was read would count as memory of this process.

    Args:
        frames: uint8 ``[N, ...]``, a memory map or any other array.
        index: Whole numbers ``[...]``.

    Raises:
        IndexError: A number is not in 0 to N - 1, for a large map.
        OSError: The file cannot be read.
    """
    mapped = getattr(frames, "_mmap", None)
    if not isinstance(mapped, mmap.mmap) or frames.nbytes <= LARGE or not hasattr(os, "preadv"):
        return np.asarray(frames[index])
    if mapped not in _files:
        _files[mapped] = _open(frames, mapped)
    file, rows = _files[mapped], np.asarray(index)
    if file is None:
        return np.asarray(frames[index])
    if rows.size and not 0 <= rows.min() <= rows.max() < len(frames):
        raise IndexError(f"frames count from 0 to {len(frames) - 1}, not {rows.min()} to {rows.max()}.")
    size = frames[0].nbytes
    found = np.empty((rows.size, size), np.uint8)
    places = [int(row) * size for row in rows.ravel()]
    if hasattr(os, "posix_fadvise"):
        for place in sorted(places):  # all at once: a disk is faster if it knows what comes
            os.posix_fadvise(file, place, size, os.POSIX_FADV_WILLNEED)
    for row, place in zip(found, places, strict=True):
        if os.preadv(file, [row], place) < size:
            raise OSError(f"{frames.filename} has become shorter: load the dataset again.")
    return found.view(frames.dtype).reshape(*rows.shape, *frames.shape[1:])


def _open(frames: Any, mapped: mmap.mmap) -> int | None:
    """Open the file of a map that is all of it; None where it is not, or has been replaced."""
    if not frames.flags.c_contiguous or frames.nbytes != len(mapped):
        return None
    try:
        file = os.open(Path(frames.filename), os.O_RDONLY)
    except (OSError, TypeError):
        return None
    last = frames.nbytes - frames[0].nbytes
    ends = ((0, frames[0]), (last, frames[-1]))
    same = all(os.pread(file, row.nbytes, place) == row.tobytes() for place, row in ends)
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
    if not same or os.fstat(file).st_size != len(mapped):
        os.close(file)
        return None
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    weakref.finalize(mapped, os.close, file)
    return file
