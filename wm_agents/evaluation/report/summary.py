"""Stored cells as the numbers of the report."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from wm_agents.checkpoint import versions
from wm_agents.evaluation.report.cells import Floors
from wm_agents.evaluation.report.comparison import Source, Trial
from wm_agents.evaluation.report.published import published_for
from wm_agents.evaluation.report.subsets import RULES, must_move
from wm_agents.evaluation.results import Outcomes
from wm_agents.evaluation.statistics import mcnemar, wilson_interval
from wm_agents.evaluation.tasks import Manifest
from wm_agents.recipes import RECIPES

MODES = ("moderate", "strict")
REFERENCE = "gc-idm"
"""The agent that the others are compared with, task by task."""

Content = dict[str, Any]
Tasks = tuple[Manifest, Floors]


def summarise_cells(
    trials: Sequence[Trial],
    known: Mapping[str, Tasks],
    results: Mapping[str, Content],
    settings: Content,
    latency: Mapping[str, Content],
    left_out: Sequence[str],
) -> Content:
    """Return the content of ``report.json``.

    Args:
        trials: What was asked for; those without a result are passed over.
        known: Tasks and floors by the tasks' name.
        results: By the trial's name.
        settings: Of the run.
        latency: By task.
        left_out: What was not measured, and why.
    """
    by_task: dict[str, Content] = {}
    for task in dict.fromkeys(trial.source.task for trial in trials):
        mine = [trial for trial in trials if trial.source.task == task]
        found = {
            name: _protocol([trial for trial in mine if trial.protocol.name == name], known, results)
            for name in dict.fromkeys(trial.protocol.name for trial in mine)
        }
        protocols = {name: protocol for name, protocol in found.items() if protocol["rows"]}
        env: Any = gym.make(RECIPES[task].env_id, obs_type="state")
        tests = dict(env.unwrapped.success_tests)
        env.close()
        by_task[task] = {
            "env_id": RECIPES[task].env_id,
            "success_tests": tests,
            "checkpoints": [_checkpoint(source) for source in dict.fromkeys(trial.source for trial in mine)],
            "protocols": protocols,
            "latency": latency.get(task),
            "published": published_for(task),
        }
    rows = [row for part in by_task.values() for protocol in part["protocols"].values() for row in protocol["rows"]]
    spent = sum(cell["cpu_seconds"] for row in rows for cell in row["cells"])
    return {
        **settings,
        "cpu_seconds": round(spent, 1),
        "versions": versions(),
        "left_out": list(left_out),
        "tasks": by_task,
    }


def _protocol(trials: Sequence[Trial], known: Mapping[str, Tasks], found: Mapping[str, Content]) -> Content:
    """The rows of one task and protocol."""
    manifest, floors = known[trials[0].tasks_name]
    moves = must_move(manifest)
    chosen: dict[str, np.ndarray] = {"all": np.ones(len(manifest), bool)}
    if moves is not None and moves.any():
        chosen["subset"] = moves
    rows: dict[tuple[str, int, bool], dict[int, Content]] = {}
    for trial in trials:
        if trial.name in found:
            which = (trial.agent, trial.replan_steps, trial.as_shipped)
            rows.setdefault(which, {})[trial.source.seed] = found[trial.name]
    reference = rows.get((REFERENCE, 1, True), {})
    rule = RULES.get(manifest.env_id)
    return {
        "manifest_sha256": manifest.sha256,
        "seed": manifest.seed,
        "offset": manifest.offset,
        "budget": manifest.budget,
        "tasks": len(manifest),
        "subset": {"label": rule.label, "tasks": int(chosen["subset"].sum())} if rule and "subset" in chosen else None,
        "floors": {
            name: {which: _scores({SEEDLESS: solved_by(floor)}, rows_of) for which, rows_of in chosen.items()}
            for name, floor in floors.items()
        },
        "rows": [_row(*which, results, chosen, reference) for which, results in rows.items()],
    }


SEEDLESS = 0
"""Floors have no training seed; their scores are kept under this one."""


def solved_by(floor: Outcomes) -> dict[str, np.ndarray]:
    """Return which tasks were solved, bool ``[N]``, by mode."""
    return {"moderate": floor.moderate > 0, "strict": floor.strict > 0}


def _solved(result: Content) -> dict[str, np.ndarray]:
    return {mode: np.array([step is not None for step in result["outcomes"][mode]]) for mode in MODES}


def _row(
    agent: str,
    steps: int,
    as_shipped: bool,
    results: Mapping[int, Content],
    chosen: Mapping[str, np.ndarray],
    reference: Mapping[int, Content],
) -> Content:
    """One agent, over its training seeds."""
    solved = {seed: _solved(result) for seed, result in results.items()}
    some = next(iter(results.values()))
    return {
        "agent": agent,
        "replan_steps": steps,
        "as_shipped": as_shipped,
        "options": some["key"]["options"],
        **{which: _scores(solved, rows) for which, rows in chosen.items()},
        "ms_per_decision": _middle(result["ms_per_step"]["mean"] for result in results.values()),
        "ms_per_plan": _middle(result["ms_per_plan"]["median"] for result in results.values()),
        "evaluations_per_plan": _middle(result["evaluations_per_plan"] for result in results.values()),
        "jerk": _middle(result["jerk"] for result in results.values()),
        "num_envs": some["num_envs"],
        "threads": some["threads"],
        "device": some["device"],
        "cells": [
            {
                "training_seed": seed,
                "checkpoint_sha256": result["key"]["checkpoint_sha256"],
                "command": result["command"],
                "version": result["version"],
                "cpu_seconds": result["cpu_seconds"],
            }
            for seed, result in results.items()
        ],
        "against_reference": None if agent == REFERENCE else _against(solved, reference),
    }


def _scores(solved: Mapping[int, Mapping[str, np.ndarray]], rows: np.ndarray) -> Content:
    """Rates with intervals by mode. The mean over seeds keeps the interval of a single set of tasks: seeds share it."""
    content: Content = {}
    for mode in MODES:
        each: list[Content] = []
        for seed, found in solved.items():
            successes = int(found[mode][rows].sum())
            interval = wilson_interval(successes, int(rows.sum()))
            each.append({"seed": seed, "rate": successes / int(rows.sum()), "ci95": list(interval)})
        mean = statistics.mean(one["rate"] for one in each)
        around = wilson_interval(round(mean * int(rows.sum())), int(rows.sum()))
        content[mode] = {"rate": mean, "ci95": list(around), "each": each}
    return content


def _against(solved: Mapping[int, Mapping[str, np.ndarray]], reference: Mapping[int, Content]) -> Content | None:
    """Paired with the reference of the same training seed, by mode: an exact McNemar test for each seed."""
    seeds = [seed for seed in solved if seed in reference]
    if not seeds:
        return None
    content: Content = {}
    for mode in MODES:
        found = [mcnemar(_solved(reference[seed])[mode], solved[seed][mode]) for seed in seeds]
        content[mode] = [
            {"seed": seed, "only_reference": ahead, "only_this": behind, "p": p}
            for seed, (ahead, behind, p) in zip(seeds, found, strict=True)
        ]
    return content


def _checkpoint(source: Source) -> Content:
    """What is known of a checkpoint: its hash and sizes, its agents' options, and what made it."""
    checkpoint = source.read()
    made, config = checkpoint.provenance, checkpoint.world_model.config
    data = made.get("dataset", {})
    return {
        "seed": source.seed,
        "file": source.path or "shipped",
        "sha256": source.sha256,
        "bytes": source.bytes,
        "image_size": config.image_size,
        "latent_size": config.latent_size,
        "parameters": _parameters(checkpoint.world_model),
        "heads": {name: _parameters(head) for name, head in checkpoint.heads.items()},
        "options": checkpoint.options,
        "dataset": {key: data.get(key) for key in ("env_id", "policy", "episodes", "steps", "seed", "sha256")},
        "versions": made.get("versions"),
        "threads": made.get("threads"),
        "command": made.get("command"),
    }


def _parameters(network: torch.nn.Module) -> int:
    """Numbers that it stores, a graph's too."""
    return sum(tensor.numel() for tensor in network.state_dict().values())


def _middle(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None
