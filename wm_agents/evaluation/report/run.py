"""The report from beginning to end: tasks, cells in parallel processes, latency, then text, numbers and figures."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from wm_agents import evaluation
from wm_agents.evaluation.environments import whole_number
from wm_agents.evaluation.files import check_output, write_json, write_text
from wm_agents.evaluation.grid import Cell, Grid, Runner
from wm_agents.evaluation.report import cells as measuring
from wm_agents.evaluation.report.cards import to_cards
from wm_agents.evaluation.report.comparison import AGENTS, Precision, Source, Trial, build, sources
from wm_agents.evaluation.report.figures import latency_figure, success_figure
from wm_agents.evaluation.report.latency import cost_of_a_decision
from wm_agents.evaluation.report.markdown import to_markdown
from wm_agents.evaluation.report.merging import UNMEASURED, merge, read_report
from wm_agents.evaluation.report.protocols import ANY_GOAL, PROTOCOLS, SEED, Protocol
from wm_agents.evaluation.report.summary import REFERENCE, Tasks, summarise_cells

FULL, QUICK = 200, 20
"""Tasks a cell."""
NEAR = [name for name in PROTOCOLS if name not in ANY_GOAL][:2]
"""Protocols of a quick report: each of the others takes longer than the two together."""

Content = dict[str, Any]


def run_report(
    out: str | Path,
    *,
    tasks: Sequence[str] = (),
    agents: Sequence[str] = tuple(AGENTS),
    protocols: Sequence[str] | None = None,
    checkpoints: Sequence[str] = (),
    quick: bool = False,
    tasks_per_cell: int | None = None,
    num_envs: int = 20,
    workers: int | None = None,
    precision: Precision = "auto",
    device: str = "auto",
    videos: bool = True,
    timing: bool = True,
    measure: bool = True,
    command: str = "",
    console: Console | None = None,
) -> dict[str, Any]:
    """Evaluate the agents and write ``report.md``, ``models.md``, ``report.json``, figures and a video for each cell.

    A cell is one agent of one checkpoint on one set of tasks. Cells that an earlier run left in ``out``, with the same
    tasks, weights and options, are not measured again; each is written when it is done, so that an interruption costs
    those under way only. What else the report in ``out`` has stays in it, so agents, tasks and protocols can be added.
    A cell that fails is named in the report and does not stop the others, and so is a protocol at which a task has too
    few goals that are not reached at the start.

    Args:
        out: Directory of everything that is written.
        tasks: Task names; none for all that have a checkpoint.
        agents: Names in :data:`wm_agents.evaluation.report.AGENTS`, or of other shipped agents.
        protocols: "any", "any-2", or "OFFSET/BUDGET" in environment steps; by default
            :data:`PROTOCOLS`, or :data:`NEAR` if quick.
        checkpoints: Files of further training seeds, or patterns ``runs/{task}-{seed}/agent.safetensors``; the shipped
            checkpoints are seed 0.
        quick: 20 tasks a cell, the shipped checkpoints only, planners only as shipped, near goals, no videos.
        tasks_per_cell: 200 by default, 20 if quick.
        num_envs: Environments that share a call.
        workers: Processes of one thread each, by default one per core; 0 measures in this process.
        precision: Of the planners' rollouts: "auto" is bf16 where the CPU multiplies in it, for planners that sample.
        device: "auto", "cpu" or "cuda".
        videos: Write ``videos/CELL.mp4`` with the first tasks of each cell that is measured now; never if quick.
        timing: Measure what a decision costs, once a task, after the cells. It wants an idle machine.
        measure: Measure the cells that are missing; else report those that are there, and count the others.
        command: What was typed, for the report.
        console: Shows progress; None is silent.

    Returns:
        What ``report.json`` holds.

    Raises:
        ValueError: An unknown task, agent or protocol, a number out of range, nothing to evaluate, or a report in
            ``out`` with another number of tasks per cell.
        RuntimeError: Cells failed; the report of the others is written.
        OSError: ``out`` cannot be written to.
    """
    out = Path(out)
    count = tasks_per_cell if tasks_per_cell is not None else QUICK if quick else FULL
    if quick and checkpoints:
        raise ValueError("a quick report is of the shipped checkpoints: leave out the checkpoints, or quick.")
    count, num_envs = whole_number("tasks_per_cell", count, 1), whole_number("num_envs", num_envs, 1)
    workers = _cores() if workers is None else whole_number("workers", workers, 0)
    check_output(out, folder=True)
    before = read_report(out, count)
    chosen = sources(tasks, checkpoints)
    wanted = [Protocol.parse(text) for text in dict.fromkeys(protocols or (NEAR if quick else PROTOCOLS))]
    trials, left_out = build(chosen, wanted, agents, count, precision, not quick)
    references, _ = build(chosen, wanted, [REFERENCE], count, precision, not quick)
    _check_any(trials, left_out)

    def cell(trial: Trial) -> Cell:
        video = out / "videos" / f"{trial.name}.mp4" if videos and not quick else None
        return measuring.trial_cell(trial, *known[trial.tasks_name], num_envs, device, video)

    with Runner(workers, console) as runner:
        known = _tasks(trials, out, runner, left_out)
        trials = [trial for trial in trials if trial.tasks_name in known]
        _check_any(trials, left_out)
        grid = Grid(out / "cells")
        cells = [cell(trial) for trial in sorted(trials, key=_work, reverse=True)]
        failed = grid.run(cells, runner) if measure else {}
    left_out += [f"{name}: {error}" for name, error in failed.items()]
    unmeasured = len(grid.missing(cells))
    if unmeasured and not measure:
        left_out.append(f"{unmeasured} of {len(cells)} cells: {UNMEASURED}")
    trials += [trial for trial in references if trial not in trials and trial.tasks_name in known]
    results = {trial.name: found for trial in trials if (found := grid.read(cell(trial))) is not None}
    settings = {
        "command": command,
        "quick": quick,
        "tasks_per_cell": count,
        "workers": workers,
        "cores": _cores(),
        "num_envs": num_envs,
        "precision": precision,
        "seed": SEED,
    }
    latency = _latency(chosen, out, device, left_out) if timing else {}
    content = summarise_cells(trials, known, results, settings, latency, left_out)
    if before is not None:
        content = merge(before, content)
    _write(content, out)
    if failed:
        raise RuntimeError(f"{len(failed)} cells failed, the report names them: {next(iter(failed.items()))}")
    return content


def _tasks(trials: Sequence[Trial], out: Path, runner: Runner, left_out: list[str]) -> dict[str, Tasks]:
    """Make tasks and measure their floors where they are missing; what is impossible is added to ``left_out``."""
    needed = {trial.tasks_name: trial for trial in trials}
    jobs = {name: functools.partial(measuring.write_tasks, trial, out) for name, trial in needed.items()}
    impossible = runner.run(jobs, "tasks")
    manifests = {name: measuring.read_tasks(needed[name], out) for name in needed if name not in impossible}
    cells = {name: measuring.floors_cell(needed[name], manifest) for name, manifest in manifests.items()}
    grid = Grid(out / "floors")
    impossible |= grid.run(list(cells.values()), runner, "floors")
    left_out += [f"{name}: {error}" for name, error in impossible.items()]
    found = {name: grid.read(cell) for name, cell in cells.items()}
    return {name: (manifests[name], measuring.read_floors(one)) for name, one in found.items() if one is not None}


def _latency(chosen: Sequence[Source], out: Path, device: str, left_out: list[str]) -> dict[str, Content]:
    """Measure what a decision costs, once a task, unless it was measured for this checkpoint."""
    cells = {}
    for source in {source.task: source for source in reversed(chosen)}.values():
        cost = functools.partial(cost_of_a_decision, source, device, threads=(1, _cores()))
        cells[source.task] = Cell(source.task, {"checkpoint_sha256": source.sha256}, cost)
    grid = Grid(out / "latency")
    failed = grid.run(list(cells.values()), Runner(), "latency")
    left_out += [f"{task}, cost of a decision: {error}" for task, error in failed.items()]
    return {task: found for task, cell in cells.items() if (found := grid.read(cell)) is not None}


def _write(content: Mapping[str, Any], out: Path) -> None:
    write_json(out / "report.json", content)
    for file, text in (("report.md", to_markdown(content)), ("models.md", to_cards(content))):
        write_text(out / file, text)
    if any(part["protocols"] for part in content["tasks"].values()):
        for file, figure in (("success.png", success_figure(content)), ("latency.png", latency_figure(content))):
            evaluation.save_figure(figure, out / file, dpi=80)


def _check_any(trials: Sequence[Trial], left_out: Sequence[str]) -> None:
    if not trials:
        raise ValueError(f"there is nothing to evaluate: {'; '.join(left_out) or 'name agents and protocols.'}")


def _work(trial: Trial) -> tuple[bool, float]:
    """How long a trial may take: long ones begin first, so that no process is left with one at the end."""
    return trial.agent != "gc-idm", trial.protocol.budget / trial.replan_steps


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
