"""Result files: paths are checked before the work begins, and files are written atomically."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, with its suffix, that replaces it when the block ends without error.

    An exception or a kill leaves an existing file at ``path`` unchanged. Missing parent folders are created.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, indent: int | None = 1) -> None:
    """Write a JSON file atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def file_sha256(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check_output(path: str | Path, *, folder: bool = False) -> None:
    """Raise an error if a result could not be written to ``path`` later; nothing is created.

    Args:
        path: A file, or a directory that files are written to. Missing folders are fine: they are created on writing.
        folder: ``path`` is a directory.

    Raises:
        OSError: ``path`` is a directory where a file is needed or the other way round, lies below a file, or its
            folder is not writable.
    """
    target = Path(path).absolute()
    if not folder and target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a directory. Give the name of a file.")
    nearest = target if folder else target.parent
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NotADirectoryError(f"cannot write {path}: {nearest} is not a directory.")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise type(error)(f"cannot write {path}: {nearest} is not writable ({error.strerror}).") from error
