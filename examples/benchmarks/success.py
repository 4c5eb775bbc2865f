"""Regenerate the success table of docs/benchmarks.md.

Evaluates what `wm-agents reproduce TASK --seed SEED` wrote (runs/TASK-SEED/agent.safetensors) on fixed held-out tasks
and writes one JSON file a cell; cells that exist are skipped, so it can be interrupted. Then prints the table.

    python examples/benchmarks/success.py --seeds 0 1 2 --agents gc-idm cem-mpc
    python examples/benchmarks/success.py --table
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import wm_agents
from wm_agents import evaluation
from wm_agents.recipes import RECIPES

SETTINGS = {"25/50": (25, 50), "100/200": (100, 200), "random": ("random", None)}
KEPT = ("agent", "task", "tasks", "offset", "budget", "seed", "manifest_sha256", "success_rate", "ci95", "strict",
        "floors", "steps_to_success", "ms_per_step", "ms_per_plan", "evaluations_per_plan", "num_envs", "threads",
        "version")  # fmt: skip


def cell(task: str, setting: str, agent: str, seed: int, arguments: argparse.Namespace) -> None:
    """Evaluate one agent on one set of tasks and write the numbers."""
    target = arguments.out / f"{task}_{setting.replace('/', '-')}_{agent}_{seed}.json"
    if target.exists():
        return
    recipe = RECIPES[task]
    offset, budget = SETTINGS[setting]
    budget = budget or recipe.budget
    manifest = evaluation.make_manifest(
        recipe.env_id, tasks=arguments.tasks, offset=offset, budget=budget, seed=0, policy=recipe.policy
    )
    options = {} if agent == "gc-idm" else {"precision": "bf16"}  # faster where the CPU has it
    player = wm_agents.load(arguments.runs / f"{task}-{seed}" / "agent.safetensors", agent=agent, **options)
    result = evaluation.evaluate(player, manifest, name=agent).to_dict()
    row = {"training_seed": seed, **{key: result[key] for key in KEPT}}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(row, indent=1) + "\n")


def print_table(folder: Path) -> None:
    """Print the cells as Markdown: per agent and setting, each seed's success and the mean."""
    rows: dict[tuple[str, str, str], list[dict]] = {}
    for path in sorted(folder.glob("*_*_*_*.json")):
        task, setting, agent, _ = path.stem.rsplit("_", 3)
        rows.setdefault((task, setting, agent), []).append(json.loads(path.read_text()))
    print("| task | setting | agent | success, each seed | mean | strict | random / no-op | median steps |")
    print("|---|---|---|---|---|---|---|---|")
    for (task, setting, agent), cells in sorted(rows.items()):
        each = ", ".join(interval(c["success_rate"], c["ci95"]) for c in cells)
        mean = statistics.mean(100 * c["success_rate"] for c in cells)
        strict = statistics.mean(100 * c["strict"]["success_rate"] for c in cells)
        floors = " / ".join(f"{100 * cells[0]['floors'][name]:.0f}" for name in ("random", "noop"))
        steps = statistics.median(c["steps_to_success"]["median"] or float("nan") for c in cells)
        name = setting.replace("-", "/")
        values = (task, name, agent, each, f"**{mean:.1f}**", f"{strict:.1f}", floors, f"{steps:.0f}")
        print(f"| {' | '.join(values)} |")


def interval(rate: float, bounds: list[float]) -> str:
    """Return a rate and its interval in percent."""
    return f"{100 * rate:.1f} [{100 * bounds[0]:.0f}, {100 * bounds[1]:.0f}]"


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("examples/benchmarks/results"))
    parser.add_argument("--task", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--setting", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--agents", nargs="+", default=["gc-idm", "cem-mpc"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    arguments = parser.parse_args()
    if not arguments.table:
        for agent in arguments.agents:
            for seed in arguments.seeds:
                for task in arguments.task:
                    for setting in arguments.setting:
                        cell(task, setting, agent, seed, arguments)
    print_table(arguments.out)


if __name__ == "__main__":
    main()
