"""A comparison from beginning to end: train what is missing, measure all on the same tasks, write the report."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from wm_agents.checkpoint import versions
from wm_agents.configs import bare_id
from wm_agents.datasets import task_name
from wm_agents.evaluation.comparison.figures import AXES, success_against
from wm_agents.evaluation.comparison.markdown import to_markdown
from wm_agents.evaluation.comparison.plan import AGENTS, Plan
from wm_agents.evaluation.comparison.summary import Measured, summarise_comparison
from wm_agents.evaluation.comparison.training import Candidate, Trainer
from wm_agents.evaluation.environments import whole_number
from wm_agents.evaluation.evaluator import evaluate
from wm_agents.evaluation.figures import save_figure
from wm_agents.evaluation.files import check_output, write_json, write_text
from wm_agents.evaluation.grid import Cell, Grid, Runner
from wm_agents.evaluation.report.protocols import Protocol
from wm_agents.evaluation.tasks import Manifest, make_manifest
from wm_agents.evaluation.video import write_video_grid
from wm_agents.recipes import RECIPES
from wm_agents.training import find_device

Content = dict[str, Any]
FILMED = 4
"""Tasks in a video."""


def compare(
    env_id: str,
    agents: Sequence[str] = AGENTS,
    *,
    seeds: int = 1,
    steps: int = 20_000,
    data_steps: int | None = None,
    tasks: int = 100,
    quick: bool = False,
    out: str | Path | None = None,
    num_envs: int = 16,
    device: str = "auto",
    command: str = "",
    console: Console | None = None,
) -> Content:
    """Train agents of all kinds on a task, measure them on the same held-out tasks, and write a report.

    Agents of this library learn from recorded images without rewards, by the task's recipe.
    :data:`wm_agents.baselines.OFFLINE` learn from the same images. :data:`wm_agents.baselines.ONLINE` are
    Stable-Baselines3's algorithms, which get the reward and interact. Goals are near (25 steps away, 50 steps allowed)
    and any (random start and goal).

    Written into ``out``: ``report.md`` with tables, paired tests and a paragraph in words, ``report.json``, the figures
    ``steps.png``, ``seconds.png`` and ``ms.png``, the videos ``near.mp4`` and ``any.mp4`` of all agents on the first
    tasks in ``videos/``, and in ``agents/`` a folder for each training. The same call goes on after Ctrl-C or a kill. A
    training is reused if its configuration, data and versions are the same, which is said; another one has a folder of
    its own.

    Args:
        env_id: Gymnasium id.
        agents: Names: "gc-idm", "cem", any other agent of this library, "gcbc", "gcivl", "hiql", "sac-her",
            "td3-her", "tqc-her", "ppo", "sac-pixels", "ppo-pixels".
        seeds: Number of training seeds.
        steps: Environment steps of agents that learn online.
        data_steps: Environment steps that are recorded for agents that learn offline; by default those of the recipe.
        tasks: Held-out tasks of each kind.
        quick: Shortened trainings on a few episodes, whatever ``data_steps`` says, and few tasks, to see how everything
            works; this is not a result.
        out: Directory; ``runs/compare-<task>`` by default.
        num_envs: Environments that share a call in evaluations.
        device: "auto", "cpu", "cuda".
        command: What was typed, for the report.
        console: Where it says what it trains and reuses; None prints to standard output.

    Returns:
        What ``report.json`` holds.

    Raises:
        ValueError: An unknown agent, a task without recipe for agents that need one, a number that is out of range, or
            an algorithm that does not fit the task.
        RuntimeError: Some trainings or evaluations failed; the report of the others is written and names them.
        OSError: ``out`` cannot be written to.
    """
    plan = Plan(env_id, tuple(agents), seeds, steps, data_steps, tasks)
    plan = plan.shortened() if quick else plan
    num_envs, console = whole_number("num_envs", num_envs, 1), console or Console()
    folder = Path(out or Path("runs") / f"compare-{task_name(env_id).replace('/', '-')}{'-quick' if quick else ''}")
    check_output(folder, folder=True)
    where = str(find_device(device))
    plan.check()
    manifests = {protocol.name: _tasks(plan, protocol, folder) for protocol in plan.protocols()}
    trainer, left_out = Trainer(plan, folder, device, console), []
    trained: dict[str, list[list[Candidate]]] = {name: [] for name in plan.agents}
    for seed in range(plan.seeds):
        for name in plan.agents:
            try:
                trained[name].append(trainer.candidates(name, seed))
            except Exception as error:  # one agent that cannot be trained must not lose the others
                left_out.append(f"{name}, seed {seed}: {type(error).__name__}: {error}")
    measured = {
        name: _measure(name, one, trained, folder, num_envs, console, left_out) for name, one in manifests.items()
    }
    if not any(seeds for found in measured.values() for seeds in found.values()):
        raise ValueError(f"there is nothing to compare: {'; '.join(left_out)}")
    if not plan.quick:
        _film(manifests, trained, folder, console, left_out)
    settings = {
        "command": command,
        "folder": str(folder),
        "versions": versions(),
        "device": where,
        "threads": torch.get_num_threads(),
        "num_envs": num_envs,
        "recorded": trainer.recorded,
    }
    content = summarise_comparison(plan, measured, manifests, settings, left_out)
    write_json(folder / "report.json", content)
    write_text(folder / "report.md", to_markdown(content))
    for axis in AXES:
        save_figure(success_against(axis, content), folder / f"{axis}.png", dpi=100)
    if left_out:
        raise RuntimeError(f"{len(left_out)} parts failed, {folder}/report.md names them: {left_out[0]}")
    return content


def _tasks(plan: Plan, protocol: Protocol, folder: Path) -> Manifest:
    """The held-out tasks of a kind: those of an earlier call, or drawn now."""
    path = folder / "tasks" / f"{protocol.name.replace('/', '-')}-{plan.tasks}.json"
    if path.exists():
        found = Manifest.load(path)
        if (found.env_id, found.budget) != (plan.env_id, protocol.budget):
            raise ValueError(f"{path} holds tasks of {found.env_id}: give another out.")
        return found
    policy = next((recipe.policy for recipe in RECIPES.values() if recipe.env_id == bare_id(plan.env_id)), None)
    manifest = make_manifest(
        plan.env_id,
        tasks=plan.tasks,
        offset=protocol.offset,
        budget=protocol.budget,
        seed=protocol.seed,
        policy=policy,
    )
    manifest.save(path)
    return manifest


def _measure(
    protocol: str,
    manifest: Manifest,
    trained: Mapping[str, Sequence[Sequence[Candidate]]],
    folder: Path,
    num_envs: int,
    console: Console,
    left_out: list[str],
) -> Measured:
    """Evaluate all models on a kind of tasks; seeds of which any evaluation failed are left out."""
    grid = Grid(folder / "cells")

    def cell(model: Candidate) -> Cell:
        name = f"{protocol.replace('/', '-')}_{model.agent}_seed-{model.seed}_steps-{model.steps}"
        key = {**model.identity, "manifest_sha256": manifest.sha256, "num_envs": num_envs}  # on which its times depend
        return Cell(name, key, functools.partial(_evaluate, model, manifest, num_envs))

    cells = {id(model): cell(model) for seeds in trained.values() for models in seeds for model in models}
    failed = grid.run(list(cells.values()), Runner(console=console), f"evaluating {protocol}")
    left_out += [f"{name}: {error}" for name, error in failed.items()]
    measured: dict[str, list[list[tuple[Candidate, Mapping[str, Any]]]]] = {}
    for agent, seeds in trained.items():
        found = [[(model, grid.read(cells[id(model)])) for model in models] for models in seeds]
        measured[agent] = [
            [(model, one) for model, one in models if one is not None]
            for models in found
            if all(one is not None for _, one in models)
        ]
    return measured


def _evaluate(model: Candidate, manifest: Manifest, num_envs: int) -> Content:
    """Evaluate a model."""
    return evaluate(model.open(), manifest, num_envs=num_envs, seed=0, progress=False, name=model.agent).to_dict()


def _film(
    manifests: Mapping[str, Manifest],
    trained: Mapping[str, Sequence[Sequence[Candidate]]],
    folder: Path,
    console: Console,
    left_out: list[str],
) -> None:
    """Film the last models of the first seed on the first tasks, in one video for each kind that has none yet."""
    models = [candidates[-1] for seeds in trained.values() for candidates in seeds if candidates[-1].seed == 0]
    grid, cells = Grid(folder / "cells"), []
    for manifest in manifests.values():
        kind = "any" if manifest.offset == "random" else "near"
        key = {"models": [{"agent": model.agent, **model.identity} for model in models], "tasks": manifest.sha256}
        made = functools.partial(_video, models, manifest, folder / "videos" / f"{kind}.mp4")
        cells += [Cell(f"video_{kind}", key, made)] if models else []
    failed = grid.run(cells, Runner(console=console), "filming")
    left_out += [f"{name}: {error}" for name, error in failed.items()]


def _video(models: Sequence[Candidate], manifest: Manifest, path: Path) -> Content:
    """Write the video of all models on the first tasks; return how many of these each has solved."""
    parts = {name: getattr(manifest, name)[:FILMED] for name in ("starts", "goals", "sources")}
    first = dataclasses.replace(manifest, **parts)
    rows = {}
    for model in models:
        found = evaluate(model.open(), first, seed=0, video=FILMED, progress=False, known_floors={})
        rows[model.agent] = found.recordings
    write_video_grid(path, rows)
    return {"solved": {name: sum(one.success_step is not None for one in row) for name, row in rows.items()}}
