"""Frames of video files, decoded by the ffmpeg that imageio brings, one after the other."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wm_agents.datasets.checks import refusal

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".gif")
"""Endings of files that are taken for videos."""


class VideoInfo(NamedTuple):
    """Frames a second, and the height and width of a frame in pixels."""

    fps: float
    height: int
    width: int


def video_info(path: Path) -> VideoInfo:
    """Return what the head of a video says.

    Raises:
        ValueError: There is no such file, it is no video, or cut short where its index should be.
    """
    return _info(path, *_state(path))


def count_frames(path: Path) -> int:
    """Return how many frames a video holds; they are counted, not decoded.

    Raises:
        ValueError: As for :func:`video_info`.
    """
    return _count(path, *_state(path))


def _state(path: Path) -> tuple[int, int]:
    """Return what changes when a file does: the answers about it are kept for as long."""
    if not path.is_file():
        raise refusal(str(path), "there is no such video.")
    return path.stat().st_mtime_ns, path.stat().st_size


@functools.lru_cache(maxsize=256)
def _info(path: Path, *state: int) -> VideoInfo:
    frames = _decode(path, [])
    meta = next(frames)
    frames.close()
    width, height = meta["source_size"]
    return VideoInfo(float(meta["fps"]), height, width)


@functools.lru_cache(maxsize=256)
def _count(path: Path, *state: int) -> int:
    from imageio_ffmpeg import count_frames_and_secs

    try:
        return int(count_frames_and_secs(str(path))[0])
    except (OSError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def read_video(path: Path, frames: int, *, start: float = 0.0) -> Iterator[np.ndarray]:
    """Yield frames of a video, uint8 ``[H, W, 3]`` each; one at a time is in memory.

    Args:
        path: The file.
        frames: How many.
        start: Seconds to the first one.

    Raises:
        ValueError: It is no video, or ends before.
    """
    stream = _decode(path, ["-ss", f"{start:.6f}"] if start > 0 else [])
    width, height = next(stream)["size"]
    seen = 0
    try:
        for data in itertools.islice(stream, frames):
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
            seen += 1
    except (OSError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    finally:
        stream.close()
    if seen < frames:
        raise refusal(str(path), f"it ends after {seen} of {frames} frames: it is cut short or damaged.")


def _decode(path: Path, seek: list[str]) -> Generator[Any, None, None]:
    """Return a generator of imageio's metadata, then of the bytes of every stored frame."""
    from imageio_ffmpeg import read_frames

    stream = read_frames(str(path), input_params=seek, output_params=["-fps_mode", "passthrough"])

    def checked() -> Generator[Any, None, None]:
        try:
            yield next(stream)
        except (OSError, RuntimeError, StopIteration) as error:
            raise _unreadable(path, error) from error
        yield from stream

    return checked()


def _unreadable(path: Path, error: Exception) -> ValueError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return refusal(str(path), f"it is no video, or is cut short or damaged ({lines[-1] if lines else 'it is empty'}).")
