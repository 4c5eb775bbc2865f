"""What is compared: checkpoints, protocols, agents, and how long each follows a plan."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from glob import glob
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import torch

from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.files import open_checkpoint
from wm_agents.agents.loading import agent_names, load, shipped, shipped_checkpoint
from wm_agents.agents.mpc import MPC
from wm_agents.checkpoint import Checkpoint
from wm_agents.configs import bare_id
from wm_agents.evaluation.files import file_sha256
from wm_agents.evaluation.report.protocols import Protocol
from wm_agents.recipes import RECIPES
from wm_agents.registry import did_you_mean

COMMITTED = 25
"""Environment steps that a planner follows its plan in the papers: 5 blocks of 5."""

TOLD = "gc-idm-told"
"""GC-IDM that is told how far the goal is, where that is known: the paper's protocol."""

AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gc-idm": ("gc-idm", {}),
    TOLD: ("gc-idm", {"horizon": 25, "countdown": True}),
    "hierarchical": ("hierarchical", {}),
    "cem-mpc": ("cem-mpc", {}),
    "cem-mpc+gc-idm": ("cem-mpc", {"proposals": "gc-idm"}),
    "mppi": ("mppi", {}),
    "icem": ("icem", {}),
    "gradient-adam": ("gradient", {"optimizer": "adam"}),
    "gradient-sgd": ("gradient", {"optimizer": "sgd"}),
}
"""The compared agents: the shipped agent and the options over its own. Other shipped agents can be named too."""

ALIASES = {"cem": "cem-mpc"}
"""Other names under which compared agents can be asked for."""

DIFFERENTIATED = ("gradient", "sgld", "diffusion-guidance")
"""Agents that need gradients of rollouts, for which bf16 is slower with few environments or narrow predictors."""

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Source:
    """A checkpoint: the shipped one (``path`` None, training seed 0), or a file of another training seed."""

    task: str
    seed: int
    sha256: str
    path: str | None = None

    @property
    def bytes(self) -> int:
        """Size of the file."""
        with self._file() as file:
            return file.stat().st_size

    def read(self) -> Checkpoint:
        """Return what the file holds, a shipped one with its calibration."""
        return shipped_checkpoint(self.task) if self.path is None else open_checkpoint(self.path)

    def _file(self) -> AbstractContextManager[Path]:
        if self.path is not None:
            return nullcontext(Path(self.path))
        return resources.as_file(resources.files("wm_agents.checkpoints") / f"{self.task}.safetensors")

    def open(self, agent: str, device: str = "auto", **options: Any) -> WorldModelAgent:
        """Load one of its agents, ``agent`` by its shipped name."""
        if self.path is None:
            return load(f"{self.task}/{agent}", device=device, **options)
        return load(self.path, agent=agent, device=device, **options)


@dataclass(frozen=True)
class Trial:
    """One agent on one set of tasks.

    Attributes:
        source: Its checkpoint.
        protocol: Of the tasks.
        tasks: Number of tasks.
        agent: Name in the comparison.
        replan_steps: Environment steps that it follows a plan; 1 for an agent that decides at every step.
        as_shipped: Those of the shipped agent, not :data:`COMMITTED`.
        overrides: Options over the stored ones, as JSON.
        options: All of its options, as JSON: what the agent is.
    """

    source: Source
    protocol: Protocol
    tasks: int
    agent: str
    replan_steps: int
    as_shipped: bool
    overrides: str
    options: str

    @property
    def name(self) -> str:
        """Stem of its files."""
        offset_budget = self.protocol.name.replace("/", "-")
        return (
            f"{self.source.task}_{offset_budget}_{self.agent}_every-{self.replan_steps}"
            f"_seed-{self.source.seed}_n-{self.tasks}"
        )

    @property
    def tasks_name(self) -> str:
        """Stem of the files of its tasks."""
        return f"{self.source.task}_{self.protocol.name.replace('/', '-')}_n-{self.tasks}"

    def open(self, device: str = "auto") -> WorldModelAgent:
        """Load the agent."""
        return self.source.open(kind_of(self.agent)[0], device, **json.loads(self.overrides))

    @property
    def identity(self) -> dict[str, Any]:
        """What its result depends on, besides the tasks."""
        return {
            "agent": self.agent,
            "replan_steps": self.replan_steps,
            "options": json.loads(self.options),
            "training_seed": self.source.seed,
            "checkpoint_sha256": self.source.sha256,
        }


def kind_of(agent: str) -> tuple[str, dict[str, Any]]:
    """Return the shipped agent behind a name of the comparison, and the options over its own.

    Raises:
        ValueError: Unknown name; the message lists the known ones.
    """
    if agent in AGENTS:
        return AGENTS[agent]
    known = [*AGENTS, *(name for name in agent_names() if name not in (*AGENTS, *ALIASES))]
    if agent not in known:
        raise ValueError(did_you_mean("agent", agent, known))
    return agent, {}


