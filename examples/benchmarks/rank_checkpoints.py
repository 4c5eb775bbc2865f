"""Does the diagnosis rank checkpoints as closed-loop runs do?

Makes ten UMaze world models, good and bad ones, plans with CEM on each on 100 held-out tasks, diagnoses each on
recorded episodes that none was trained on, and prints the rank correlation of each instrument with success. Expect five
minutes on one core. Finished runs and results are kept, so the command can be repeated.

    python examples/benchmarks/rank_checkpoints.py
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from wm_agents import MPC, WorldModel, datasets, evaluation, load, train_world_model
from wm_agents.datasets import TrajectoryDataset
from wm_agents.evaluation.files import write_json
from wm_agents.models import ActionStatistics, LeWM, LeWMConfig
from wm_agents.training import CollapseWarning, PredictorTrainingConfig, TrainingConfig, train_predictor

ENV, OFFSET = "wm/PointMaze-UMaze-v0", 50
SEARCH: dict[str, Any] = {"horizon": 5, "receding_horizon": 2, "samples": 64, "elites": 8, "iterations": 4}
TRAINING: dict[str, Any] = {"steps": 300, "frames": 3, "evaluate_every": 300}
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "lewm": {},
    "lewm, 150 steps": {"steps": 150},
    "lewm, 60 steps": {"steps": 60},
    "lewm, 20 steps": {"steps": 20},
    "weak SIGReg": {"loss_weights": {"prediction": 1.0, "sigreg": 0.001}},
    "inverse dynamics only": {"loss_weights": {"prediction": 1.0, "inverse_dynamics": 1.0}},
    "reconstruction": {"loss_weights": {"prediction": 1.0, "reconstruction": 1.0}},
    "forward only": {"loss_weights": {"prediction": 1.0}},
    "actions of other episodes": {"shuffled": True},
    "random encoder": {"random": True},
}
"""Name -> what differs from 300 steps of prediction and SIGReg on all of the data."""
INSTRUMENTS = ("score", "plan_real_frames", "recorded_rank", "skill", "worst_probe", "effective_dimension")
"""Keys of the results whose ranks are compared with success."""


def make(changes: dict[str, Any], data: TrajectoryDataset) -> WorldModel:
    changes = dict(changes)
    shuffled, random = (changes.pop(key, False) for key in ("shuffled", "random"))
    if shuffled:  # images are right, but actions do not lead from one to the next
        order = np.random.default_rng(0).permutation(len(data))
        steps = (data.starts[order][:, None] + np.arange(data.lengths.min() + 1)).ravel()
        data = dataclasses.replace(data, actions=data.actions[steps])
    if random:
        torch.manual_seed(0)
        statistics = ActionStatistics(data.action_low, data.action_high, *data.action_mean_std())
        model = LeWM(LeWMConfig(image_size=32), statistics).eval()
        return train_predictor(model, data, PredictorTrainingConfig(steps=300, evaluate_every=300), progress=False)[0]
    return train_world_model(data, training=TrainingConfig(**{**TRAINING, **changes}), progress=False)[0]


def success(agent: Any, tasks: int) -> dict[str, Any]:
    manifest = evaluation.make_manifest(ENV, tasks=tasks, offset=OFFSET, budget=2 * OFFSET)
    return evaluation.evaluate(agent, manifest, num_envs=25, progress=False).to_dict()


def measure(name: str, folder: Path, tasks: int, train: TrajectoryDataset, test: TrajectoryDataset) -> dict[str, Any]:
    folder = folder / name.replace(" ", "-").replace(",", "")
    file, ran, told = folder / "agent.safetensors", folder / "success.json", folder / "diagnosis.json"
    if not file.exists():
        agent = MPC(make(CHECKPOINTS[name], train), planner="cem", **SEARCH)
        agent.env_id = ENV
        agent.save(file)
    agent = load(file)
    if not ran.exists():
        write_json(ran, success(agent, tasks))
    if not told.exists():
        evaluation.diagnose(agent, test, validation_fraction=0.5, pictures=False).save(folder)
    return {"name": name, "success": json.loads(ran.read_text()), "diagnosis": json.loads(told.read_text())}


def main(out: Path, tasks: int) -> None:
    warnings.simplefilter("ignore", CollapseWarning)  # some are meant to
    train = datasets.collect(ENV, episodes=100, steps=100, seed=21, name="rank/train-v0", image_size=32)
    test = datasets.collect(ENV, episodes=40, steps=100, seed=22, name="rank/test-v0", image_size=32)
    rows = [measure(name, out, tasks, train, test) for name in CHECKPOINTS]
    found = {row["name"]: {"success": row["success"]["success_rate"], **row["diagnosis"]["summary"]} for row in rows}
    rates = [row["success"] for row in found.values()]
    table = Table("checkpoint", "success", *(key.replace("_", " ") for key in INSTRUMENTS))
    for name, row in sorted(found.items(), key=lambda item: -item[1]["success"]):
        table.add_row(name, f"{100 * row['success']:.0f}", *(f"{row[key]:.2f}" for key in INSTRUMENTS))
    ranks = {key: float(spearmanr(rates, [row[key] for row in found.values()]).statistic) for key in INSTRUMENTS}
    table.add_row("Spearman with success", "", *(f"{ranks[key]:.2f}" for key in INSTRUMENTS))
    floors = rows[0]["success"]["floors"]
    Console().print(table)
    write_json(
        out / "rank.json",
        {"tasks": tasks, "offset": OFFSET, "search": SEARCH, "floors": floors, "checkpoints": found, "spearman": ranks},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/rank-checkpoints"))
    parser.add_argument("--tasks", type=int, default=100)
    arguments = parser.parse_args()
    main(arguments.out, arguments.tasks)
