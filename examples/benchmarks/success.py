"""Regenerate the success table of docs/benchmarks.md.

Evaluates what `wm-agents reproduce TASK --seed SEED` wrote (runs/TASK-SEED/agent.safetensors) on fixed held-out tasks
and writes one JSON file per cell; cells of the same checkpoint and tasks are not measured again, so it can be
interrupted. Then prints the table.

    python examples/benchmarks/success.py --seeds 0 1 2 --agents gc-idm cem-mpc
    python examples/benchmarks/success.py --table
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
from pathlib import Path

from rich.console import Console

import wm_agents
from wm_agents import evaluation
from wm_agents.evaluation.files import file_sha256
from wm_agents.recipes import RECIPES

SETTINGS = {"25/50": (25, 50), "100/200": (100, 200), "random": ("random", None)}


def cell(task: str, setting: str, agent: str, seed: int, arguments: argparse.Namespace) -> evaluation.Cell:
    """Return the cell of one agent on one set of tasks."""
    recipe = RECIPES[task]
    offset, budget = SETTINGS[setting]
    manifest = evaluation.make_manifest(
        recipe.env_id, tasks=arguments.tasks, offset=offset, budget=budget or recipe.budget, policy=recipe.policy
    )
    options = {} if agent == "gc-idm" else {"precision": "bf16"}  # faster where the CPU has it
    file = arguments.runs / f"{task}-{seed}" / "agent.safetensors"
    return evaluation.evaluation_cell(
        f"{task}_{setting.replace('/', '-')}_{agent}_{seed}",
        functools.partial(wm_agents.load, file, agent=agent, **options),
        manifest,
        {"agent": agent, "options": options, "checkpoint_sha256": file_sha256(file)},
        name=agent,
    )


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
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 measures in this one")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    arguments = parser.parse_args()
    if not arguments.table:
        chosen = itertools.product(arguments.task, arguments.setting, arguments.agents, arguments.seeds)
        with evaluation.Runner(arguments.workers, Console(stderr=True)) as runner:
            failed = evaluation.Grid(arguments.out).run([cell(*one, arguments) for one in chosen], runner)
        for name, error in failed.items():
            print(f"{name}: {error}")
    print_table(arguments.out)


if __name__ == "__main__":
    main()
