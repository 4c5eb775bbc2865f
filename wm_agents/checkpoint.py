"""One safetensors file holds everything that an agent is: weights, shapes, action statistics and provenance.

A file is read as tensors and JSON, never as code: nothing in it is unpickled, imported or instantiated by name. The
networks are built by this package from the stored shapes, whose fields are checked, and a SHA-256 over the contents
is verified on every load.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import gymnasium
import mujoco
import numpy as np
import stable_baselines3
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from wm_agents.models import (
    Denoiser,
    DenoiserConfig,
    InverseDynamics,
    InverseDynamicsConfig,
    LatentGraph,
    LatentGraphConfig,
    MacroActions,
    MacroActionsConfig,
    TemporalDistance,
    TemporalDistanceConfig,
    Waypoints,
    WaypointsConfig,
    LeWM,
    LeWMConfig,
    WorldModel,
)
from wm_agents.models.actions import ActionStatistics
from wm_agents.version import __version__

FORMAT = "wm-agents/1"
HEADS: dict[str, tuple[Any, Any]] = {
    "inverse_dynamics": (InverseDynamicsConfig, InverseDynamics),
    "temporal_distance": (TemporalDistanceConfig, TemporalDistance),
    "denoiser": (DenoiserConfig, Denoiser),
    "graph": (LatentGraphConfig, LatentGraph),
    "macro_actions": (MacroActionsConfig, MacroActions),
    "waypoints": (WaypointsConfig, Waypoints),
}
"""Networks on a world model's latents: name in the file -> classes of its configuration and of the network."""

T = TypeVar("T")


class CheckpointError(ValueError):
    """A checkpoint file is missing, damaged, or not one of ours."""


@dataclass
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        world_model: The world model.
        agent: Registry name of the agent that was saved ("cem-mpc"); empty for a bare world model.
        options: Constructor options by agent name, as JSON types: the file of one task serves several agents.
        env_id: Gymnasium id of the environment that it was trained on.
        provenance: Data, seeds, commands, versions, measured numbers; JSON types.
        inverse_dynamics: The goal-conditioned inverse dynamics model on its latents, if one was fitted.
        temporal_distance: The temporal distance of its latents, if one was fitted.
        denoiser: The denoiser of action sequences, if one was fitted.
        graph: The graph of recorded latents, if one was built.
        macro_actions: Macro-actions and the high-level predictor, if they were trained.
        waypoints: The waypoint model, if one was trained.
    """

    world_model: WorldModel
    agent: str = ""
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    env_id: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    inverse_dynamics: InverseDynamics | None = None
    temporal_distance: TemporalDistance | None = None
    denoiser: Denoiser | None = None
    graph: LatentGraph | None = None
    macro_actions: MacroActions | None = None
    waypoints: Waypoints | None = None

    def heads(self) -> dict[str, Any]:
        """The fitted networks on the world model's latents, by name."""
        return {name: head for name in HEADS if (head := getattr(self, name)) is not None}


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    return {
        "wm-agents": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gymnasium": gymnasium.__version__,
        "stable-baselines3": stable_baselines3.__version__,
        "mujoco": mujoco.__version__,
    }


def save_checkpoint(checkpoint: Checkpoint, path: str | os.PathLike[str]) -> str:
    """Write a checkpoint atomically and return its content hash.

    Matrices whose numbers are all exact in half precision are kept in it, which loses nothing and halves the file;
    :func:`wm_agents.pipeline.reproduce` rounds its weights to that end.

    Args:
        checkpoint: What to write.
        path: The file; its directory is made if need be.
    """
    tensors = {f"world_model.{name}": value for name, value in checkpoint.world_model.state_dict().items()}
    header: dict[str, Any] = {
        "agent": checkpoint.agent,
        "options": checkpoint.options,
        "env_id": checkpoint.env_id,
        "provenance": checkpoint.provenance,
        "world_model": dataclasses.asdict(checkpoint.world_model.config),
    }
    for head, network in checkpoint.heads().items():
        header[head] = dataclasses.asdict(network.config)
        tensors |= {f"{head}.{name}": value for name, value in network.state_dict().items()}
    return write_tensors({name: _smallest(value) for name, value in tensors.items()}, header, path)


def _smallest(value: torch.Tensor) -> torch.Tensor:
    if value.ndim < 2 or value.dtype != torch.float32:
        return value
    half = value.half()
    return half if torch.equal(half.float(), value) else value


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint, verify its hash, and build its networks on the CPU, in evaluation mode.

    Raises:
        CheckpointError: No such file, truncated, tampered with, of another format, or tensors that do not fit.
    """
    tensors, header = read_tensors(path)
    try:
        config = build_config(LeWMConfig, header["world_model"])
        actions = ActionStatistics(
            **{name: tensors[f"world_model.action_{name}"].numpy() for name in ("low", "high", "mean", "std")}
        )
        world_model = LeWM(config, actions)
        world_model.load_state_dict(_part(tensors, "world_model."))
        heads = {}
        for name, (config_kind, kind) in HEADS.items():
            if name in header:
                heads[name] = kind(build_config(config_kind, header[name])).eval().requires_grad_(False)
                heads[name].load_state_dict(_part(tensors, f"{name}."))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not hold a world model that this version can build ({error}): "
            "give a file that an agent's save() wrote, or upgrade wm-agents."
        ) from error
    return Checkpoint(
        world_model=world_model.eval(),
        agent=header.get("agent", ""),
        options=header.get("options", {}),
        env_id=header.get("env_id", ""),
        provenance=header.get("provenance", {}),
        **heads,
    )


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def build_config(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a config dataclass from JSON values, refusing fields that it does not have."""
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := set(values) - known:
        raise ValueError(f"{kind.__name__} has no field {sorted(unknown)}")
    return kind(**values)


def content_hash(tensors: Mapping[str, torch.Tensor], header: str) -> str:
    """SHA-256 over the header and every tensor's name, type, shape and bytes, in order of name."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_tensors(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any], path: str | os.PathLike[str]) -> str:
    """Write tensors and a JSON header to one safetensors file, atomically; return the content hash."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(header, sort_keys=True, default=_jsonable)
    digest = content_hash(plain, text)
    write_atomically(_in_order(save(plain, metadata={"format": FORMAT, "header": text, "sha256": digest})), path)
    return digest


def _in_order(data: bytes) -> bytes:
    """The same file with its metadata in order: safetensors writes it in any, and equal contents make equal files."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of 8
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


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
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or is no safetensors file ({error}): get it again.") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} was not written by this version of wm-agents: its format is not {FORMAT!r}. "
            "Give a file that an agent's save() wrote."
        )
    if content_hash(tensors, metadata.get("header", "")) != metadata.get("sha256"):
        raise CheckpointError(f"{path} does not match its own SHA-256: it was damaged or changed. Get it again.")
    try:
        return tensors, json.loads(metadata["header"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} has no readable JSON header ({error}): get it again.") from error


def write_atomically(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write ``data`` beside ``path`` and rename it into place: a kill or a full disk leaves the old file intact."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
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
