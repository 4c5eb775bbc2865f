"""Success against the share of episodes whose actions are known; all other episodes are video.

For each training seed, one world model is trained on all frames and no action. Then, for each share of labelled
episodes, GC-IDM is trained on its latents in two ways: on the labelled episodes alone, and on all episodes, with
inferred actions in those without labels. With all episodes labelled, both are the same. Finished parts are kept, so the
command can be interrupted and repeated, and more seeds can be added.

    python examples/benchmarks/unlabelled.py --seeds 0 1 2 --out runs/unlabelled
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from wm_agents import GCIDM, datasets, train_world_model
from wm_agents.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from wm_agents.datasets import TrajectoryDataset
from wm_agents.evaluation import Cell, Grid, Manifest, Runner, evaluate, floors, make_manifest, runs_interval
from wm_agents.evaluation.files import write_text
from wm_agents.evaluation.statistics import holm, paired_runs
from wm_agents.models import WorldModel
from wm_agents.models.video_lewm import VideoLeWMConfig
from wm_agents.recipes import recipe
from wm_agents.training import (
    ActionMapsTrainingConfig,
    InverseDynamicsTrainingConfig,
    TrainingConfig,
    infer_actions,
    train_action_maps,
)
from wm_agents.training.gc_idm import InverseDynamicsLearner

ENV_ID = "wm/PointMaze-UMaze-v0"
SHARES = (0.01, 0.05, 0.25, 1.0)
LABELLED, INFERRED = "labelled only", "inferred for the rest"
MODEL = VideoLeWMConfig()
VIDEO = TrainingConfig(steps=600, evaluate_every=300)
MAPS = ActionMapsTrainingConfig(evaluate_every=1000)
POLICY = InverseDynamicsTrainingConfig(steps=500, evaluate_every=500)
LEVEL = 0.05
"""Of tests, after Holm's correction."""


@dataclasses.dataclass(frozen=True)
class Study:
    """What is run.

    Attributes:
        out: Directory of the results.
        seeds: Of the trainings and of the choice of labelled episodes.
        quick: Trains for a few steps, to check that everything works.
        tasks_seed: Of the tasks; 7001 is held out, and 1001 is for development.
    """

    out: Path
    seeds: list[int]
    quick: bool = False
    tasks_seed: int = 7001

    def options(self, training: Any, seed: int) -> Any:
        """Options of a training with that seed."""
        return dataclasses.replace(training.shortened() if self.quick else training, seed=seed)

    def data(self) -> TrajectoryDataset:
        """The episodes of the recipe."""
        chosen = recipe(ENV_ID).shortened() if self.quick else recipe(ENV_ID)
        main = chosen.data["main"]
        size = {"policy": main.policy, "episodes": main.episodes, "steps": main.steps, "seed": main.seed}
        return datasets.collect(ENV_ID, **size, name=chosen.dataset, progress=False)  # type: ignore[arg-type]

    def tasks(self) -> Manifest:
        """Random starts and goals."""
        count, budget = (4, 20) if self.quick else (100, 300)
        return make_manifest(ENV_ID, tasks=count, offset="random", seed=self.tasks_seed, budget=budget)


def labelled(data: TrajectoryDataset, share: float, seed: int) -> TrajectoryDataset:
    """A share of the episodes, at least one; larger shares contain smaller ones."""
    return data if share == 1 else data.split(1 - share, seed)[0]


def train_encoder(study: Study, data: TrajectoryDataset, seed: int, file: Path) -> dict[str, Any]:
    """Train a world model on the frames, save it, and return what was measured."""
    training, run = study.options(VIDEO, seed), file.with_suffix("")
    world_model, history = train_world_model(data, MODEL, training, run_dir=run, device="cpu", progress=False)
    save_checkpoint(Checkpoint(world_model, env_id=ENV_ID), file)
    return {name: points[-1][1] for name, points in history.items()}


def run_cell(
    study: Study, data: TrajectoryDataset, tasks: Manifest, file: Path, share: float, way: str, seed: int
) -> dict[str, Any]:
    """Train GC-IDM in one way with a share of labels, save the agent, evaluate it, and return what was measured."""
    world_model, known = load_checkpoint(file).world_model, labelled(data, share, seed)
    learnt, measured = known, {}
    if way == INFERRED:
        learnt, world_model, measured = complete(study, world_model, data, known, seed)
    learner = InverseDynamicsLearner(world_model, data, training=study.options(POLICY, seed), progress=False)
    learner.train_data = learnt  # not as a dataset of its own: one episode cannot be split, and all latents are known
    learner.fit(progress=False)
    agent = GCIDM(world_model, heads=[learner.result], seed=seed)
    agent.env_id = ENV_ID
    agent.save(file.with_name(f"{file.stem}-{share:g}-{way.split()[0]}.safetensors"))
    result = evaluate(agent, tasks, seed=0, progress=False, known_floors=floors_of(tasks))
    return {**measured, **result.to_dict()}


def complete(
    study: Study, world_model: WorldModel, data: TrajectoryDataset, known: TrajectoryDataset, seed: int
) -> tuple[TrajectoryDataset, WorldModel, dict[str, Any]]:
    """The data with inferred actions where none are known; the world model with its maps; the R2 of the actions."""
    world_model, history = train_action_maps(world_model, known, study.options(MAPS, seed), progress=False)
    inferred = infer_actions(world_model, data, progress=False)
    unknown = np.setdiff1d(steps_of(data), steps_of(known))
    truth, error = data.actions[unknown], inferred.actions[unknown] - data.actions[unknown]
    inferred.actions[steps_of(known)] = known.actions[steps_of(known)]
    r2 = 1 - float((np.square(error).sum(axis=0) / np.square(truth - truth.mean(axis=0)).sum(axis=0)).mean())
    return inferred, world_model, {"action_r2": r2, **{name: points[-1][1] for name, points in history.items()}}


