"""Tensors and a JSON header in one safetensors file: atomic, hashed, and nothing in it is ever executed."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

FORMATS = ("wm-agents/1", "wm-agents/2")
"""Formats that are read; the last one is written."""


class CheckpointError(ValueError):
    """A checkpoint file is missing, damaged, or not one of ours."""


def content_hash(tensors: Mapping[str, torch.Tensor], header: str) -> str:
    """SHA-256 over the header and every tensor's name, type, shape and bytes, in order of name."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def pack(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the contents of one safetensors file with these tensors and JSON header, and the content hash."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(header, sort_keys=True, default=_jsonable)
    digest = content_hash(plain, text)
    return _in_order(save(plain, metadata={"format": FORMATS[-1], "header": text, "sha256": digest})), digest


def write_tensors(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any], path: str | os.PathLike[str]) -> str:
    """Write tensors and a JSON header to one safetensors file, atomically; return the content hash."""
    data, digest = pack(tensors, header)
    write_atomically(data, path)
    return digest


def _in_order(data: bytes) -> bytes:
    """The same file with its metadata in order: safetensors writes it in any, and equal contents make equal files."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of 8
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def unpack(data: bytes, name: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Undo :func:`pack` and verify the hash.

    Args:
        data: The contents of the file.
        name: Of the file, for messages.

    Raises:
        CheckpointError: Truncated, tampered with, or of another format.
    """
    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{name} is damaged or not a safetensors file ({error}): get it again.") from error
    if metadata.get("format") not in FORMATS:
        raise CheckpointError(
            f"{name} was not written by this version of wm-agents: its format is {metadata.get('format')!r}, not one "
            f"of {', '.join(FORMATS)}. Give a file that an agent's save() wrote, or upgrade wm-agents."
        )
    if content_hash(tensors, metadata.get("header", "")) != metadata.get("sha256"):
        raise CheckpointError(f"{name} does not match its own SHA-256: it was damaged or changed. Get it again.")
    try:
        header = json.loads(metadata["header"])
        return tensors, {**header, "format": metadata["format"]}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} has no readable JSON header ({error}): get it again.") from error


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`write_tensors` wrote and verify the hash.

    Raises:
        CheckpointError: No such file, truncated, tampered with, or of another format.
    """
    if not Path(path).is_file():
        raise CheckpointError(
            f"there is no checkpoint file at {path}: give the path of a file that an agent's save() wrote, "
            "or load a shipped one by its name (wm_agents.list_checkpoints())."
        )
    try:
        return unpack(Path(path).read_bytes(), path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def write_atomically(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write ``data`` beside ``path`` and rename it into place: a kill or a full disk leaves the old file intact."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:20]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _jsonable(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be stored in a checkpoint's header.")
