"""Success against the distance of the goal, with and without subgoals; true and random subgoals show the limits.

Reads runs/TASK-SEED/agent.safetensors (world model, GC-IDM, temporal distance, graph; macro-actions and waypoints are
fitted if a row needs them and the recipe does not include them) and writes one JSON file per cell. Cells of the same
checkpoint and tasks are not measured again, so it can be interrupted. Then draws docs/figures/hierarchy.png and prints
the table of docs/agents/hierarchical.md.

    python examples/benchmarks/hierarchy.py --seeds 0 1 2
    python examples/benchmarks/hierarchy.py --task pusht --agents "gc-idm" "graph + gc-idm" --offsets 25 50 75
    python examples/benchmarks/hierarchy.py --table
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich.console import Console

import wm_agents
from wm_agents import datasets, evaluation
from wm_agents.agents.subgoals import GraphSubgoals, Subgoals
from wm_agents.datasets.episodes import episode_seed, rollout_states
from wm_agents.evaluation import Manifest
from wm_agents.evaluation.files import file_sha256
from wm_agents.evaluation.report.comparison import faster_precision
from wm_agents.recipes import RECIPES
from wm_agents.training import learner_of

OFFSETS: dict[str, list[Any]] = {
    "pointmaze-umaze": [25, 50, 100, 200, "random"],
    "pointmaze-medium": [25, 50, 100, 200, "random"],
    "pointmaze-large": [50, 100, 200, 400, "random"],
    "tworoom": [25, 50, 100, 200, "random"],
    "pusht": [25, 50, 75],
    "cube-single": [25, 75],
}
FAST = {"precision": faster_precision("cem")}
SEARCH = {"horizon": 5, "samples": 100, "elites": 10, "iterations": 10, "objective": "temporal-distance", **FAST}
PUSHT = {**RECIPES["pusht"].options["cem"], "proposals": "gc-idm", **FAST}
MACROS = {"high": "cem", "high_options": {"samples": 64, "elites": 8, "iterations": 5}, "replan_every": 15}
GRAPH = {"high": "graph"}
WAYPOINTS = {"high": "waypoints", "replan_every": 30}
AMORTISED = {"low": "gc-idm", "low_options": {}}
SEARCHED = {"low": "cem", "low_options": SEARCH}
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cem": ("cem", FAST),
    "cem, latent distance": ("cem", {"objective": "terminal", **FAST}),  # what the papers' planners minimise
    "cem from gc-idm's plan": ("cem", {"proposals": "gc-idm", **FAST}),
    "gc-idm": ("gc-idm", {}),
    "graph + gc-idm": ("hierarchical", {**GRAPH, **AMORTISED}),
    "graph + cem": ("hierarchical", {**GRAPH, **SEARCHED}),
    "waypoints + gc-idm": ("hierarchical", {**WAYPOINTS, **AMORTISED}),
    "waypoints + cem": ("hierarchical", {**WAYPOINTS, **SEARCHED}),
    "macro-actions + gc-idm": ("hierarchical", {**MACROS, **AMORTISED}),
    "macro-actions + cem": ("hierarchical", {**MACROS, **SEARCHED}),
    "true subgoals + gc-idm": ("hierarchical", {"high": "true", **AMORTISED}),
    "true subgoals + cem": ("hierarchical", {"high": "true", **SEARCHED}),
    "random subgoals + gc-idm": ("hierarchical", {"high": "random", "replan_every": 15, **AMORTISED}),
}
FAR = 6  # cells of the shortest way from which on a maze's route is reported apart


class TrueSubgoals:
    """The frames that really followed in the held-out episode, which no agent can know.

    Args:
        agent: Its world model encodes them, its lookahead spaces them.
        manifest: Tasks that come from episodes.
    """

    def __init__(self, agent: Any, manifest: Manifest) -> None:
        env = gym.make(manifest.env_id, obs_type="state", disable_env_checker=True)
        self.lookahead, self.unit = agent.settings.lookahead, agent.heads["graph"].steps_per_unit
        model = agent.world_model
        self.ways: list[torch.Tensor] = []
        for episode, step in manifest.sources.tolist():
            end = step + int(manifest.offset)
            seed = episode_seed("evaluate", manifest.seed, episode)
            states = rollout_states(env, manifest.policy, end, seed)[0][step : end + 1]
            images = np.stack([env.unwrapped.render_state(state) for state in states])  # type: ignore[attr-defined]
            with torch.no_grad():
                self.ways.append(model.features(model.encode(torch.from_numpy(images))))
        self.goals = torch.stack([way[-1] for way in self.ways])
        env.close()

    def propose(self, z: torch.Tensor, goal: torch.Tensor, left: np.ndarray, seed: int) -> Subgoals:
        """Propose the frame that follows, after the lookahead, the frame most similar to ``z``."""
        latents, steps, node = [], [], []
        for now, task in zip(z, torch.cdist(goal, self.goals).argmin(dim=1).tolist(), strict=True):
            way = self.ways[task]
            gaps = (way - now).norm(dim=1) * self.unit
            here = int(torch.nonzero(gaps <= gaps.min().clamp(min=5)).max())  # the last one: no loops
            there = min(here + self.lookahead, len(way) - 1)
            latents.append(way[there])
            steps.append(max(1, there - here))
            node.append(-1 if there == len(way) - 1 else -2)
        return Subgoals(torch.stack(latents), np.array(steps, np.float32), np.array(node), np.zeros(len(z), bool))

    def steps(self, z: torch.Tensor, subgoal: torch.Tensor) -> torch.Tensor:
        """Never near: subgoals are replaced only after a time."""
        return torch.full((len(z),), torch.inf)


class RandomSubgoals(GraphSubgoals):
    """Any node of the graph, wherever the goal is; the goal itself when it is near."""

    def __init__(self, agent: Any) -> None:
        super().__init__(agent.heads["graph"], agent.settings.lookahead)
        self.rng = np.random.default_rng(0)

    def propose(self, z: torch.Tensor, goal: torch.Tensor, left: np.ndarray, seed: int) -> Subgoals:
        """Propose any node."""
        best = super().propose(z, goal, left, seed)
        node = np.where(best.node < 0, -1, self.rng.integers(self.graph.config.nodes, size=len(z)))
        chosen = torch.from_numpy(node)
        latents = torch.where(chosen.unsqueeze(1) < 0, goal, self.graph.latents[chosen.clamp(min=0)])
        return Subgoals(latents, best.steps, node, np.zeros(len(z), bool))


def load(label: str, file: Path, manifest: Manifest) -> Any:
    """Load an agent; the two limits get their subgoals here."""
    kind, options = AGENTS[label]
    if options.get("low_options") == SEARCH and "pusht" in manifest.env_id.lower():
        options = {**options, "low_options": PUSHT}  # its world model has no temporal distance
    limit = options.get("high") if options.get("high") in ("true", "random") else None
    options = {name: value for name, value in options.items() if name != "high" or limit is None}
    if options.get("high") == "waypoints":
        options["horizon"] = manifest.offset
    agent = wm_agents.load(file, agent=kind, device="cpu", **options)
    if getattr(agent.settings, "countdown", False) and manifest.offset != "random":  # it counts down from there
        return wm_agents.load(file, agent=kind, device="cpu", **options, horizon=manifest.offset)
    if limit is None:
        return agent
    high = TrueSubgoals(agent, manifest) if limit == "true" else RandomSubgoals(agent)
    return wm_agents.load(file, agent=kind, device="cpu", **options, high=high)


def with_head(file: Path, task: str, label: str, seed: int) -> Path:
    """Fit what the high level of a row needs if the recipe does not include it; it is stored with the run."""
    high = label.split(" + ")[0]
    target = file.with_name(f"{high}.safetensors")
    if high not in ("macro-actions", "waypoints"):
        return file
    agent = wm_agents.load(file, agent="gc-idm", device="cpu")
    if high in agent.heads:
        return file
    if not target.exists():
        data = datasets.load(RECIPES[task].dataset)
        for name in [high] if high == "waypoints" else [high, "temporal-distance"]:
            if name not in agent.heads:
                training = learner_of(name).Training(seed=seed)
                head, _ = wm_agents.train_head(name, agent.world_model, data, None, training, progress=False)
                agent.use(head)
        agent.save(target)
    return target


def far_tasks(manifest: Manifest) -> np.ndarray | None:
    """Which tasks of a maze have a shortest path of at least ``FAR`` cells."""
    task: Any = gym.make(manifest.env_id, obs_type="state").unwrapped
    if not hasattr(task, "shortest_path"):
        return None
    ways = [task.shortest_path(a[:2], b[:2]) for a, b in zip(manifest.starts, manifest.goals, strict=True)]
    return np.array([len(way) for way in ways]) >= FAR


def measured(task: str, offset: Any, label: str, seed: int, arguments: argparse.Namespace) -> evaluation.Cell | None:
    """Return the cell of one agent on one set of tasks; None for agents that know when to arrive at random goals."""
    if offset == "random" and label.startswith(("true", "waypoints")):
        return None
    recipe = RECIPES[task]
    budget = arguments.budget or (recipe.budget if offset == "random" else 2 * offset)
    manifest = evaluation.make_manifest(
        recipe.env_id,
        tasks=arguments.tasks,
        offset=offset,
        budget=budget,
        seed=arguments.task_seed,
        policy=recipe.policy,
    )
    file = arguments.runs / f"{task}-{seed}" / "agent.safetensors"
    key = {
        "label": label,
        "options": AGENTS[label],
        "checkpoint_sha256": file_sha256(file),
        "manifest_sha256": manifest.sha256,
    }
    call = functools.partial(evaluate, task, label, seed, file, manifest)
    return evaluation.Cell(cell(task, offset, label, seed, arguments).stem, key, call)


def evaluate(task: str, label: str, seed: int, file: Path, manifest: Manifest) -> dict[str, Any]:
    """Evaluate one agent."""
    agent = load(label, with_head(file, task, label, seed), manifest)
    result = evaluation.evaluate(agent, manifest, name=label, progress=False)
    row: dict[str, Any] = {"training_seed": seed, "label": label, **result.to_dict()}
    del row["provenance"]
    far = far_tasks(manifest)
    if far is not None and far.any():
        row["far"] = {"tasks": int(far.sum()), "success_rate": float((result.outcomes.moderate[far] > 0).mean())}
    return row


def cell(task: str, offset: Any, label: str, seed: int, arguments: argparse.Namespace) -> Path:
    """Return the file of a cell."""
    budget = f"-{arguments.budget}" if arguments.budget else ""
    stem = label.replace(" + ", "+").replace(", ", "-").replace("'s ", "-").replace(" ", "-")
    return arguments.out / f"{task}_{offset}{budget}_{stem}_{seed}.json"


def found(task: str, offset: Any, label: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Read the existing cells of all seeds."""
    paths = [cell(task, offset, label, seed, arguments) for seed in arguments.seeds]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def print_table(tasks: list[str], arguments: argparse.Namespace) -> None:
    """Print one row per task, distance and agent: each seed's success, the mean, far routes, cost."""
    print("| task | goal | agent | success, each seed | mean | far routes | ms a step |\n|---|---|---|---|---|---|---|")
    for task in tasks:
        for offset in arguments.offsets or OFFSETS[task]:
            for label in AGENTS:
                rows = found(task, offset, label, arguments)
                if rows:
                    each = ", ".join(f"{100 * row['success_rate']:.1f}" for row in rows)
                    mean = statistics.mean(100 * row["success_rate"] for row in rows)
                    far = [100 * row["far"]["success_rate"] for row in rows if "far" in row]
                    cost = statistics.mean(row["ms_per_step"]["mean"] for row in rows)
                    apart = f"{statistics.mean(far):.1f}" if far else ""
                    goal = f"{offset}/{rows[0]['budget']}"
                    print(f"| {task} | {goal} | {label} | {each} | **{mean:.1f}** | {apart} | {cost:.2f} |")


