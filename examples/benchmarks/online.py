"""``learn`` from nothing, and on top of an offline agent: success on held-out tasks, point by point.

    python examples/benchmarks/online.py umaze --steps 20000     # from nothing, any goal
    python examples/benchmarks/online.py reacher --steps 20000   # from nothing, goals 25 steps away
    python examples/benchmarks/online.py pusht --steps 20000     # after a tenth of the recipe's data and training
    python examples/benchmarks/online.py --table                 # only print what is there

The same command continues after an interruption from the last point. Each run is a JSON file in ``--results``. Expect
10 minutes a run on one core, and two hours for PushT.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.callbacks import BaseCallback

import wm_agents
from wm_agents import GCIDM, MPC, OnlineConfig, evaluation, pipeline
from wm_agents.agents import WorldModelAgent
from wm_agents.evaluation import Manifest
from wm_agents.evaluation.files import file_sha256, write_json
from wm_agents.recipes import PLANNERS, Recipe, recipe

RESULTS = Path("examples/benchmarks/results/online")
TASKS: dict[str, dict[str, Any]] = {
    "umaze": {"env_id": "wm/PointMaze-UMaze-v0", "offset": "random", "budget": 300, "env": {}},
    "reacher": {"env_id": "wm/Reacher-v0", "offset": 25, "budget": 50, "env": {"goals": "near"}},
    "pusht": {"env_id": "wm/PushT-v0", "offset": 25, "budget": 50, "env": {"goals": "near"}},
}
OFFLINE = ("pusht",)
"""Tasks that begin with an offline agent."""
AGENTS: dict[str, Callable[..., WorldModelAgent]] = {
    "umaze": GCIDM,
    "reacher": functools.partial(MPC, **PLANNERS["cem"]),
    "pusht": GCIDM,
}
"""With little data, search reaches more of Reacher's near goals than GC-IDM does; docs/learn.md has the numbers."""
CONFIGS: dict[str, OnlineConfig] = {
    "umaze": OnlineConfig(),
    "reacher": OnlineConfig(head_updates=0.1),
    "pusht": OnlineConfig(learning_starts=0, random_episodes=0.0),
}


