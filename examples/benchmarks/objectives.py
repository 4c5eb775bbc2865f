"""Training objectives on one task: the same data, networks, steps, agents and held-out tasks for each.

Measures what the latents hold, and how often CEM, planning by gradients and GC-IDM succeed. Finished parts are kept, so
the command can be interrupted and repeated. Expect 10 minutes for each objective and seed on two cores.

    python examples/benchmarks/objectives.py --seeds 0 1 2 --out runs/objectives
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
import warnings
from pathlib import Path
from typing import Any

from rich.console import Console

import wm_agents
from wm_agents import pipeline
from wm_agents.evaluation import Cell, Grid, Runner, evaluation_cell, make_manifest
from wm_agents.evaluation.files import file_sha256
from wm_agents.losses import TRAINING_OBJECTIVES, objective_weights
from wm_agents.recipes import Recipe, Stage, recipe
from wm_agents.training import TrainingConfig
from wm_agents.training.world_model import CollapseWarning

SEARCH: dict[str, Any] = {"horizon": 8, "objective": "temporal-distance"}
AGENTS: dict[str, dict[str, Any]] = {
    "cem": {**SEARCH, "samples": 64, "elites": 8, "iterations": 5},
    "gradient": {**SEARCH, "restarts": 4, "steps": 20},
    "gc-idm": {},
}
FRAMES = 6
"""Of a window, for all objectives: "rc-aux" imagines 5 blocks."""


def recipe_of(task: str, name: str, seed: int, steps: int, quick: bool) -> Recipe:
    """The recipe of an objective; objectives differ only in the loss terms of the world model."""
    usual = recipe(task)
    weights: Any = objective_weights(name)
    training = TrainingConfig(steps=steps, frames=FRAMES, batch_size=43, loss_weights=weights)  # 258 frames a step
    stages = (Stage("world-model", training=training), usual.stage("gc-idm"), usual.stage("temporal-distance"))
    data = {"main": usual.data["main"]}
    chosen = dataclasses.replace(usual, data=data, stages=stages, options=AGENTS).seeded(seed)
    return chosen.shortened() if quick else chosen


def train(chosen: Recipe, folder: Path) -> dict[str, Any]:
    """Train a world model and its heads; return the times and what was measured."""
    heads = ("gc-idm", "temporal-distance")
    pipeline.collect(chosen)
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)  # a collapse is a result here
        pipeline.reproduce(dataclasses.replace(chosen.without(*heads), options={}), folder)
        taken = time.process_time() - began
        agent = pipeline.reproduce(chosen, folder)
    return {"cpu_seconds": taken, **{name: points[-1][1] for name, points in agent.history.items()}}


def cells(task: str, name: str, seed: int, folder: Path, tasks: int) -> list[Cell]:
    """One cell for each agent."""
    usual, file, found = recipe(task), folder / pipeline.AGENT_FILE, []
    manifest = make_manifest(usual.env_id, tasks=tasks, policy=usual.policy, offset=100, budget=200)
    for agent, options in AGENTS.items():
        identity = {"agent": agent, "options": options, "checkpoint_sha256": file_sha256(file)}
        load = functools.partial(wm_agents.load, file, agent=agent)
        found.append(evaluation_cell(f"{usual.task}_{name}_{agent}_{seed}", load, manifest, identity))
    return found


def table(grid: Grid, task: str) -> str:
    """The existing results, as Markdown; a cell lists its seeds."""
    columns = ("latent/dimension", "latent/std", "probe/position", "cpu_seconds")
    lines = [f"| objective | {' | '.join((*columns, *AGENTS))} | floors: random, no-op |"]
    lines.append("|---" * (2 + len(columns) + len(AGENTS)) + "|")
    for name in TRAINING_OBJECTIVES:
        trained = [grid.stored(path.stem) or {} for path in sorted(grid.folder.glob(f"{task}_{name}_training_*.json"))]
        row = [", ".join(f"{one[column]:.2f}" for one in trained) for column in columns]
        floors = ""
        for agent in AGENTS:
            played = [
                grid.stored(path.stem) or {} for path in sorted(grid.folder.glob(f"{task}_{name}_{agent}_*.json"))
            ]
            row.append(", ".join(shown(one) for one in played))
            if played:
                floors = ", ".join(f"{100 * played[0]['floors'][floor]:.0f}" for floor in ("random", "noop"))
        if trained:
            lines.append(f"| {name} | {' | '.join(row)} | {floors} |")
    return "\n".join(lines)


def shown(result: dict[str, Any]) -> str:
    """A success rate in percent, and its interval."""
    rate, low, high = (100 * value for value in (result["success_rate"], *result["ci95"]))
    return f"{rate:.0f} [{low:.0f}, {high:.0f}]"


def main(task: str, names: list[str], seeds: list[int], steps: int, tasks: int, out: Path, quick: bool) -> None:
    grid, short = Grid(out), recipe(task).task
    with Runner(console=Console(stderr=True)) as runner:
        for seed in seeds:
            for name in names:
                chosen, folder = recipe_of(task, name, seed, steps, quick), out / "runs" / f"{short}-{name}-{seed}"
                key = {"recipe": dataclasses.asdict(chosen)}
                training = Cell(f"{short}_{name}_training_{seed}", key, functools.partial(train, chosen, folder))
                failed = grid.run([training], runner, "training")
                failed = failed or grid.run(cells(task, name, seed, folder, tasks), runner, name)
                for cell, error in failed.items():
                    print(f"{cell}: {error}")
                print(table(grid, short), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pointmaze-umaze")
    parser.add_argument("--objectives", nargs="+", default=list(TRAINING_OBJECTIVES), choices=list(TRAINING_OBJECTIVES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=TrainingConfig().steps, help="of the world model's training")
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--quick", action="store_true", help="only check that everything works")
    given = parser.parse_args()
    main(given.task, given.objectives, given.seeds, given.steps, given.tasks, given.out, given.quick)
