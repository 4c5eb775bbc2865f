"""``wm_agents.load``: shipped agents by name, saved agents by path."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from wm_agents.agents.base import WorldModelAgent, open_checkpoint
from wm_agents.checkpoint import CheckpointError
from wm_agents.registry import Registry, did_you_mean

AGENTS = Registry(
    "agent",
    {
        "cem-mpc": "wm_agents.agents.mpc:CEMMPC",
        "diffusion": "wm_agents.agents.mpc:DiffusionMPC",
        "diffusion-guidance": "wm_agents.agents.mpc:DiffusionGuidanceMPC",
        "gc-idm": "wm_agents.agents.gc_idm:GCIDM",
        "gradient": "wm_agents.agents.mpc:GradientMPC",
        "hierarchical": "wm_agents.agents.hierarchical:HierarchicalMPC",
        "icem": "wm_agents.agents.mpc:ICEMMPC",
        "mpc": "wm_agents.agents.mpc:MPC",
        "mppi": "wm_agents.agents.mpc:MPPIMPC",
        "predictive-sampling": "wm_agents.agents.mpc:PredictiveSamplingMPC",
        "random-shooting": "wm_agents.agents.mpc:RandomShootingMPC",
        "sgld": "wm_agents.agents.mpc:SGLDMPC",
    },
)
ALIASES = {"cem": "cem-mpc"}
"""Other names of agents: the planner's."""


def list_checkpoints() -> list[str]:
    """Names that :func:`load` finds inside the package, ``task/agent``."""
    # Plain "mpc" is the class that the planners' agents share; with nothing chosen it is no agent of its own.
    agents = {
        task: [a for a in AGENTS if a != "mpc" and (a != "hierarchical" or _has_graph(task))] for task in shipped()
    }
    return sorted(f"{task}/{agent}" for task, names in agents.items() for agent in names)


def _has_graph(task: str) -> bool:
    """Tell whether a shipped checkpoint holds what a hierarchical agent needs."""
    try:
        source = resources.files("wm_agents.checkpoints") / f"{task}.safetensors"
        with resources.as_file(source) as path, safe_open(path, framework="pt") as file:
            return "graph.latents" in file.keys()  # noqa: SIM118
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

    One file a task holds the world model and the inverse dynamics model, so every agent of that task reads the same
    file. No dataset and no network is needed, and nothing in the file is executed.

    Args:
        name: ``task/agent``, or a path to a ``.safetensors`` or ``.zip`` file.
        env: Environment to control; checked against the checkpoint. None is fine for ``predict``.
        agent: With a path: which agent to build; by default the one that was saved.
        device: "auto", "cpu", "cuda".
        **options: Constructor options of the agent ("horizon", "seed", ...) that override the stored ones.

    Raises:
        ValueError: Unknown name (the message lists the known ones), or an env that does not fit.
        CheckpointError: The file is missing, damaged or tampered with.
    """
    text = str(name)
    if text.endswith((".safetensors", ".zip")) or Path(f"{text}.safetensors").is_file():
        checkpoint = open_checkpoint(text)
        chosen = agent or checkpoint.agent or "cem-mpc"
        kind: type[WorldModelAgent] = AGENTS.get(ALIASES.get(chosen, chosen))
        return kind.from_checkpoint(checkpoint, env=env, device=device, **options)
    task, _, given = text.partition("/")
    kind_name = ALIASES.get(given, given)
    known = shipped()
    if task not in known or kind_name not in AGENTS:
        raise ValueError(
            did_you_mean("agent", text, list_checkpoints())
            + " To load your own, give the path of a .safetensors or .zip file."
        )
    if agent not in (None, given, kind_name):
        raise ValueError(f"{text!r} already names the agent {kind_name!r}: leave out agent={agent!r}.")
    path = resources.files("wm_agents.checkpoints") / f"{task}.safetensors"
    with resources.as_file(path) as file:
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != known[task]:
            raise CheckpointError(f"the shipped checkpoint {file} is missing or damaged: install wm-agents again.")
        checkpoint = open_checkpoint(file)
    return AGENTS.get(kind_name).from_checkpoint(checkpoint, env=env, device=device, **options)