class Points(BaseCallback):
    """Saves agent and replay buffer every so many steps; the buffer of the last point alone is kept."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__()
        self.folder, self.every = folder, every

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every < self.training_env.num_envs:
            self.save()
        return True

    def _on_training_end(self) -> None:
        self.save()

    def save(self) -> None:
        self.model.save(self.folder / f"agent-{self.num_timesteps}.safetensors")
        self.model.save_replay_buffer(self.folder / "replay.safetensors")


def points(folder: Path) -> dict[int, Path]:
    """Saved agents by their environment steps."""
    found = {int(path.stem.split("-")[1]): path for path in folder.glob("agent-*.safetensors")}
    return dict(sorted(found.items()))


def tenth(task: str) -> Recipe:
    """The task's recipe with a tenth of its data, and of the gradient steps of world model, predictor and GC-IDM."""
    full = recipe(task).without("steps-to-goal", "graph", "waypoints")
    stages = [
        dataclasses.replace(stage, training=dataclasses.replace(stage.training, steps=stage.training.steps // 10))
        for stage in full.stages
    ]
    data = {name: dataclasses.replace(part, episodes=part.episodes // 10) for name, part in full.data.items()}
    return dataclasses.replace(full, data=data, stages=tuple(stages), options={}, variant="-tenth")


def train(task: str, steps: int, every: int, seed: int, folder: Path) -> None:
    """Learn until ``steps`` environment steps; what is there is not done again."""
    done = max(points(folder), default=-1)
    env, data = gym.make(TASKS[task]["env_id"], **TASKS[task]["env"]), None
    if task in OFFLINE:
        first = pipeline.reproduce(tenth(task), folder / "offline", seed=seed)
        data = pipeline.collect(tenth(task))["main"]
        first.save(folder / "agent-0.safetensors")
    if done > 0:
        agent = wm_agents.load(points(folder)[done], env=env)
        agent.load_replay_buffer(folder / "replay.safetensors")
    elif task in OFFLINE:
        agent = wm_agents.load(folder / "agent-0.safetensors", env=env)
    else:
        agent = AGENTS[task]("lewm", env, seed=seed)
    if done < steps:
        began, cpu = time.perf_counter(), time.process_time()
        agent.learn(
            steps - max(done, 0),
            callback=Points(folder, every),
            reset_num_timesteps=False,
            online=CONFIGS[task],
            data=data,
        )
        spent = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
        write_json(folder / f"spent-from-{max(done, 0)}.json", spent)


def measure(task: str, steps: int, seed: int, tasks: int, draw: int, folder: Path, out: Path) -> None:
    """Evaluate every point whose file is not yet in the results."""
    wanted = {name: TASKS[task][name] for name in ("env_id", "offset", "budget")}
    manifest: Manifest = evaluation.make_manifest(tasks=tasks, seed=draw, **wanted)
    found = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"points": {}}
    found |= {
        "task": task,
        "seed": seed,
        "manifest_sha256": manifest.sha256,
        "tasks": tasks,
        "config": dataclasses.asdict(CONFIGS[task]),
        "threads": torch.get_num_threads(),
        "spent": [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("spent-*.json"))],
    }
    for at, path in points(folder).items():
        digest = file_sha256(path)
        if at > steps or found["points"].get(str(at), {}).get("sha256") == digest:
            continue
        agent = wm_agents.load(path)
        if agent.provenance.get("untrained"):
            continue
        result = evaluation.evaluate(agent, manifest, known_floors={} if "floors" in found else None)
        found.setdefault("floors", {name: floor.success_rate() for name, floor in result.floors.items()})
        low, high = result.outcomes.interval()
        solved = (result.outcomes.moderate > 0).tolist()
        point = {"sha256": digest, "success_rate": result.success_rate, "ci95": [low, high], "solved": solved}
        found["points"][str(at)] = point
        write_json(out, found)


def table(results: Path) -> str:
    """All runs as Markdown; tasks that the first point solved and a later one does not are forgotten."""
    lines = ["| task | seed | environment steps | success | 95% interval | forgotten | floors: random, no-op |"]
    lines.append("|---" * 7 + "|")
    for path in sorted(results.glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        floors = ", ".join(f"{100 * run['floors'][name]:.0f}" for name in ("random", "noop"))
        shown = sorted(run["points"].items(), key=lambda item: int(item[0]))
        first = shown[0][1]["solved"] if shown else []
        for at, point in shown:
            lost = sum(before and not now for before, now in zip(first, point["solved"], strict=True))
            low, high = (100 * value for value in point["ci95"])
            lines.append(
                f"| {run['task']} | {run['seed']} | {int(at):,} | {100 * point['success_rate']:.0f} | {low:.0f} to "
                f"{high:.0f} | {lost} of {sum(first)} | {floors} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?", choices=list(TASKS))
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps")
    parser.add_argument("--every", type=int, default=5000, help="environment steps between two points")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=100, help="held-out tasks")
    parser.add_argument("--draw", type=int, default=0, help="seed of the held-out tasks")
    parser.add_argument("--out", type=Path, default=Path("runs/online"), help="agents and replay buffers")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    arguments = parser.parse_args()
    if arguments.task and not arguments.table:
        name = f"{arguments.task}-{arguments.steps}-{arguments.seed}"
        torch.manual_seed(arguments.seed)
        place = arguments.out / name
        place.mkdir(parents=True, exist_ok=True)
        train(arguments.task, arguments.steps, arguments.every, arguments.seed, place)
        results = arguments.results / f"{name}.json"
        measure(arguments.task, arguments.steps, arguments.seed, arguments.tasks, arguments.draw, place, results)
    print(table(arguments.results))
