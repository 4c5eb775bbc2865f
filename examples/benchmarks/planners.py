"""Success of every planner with every objective, and of the hybrids, at about equal compute.

Reads what `wm-agents reproduce TASK --seed SEED` wrote (runs/TASK-SEED/agent.safetensors), writes one JSON file per
cell and does not measure cells of the same checkpoint and tasks again, so it can be interrupted. Then prints the tables
of docs/planners.md.

    python examples/benchmarks/planners.py                       # all planners and objectives
    python examples/benchmarks/planners.py --study headline --seeds 0 1 2 --tasks 200
    python examples/benchmarks/planners.py --study headline --table
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from pathlib import Path

from rich.console import Console

import wm_agents
from wm_agents import evaluation
from wm_agents.evaluation.files import file_sha256
from wm_agents.planning import PLANNERS
from wm_agents.recipes import RECIPES

# The shipped options, about the same compute for each, and diffusion without its learned prior.
GRID = {
    **{name: (name, {}) for name in PLANNERS},
    "diffusion without a prior": ("diffusion", {"proposals": "none", "horizon": 10, "samples": 50, "steps": 20}),
}
OBJECTIVES = ("terminal", "summed", "discounted", "doubling", "cosine", "temporal-distance")
LARGE = {"samples": 300, "elites": 30, "iterations": 10}
SMALL = {"samples": 50, "elites": 8, "iterations": 6, "initial_std": 0.5, "returns": "best"}  # a tenth of that
HEADLINE = {
    "gc-idm": ("gc-idm", {}),
    "cem, squared distance": ("cem", {**LARGE, "objective": "summed"}),
    "cem, temporal distance": ("cem", {**LARGE, "objective": "temporal-distance"}),
    "mppi, squared distance": ("mppi", {**LARGE, "elites": 64, "objective": "summed"}),
    "mppi, temporal distance": ("mppi", {**LARGE, "elites": 64, "objective": "temporal-distance"}),
    "cem, a tenth": ("cem", {**SMALL, "initial_std": 1.0, "objective": "temporal-distance"}),
    "diffusion, best of 16": ("diffusion", {}),
    "gc-idm + cem, a tenth": ("cem", {**SMALL, "objective": "temporal-distance", "proposals": "gc-idm"}),
    "diffusion + cem, a tenth": ("cem", {**SMALL, "objective": "temporal-distance", "proposals": "diffusion"}),
}


def cells(study: str) -> dict[str, tuple[str, dict]]:
    """Return the cells of a study: label -> agent and options."""
    if study == "headline":
        return HEADLINE
    return {
        f"{label}, {objective}": (planner, {**options, "objective": objective})
        for label, (planner, options) in GRID.items()
        for objective in OBJECTIVES
    }


def cell(label: str, agent: str, options: dict, seed: int, arguments: argparse.Namespace) -> evaluation.Cell:
    """Return the cell of one agent of one training seed."""
    recipe = RECIPES[arguments.task]
    manifest = evaluation.make_manifest(
        recipe.env_id,
        tasks=arguments.tasks,
        offset=arguments.offset,
        budget=2 * arguments.offset,
        seed=arguments.task_seed,
        policy=recipe.policy,
    )
    options = options if agent == "gc-idm" else {**options, "precision": arguments.precision}
    file = arguments.runs / f"{arguments.task}-{seed}" / "agent.safetensors"
    return evaluation.evaluation_cell(
        cell_path(label, seed, arguments).stem,
        functools.partial(wm_agents.load, file, agent=agent, **options),
        manifest,
        {"agent": agent, "options": options, "checkpoint_sha256": file_sha256(file)},
        seed=None,
        name=label,
        num_envs=arguments.envs,
    )


def cell_path(label: str, seed: int, arguments: argparse.Namespace) -> Path:
    """Return the file of a cell."""
    slug = label.replace(",", "").replace("+", "and").replace(" ", "-")
    return arguments.out / f"{arguments.study}_{arguments.task}_{slug}_{seed}.json"


def print_headline(arguments: argparse.Namespace) -> None:
    """Print one row per cell: each seed, mean, strict, evaluations per plan."""
    print("| agent | success, each seed | mean | strict | evaluations a plan |\n|---|---|---|---|---|")
    for label in HEADLINE:
        found = [cell_path(label, seed, arguments) for seed in arguments.seeds]
        rows = [json.loads(path.read_text()) for path in found if path.exists()]
        if rows:
            each = ", ".join(interval(row["success_rate"], row["ci95"]) for row in rows)
            mean = statistics.mean(100 * row["success_rate"] for row in rows)
            strict = statistics.mean(100 * row["strict"]["success_rate"] for row in rows)
            print(f"| {label} | {each} | **{mean:.1f}** | {strict:.1f} | {rows[0]['evaluations_per_plan']:,.0f} |")


def interval(rate: float, bounds: list[float]) -> str:
    """Return a rate and its interval in percent."""
    return f"{100 * rate:.1f} [{100 * bounds[0]:.0f}, {100 * bounds[1]:.0f}]"


def print_grid(arguments: argparse.Namespace) -> None:
    """Print planners by objectives, first seed."""
    print(f"| planner | {' | '.join(OBJECTIVES)} |\n|---{'|---' * len(OBJECTIVES)}|")
    for label in GRID:
        paths = [cell_path(f"{label}, {objective}", arguments.seeds[0], arguments) for objective in OBJECTIVES]
        rates = [json.loads(path.read_text())["success_rate"] if path.exists() else None for path in paths]
        print(f"| {label} | {' | '.join('-' if rate is None else f'{100 * rate:.0f}' for rate in rates)} |")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=["grid", "headline"], default="grid")
    parser.add_argument("--task", default="pointmaze-umaze", choices=list(RECIPES))
    parser.add_argument("--offset", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--task-seed", type=int, default=0, help="of the task set; 0 is the reported one")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="training seeds")
    parser.add_argument("--envs", type=int, default=16, help="environments that share a call")
    parser.add_argument("--only", nargs="+", default=[], help="labels that start with one of these")
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("examples/benchmarks/results/planners"))
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 measures in this one")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    arguments = parser.parse_args()
    if not arguments.table:
        chosen = [
            cell(label, agent, options, seed, arguments)
            for seed in arguments.seeds
            for label, (agent, options) in cells(arguments.study).items()
            if not arguments.only or label.startswith(tuple(arguments.only))
        ]
        with evaluation.Runner(arguments.workers, Console(stderr=True)) as runner:
            failed = evaluation.Grid(arguments.out).run(chosen, runner)
        for name, error in failed.items():
            print(f"{name}: {error}")
    (print_headline if arguments.study == "headline" else print_grid)(arguments)


if __name__ == "__main__":
    main()
