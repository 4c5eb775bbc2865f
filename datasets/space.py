"""How much disk space a dataset needs, and an error before anything is written if there is less.

HDF5 ends the process with a segmentation fault when the disk is full, so every write checks the free space first.
"""

from __future__ import annotations

import shutil
from pathlib import Path

_MARGIN = 8 << 20  # bytes to leave free
_PADDING = 1.6  # HDF5 stores frames in blocks, up to 1.57 times their size
_PER_EPISODE = 40_000  # bytes of HDF5's own records


def stored_size(episodes: int, size: int) -> int:
    """Return how many bytes Minari's HDF5 file of this many episodes takes at most.

    Args:
        episodes: Number of episodes.
        size: Bytes of all their frames, actions and infos together.
    """
    return int(_PADDING * size) + _PER_EPISODE * episodes


def require_space(folder: Path, size: int) -> None:
    """Make sure that ``size`` bytes, and a margin, are free where ``folder`` is or will be.

    Raises:
        OSError: There is less; the message names the folder and both amounts.
    """
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing)[2]
    if free < size + _MARGIN:
        raise OSError(
            f"The disk of {folder} is too full: {_readable(size + _MARGIN)} are needed and {_readable(free)} are free. "
            "Free some space, or set MINARI_DATASETS_PATH to a folder on a larger disk."
        )


def _readable(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
