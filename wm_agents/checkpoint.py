"""One safetensors file contains a whole agent: weights, shapes, action statistics and provenance.

A file is read as tensors and JSON, never as code: nothing in it is unpickled, imported or instantiated by a path. It
names parts that are registered. Shapes are checked, and a SHA-256 of the contents is verified on every load. A file
with a part of another package names that package.
"""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import gymnasium
import stable_baselines3
import torch

from wm_agents.configs import build_config
from wm_agents.models import ActionStatistics, Head, WorldModel
from wm_agents.models.modes import limited, prediction_modes
from wm_agents.registry import (
    ACTION_SPACES,
    AGENTS,
    ENCODERS,
    HEADS,
    OBJECTIVES,
    PLANNERS,
    PREDICTORS,
    WORLD_MODELS,
    Registry,
    origin,
)
from wm_agents.tensorfile import CheckpointError, pack, read_tensors, unpack, write_atomically, write_tensors
from wm_agents.version import __version__

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "load_checkpoint",
    "load_heads",
    "read_tensors",
    "save_checkpoint",
    "save_heads",
    "versions",
    "write_atomically",
    "write_tensors",
]

NETWORKS: dict[str, Registry] = {
    "encoder": ENCODERS,
    "head": HEADS,
    "predictor": PREDICTORS,
    "world model": WORLD_MODELS,
}
"""Parts without which a file cannot be read at all."""
REGISTRIES: dict[str, Registry] = {
    **NETWORKS,
    "action space": ACTION_SPACES,
    "agent": AGENTS,
    "objective": OBJECTIVES,
    "planner": PLANNERS,
}

Parts = Iterable[tuple[str, str]]
"""Kinds and names of registered parts."""


@dataclass
class Checkpoint:
    """Content of a checkpoint file.

    Attributes:
        world_model: The world model.
        agent: Name of the agent that was saved ("cem"); empty for a bare world model.
        options: Constructor options by agent name, as JSON types: the file of one task serves several agents.
        env_id: Gymnasium id of the environment that it was trained on.
        provenance: Data, seeds, commands, versions, measured numbers; JSON types.
        heads: The networks on the world model's latents, by their names in ``wm_agents.registry.HEADS``.
        needs: Parts that other packages registered, ``[kind, name, package]`` each.
    """

    world_model: WorldModel
    agent: str = ""
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    env_id: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    heads: dict[str, Head] = field(default_factory=dict)
    needs: list[list[str]] = field(default_factory=list)


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    return {
        "wm-agents": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gymnasium": gymnasium.__version__,
        "stable-baselines3": stable_baselines3.__version__,
        "mujoco": metadata.version("mujoco"),  # not imported: recorded data need no simulator
    }


def save_checkpoint(checkpoint: Checkpoint, path: str | os.PathLike[str]) -> str:
    """Write a checkpoint atomically and return its content hash; see :func:`pack_checkpoint`."""
    data, digest = pack_checkpoint(checkpoint)
    write_atomically(data, path)
    return digest


def pack_checkpoint(checkpoint: Checkpoint) -> tuple[bytes, str]:
    """Return the contents of a checkpoint's file, and their hash.

    Matrices whose numbers are all exact in half precision are stored in it, which loses nothing and halves the file;
    :func:`wm_agents.pipeline.reproduce` rounds its weights for this purpose. Weights that an encoder takes from
    elsewhere are left out, and its ``identity`` is kept in their place.

    Raises:
        ValueError: The world model or a head is of a class that is not registered.
    """
    model = checkpoint.world_model
    kind = WORLD_MODELS.name_of(type(model))
    tensors = {f"world_model.{name}": value for name, value in stored_state(model).items()}
    parts = [("world model", kind), *model.parts().items(), *(("head", name) for name in checkpoint.heads)]
    header: dict[str, Any] = {
        "agent": checkpoint.agent,
        "options": checkpoint.options,
        "env_id": checkpoint.env_id,
        "provenance": checkpoint.provenance,
        "world_model": {"kind": kind, "config": dataclasses.asdict(model.config)},
        "identity": getattr(model.encoder, "identity", None),
        "needs": [*foreign(parts), *(need for need in checkpoint.needs if need[0] not in NETWORKS)],
    }
    own, configs = _stored_heads(checkpoint.heads)
    return pack({name: _smallest(value) for name, value in (tensors | own).items()}, {**header, "heads": configs})


