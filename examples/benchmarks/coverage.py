"""How much of a task's states exploration policies visit in the same number of environment steps.

    OMP_NUM_THREADS=1 python examples/benchmarks/coverage.py            # record what is missing, measure, print
    OMP_NUM_THREADS=1 python examples/benchmarks/coverage.py --table    # only print what is there

States are counted in the cells of a grid: the position in a maze, 20 cells along each side, of which those count into
which random free states fall; the position and the angle of PushT's block, 8 cells each. Two numbers are shown.
"Visited" is the share of the cells with at least one frame. "Evenly" is the exponential of the entropy of the frames
over the cells, as a share of the cells: 1 where all are visited equally often, small where most frames are in few.
For PushT, "moved" is the share of stretches of 25 steps in which the block moves by more than 20 px. Every episode
begins at a random state, so the row "starts" has the frames that any policy sees.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from wm_agents import datasets
from wm_agents.evaluation.files import write_json

RESULTS = Path("examples/benchmarks/results/coverage")
TASKS: dict[str, dict[str, Any]] = {
    "umaze": {
        "env_id": "wm/PointMaze-UMaze-v0",
        "states": ("x", "y"),
        "cells": 20,
        "steps": 300,
        "policies": ("smooth-random", "curious", "waypoint"),
    },
    "pusht": {
        "env_id": "wm/PushT-v0",
        "states": ("block_x", "block_y", "block_angle"),
        "cells": 8,
        "steps": 100,
        "policies": ("smooth-random", "curious", "play"),
    },
}
STRETCH, MOVED = 25, 20.0


class Grid:
    """Cells over some of a task's state variables; ``known`` are the numbers of those that count."""

    def __init__(self, task: str) -> None:
        spec = TASKS[task]
        env: Any = gym.make(spec["env_id"], obs_type="state").unwrapped
        self.columns = [list(env.state_names).index(name) for name in spec["states"]]
        self.angle = task == "pusht"
        self.cells = spec["cells"]
        if self.angle:
            low, high = env.bounds[0], env.bounds[1]
            self.low, self.high = np.array([low, low, -np.pi]), np.array([high, high, np.pi])
            self.known = np.arange(self.cells**3)
        else:
            rng = np.random.default_rng(0)
            free = np.stack([env.sample_state(rng) for _ in range(20_000)])[:, self.columns]
            self.low, self.high = free.min(axis=0), free.max(axis=0)
            self.known = np.unique(self.of(free))

    def of(self, values: np.ndarray) -> np.ndarray:
        """Numbers of the cells, int64 ``[N]``, of ``values [N, D]``."""
        values = values.copy()
        if self.angle:
            values[:, 2] = (values[:, 2] + np.pi) % (2 * np.pi) - np.pi
        places = np.clip((values - self.low) / (self.high - self.low) * self.cells, 0, self.cells - 1).astype(np.int64)
        return np.ravel_multi_index(tuple(places.T), (self.cells,) * values.shape[1])

    def measure(self, states: np.ndarray) -> dict[str, float]:
        """Share of the cells that states ``[N, S]`` visit, and how evenly."""
        found, counts = np.unique(self.of(states[:, self.columns]), return_counts=True)
        counts = counts[np.isin(found, self.known)]
        shares = counts / counts.sum()
        entropy = float(-(shares * np.log(shares)).sum())
        return {"visited": len(counts) / len(self.known), "evenly": float(np.exp(entropy)) / len(self.known)}


def moved(data: datasets.TrajectoryDataset) -> float:
    """Share of the stretches of ``STRETCH`` steps in which PushT's block moves by more than ``MOVED`` px."""
    place = data.states[:, [data.state_names.index(name) for name in ("block_x", "block_y")]]
    first = np.concatenate(
        [start + np.arange(length + 1 - STRETCH) for start, length in zip(data.starts, data.lengths, strict=True)]
    )
    return float((np.linalg.norm(place[first + STRETCH] - place[first], axis=1) > MOVED).mean())


def run(task: str, policy: str, seed: int, steps: int, results: Path) -> None:
    """Record and measure, unless that was done before."""
    out = results / f"{task}-{policy}-{seed}.json"
    if out.exists() and json.loads(out.read_text(encoding="utf-8"))["environment_steps"] == steps:
        return
    spec, began = TASKS[task], time.process_time()
    data = datasets.collect(
        spec["env_id"],
        policy=policy,
        episodes=steps // spec["steps"],
        steps=spec["steps"],
        seed=seed,
        name=f"coverage/{task}-{policy}-{seed}-{steps}-v0",
        workers=1,
        progress=False,
    )
    grid = Grid(task)
    content = {
        "task": task,
        "policy": policy,
        "seed": seed,
        "environment_steps": steps,
        "cells": len(grid.known),
        "dataset_sha256": data.provenance["sha256"],
        "versions": data.provenance["versions"],
        "cpu_s": time.process_time() - began,
        **grid.measure(data.states[data.frame_indices()]),
        "starts": grid.measure(data.states[data.starts]),
    }
    if task == "pusht":
        content["moved"] = moved(data)
    results.mkdir(parents=True, exist_ok=True)
    write_json(out, content)


def table(results: Path) -> str:
    """All results as Markdown, the seeds side by side."""
    lines = [
        "| task | policy | visited, % of cells | evenly, % | block moved, % of stretches | seconds |",
        "|---" * 6 + "|",
    ]
    for task, spec in TASKS.items():
        found = {
            policy: [
                json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob(f"{task}-{policy}-*.json"))
            ]
            for policy in spec["policies"]
        }

        def shown(values: list[float]) -> str:
            return ", ".join(f"{100 * value:.0f}" for value in values)

        if first := found["smooth-random"]:
            starts = [shown([one["starts"][name] for one in first]) for name in ("visited", "evenly")]
            lines.append(f"| {task} | starts | {starts[0]} | {starts[1]} | | |")
        for policy, seeds in found.items():
            if seeds:
                cells = [shown([one[name] for one in seeds]) for name in ("visited", "evenly")]
                blocks = shown([one["moved"] for one in seeds if "moved" in one])
                spent = ", ".join(f"{one['cpu_s']:.0f}" for one in seeds)
                lines.append(f"| {task} | {policy} | {cells[0]} | {cells[1]} | {blocks} | {spent} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6000, help="environment steps of each policy")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    arguments = parser.parse_args()
    if not arguments.table:
        for seed in range(arguments.seeds):
            for task in arguments.tasks:
                for policy in TASKS[task]["policies"]:
                    run(task, policy, seed, arguments.steps, arguments.results)
    print(table(arguments.results))
