"""Three kinds of world model on one task: the same data, the same agents, the same held-out tasks.

The recipes of the kinds differ only in the world model, and each kind gets the same heads. Finished parts are kept, so
the command can be interrupted and repeated. Expect an hour on two cores, because plans with patch tokens are slow.

    python examples/benchmarks/kinds.py --out runs/kinds
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import wm_agents
from wm_agents import pipeline
from wm_agents.datasets import TrajectoryDataset
from wm_agents.evaluation import Cell, Grid, Runner, evaluation_cell, make_manifest
from wm_agents.evaluation.files import file_sha256
from wm_agents.models import LeWMConfig, WorldModel
from wm_agents.models.patch import PatchConfig
from wm_agents.models.rssm import RSSMConfig
from wm_agents.recipes import Recipe, Stage
from wm_agents.training import TrainingConfig

KINDS: dict[str, Any] = {"lewm": LeWMConfig(), "patch": PatchConfig(), "rssm": RSSMConfig()}
TRAINING = {"lewm": TrainingConfig(), "patch": TrainingConfig(), "rssm": TrainingConfig(frames=8, batch_size=32)}
"""As many frames per step for each; a recurrent memory needs longer windows, to learn to last."""
HEADS = ("gc-idm", "temporal-distance", "graph")
AGENTS: dict[str, dict[str, Any]] = {
    "cem": {"horizon": 8, "objective": "temporal-distance", "samples": 64, "elites": 8, "iterations": 5},
    "gc-idm": {},
    "hierarchical": {"lookahead": 15},
}
TASKS: dict[str, dict[str, Any]] = {
    "100-steps": {"offset": 100, "budget": 200, "seed": 0},
    "100-steps-more": {"offset": 100, "budget": 200, "seed": 1},
    "anywhere": {"offset": "random", "budget": 300, "seed": 0},
}
"""The kinds were tuned on probes and on errors of imagined blocks; nothing was tuned on these tasks."""

TRAINED = {
    "numbers in a latent": "features",
    "weights": "weights",
    "training, s": "seconds",
    "processor time, s": "cpu_seconds",
    "position R2": "probe/position",
    "error of 10 blocks": "rollout",
}
"""Columns of the first table, and where the results have them."""


def recipe_of(kind: str, steps: int) -> Recipe:
    """The recipe of a kind; kinds differ only in the world model."""
    world_model = Stage("world-model", KINDS[kind], dataclasses.replace(TRAINING[kind], steps=steps))
    return Recipe("wm/PointMaze-UMaze-v0", stages=(world_model, *map(Stage, HEADS)), options=AGENTS)


def train(kind: str, steps: int, folder: Path) -> dict[str, Any]:
    """Train a kind and its heads; return the times and what was measured."""
    recipe = recipe_of(kind, steps)
    data = pipeline.collect(recipe)["main"]
    wall, cpu = time.perf_counter(), time.process_time()
    pipeline.reproduce(dataclasses.replace(recipe.without(*HEADS), options={}), folder)
    taken = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    agent = pipeline.reproduce(recipe, folder)
    model = agent.world_model
    return {
        **taken,
        "load": os.getloadavg()[1],
        "threads": torch.get_num_threads(),
        "features": model.spec.feature_size,
        "weights": sum(weight.numel() for weight in model.parameters()),
        "rollout": rollout_error(model, data),
        **{name: points[-1][1] for name, points in agent.history.items()},
    }


@torch.no_grad()
def rollout_error(model: WorldModel, dataset: TrajectoryDataset, blocks: int = 10, shown: int = 3) -> float:
    """Squared error after this many imagined blocks of held-out episodes, relative to that of "nothing moves"."""
    held_out, k = dataset.split(0.1)[1], model.spec.action_block
    start = held_out.segments(500, k * (shown - 1 + blocks), np.random.default_rng(0))[:, None]
    frames = np.stack([start, start + k, start + 2 * k, start + (2 + blocks) * k], axis=1)[..., 0]
    z = torch.stack([model.encode(torch.from_numpy(dataset.pixels[rows])) for rows in frames])
    taken = dataset.actions[start + np.arange(k * (shown - 1 + blocks))].reshape(len(z), shown - 1 + blocks, -1)
    past, ahead = model.normalize(torch.from_numpy(taken)).split([shown - 1, blocks], dim=1)
    end = model.imagine(model.remember(z[:, :shown], past), ahead[:, None])[:, 0, -1]
    return float((end - z[:, -1]).square().mean() / (z[:, shown - 1] - z[:, -1]).square().mean())


def cells(kind: str, folder: Path, tasks: int) -> list[Cell]:
    """One cell for each agent and set of tasks."""
    file = folder / pipeline.AGENT_FILE
    found = []
    for name, settings in TASKS.items():
        manifest = make_manifest("wm/PointMaze-UMaze-v0", tasks=tasks, policy="waypoint", **settings)
        for agent in AGENTS:
            load = functools.partial(wm_agents.load, file, agent=agent)
            identity = {"agent": agent, "options": AGENTS[agent], "checkpoint_sha256": file_sha256(file)}
            found.append(evaluation_cell(f"{kind}_{name}_{agent}", load, manifest, identity))
    return found


def table(grid: Grid) -> str:
    """The existing results, as Markdown."""
    lines = [f"| kind | {' | '.join(TRAINED)} |", "|---" * (1 + len(TRAINED)) + "|"]
    for kind in KINDS:
        if (found := grid.stored(f"{kind}_training")) is not None:
            lines.append(f"| {kind} | {' | '.join(f'{found[name]:.3g}' for name in TRAINED.values())} |")
    lines += ["", f"| tasks | floors: random, no-op | agent | {' | '.join(KINDS)} |", "|---" * (3 + len(KINDS)) + "|"]
    for name in TASKS:
        for agent in AGENTS:
            row = [grid.stored(f"{kind}_{name}_{agent}") for kind in KINDS]
            if known := [one for one in row if one is not None]:
                floors = ", ".join(f"{100 * known[0]['floors'][floor]:.0f}" for floor in ("random", "noop"))
                lines.append(f"| {name} | {floors} | {agent} | {' | '.join(map(shown, row))} |")
    return "\n".join(lines)


def shown(result: dict[str, Any] | None) -> str:
    """A success rate in percent, its interval, and the milliseconds of a plan."""
    if result is None:
        return ""
    rate, low, high = (100 * value for value in (result["success_rate"], *result["ci95"]))
    return f"{rate:.0f} [{low:.0f}, {high:.0f}], {result['ms_per_plan']['median']:.3g} ms"


def main(kinds: list[str], steps: int, tasks: int, out: Path) -> None:
    grid = Grid(out)
    with Runner(console=Console(stderr=True)) as runner:
        for kind in kinds:
            key = {"recipe": dataclasses.asdict(recipe_of(kind, steps))}
            training = Cell(f"{kind}_training", key, functools.partial(train, kind, steps, out / kind))
            failed = grid.run([training], runner, "training")
            failed = failed or grid.run(cells(kind, out / kind, tasks), runner, kind)
            for name, error in failed.items():
                print(f"{name}: {error}")
            print(table(grid), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--steps", type=int, default=TrainingConfig().steps, help="of the world model's training")
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/kinds"))
    arguments = parser.parse_args()
    main(arguments.kinds, arguments.steps, arguments.tasks, arguments.out)