def sources(tasks: Sequence[str], checkpoints: Sequence[str]) -> list[Source]:
    """Return the checkpoints to evaluate, by task and seed: the shipped ones and the files.

    Args:
        tasks: Task names; none for all that have a checkpoint.
        checkpoints: Files, or patterns such as ``runs/{task}-{seed}/agent.safetensors``, where seed 0 is left to the
            shipped checkpoint if there is one.

    Raises:
        ValueError: Unknown task, a pattern that matches nothing, or two checkpoints of one task and seed.
    """
    found = {(task, 0): Source(task, 0, digest) for task, digest in shipped().items() if task in RECIPES}
    for pattern in checkpoints:
        for path, seed in _files(pattern):
            checkpoint = open_checkpoint(path)
            task = next((task for task, recipe in RECIPES.items() if recipe.env_id == bare_id(checkpoint.env_id)), None)
            if task is None:
                raise ValueError(f"{path} is of {checkpoint.env_id}, which has no recipe; {', '.join(RECIPES)} have.")
            number = seed if seed is not None else int(checkpoint.provenance.get("seed", 0))
            digest = file_sha256(path)
            before = found.get((task, number))
            if before is None:
                found[task, number] = Source(task, number, digest, str(path))
            elif before.sha256 != digest and not (seed == 0 and before.path is None):
                raise ValueError(
                    f"{path} is of {task}, seed {number}, and so is {before.path or 'the shipped checkpoint'}: "
                    "leave one of them out, or name files by a pattern with {seed}."
                )
    known = [task for task in RECIPES if any(task == other for other, _ in found)]
    for task in tasks:
        if task not in known:
            raise ValueError(did_you_mean("task with a checkpoint", task, known))
    chosen = [task for task in known if not tasks or task in tasks]
    return sorted((s for s in found.values() if s.task in chosen), key=lambda s: (chosen.index(s.task), s.seed))


def _files(pattern: str) -> Iterator[tuple[Path, int | None]]:
    """Yield the files that a pattern means, with the seed in their name if it has ``{seed}``."""
    if "{" not in pattern:
        if not Path(pattern).is_file():
            raise ValueError(f"there is no checkpoint {pattern}: train one with wm-agents reproduce.")
        yield Path(pattern), None
        return
    wanted = re.escape(pattern).replace(r"\{task\}", r"[\w-]+?").replace(r"\{seed\}", r"(?P<seed>\d+)")
    matches = [re.fullmatch(wanted, path) for path in sorted(glob(re.sub(r"\{(task|seed)\}", "*", pattern)))]
    if not any(matches):
        raise ValueError(f"no file matches {pattern}: {{task}} and {{seed}} are filled in, for example pusht and 1.")
    for match in filter(None, matches):
        seed = match.groupdict().get("seed")
        yield Path(match.string), None if seed is None else int(seed)


def build(
    chosen: Sequence[Source],
    protocols: Sequence[Protocol],
    agents: Sequence[str],
    tasks: int,
    precision: Precision = "auto",
    committed: bool = True,
) -> tuple[list[Trial], list[str]]:
    """Return the trials, and why others are left out, in words.

    A planner has up to two trials: as shipped, and, if ``committed``, with :data:`COMMITTED` steps of a plan executed
    before the next.

    Raises:
        ValueError: Unknown agent.
    """
    agents = list(dict.fromkeys(ALIASES.get(agent, agent) for agent in agents))
    for agent in agents:
        kind_of(agent)
    trials: list[Trial] = []
    left_out: dict[str, None] = {}
    for source in chosen:
        limit = gym.spec(RECIPES[source.task].env_id).max_episode_steps or 0
        bounded = [p.within(limit) for p in protocols]
        fitting = [p for p in bounded if p.offset == "random" or max(p.offset, p.budget) <= limit]
        left_out |= {f"{source.task} {p.name}: episodes have {limit} steps": None for p in bounded if p not in fitting}
        for agent in agents:
            try:
                variants = list(_variants(source, agent, precision, committed))
            except (ValueError, RuntimeError) as error:
                left_out[f"{source.task} {agent}, seed {source.seed}: {error}"] = None
                continue
            for protocol in fitting:
                if agent == TOLD and protocol.offset == "random":
                    continue  # nobody knows how far the goal is
                for steps, as_shipped, overrides, options in variants:
                    told = _told(protocol, options)
                    texts = [json.dumps({**some, **told}, sort_keys=True) for some in (overrides, options)]
                    trials.append(Trial(source, protocol, tasks, agent, steps, as_shipped, *texts))
    return trials, list(left_out)


def _variants(
    source: Source, agent: str, precision: Precision, committed: bool
) -> Iterator[tuple[int, bool, dict[str, Any], dict[str, Any]]]:
    """Yield steps that a plan is followed, whether as shipped, overrides, and all options."""
    kind, fixed = kind_of(agent)
    if agent == TOLD and source.open(kind, "cpu").options().get("countdown"):
        return  # it is told as shipped
    stored = source.open(kind, "cpu", **fixed)
    if not isinstance(stored, MPC):
        yield 1, True, fixed, stored.options()
        return
    chosen = faster_precision(kind) if precision == "auto" else precision
    block, usual = stored.world_model.spec.action_block, stored.settings.receding_horizon
    blocks = {usual, *((max(1, min(stored.settings.horizon, COMMITTED // block)),) if committed else ())}
    for receding in sorted(blocks):
        overrides = {**fixed, "precision": chosen, "receding_horizon": receding}
        as_shipped = receding == usual
        yield receding * block, as_shipped, overrides, {**stored.options(), **overrides}


def _told(protocol: Protocol, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the horizon of an agent that counts down: how far the goal is, as GC-IDM is given it in the paper."""
    return {"horizon": protocol.offset} if is_told(options, protocol.offset) else {}


def is_told(options: Mapping[str, Any], offset: int | str) -> bool:
    """Whether an agent with these options is told how far such goals are, and does not estimate it."""
    counts = options.get("countdown") or options.get("high") == "waypoints"
    return bool(counts) and isinstance(options.get("horizon"), int) and offset != "random"


def faster_precision(kind: str) -> Literal["fp32", "bf16"]:
    """Return the precision of rollouts that is faster here: bf16 on CPUs that multiply in it, for sampling planners."""
    native = any(getattr(torch.cpu, f"_is_{what}_supported", bool)() for what in ("avx512_bf16", "amx_tile"))
    return "bf16" if native and kind not in DIFFERENTIATED else "fp32"