def steps_of(data: TrajectoryDataset) -> np.ndarray:
    """Indices of all actions, without the zeros at ends of episodes."""
    frames = data.frame_indices()
    return frames[~np.isin(frames, data.starts + data.lengths)]


@functools.cache
def floors_of(tasks: Manifest) -> Any:
    """Success of random actions and of none; measured once."""
    return floors(tasks)


def main(study: Study) -> str:
    """Run what is missing; return the report, which is also written after each seed."""
    grid, data, tasks = Grid(study.out), study.data(), study.tasks()
    with Runner(console=Console(stderr=True)) as runner:
        for seed in study.seeds:
            file = study.out / f"video-{seed}.safetensors"
            options = {"model": MODEL, "training": study.options(VIDEO, seed)}
            key: Mapping[str, Any] = {name: dataclasses.asdict(value) for name, value in options.items()}
            cells = [Cell(f"video_{seed}", key, functools.partial(train_encoder, study, data, seed, file))]
            parts = {"maps": study.options(MAPS, seed), "policy": study.options(POLICY, seed)}
            key = {**key, "tasks": tasks.sha256, **{name: dataclasses.asdict(value) for name, value in parts.items()}}
            for share, way in ways():
                measure = functools.partial(run_cell, study, data, tasks, file, share, way, seed)
                cells.append(Cell(cell_name(share, way, seed), {**key, "share": share, "way": way}, measure))
            if failed := grid.run(cells, runner, f"seed {seed}"):
                raise RuntimeError(f"{len(failed)} cells failed: {next(iter(failed.items()))}")
            write_text(study.out / "report.md", report(grid, study.seeds))
    return report(grid, study.seeds)


def ways() -> list[tuple[float, str]]:
    """All pairs of a share and a way; with all labels, the ways are the same."""
    return [(share, way) for share in SHARES for way in (LABELLED, INFERRED) if (share, way) != (1.0, INFERRED)]


def cell_name(share: float, way: str, seed: int) -> str:
    """Stem of a result's file."""
    return f"share-{share:g}_{way.split()[0]}_{seed}"


def report(grid: Grid, seeds: list[int]) -> str:
    """The table and the verdict, as Markdown, of the seeds that are finished."""
    done = [seed for seed in seeds if all(grid.stored(cell_name(*way, seed)) for way in ways())]
    if not done:
        return "No seed is finished.\n"
    cells = {(*way, seed): grid.stored(cell_name(*way, seed)) or {} for way in ways() for seed in done}
    video = [grid.stored(f"video_{seed}") or {} for seed in done]
    solved = {
        way: np.array([[step is not None for step in cells[(*way, seed)]["outcomes"]["moderate"]] for seed in done])
        for way in ways()
    }
    first = cells[(*ways()[0], done[0])]
    floor = ", ".join(f"{100 * first['floors'][name]:.0f}" for name in ("random", "noop"))
    lines = [
        f"Seeds {', '.join(map(str, done))}; {first['tasks']} tasks of seed {first['seed']}. Random actions and no "
        f"action solve {floor}% of them. "
        f"Position R2 of the latents: {spread([cell['probe/position'] for cell in video])}.",
        "",
        f"| share | {LABELLED} | {INFERRED} | difference in points | p | R2 of inferred actions |",
        "|---|---|---|---|---|---|",
    ]
    tests = {share: paired_runs(solved[share, LABELLED], solved[share, INFERRED]) for share in SHARES[:-1]}
    p_values = dict(zip(tests, holm(test[2] for test in tests.values()), strict=True))
    for share in SHARES[:-1]:
        value, (low, high), _ = tests[share]
        r2 = spread([cells[share, INFERRED, seed]["action_r2"] for seed in done])
        lines.append(
            f"| {share:.0%} | {rate(solved[share, LABELLED])} | {rate(solved[share, INFERRED])} | {100 * value:+.0f} "
            f"[{100 * low:+.0f}, {100 * high:+.0f}] | {p_values[share]:.3f} | {r2} |"
        )
    lines += [f"| 100% | {rate(solved[1.0, LABELLED])} | the same | | | |", ""]
    lines += [verdict(share, tests[share][0], p_values[share]) for share in SHARES[:-1]]
    return "\n".join(lines) + "\n"


def rate(solved: np.ndarray) -> str:
    """Success in percent with its 95% interval."""
    low, high = runs_interval(solved)
    return f"{100 * solved.mean():.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def spread(values: list[float]) -> str:
    """The range of the seeds' values; the value where there is one seed."""
    return " to ".join(f"{value:.2f}" for value in sorted({min(values), max(values)}))


def verdict(share: float, difference: float, p: float) -> str:
    """Whether video helps with a share of labels, in words."""
    if p >= LEVEL:
        return f"- With {share:.0%} of the labels, it is undecided whether inferred actions help (p = {p:.3f})."
    side = "help" if difference > 0 else "hurt"
    return f"- With {share:.0%} of the labels, inferred actions {side}: {100 * difference:+.0f} points (p = {p:.3f})."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/unlabelled"))
    parser.add_argument("--tasks-seed", type=int, default=7001, help="1001 for development")
    parser.add_argument("--quick", action="store_true", help="only check that everything works")
    given = parser.parse_args()
    print(main(Study(given.out, given.seeds, given.quick, given.tasks_seed)))