def _stored_heads(heads: Mapping[str, Head]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and configurations of heads, as files have them."""
    tensors: dict[str, torch.Tensor] = {}
    for name, head in heads.items():
        if HEADS.name_of(type(head)) != name:
            raise ValueError(f"{type(head).__name__} is registered as {HEADS.name_of(type(head))!r}, not as {name!r}.")
        tensors |= {f"heads.{name}.{key}": value for key, value in head.state_dict().items()}
    return tensors, {name: dataclasses.asdict(head.config) for name, head in heads.items()}


def save_heads(heads: Mapping[str, Head], path: str | os.PathLike[str]) -> str:
    """Write heads alone, for a world model whose own file stays as it is; return the content hash.

    Raises:
        ValueError: A head is of a class that is not registered under its name.
    """
    tensors, configs = _stored_heads(heads)
    return write_tensors({name: _smallest(value) for name, value in tensors.items()}, {"heads": configs}, path)


def load_heads(path: str | os.PathLike[str], world_model: WorldModel) -> dict[str, Head]:
    """Read what :func:`save_heads` wrote, for the world model that the heads were made on.

    Raises:
        CheckpointError: As for :func:`load_checkpoint`, or the heads are of another world model.
    """
    tensors, header = read_tensors(path)
    try:
        heads = {name: _head(name, config, tensors, world_model) for name, config in header["heads"].items()}
        for head in heads.values():
            head.check(world_model)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold heads of this world model ({error}).") from error
    return heads


def content_of(checkpoint: Checkpoint, without: Container[str] = ()) -> str:
    """Return a hash of a checkpoint's weights and options, some heads left out; where they come from does not count."""
    heads = {name: head for name, head in checkpoint.heads.items() if name not in without}
    return pack_checkpoint(dataclasses.replace(checkpoint, heads=heads, provenance={}))[1]


def foreign(parts: Parts) -> list[list[str]]:
    """The parts that other packages registered, ``[kind, name, package]`` each."""
    known = [(kind, name) for kind, name in parts if kind in REGISTRIES and name in REGISTRIES[kind]]
    named = [(kind, name, REGISTRIES[kind].get(name)) for kind, name in known]
    return [[kind, name, origin(part)] for kind, name, part in named if part.__module__.split(".")[0] != "wm_agents"]


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint, verify its hash, and build its networks on the CPU, in evaluation mode.

    Raises:
        CheckpointError: No such file, truncated, tampered with, of another format, tensors that do not fit, or a part
            of a package that is not installed.
    """
    with prediction_modes():
        return _from(*read_tensors(path), path)


def unpack_checkpoint(data: bytes, name: str | os.PathLike[str]) -> Checkpoint:
    """Undo :func:`pack_checkpoint`; see :func:`load_checkpoint`. Messages call the file ``name``."""
    with prediction_modes():
        return _from(*unpack(data, name), name)


def _from(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any], name: Any) -> Checkpoint:
    weights = sum(value.numel() for value in tensors.values())
    try:
        with limited(max(5 * 10**7, 4 * weights), 100 * (len(tensors) + 100)):
            return _build(
                *(_from_format_1(tensors, header) if header["format"] == "wm-agents/1" else (tensors, header))
            )
    except MissingPartError as error:
        raise CheckpointError(f"{name} {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise CheckpointError(
            f"{name} does not hold a world model that this version can build ({error}): "
            "give a file that an agent's save() wrote, or upgrade wm-agents."
        ) from error


class MissingPartError(ValueError):
    """A checkpoint has a part of a package that is not installed."""


def check_needs(needs: Iterable[Iterable[str]], used: Container[tuple[str, str]]) -> None:
    """Raise :class:`MissingPartError` where one of the parts that are used is not registered here."""
    for kind, name, package in needs:
        if (kind, name) in used and name not in REGISTRIES[kind]:
            raise MissingPartError(
                f"needs the {kind} {name!r} of the package {package}: install that package, or import the module that "
                "registers it (on the command line: --import MODULE)."
            )


def _build(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> Checkpoint:
    needs = header.get("needs", [])
    check_needs(needs, {(kind, name) for kind, name, _ in needs if kind in NETWORKS})
    kinds = {"agent": str, "options": dict, "env_id": str, "provenance": dict, "heads": dict}
    stored = {name: header.get(name, kind()) for name, kind in kinds.items()}
    for name, kind in kinds.items():
        if not isinstance(stored[name], kind):
            raise ValueError(f"its {name!r} must be of type {kind.__name__}, not {type(stored[name]).__name__}")
    if not all(isinstance(options, dict) for options in stored["options"].values()):
        raise ValueError("its options must be by agent and by name")
    config = header["world_model"]["config"]
    most = max(10**6, *(value.numel() for value in tensors.values()))  # of layers, even before torch is asked for one
    if any(isinstance(n, int) and n > most for own in (config, *stored["heads"].values()) for n in own.values()):
        raise ValueError("its configuration asks for far larger networks than it has weights for")
    kind = WORLD_MODELS.get(header["world_model"]["kind"])
    actions = ActionStatistics(
        **{name: tensors[f"world_model.action_{name}"].numpy() for name in ("low", "high", "mean", "std")}
    )
    world_model = kind(build_config(kind.Config, config), actions)
    load_stored(world_model, _part(tensors, "world_model."), header.get("identity"))
    world_model.eval().requires_grad_(False)
    heads = {name: _head(name, config, tensors, world_model) for name, config in stored["heads"].items()}
    return Checkpoint(world_model, **{**stored, "heads": heads}, needs=needs)


def _head(name: str, config: Any, tensors: Mapping[str, torch.Tensor], world_model: WorldModel) -> Head:
    kind = HEADS.get(name)
    head: Head = kind(build_config(kind.Config, config)).eval().requires_grad_(False)
    state = _part(tensors, f"heads.{name}.")
    stamped = "fingerprint" in state
    head.load_state_dict(state if stamped else {**state, "fingerprint": head.fingerprint})
    if not stamped:
        head.stamp(world_model)
    return head


def stored_state(model: WorldModel) -> dict[str, torch.Tensor]:
    """The world model's tensors, without those of an encoder that takes its weights from elsewhere."""
    outside = getattr(model.encoder, "identity", None) is not None
    return {name: v for name, v in model.state_dict().items() if not (outside and name.startswith("encoder."))}


def load_stored(model: WorldModel, tensors: Mapping[str, torch.Tensor], identity: str | None) -> None:
    """Load what :func:`stored_state` gave.

    Raises:
        ValueError: The encoder's weights are others than those that the world model was trained with.
    """
    own = getattr(model.encoder, "identity", None)
    if own != identity:
        raise ValueError(f"its encoder had the weights {identity!r}, the one that is installed has {own!r}")
    rest = {
        name: value for name, value in model.state_dict().items() if name.startswith("encoder.") and own is not None
    }
    model.load_state_dict({**rest, **tensors})


def _smallest(value: torch.Tensor) -> torch.Tensor:
    if value.ndim < 2 or value.dtype != torch.float32:
        return value
    half = value.half()
    return half if torch.equal(half.float(), value) else value


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


OLD_HEADS = {
    "inverse_dynamics": "gc-idm",
    "temporal_distance": "temporal-distance",
    "denoiser": "denoiser",
    "graph": "graph",
    "macro_actions": "macro-actions",
    "waypoints": "waypoints",
}
"""Names of heads in files of format 1."""


def _from_format_1(
    tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """A file of format 1 as format 2 has it: LeWM was the only kind, and each head had a place of its own."""
    renamed = {}
    for name, value in tensors.items():
        prefix, _, rest = name.partition(".")
        renamed[f"heads.{OLD_HEADS[prefix]}.{rest}" if prefix in OLD_HEADS else name] = value
    options = {"cem" if name == "cem-mpc" else name: values for name, values in header.get("options", {}).items()}
    agent = header.get("agent", "")
    return renamed, {
        **header,
        "agent": "cem" if agent == "cem-mpc" else agent,
        "options": options,
        "world_model": {"kind": "lewm", "config": header["world_model"]},
        "heads": {new: header[old] for old, new in OLD_HEADS.items() if old in header},
    }
