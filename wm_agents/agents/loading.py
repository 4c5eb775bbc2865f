"""``wm_agents.load``: shipped agents by name, saved agents by path."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.files import SUFFIXES, find_file, open_checkpoint
from wm_agents.agents.mpc import MPC
from wm_agents.checkpoint import Checkpoint, CheckpointError
from wm_agents.registry import AGENTS, PLANNERS, did_you_mean

ALIASES = {"cem-mpc": "cem"}
"""Names of agents in version 0.1 -> now."""


def agent_names() -> list[str]:
    """Every name of an agent: those with a class of their own, and every planner."""
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
    """Agents that a task's shipped checkpoint can be loaded as: a hierarchical one needs a graph."""
    return [name for name in agent_names() if name != "hierarchical" or _has_graph(task)]


def _has_graph(task: str) -> bool:
    try:
        source = resources.files("wm_agents.checkpoints") / f"{task}.safetensors"
        with resources.as_file(source) as path, safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            return "graph" in header or "graph" in header.get("heads", {})
    except (OSError, SafetensorError):
        return False


def shipped() -> dict[str, str]:
    """Tasks with a checkpoint inside the package, and its SHA-256."""
    text = (resources.files("wm_agents.checkpoints") / "SHA256SUMS").read_text()
    lines = (line.split() for line in text.splitlines() if line.strip())
    return {name.removesuffix(".safetensors"): digest for digest, name in lines}


def load(
    name: str | Path, env: Any = None, *, agent: str | None = None, device: torch.device | str = "auto", **options: Any
) -> WorldModelAgent:
    """Load an agent: ``"pointmaze-umaze/gc-idm"`` ships inside the package; a path is a file that ``save`` wrote.

    One file per task holds the world model and its heads, so every agent of that task reads the same file. No dataset
    and no network is needed, and nothing in the file is executed.

    Args:
        name: ``task/agent``, or a path to a ``.safetensors`` or ``.zip`` file; the suffix may be left out where the
            path is not the name of a shipped agent.
        env: Environment to control; checked against the checkpoint. None is fine for ``predict``.
        agent: With a path: which agent to build; by default the one that was saved.
        device: "auto", "cpu", "cuda".
        **options: Constructor options of the agent ("horizon", "seed", "heads", ...) that override the stored ones.

    Raises:
        ValueError: Unknown name (the message lists the known ones), or an env that does not fit.
        CheckpointError: The file is missing, damaged or tampered with.
    """
    text = str(name)
    task, _, given = text.partition("/")
    known = shipped()
    if isinstance(name, Path) or text.endswith(SUFFIXES) or task not in known:
        if not (isinstance(name, Path) or text.endswith(SUFFIXES) or find_file(text).is_file()):
            raise ValueError(
                did_you_mean("agent", text, list_checkpoints())
                + " To load your own, give the path of a .safetensors or .zip file."
            )
        checkpoint = open_checkpoint(text)
        kind = agent_class(agent or checkpoint.agent or "cem")
        return kind.from_checkpoint(checkpoint, env=env, device=device, **options)
    if not given and agent is None:
        raise ValueError(
            f"{text!r} names a task: say which agent, for example wm_agents.load({task + '/gc-idm'!r}). "
            f"It has {', '.join(_agents_of(task))}."
        )
    kind_name = ALIASES.get(given or str(agent), given or str(agent))
    if kind_name not in [*_agents_of(task), "mpc"]:
        message = did_you_mean("agent", text, list_checkpoints())
        raise ValueError(f"{message} To load your own, give the path of a .safetensors or .zip file.")
    if agent not in (None, given, kind_name):
        raise ValueError(f"{text!r} already names the agent {kind_name!r}: leave out agent={agent!r}.")
    return agent_class(kind_name).from_checkpoint(
        _shipped_checkpoint(task, known[task]), env=env, device=device, **options
    )


def _shipped_checkpoint(task: str, digest: str) -> Checkpoint:
    path = resources.files("wm_agents.checkpoints") / f"{task}.safetensors"
    with resources.as_file(path) as file:
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise CheckpointError(f"the shipped checkpoint {file} is missing or damaged: install wm-agents again.")
        return open_checkpoint(file)