def draw(tasks: list[str], arguments: argparse.Namespace) -> None:
    """Draw success against goal distance, with one panel per task and one line per agent."""
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows + 0.6), layout="constrained")
    handles: dict[str, Any] = {}
    for axes, task in zip(figure.subplots(rows, columns, squeeze=False).flat, tasks, strict=False):
        offsets = arguments.offsets or OFFSETS[task]
        lowest = 100.0
        for index, label in enumerate(AGENTS):
            points = {place: found(task, offset, label, arguments) for place, offset in enumerate(offsets)}
            shown = {place: [100 * row["success_rate"] for row in rows] for place, rows in points.items() if rows}
            if shown:
                style = {"linestyle": ":" if "subgoals" in label else "-" if "+" in label else "--"}
                means = [statistics.mean(rates) for rates in shown.values()]
                (line,) = axes.plot(
                    list(shown), means, marker="o", markersize=4, color=colormaps["tab20"](index), **style
                )
                handles[label], lowest = line, min(lowest, *means)
        axes.set_xticks(range(len(offsets)), [str(offset) for offset in offsets])
        axes.set(title=task, xlabel="environment steps to the goal", ylabel="success in %")
        axes.set_ylim(max(0, 10 * (lowest // 10) - 10), 101)  # panels differ: it is the lines that are compared
        axes.grid(alpha=0.3)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False)
    evaluation.save_figure(figure, arguments.figure)
    print(f"wrote {arguments.figure}")


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=list(OFFSETS), help="all that have runs, by default")
    parser.add_argument("--agents", nargs="+", default=list(AGENTS), choices=list(AGENTS))
    parser.add_argument("--offsets", nargs="+", type=lambda text: text if text == "random" else int(text))
    parser.add_argument("--budget", type=int, help="environment steps; twice the offset by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="training seeds")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--task-seed", type=int, default=0, help="of the task set; 0 is the reported one")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("examples/benchmarks/results/hierarchy"))
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/hierarchy.png"))
    parser.add_argument("--table", action="store_true", help="only print and draw what is there")
    arguments = parser.parse_args()
    made = [task for task in OFFSETS if task in RECIPES and (arguments.runs / f"{task}-{arguments.seeds[0]}").is_dir()]
    tasks = arguments.task or made
    if not tasks:
        parser.error(f"{arguments.runs} holds no runs: make them with `wm-agents reproduce TASK --seed SEED`.")
    if not arguments.table:
        cells = [
            measured(task, offset, label, seed, arguments)
            for task in tasks
            for offset in arguments.offsets or OFFSETS[task]
            for label in arguments.agents
            for seed in arguments.seeds
        ]
        with evaluation.Runner(console=Console(stderr=True)) as runner:
            failed = evaluation.Grid(arguments.out).run([one for one in cells if one is not None], runner)
        for name, error in failed.items():
            print(f"{name}: {error}")
    print_table(tasks, arguments)
    draw(tasks, arguments)


if __name__ == "__main__":
    main()
