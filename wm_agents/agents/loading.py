"""``wm_agents.load``: shipped agents by name, saved agents by path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open

from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.files import SUFFIXES, find_file, open_checkpoint
from wm_agents.agents.mpc import MPC
from wm_agents.checkpoint import Checkpoint, CheckpointError, MissingPartError, check_needs, load_heads
from wm_agents.registry import AGENTS, PLANNERS, did_you_mean

T = TypeVar("T")
ALIASES = {"cem-mpc": "cem"}
"""Names of agents in version 0.1 -> now."""
NEEDS = {"hierarchical": "graph", "hiql": "hiql"}
"""Agents that need a head which not every shipped file has."""


CALIBRATION = "{task}.assessment.safetensors"
"""Name of the file beside a shipped checkpoint with the calibration of its agents; it can be made anew alone."""


def agent_names() -> list[str]:
    """Every name of an agent: those with their own class, and every planner."""
    return sorted({*AGENTS, *PLANNERS} - {"mpc"})  # plain "mpc" is the class that the planners' agents share


def agent_class(name: str) -> type[WorldModelAgent]:
    """Return the class that a name of an agent stands for.

    Raises:
        ValueError: Unknown name.
    """
    name = ALIASES.get(name, name)
    if name in AGENTS:
        return AGENTS.get(name)
    if name in PLANNERS:
        return MPC.using(name)
    raise ValueError(did_you_mean("agent", name, agent_names()))


def list_checkpoints() -> list[str]:
    """Names that :func:`load` finds inside the package, ``task/agent``."""
    return sorted(f"{task}/{agent}" for task in shipped() for agent in _agents_of(task))


def _agents_of(task: str) -> list[str]:
    """Agents that a task's shipped checkpoint can be loaded as: some need a head that not every file has."""
    return [name for name in agent_names() if name not in NEEDS or NEEDS[name] in _heads_of(task)]


def _heads_of(task: str) -> set[str]:
    """Names of the heads in a task's shipped checkpoint."""
    try:
        source = resources.files("wm_agents.checkpoints") / f"{task}.safetensors"
        with resources.as_file(source) as path, safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            return {*header, *header.get("heads", {})}  # files of format 1 have heads at the top
    except (OSError, SafetensorError):
        return set()


def shipped() -> dict[str, str]:
    """Tasks with a checkpoint inside the package, and its SHA-256."""
    found = {name.removesuffix(".safetensors"): digest for name, digest in _digests().items()}
    return {task: digest for task, digest in found.items() if "." not in task}


def _digests() -> dict[str, str]:
    """SHA-256 of every file of weights inside the package, by its name."""
    text = (resources.files("wm_agents.checkpoints") / "SHA256SUMS").read_text()
    return {name: digest for digest, name in (line.split() for line in text.splitlines() if line.strip())}


def load(
    name: str | Path, env: Any = None, *, agent: str | None = None, device: torch.device | str = "auto", **options: Any
) -> WorldModelAgent:
    """Load an agent: ``"pointmaze-umaze/gc-idm"`` ships inside the package; a path is a file that ``save`` wrote.

    One file per task holds the world model and its heads, so every agent of that task reads the same file. No dataset
    and no network is needed, and nothing in the file is executed.

    Args:
        name: ``task/agent``, or a path to a ``.safetensors`` or ``.zip`` file; the suffix may be left out if the
            path is not the name of a shipped agent.
        env: Environment to control; checked against the checkpoint. None is fine for ``predict``.
        agent: The agent to build from a file; by default the one that was saved.
        device: "auto", "cpu", "cuda".
        **options: Constructor options of the agent ("horizon", "seed", "heads", ...) that override the stored ones.

    Raises:
        ValueError: Unknown name (the message lists the known ones), or an env that does not fit.
        CheckpointError: The file is missing, damaged or tampered with.
    """
    if not isinstance(name, str | Path):
        raise ValueError(f"name must be the name of a shipped agent or a path, not {name!r}.")
    text, known = str(name), shipped()
    task, _, given = text.partition("/")
    kind = ALIASES.get(given or str(agent), given or str(agent))
    inside = not isinstance(name, Path) and task in known and kind in [*_agents_of(task), "mpc"]
    if not inside and _is_file(name):
        return _load_file(name, agent, env=env, device=device, **options)
    if task in known and not given and agent is None:
        raise ValueError(
            f"{text!r} names a task: say which agent, for example wm_agents.load({task + '/gc-idm'!r}). "
            f"It has {', '.join(_agents_of(task))}."
        )
    if not inside:
        message = did_you_mean("agent", text if given or agent is None else f"{text}/{agent}", list_checkpoints())
        raise ValueError(f"{message} To load your own, give the path of a .safetensors or .zip file.")
    if given and agent is not None and ALIASES.get(agent, agent) != kind:
        raise ValueError(f"{text!r} already names the agent {kind!r}: leave out agent={agent!r}.")
    return agent_class(kind).from_checkpoint(shipped_checkpoint(task), env=env, device=device, **options)


def _is_file(name: str | Path) -> bool:
    """Whether a name is meant as a path: because it is one, ends like one, or there is such a file."""
    path = isinstance(name, Path) or name.endswith(SUFFIXES)
    return path or (bool(Path(name).name) and find_file(name).is_file())


def _load_file(path: str | Path, agent: str | None, **options: Any) -> WorldModelAgent:
    checkpoint = open_checkpoint(path)
    wanted = agent or checkpoint.agent or "cem"
    try:
        check_needs(checkpoint.needs, {("agent", wanted), ("planner", wanted)})
    except MissingPartError as error:
        raise CheckpointError(f"{path} {error}") from error
    return agent_class(wanted).from_checkpoint(checkpoint, **options)


def shipped_checkpoint(task: str) -> Checkpoint:
    """Read the shipped checkpoint of a task, and the calibration beside it.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    checkpoint = _verified(f"{task}.safetensors", open_checkpoint)
    calibration = CALIBRATION.format(task=task)
    if calibration in _digests():
        checkpoint.heads |= _verified(calibration, lambda file: load_heads(file, checkpoint.world_model))
    return checkpoint


def _verified(name: str, read: Callable[[Path], T]) -> T:
    """Read a file inside the package that is what SHA256SUMS says."""
    with resources.as_file(resources.files("wm_agents.checkpoints") / name) as file:
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != _digests()[name]:
            raise CheckpointError(f"the shipped checkpoint {file} is missing or damaged: install wm-agents again.")
        return read(file)
