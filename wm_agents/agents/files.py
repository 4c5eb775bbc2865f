"""Files of agents: safetensors, or the same in a zip archive as Stable-Baselines3's callbacks name their files."""

from __future__ import annotations

import io
import tempfile
import zipfile
import zlib
from pathlib import Path

from wm_agents.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint, write_atomically

SUFFIXES = (".zip", ".safetensors")
_MEMBER = "agent.safetensors"


def write_agent(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint atomically; see :meth:`wm_agents.agents.base.WorldModelAgent.save`."""
    target = Path(path)
    if target.suffix not in SUFFIXES:
        target = target.with_name(f"{target.name}.zip")
    if target.suffix == ".safetensors":
        save_checkpoint(checkpoint, target)
        return
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as members:
        save_checkpoint(checkpoint, Path(folder) / _MEMBER)
        members.write(Path(folder) / _MEMBER, _MEMBER)
    write_atomically(archive.getvalue(), target)


def find_file(path: str | Path) -> Path:
    """Return the file that a path, with or without its suffix, stands for.

    Raises:
        CheckpointError: Without a suffix the path stands for two files.
    """
    target = Path(path)
    if target.suffix in SUFFIXES:
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
    if target.suffix != ".zip":
        return load_checkpoint(target)
    if not target.is_file():
        raise CheckpointError(f"there is no checkpoint file at {target}.")
    if not zipfile.is_zipfile(target):
        raise CheckpointError(f"{target} is damaged or is no zip archive: get it again.")
    with zipfile.ZipFile(target) as archive, tempfile.TemporaryDirectory() as folder:
        if _MEMBER not in archive.namelist():
            raise CheckpointError(
                f"{target} is a zip archive without {_MEMBER}: an agent of Stable-Baselines3 itself? Load it there."
            )
        try:
            member = archive.extract(_MEMBER, folder)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise CheckpointError(f"{target} is damaged ({error}): get it again.") from error
        return load_checkpoint(member)
