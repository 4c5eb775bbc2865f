"""What limits search, the latents or the predictor? Each is replaced by the truth, one at a time.

The same CEM plans to arrive (a shrinking horizon of 5 blocks) with the learned predictor or in the simulator, and
measures the end of a plan in latents or in the units of the success test. This is an upper bound and not an
agent: every plan takes thousands of steps of the simulator.

    python examples/benchmarks/limits.py --task pusht --tasks 30
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console

import wm_agents
from wm_agents import evaluation, planning
from wm_agents.agents.loading import shipped
from wm_agents.recipes import recipe

HORIZON = 5
SCALES = {"pusht": (20.0, 20.0, 20.0, 20.0, np.radians(20)), "reacher": (0.05, 0.05)}
"""What the moderate test allows for each coordinate of the goal."""


def distance_of_states(task: str, states: np.ndarray, goal: np.ndarray, env: Any) -> np.ndarray:
    """Squared distance of states ``[S, n]`` to a goal state, 1 where a coordinate is as far as the test allows."""
    gap = env.achieved_goal(states) - env.achieved_goal(goal)
    angles = [i for i, name in enumerate(env.goal_names) if name.endswith("angle")]
    gap[:, angles] = (gap[:, angles] + np.pi) % (2 * np.pi) - np.pi
    return np.square(gap / np.array(SCALES[task])).sum(axis=1)


def imagined(simulator: gym.Env[Any, Any], state: np.ndarray, plans: np.ndarray) -> np.ndarray:
    """The states ``[S, n]`` in which action sequences ``[S, steps, A]`` really end."""
    ends = []
    for plan in plans:
        simulator.reset(options={"state": state, "goal_state": state})
        for action in plan:
            simulator.step(action)
        ends.append(simulator.unwrapped.get_state())  # type: ignore[attr-defined]
    return np.stack(ends)


def encoded(model: Any, images: np.ndarray) -> torch.Tensor:
    """Features ``[B, F]`` of images."""
    return model.features(model.encode(torch.from_numpy(np.ascontiguousarray(images))))


def solve(task: str, agent: Any, start: np.ndarray, goal: np.ndarray, budget: int, arm: str, planner_size: Any) -> bool:
    """Whether the moderate test holds at some step of the budget."""
    dynamics, _, metric = arm.partition(" dynamics, ")
    model, k = agent.world_model, agent.world_model.spec.action_block
    env_id = recipe(task).env_id
    world, simulator = (gym.make(env_id, obs_type="state", max_episode_steps=9999) for _ in range(2))
    world.reset(options={"state": start, "goal_state": goal})
    task_env: Any = world.unwrapped
    picture = encoded(model, task_env.render_state(goal)[None])
    low, high = model.block_bounds()
    generator, left, warm = torch.Generator().manual_seed(0), 0, None
    seen, block = model.initial(1), torch.zeros(1, model.spec.block_size)

    def cost(plans: torch.Tensor) -> torch.Tensor:
        if dynamics == "learned":
            latents = model.features(model.imagine(seen, plans))[0, :, -1]
        else:
            actions = model.denormalize(plans[0]).numpy().reshape(plans.shape[1], -1, world.action_space.shape[0])
            states = imagined(simulator, task_env.get_state(), actions)
            if metric == "states":
                return torch.from_numpy(distance_of_states(task, states, goal, task_env))[None].float()
            latents = encoded(model, np.stack([task_env.render_state(state) for state in states]))
        return (latents - picture).square().sum(dim=1)[None]

    for _ in range(budget // k):
        left = left - 1 if left > 1 else HORIZON
        frame = torch.from_numpy(task_env.render_state(task_env.get_state())[None].copy())
        seen = model.observe(seen, model.encode(frame), block)
        planner = planning.make("cem", horizon=left, **planner_size)
        init = None if warm is None or left == HORIZON else warm[:, :, 1:]
        plan = planner.plan(cost, low=low, high=high, init=init, generator=generator)
        warm, block = plan.actions.unsqueeze(1), plan.actions[:, 0]
        for action in model.denormalize(block).numpy().reshape(k, -1):
            world.step(action)
            if task_env.successes(task_env.get_state(), goal)["moderate"]:
                return True
    return False


def measure(task: str, agent: Any, tasks: evaluation.Manifest, arm: str, size: Any) -> dict[str, list[bool]]:
    """Try all tasks with one combination."""
    pairs = zip(tasks.starts, tasks.goals, strict=True)
    return {"solved": [solve(task, agent, start, goal, tasks.budget, arm, size) for start, goal in pairs]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pusht", choices=SCALES)
    parser.add_argument("--tasks", type=int, default=30)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1000, help="of the tasks: not those of the reported tables")
    parser.add_argument("--out", type=Path, default=Path("runs/limits"))
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    made = recipe(given.task)
    tasks = evaluation.make_manifest(
        made.env_id, tasks=given.tasks, offset=25, budget=50, seed=given.seed, policy=made.policy
    )
    agent = wm_agents.load(f"{given.task}/gc-idm", device="cpu")
    size = {"samples": given.samples, "elites": max(2, given.samples // 8), "iterations": given.iterations}
    key = {"manifest_sha256": tasks.sha256, "checkpoint_sha256": shipped()[given.task], "planner": size}
    arms = ("learned dynamics, latents", "true dynamics, latents", "true dynamics, states")
    cells = {
        arm: evaluation.Cell(
            f"{given.task}_{arm.replace(', ', '_').replace(' ', '-')}",
            {**key, "arm": arm},
            functools.partial(measure, given.task, agent, tasks, arm, size),
        )
        for arm in arms
    }
    grid = evaluation.Grid(given.out)
    failed = grid.run(list(cells.values()), evaluation.Runner(console=Console(stderr=True)))
    for arm, cell in cells.items():
        found = grid.read(cell)
        if found is None:
            print(f"{arm}: {failed[cell.name]}")
        else:
            low, high = evaluation.wilson_interval(sum(found["solved"]), given.tasks)
            print(f"{arm}: {np.mean(found['solved']):.0%} [{low:.0%}, {high:.0%}] of {given.tasks}")
