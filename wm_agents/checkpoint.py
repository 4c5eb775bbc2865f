"""One safetensors file holds everything that an agent is: weights, shapes, action statistics and provenance.

A file is read as tensors and JSON, never as code: nothing in it is unpickled, imported or instantiated by a path. It
names parts, and the registries say what they are; shapes are checked, and a SHA-256 over the contents is verified on
every load. A file with a part of another package says which package that is.
"""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import mujoco
import stable_baselines3
import torch

from wm_agents.configs import build_config
from wm_agents.models import ActionStatistics, Head, WorldModel
from wm_agents.registry import ENCODERS, HEADS, PREDICTORS, WORLD_MODELS, Registry, origin
from wm_agents.tensorfile import CheckpointError, read_tensors, write_atomically, write_tensors
from wm_agents.version import __version__

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "load_checkpoint",
    "read_tensors",
    "save_checkpoint",
    "versions",
    "write_atomically",
    "write_tensors",
]

REGISTRIES: dict[str, Registry] = {
    "encoder": ENCODERS,
    "head": HEADS,
    "predictor": PREDICTORS,
    "world model": WORLD_MODELS,
}


@dataclass
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        world_model: The world model.
        agent: Name of the agent that was saved ("cem"); empty for a bare world model.
        options: Constructor options by agent name, as JSON types: the file of one task serves several agents.
        env_id: Gymnasium id of the environment that it was trained on.
        provenance: Data, seeds, commands, versions, measured numbers; JSON types.
        heads: The networks on the world model's latents, by their names in ``wm_agents.registry.HEADS``.
    """

    world_model: WorldModel
    agent: str = ""
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    env_id: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    heads: dict[str, Head] = field(default_factory=dict)


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
    :func:`wm_agents.pipeline.reproduce` rounds its weights to that end. Weights that an encoder takes from elsewhere
    are left out, and its ``identity`` is kept in their place.

    Args:
        checkpoint: What to write.
        path: The file; its directory is made if need be.

    Raises:
        ValueError: The world model or a head is of a class that is not registered.
    """
    model = checkpoint.world_model
    kind = WORLD_MODELS.name_of(type(model))
    tensors = {f"world_model.{name}": value for name, value in stored_state(model).items()}
    header: dict[str, Any] = {
        "agent": checkpoint.agent,
        "options": checkpoint.options,
        "env_id": checkpoint.env_id,
        "provenance": checkpoint.provenance,
        "world_model": {"kind": kind, "config": dataclasses.asdict(model.config)},
        "identity": getattr(model.encoder, "identity", None),
        "heads": {name: dataclasses.asdict(head.config) for name, head in checkpoint.heads.items()},
        "needs": needs(checkpoint),
    }
    for name, head in checkpoint.heads.items():
        HEADS.name_of(type(head))
        tensors |= {f"heads.{name}.{key}": value for key, value in head.state_dict().items()}
    return write_tensors({name: _smallest(value) for name, value in tensors.items()}, header, path)


def needs(checkpoint: Checkpoint) -> list[list[str]]:
    """Parts of the checkpoint that other packages registered: ``[kind, name, package]`` each."""
    parts = [("world model", WORLD_MODELS.name_of(type(checkpoint.world_model)))]
    parts += [*checkpoint.world_model.parts().items(), *(("head", name) for name in checkpoint.heads)]
    named = [(kind, name, REGISTRIES[kind].get(name)) for kind, name in parts if kind in REGISTRIES]
    return [[kind, name, origin(part)] for kind, name, part in named if part.__module__.split(".")[0] != "wm_agents"]


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint, verify its hash, and build its networks on the CPU, in evaluation mode.

    Raises:
        CheckpointError: No such file, truncated, tampered with, of another format, tensors that do not fit, or a part
            of a package that is not installed.
    """
    tensors, header = read_tensors(path)
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False):
            return _build(
                *(_from_format_1(tensors, header) if header["format"] == "wm-agents/1" else (tensors, header))
            )
    except MissingPartError as error:
        raise CheckpointError(f"{path} {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not hold a world model that this version can build ({error}): "
            "give a file that an agent's save() wrote, or upgrade wm-agents."
        ) from error
    finally:
        torch.set_default_dtype(dtype)


class MissingPartError(ValueError):
    """A checkpoint has a part of a package that is not installed."""


def _build(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> Checkpoint:
    for kind, name, package in header.get("needs", []):
        if name not in REGISTRIES[kind]:
            raise MissingPartError(
                f"needs the {kind} {name!r} of the package {package}: install that package, or import the module that "
                "registers it (on the command line: --import MODULE)."
            )
    kind = WORLD_MODELS.get(header["world_model"]["kind"])
    actions = ActionStatistics(
        **{name: tensors[f"world_model.action_{name}"].numpy() for name in ("low", "high", "mean", "std")}
    )
    world_model = kind(build_config(kind.Config, header["world_model"]["config"]), actions)
    load_stored(world_model, _part(tensors, "world_model."), header.get("identity"))
    world_model.eval().requires_grad_(False)
    heads: dict[str, Head] = {}
    for name, config in header["heads"].items():
        head_kind = HEADS.get(name)
        head = heads[name] = head_kind(build_config(head_kind.Config, config)).eval().requires_grad_(False)
        state = _part(tensors, f"heads.{name}.")
        stamped = "fingerprint" in state
        head.load_state_dict(state if stamped else {**state, "fingerprint": head.fingerprint})
        if not stamped:
            head.stamp(world_model)
    return Checkpoint(
        world_model=world_model,
        agent=header.get("agent", ""),
        options=header.get("options", {}),
        env_id=header.get("env_id", ""),
        provenance=header.get("provenance", {}),
        heads=heads,
    )


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
