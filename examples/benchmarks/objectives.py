"""Training objectives on one task: the same data, networks, steps, agents and held-out tasks for each.

Measures what the latents are like, how far the predictor sees ahead, and how often CEM, planning by gradients and
GC-IDM succeed; compares all with "lewm", and says which claims of the literature the numbers bear out. A sweep trains
for the same objective with other weights of one term. Finished parts are kept, so the command can be interrupted and
repeated, and more objectives, seeds and sweeps can be added. Expect 10 minutes for each objective and seed on two
cores, most of them for CEM.

    python examples/benchmarks/objectives.py --seeds 0 1 2 --out runs/objectives
    python examples/benchmarks/objectives.py --seeds 0 1 2 --sweep sigreg 0 0.01 0.09 0.5 --sweep reconstruction 0 1 6
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from objective_claims import REFERENCE, Results, report
from rich.console import Console

import wm_agents
from wm_agents import pipeline
from wm_agents.evaluation import Cell, Grid, Runner, diagnose, evaluation_cell, make_manifest
from wm_agents.evaluation.files import file_sha256, write_text
from wm_agents.losses import LOSSES, TRAINING_OBJECTIVES, objective_weights, split_options
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
SWEPT = {"inverse_dynamics": "smwm"}
"""Term -> the objective in which its weight is swept; "lewm" for others."""


def variants(names: list[str], sweeps: list[list[str]]) -> dict[str, Mapping[str, Any]]:
    """Name -> weights of the loss terms, of the objectives and of all points of the sweeps.

    A point that is an objective's own setting has the objective's name, so nothing is trained twice. A weight of 0
    leaves a term out.

    Raises:
        ValueError: An unknown term, or a weight that is no number of at least 0.
    """
    found: dict[str, Mapping[str, Any]] = {name: objective_weights(name) for name in names}
    known = {str(split_options(objective_weights(name))): name for name in TRAINING_OBJECTIVES}
    for term, *values in sweeps:
        LOSSES.get(term)
        base = SWEPT.get(term, REFERENCE)
        for value in map(float, values):
            weights: dict[str, Any] = objective_weights(base, {term: value})
            weights = {name: given for name, given in weights.items() if given != 0}
            name = known.get(str(split_options(weights)), f"{base}-{term}-{value:g}")
            found[name] = objective_weights(name) if name in TRAINING_OBJECTIVES else weights
    return found


def recipe_of(task: str, weights: Mapping[str, Any], seed: int, steps: int, quick: bool) -> Recipe:
    """The recipe of an objective; objectives differ only in the loss terms of the world model."""
    usual = recipe(task)
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


def look(chosen: Recipe, file: Path, size: dict[str, Any]) -> dict[str, Any]:
    """What the latents of the episodes that training has held out are like: the numbers of a diagnosis of CEM."""
    data = pipeline.collect(chosen, progress=False)["main"]
    return diagnose(wm_agents.load(file, agent="cem"), data, pictures=False, progress=False, **size).to_dict()


def cells(chosen: Recipe, name: str, seed: int, folder: Path, tasks: int, agents: list[str], quick: bool) -> list[Cell]:
    """One cell for the latents, and one for each agent."""
    file = folder / pipeline.AGENT_FILE
    sha256, size = file_sha256(file), {"pairs": 3, "candidates": 8} if quick else {}
    measure = functools.partial(look, chosen, file, size)
    found = [Cell(f"{chosen.task}_{name}_latents_{seed}", {"checkpoint_sha256": sha256, **size}, measure)]
    way = {"offset": 25, "budget": 20} if quick else {"offset": 100, "budget": 200}
    manifest = make_manifest(chosen.env_id, tasks=min(tasks, 4) if quick else tasks, policy=chosen.policy, **way)
    for agent in agents:
        identity = {"agent": agent, "options": AGENTS[agent], "checkpoint_sha256": sha256}
        load = functools.partial(wm_agents.load, file, agent=agent)
        found.append(evaluation_cell(f"{chosen.task}_{name}_{agent}_{seed}", load, manifest, identity))
    return found


def main(arguments: argparse.Namespace, compared: Mapping[str, Mapping[str, Any]]) -> None:
    out, seeds, grid = arguments.out, arguments.seeds, Grid(arguments.out)
    results = Results(grid, recipe(arguments.task).task, list(compared), seeds, arguments.agents)
    with Runner(console=Console(stderr=True)) as runner:
        for seed in seeds:
            for name, weights in compared.items():
                chosen = recipe_of(arguments.task, weights, seed, arguments.steps, arguments.quick)
                folder = out / "runs" / f"{chosen.task}-{name}-{seed}"
                key = {"recipe": dataclasses.asdict(chosen)}
                training = Cell(f"{chosen.task}_{name}_training_{seed}", key, functools.partial(train, chosen, folder))
                failed = grid.run([training], runner, "training")
                if not failed:
                    found = cells(chosen, name, seed, folder, arguments.tasks, arguments.agents, arguments.quick)
                    failed = grid.run(found, runner, name)
                for cell, error in failed.items():
                    print(f"{cell}: {error}")
                write_text(out / "report.md", report(results))
                print(f"{name}, seed {seed}: done; {out / 'report.md'}", flush=True)
    print(report(results))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pointmaze-umaze")
    parser.add_argument("--objectives", nargs="+", default=list(TRAINING_OBJECTIVES), choices=list(TRAINING_OBJECTIVES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=TrainingConfig().steps, help="of the world model's training")
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=list(AGENTS), help="CEM takes the longest")
    parser.add_argument(
        "--sweep", nargs="+", action="append", default=[], metavar=("TERM", "WEIGHT"), help="may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="only check that everything works")
    given = parser.parse_args()
    try:
        compared = variants(given.objectives, given.sweep)
    except ValueError as error:
        parser.error(str(error))
    main(given, compared)
