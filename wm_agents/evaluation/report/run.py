"""The report from beginning to end: tasks, cells in parallel processes, latency, then text, numbers and figures."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from wm_agents import evaluation
from wm_agents.checkpoint import CheckpointError
from wm_agents.evaluation.report import cells as measuring
from wm_agents.evaluation.report.cards import to_cards
from wm_agents.evaluation.report.comparison import AGENTS, PROTOCOLS, Cell, Precision, Protocol, Source, build, sources
from wm_agents.evaluation.report.figures import latency_figure, success_figure
from wm_agents.evaluation.report.latency import cost_of_a_decision
from wm_agents.evaluation.report.markdown import to_markdown
from wm_agents.evaluation.report.summary import summarise_cells
from wm_agents.evaluation.tasks import atomic_path

FULL, QUICK = 200, 20
"""Tasks a cell."""
NEAR = PROTOCOLS[:2]
"""Protocols of a quick report: 100/200 takes longer than the two together."""

Jobs = dict[str, Callable[[], object]]
"""By name; each writes its result to disk."""


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
    those under way only. A cell that fails is named in the report and does not stop the others, and so is a protocol
    at which a task has too few goals that are not reached at the start.

    Args:
        out: Directory of everything that is written.
        tasks: Task names; none for all that have a checkpoint.
        agents: Names in :data:`wm_agents.evaluation.report.AGENTS`, or of other shipped agents.
        protocols: "OFFSET/BUDGET" in environment steps; by default :data:`PROTOCOLS`, or :data:`NEAR` if quick.
        checkpoints: Files of further training seeds, or patterns ``runs/{task}-{seed}/agent.safetensors``; the shipped
            checkpoints are seed 0.
        quick: 20 tasks a cell, the shipped checkpoints only, planners only as shipped, near goals, no videos.
        tasks_per_cell: 200 by default, 20 if quick.
        num_envs: Environments that share a call.
        workers: Processes of one thread each, by default one a core; 0 measures in this process.
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
        ValueError: An unknown task, agent or protocol, a number out of range, or nothing to evaluate.
        RuntimeError: Cells failed; the report of the others is written.
    """
    out, count = Path(out), tasks_per_cell if tasks_per_cell is not None else QUICK if quick else FULL
    if quick and checkpoints:
        raise ValueError("a quick report is of the shipped checkpoints: leave out the checkpoints, or quick.")
    for name, value, least in (("tasks_per_cell", count, 1), ("num_envs", num_envs, 1), ("workers", workers or 0, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}.")
    chosen = sources(tasks, checkpoints)
    wanted = [Protocol.parse(text) for text in dict.fromkeys(protocols or (NEAR if quick else PROTOCOLS))]
    grid, left_out = build(chosen, wanted, list(dict.fromkeys(agents)), count, precision, not quick)
    _check_any(grid, left_out)
    workers = _cores() if workers is None else workers

    with _pool(workers) as pool:
        made = {cell.tasks_name: cell for cell in grid}
        jobs: Jobs = {name: functools.partial(measuring.write_tasks, cell, out) for name, cell in made.items()}
        impossible = _run(jobs, pool, "tasks", console)
        left_out += [f"{name}: {error}" for name, error in impossible.items()]
        known = {name: measuring.read_tasks(cell, out) for name, cell in made.items() if name not in impossible}
        grid = [cell for cell in grid if cell.tasks_name in known]
        _check_any(grid, left_out)
        missing = [cell for cell in grid if measuring.read_cell(cell, out, known[cell.tasks_name][0]) is None]
        film = videos and not quick
        jobs = {
            cell.name: functools.partial(measuring.measure, cell, out, num_envs, device, film)
            for cell in sorted(missing, key=_work, reverse=True)
            if measure
        }
        failed = _run(jobs, pool, "cells", console)
    left_out += [f"{name}: {error}" for name, error in failed.items()]
    if missing and not measure:
        left_out.append(f"{len(missing)} of {len(grid)} cells: not measured yet")
    latency: dict[str, dict[str, Any]] = {}
    for source in {source.task: source for source in reversed(chosen)}.values() if timing else ():
        try:
            latency[source.task] = _latency(source, out, device)
        except CheckpointError as error:
            left_out.append(f"{source.task}, cost of a decision: {error}")
    settings = {"command": command, "quick": quick, "tasks_per_cell": count, "workers": workers, "cores": _cores(),
                "num_envs": num_envs, "precision": precision, "seed": measuring.SEED}  # fmt: skip
    content = summarise_cells(grid, known, out, settings, latency, left_out)
    with atomic_path(out / "report.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for file, text in (("report.md", to_markdown(content)), ("models.md", to_cards(content))):
        with atomic_path(out / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if any(part["protocols"] for part in content["tasks"].values()):
        for file, figure in (("success.png", success_figure(content)), ("latency.png", latency_figure(content))):
            evaluation.save_figure(figure, out / file, dpi=80)
    if failed:
        raise RuntimeError(f"{len(failed)} cells failed, the report names them: {next(iter(failed.items()))}")
    return content


def _check_any(grid: Sequence[Cell], left_out: Sequence[str]) -> None:
    if not grid:
        raise ValueError(f"there is nothing to evaluate: {'; '.join(left_out) or 'name agents and protocols.'}")


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Worker processes, which an interruption lets finish no more than they are doing; None for none."""
    if workers == 0:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, measuring.start_worker) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run(jobs: Jobs, pool: ProcessPoolExecutor | None, what: str, console: Console | None) -> dict[str, str]:
    """Do the jobs and return the errors of those that failed, by name."""
    failed: dict[str, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=console is None or not jobs) as bar:
        shown = bar.add_task(what, total=len(jobs))

        def done(name: str, call: Callable[[], object]) -> None:
            try:
                call()
            except Exception as error:  # whatever breaks one cell must not lose the others
                failed[name] = f"{type(error).__name__}: {error}"
            bar.update(shown, advance=1)

        if pool is None:
            for name, job in jobs.items():
                done(name, job)
        else:
            names: dict[Future[object], str] = {pool.submit(job): name for name, job in jobs.items()}
            for future in as_completed(names):
                done(names[future], future.result)
    return failed


def _work(cell: Cell) -> tuple[bool, float]:
    """How long a cell may take: long ones begin first, so that no process is left with one at the end."""
    return cell.agent != "gc-idm", cell.protocol.budget / cell.replan_steps


def _latency(source: Source, out: Path, device: str) -> dict[str, Any]:
    """Measure what a decision costs, unless it was measured for this checkpoint."""
    path = out / "latency" / f"{source.task}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["checkpoint_sha256"] == source.sha256:
            return content
    except (OSError, ValueError, KeyError):
        pass
    content = {"checkpoint_sha256": source.sha256, **cost_of_a_decision(source, device, threads=(1, _cores()))}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
