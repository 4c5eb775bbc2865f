"""Files of agents: safetensors, or the same inside a zip archive, as Stable-Baselines3's callbacks name their files."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path

from wm_agents.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    pack_checkpoint,
    unpack_checkpoint,
    write_atomically,
)

SUFFIXES = (".zip", ".safetensors")
_MEMBER = "agent.safetensors"


def write_agent(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint atomically; see :meth:`wm_agents.agents.base.WorldModelAgent.save`."""
    target = _path(path)
    if target.suffix not in SUFFIXES:
        target = target.with_name(f"{target.name}.zip")
    data, _ = pack_checkpoint(checkpoint)
    if target.suffix == ".zip":
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as members:
            members.writestr(zipfile.ZipInfo(_MEMBER), data)  # without the time: equal agents are equal files
        data = archive.getvalue()
    write_atomically(data, target)


def find_file(path: str | Path) -> Path:
    """Return the file that a path, with or without its suffix, stands for.

    Raises:
        CheckpointError: Without a suffix the path stands for two files.
    """
    target = _path(path)
    if target.suffix in SUFFIXES or target.is_file():
        return target
    found = [file for suffix in SUFFIXES if (file := target.with_name(target.name + suffix)).is_file()]
    if len(found) > 1:
        raise CheckpointError(f"there are {found[0]} and {found[1]}: give the path with its suffix.")
    return found[0] if found else target.with_name(f"{target.name}.zip")


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read what :func:`write_agent` wrote. Nothing in the file is executed.

    Raises:
        CheckpointError: Missing, damaged, tampered with, or not a file of this library.
    """
    target = find_file(path)
    if not target.is_file():
        raise CheckpointError(
            f"there is no checkpoint file at {target}: give the path of a file that an agent's save() wrote, or the "
            "name of a shipped agent (wm_agents.list_checkpoints())."
        )
    if target.suffix != ".zip" and not zipfile.is_zipfile(target):
        return load_checkpoint(target)
    try:
        return unpack_checkpoint(_member(target), target)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:
        raise CheckpointError(f"{target} is damaged or not a zip archive ({error}): get it again.") from error


def _member(target: Path) -> bytes:
    """The contents of the safetensors file inside a zip archive."""
    with zipfile.ZipFile(target) as archive:
        if _MEMBER not in archive.namelist():
            raise CheckpointError(
                f"{target} is a zip archive without {_MEMBER}: a model of Stable-Baselines3? Those are opened by "
                "evaluation.load_sb3(path, trust=True), and wm-agents evaluate FILE --trust."
            )
        size = archive.getinfo(_MEMBER).file_size
        if size > 100 * target.stat().st_size:  # weights are as good as random: they do not shrink like this
            raise CheckpointError(f"{target} claims to hold {size} bytes of weights, which it cannot: get it again.")
        return archive.read(_MEMBER)


def _path(path: str | Path) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"give a path, not {type(path).__name__}: checkpoints are read and written as whole files.")
    target = Path(path)
    if not target.name:
        raise CheckpointError(f"{str(path)!r} is not the name of a file.")
    return target
