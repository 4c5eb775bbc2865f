"""Do agents know beforehand which goals they reach? Their probabilities on tasks that no calibration has seen.

    python examples/benchmarks/assess.py --agents tworoom/gc-idm reacher/hierarchical
    python examples/benchmarks/assess.py --no-measure             # only print the table of what is there

Half of the tasks are any goal, the others lie 50 steps apart; all are played to the environment's own step limit.
One run so tells what becomes of them within any time, and the probabilities are those for that time: the whole limit,
a half, a quarter and an eighth of it. Each agent is a JSON file in ``--out``.
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console

import wm_agents
from wm_agents import evaluation
from wm_agents.agents.loading import CALIBRATION, shipped, shipped_checkpoint
from wm_agents.evaluation import Manifest, TaskEnv
from wm_agents.evaluation.files import file_sha256
from wm_agents.evaluation.report.markdown import table
from wm_agents.evaluation.statistics import probability_scores

RESULTS = Path("examples/benchmarks/results/assess")
SEED = 6001
"""Of the tasks: calibrations use seeds from 1001 on."""
PARTS = (1, 2, 4, 8)
"""Of the step limit, the time that an agent has."""


def task_sets(env_id: str, tasks: int, seed: int) -> list[Manifest]:
    """Any goal, and goals 50 steps away."""
    limit = gym.spec(env_id).max_episode_steps or 300
    make = functools.partial(evaluation.make_manifest, env_id, tasks=tasks // 2, budget=limit)
    return [make(offset="random", seed=seed), make(offset=50, seed=seed + 1)]


def measured(name: str, manifests: list[Manifest], num_envs: int) -> dict[str, Any]:
    """Ask an agent about all tasks and play them."""
    agent = wm_agents.load(name, device="cpu")
    predicted: list[list[float | None]] = [[] for _ in PARTS]
    steps: list[int] = []
    for manifest in manifests:
        env = TaskEnv(manifest, image_size=agent.world_model.spec.image_size)
        seen = [env.reset()[0] for _ in range(len(manifest))]
        env.close()
        rows = {key: np.stack([one[key] for one in seen]) for key in ("pixels", "goal_pixels")}
        for part, found in zip(PARTS, predicted, strict=True):
            found += [one.success_probability for one in agent.assess(rows, manifest.budget // part)]
        result = evaluation.evaluate(agent, manifest, num_envs=num_envs, progress=False, known_floors={})
        steps += result.outcomes.moderate.tolist()
    return {
        "agent": name,
        "limit": manifests[0].budget,
        "predicted": {str(part): found for part, found in zip(PARTS, predicted, strict=True)},
        "steps": [int(step) or None for step in steps],
        "version": wm_agents.__version__,
    }


def cell(name: str, tasks: int, seed: int, num_envs: int) -> evaluation.Cell:
    """The cell of an agent."""
    task = name.partition("/")[0]
    manifests = task_sets(shipped_checkpoint(task).env_id, tasks, seed)
    beside = Path(wm_agents.__file__).parent / "checkpoints" / CALIBRATION.format(task=task)
    key = {
        "agent": name,
        "checkpoint_sha256": shipped()[task],
        "calibration_sha256": file_sha256(beside) if beside.is_file() else "",
        "manifest_sha256": [manifest.sha256 for manifest in manifests],
    }
    return evaluation.Cell(name.replace("/", "_"), key, functools.partial(measured, name, manifests, num_envs))


def scores(content: dict[str, Any], part: int) -> dict[str, Any]:
    """How good the probabilities for a part of the time are, and of how many tasks there are any."""
    chances = np.array([np.nan if one is None else one for one in content["predicted"][str(part)]])
    steps = np.array([np.inf if step is None else step for step in content["steps"]])
    known = ~np.isnan(chances)
    solved = steps <= content["limit"] // part
    return {"known": int(known.sum()), "tasks": len(known), **probability_scores(chances[known], solved[known])}


def page(folder: Path) -> str:
    """The table of all results in a folder, as Markdown."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for part in PARTS:
            found = scores(content, part)
            auroc = "" if found["auroc"] is None else f"{found['auroc']:.2f}"
            shares = [f"{100 * found[what]:.0f}" for what in ("predicted", "solved")]
            known = f"{found['known']} of {found['tasks']}"
            measures = (f"{found['ece']:.3f}", auroc, f"{found['brier']:.3f}")
            rows.append((content["agent"], content["limit"] // part, known, *shares, *measures))
    columns = ("agent", "steps", "known", "expected, %", "solved, %", "calibration error", "AUROC", "Brier score")
    return "\n".join(table(columns, rows))


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", default=[], help="shipped agents")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--num-envs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    if arguments.measure:
        cells = [cell(name, arguments.tasks, arguments.seed, arguments.num_envs) for name in arguments.agents]
        with evaluation.Runner(console=Console(stderr=True)) as runner:
            for name, error in evaluation.Grid(arguments.out).run(cells, runner).items():
                print(f"{name}: {error}")
    print(page(arguments.out))


if __name__ == "__main__":
    main()
