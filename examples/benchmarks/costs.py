"""What limits search at long range, the cost or the predictor? Replace one at a time, on the same latents.

Costs, averaged over the horizon:

- latent: squared latent distance
- temporal distance: the learned number of steps
- position: distance in the maze's plane, read off the imagined latents by a linear probe; ignores walls
- path: length of the way around the walls to the goal, from the same probe

Predictors: trained with the world model (on single steps of the task's data), and trained further on its own rollouts
with data that contain collisions. Reads runs/TASK-SEED, which `wm-agents reproduce` writes. Expect about 10 minutes on
two cores for 100 tasks, which differ from those of the reported tables.
"""

from __future__ import annotations

import argparse
import functools
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import wm_agents
from wm_agents import datasets, evaluation, planning
from wm_agents.evaluation.files import file_sha256
from wm_agents.recipes import recipe
from wm_agents.training import encode_frames


def fit_probe(world_model: wm_agents.WorldModel, data: datasets.TrajectoryDataset) -> torch.Tensor:
    """Return weights ``[D + 1, 2]`` that read the position off a latent, by least squares."""
    latents = encode_frames(world_model, data, progress=False)
    inputs = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
    return torch.linalg.lstsq(inputs, torch.from_numpy(data.states[:, :2]).float()).solution


class PathLength:
    """Distances around the walls, by breadth-first search on a fine grid over the maze."""

    def __init__(self, maze: gym.Env, spacing: float = 0.1) -> None:
        self.low = np.array([maze.bounds[0], maze.bounds[2]])
        size = np.array([maze.bounds[1], maze.bounds[3]]) - self.low
        self.shape, self.spacing = tuple(np.round(size / spacing).astype(int)), spacing
        centres = self.low + (np.indices(self.shape).reshape(2, -1).T + 0.5) * spacing
        self.free = ~(np.abs(centres[:, None] - maze.walls()).max(-1) < maze.cell_size / 2).any(1).reshape(self.shape)

    def index(self, xy: np.ndarray) -> np.ndarray:
        """Return the grid cells of positions, clipped into the maze."""
        return np.clip(((xy - self.low) / self.spacing).astype(int), 0, np.array(self.shape) - 1)

    def field(self, goal: np.ndarray) -> torch.Tensor:
        """Return the distance of every grid cell to the goal, in m; walls are far."""
        steps = np.full(self.shape, 200.0)
        start = tuple(self.index(goal))
        steps[start] = 0
        queue = deque([start])
        while queue:
            x, y = queue.popleft()
            for cell in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
                inside = all(0 <= c < n for c, n in zip(cell, self.shape, strict=True))
                if inside and self.free[cell] and steps[cell] > steps[x, y] + 1:
                    steps[cell] = steps[x, y] + 1
                    queue.append(cell)
        return torch.from_numpy(steps * self.spacing).float()


def main() -> None:
    """Evaluate CEM with each predictor and cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pointmaze-umaze")
    parser.add_argument("--seed", type=int, default=0, help="training seed")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--horizon", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("runs/costs"))
    arguments = parser.parse_args()
    made = recipe(arguments.task)
    run_dir = arguments.runs / f"{arguments.task}-{arguments.seed}"
    main = made.data["main"]
    data = datasets.collect(made.env_id, policy=main.policy, episodes=main.episodes, steps=main.steps)
    manifest = evaluation.make_manifest(made.env_id, tasks=arguments.tasks, offset=100, budget=200, seed=1000)
    maze = gym.make(made.env_id, obs_type="state").unwrapped
    agent = wm_agents.load(run_dir / "agent.safetensors", agent="cem", horizon=arguments.horizon, precision="bf16")
    stage = made.seeded(arguments.seed).stage("world-model")
    before, _ = wm_agents.train_world_model(data, stage.model, stage.training, run_dir=run_dir)  # finished: loads
    predictors = {"single steps": before.predictor, "rollouts": agent.world_model.predictor}
    probe, paths, fields = fit_probe(agent.world_model, data), PathLength(maze), {}

    def position(latents: torch.Tensor) -> torch.Tensor:
        return latents @ probe[:-1] + probe[-1]

    def by_position(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return (position(predicted) - position(goal)[:, None, None]).norm(dim=-1).mean(-1)

    def by_path(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        costs = []
        for imagined, target in zip(position(predicted), position(goal), strict=True):
            key = tuple(paths.index(target.numpy()))
            fields.setdefault(key, paths.field(target.numpy()))
            x, y = torch.from_numpy(paths.index(imagined.numpy())).unbind(-1)
            costs.append(fields[key][x, y].mean(-1))
        return torch.stack(costs)

    objectives = {
        "latent": planning.make_objective("summed"),
        "temporal distance": agent.policy.controller.objective,
        "position": by_position,
        "path": by_path,
    }

    def measure(trained_on: str, name: str) -> dict[str, Any]:
        agent.world_model.predictor = predictors[trained_on].eval()
        agent.policy.controller.objective = objectives[name]
        return evaluation.evaluate(agent, manifest, name=f"{trained_on}, {name}", progress=False).to_dict()

    key = {"manifest_sha256": manifest.sha256, "checkpoint_sha256": file_sha256(run_dir / "agent.safetensors")}
    cells = [
        evaluation.Cell(
            f"{arguments.task}_{trained_on}_{name}".replace(" ", "-"),
            {**key, "predictor": trained_on, "objective": name, "horizon": arguments.horizon},
            functools.partial(measure, trained_on, name),
        )
        for trained_on in predictors
        for name in objectives
    ]
    grid = evaluation.Grid(arguments.out)
    failed = grid.run(cells, evaluation.Runner(console=Console(stderr=True)))
    table = Table("predictor, cost", "success", "95%", "strict", title=f"{arguments.task}, CEM-MPC")
    for cell in cells:
        found = grid.read(cell)
        if found is None:
            print(f"{cell.name}: {failed[cell.name]}")
            continue
        low, high = found["ci95"]
        strict = f"{100 * found['strict']['success_rate']:.1f}"
        table.add_row(found["agent"], f"{100 * found['success_rate']:.1f}", f"{100 * low:.0f}-{100 * high:.0f}", strict)
    evaluation.print_table(table, Console())


if __name__ == "__main__":
    main()
