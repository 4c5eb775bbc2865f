"""The grid behind every comparison: cells with a key and a function, with one JSON file per result.

A result that exists with the key of its cell is not measured again. Each result is written when it is complete, so an
interruption only loses the cells in progress.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from wm_agents.evaluation.evaluator import Agent, evaluate
from wm_agents.evaluation.files import write_json
from wm_agents.evaluation.tasks import Manifest

Content = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        name: Stem of its file.
        key: Everything that its result depends on: hashes of the checkpoint and the tasks, options, seeds. JSON types.
        measure: Returns the result, a dict of JSON types. Worker processes need one that can be pickled.
    """

    name: str
    key: Mapping[str, Any]
    measure: Callable[[], Mapping[str, Any]]


class Runner:
    """Runs jobs in this process or in worker processes, with a progress bar. Use it in a ``with`` statement.

    Args:
        workers: Number of processes, with one thread each; 0 runs everything in this process.
        console: Shows the progress if it is a terminal; None shows nothing.
    """

    def __init__(self, workers: int = 0, console: Console | None = None) -> None:
        self.workers, self.console = workers, console
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Runner:
        if self.workers:
            self._pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), _start_worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def run(self, jobs: Mapping[str, Callable[[], object]], label: str) -> dict[str, str]:
        """Do all jobs and return the errors of those that failed, by name; one failure does not stop the others."""
        failed: dict[str, str] = {}
        with progress_bar(self.console, shown=bool(jobs)) as bar:
            task = bar.add_task(label, total=len(jobs))

            def finish(name: str, call: Callable[[], object]) -> None:
                try:
                    call()
                except Exception as error:  # whatever breaks one cell must not lose the others
                    failed[name] = f"{type(error).__name__}: {error}"
                bar.advance(task)

            if self._pool is None:
                for name, job in jobs.items():
                    bar.update(task, description=f"{label}: {name}")
                    finish(name, job)
            else:
                names: dict[Future[object], str] = {self._pool.submit(job): name for name, job in jobs.items()}
                for future in as_completed(names):
                    finish(names[future], future.result)
        return failed


class Grid:
    """A folder of results, one ``NAME.json`` for each cell: its key under ``"key"``, and the result.

    Args:
        folder: The folder; it is created when the first result is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, name: str) -> Path:
        """Return the path of the result of the cell with that name."""
        return self.folder / f"{name}.json"

    def stored(self, name: str) -> Content | None:
        """Return the result of that name with any key; None if it is missing or damaged."""
        try:
            content = json.loads(self.path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def read(self, cell: Cell) -> Content | None:
        """Return a cell's result; None if it is missing, damaged, or has another key."""
        content = self.stored(cell.name)
        return content if content is not None and content.get("key") == _plain(cell.key) else None

    def missing(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells without a result of their key, in their order."""
        return [cell for cell in cells if self.read(cell) is None]

    def replaced(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells whose file has a result with another key: for other weights, tasks or options."""
        return [cell for cell in cells if self.stored(cell.name) is not None and self.read(cell) is None]

    def run(self, cells: Sequence[Cell], runner: Runner, label: str = "cells") -> dict[str, str]:
        """Measure the cells that are missing; a result with another key is replaced, and the console says so.

        Returns:
            The errors of cells that failed, by name.

        Raises:
            ValueError: Two cells share a name.
        """
        if len({cell.name for cell in cells}) < len(cells):
            raise ValueError("two cells of a grid have one name: each result needs a file of its own.")
        replaced = self.replaced(cells)
        if replaced and runner.console is not None:
            runner.console.print(
                f"{len(replaced)} results in {self.folder} are of other weights, tasks or options and are measured "
                "again",
                highlight=False,
                soft_wrap=True,
            )
        jobs = {cell.name: functools.partial(_measure, cell, self.path(cell.name)) for cell in self.missing(cells)}
        return runner.run(jobs, label)


def evaluation_cell(
    name: str,
    agent: Callable[[], Agent],
    manifest: Manifest,
    identity: Mapping[str, Any],
    /,
    *,
    seed: int | None = 0,
    **options: Any,
) -> Cell:
    """Return a cell that evaluates an agent.

    Args:
        name: Stem of its file.
        agent: Loads the agent when it is needed.
        manifest: Its tasks.
        identity: Identity of the agent for the key: the SHA-256 of its checkpoint, and its options.
        seed: Seed of the agent's randomness and of the random floor.
        **options: Options of :func:`wm_agents.evaluation.evaluate` that do not change the outcomes.
    """
    key = {**identity, "manifest_sha256": manifest.sha256, "evaluation_seed": seed}
    return Cell(name, key, functools.partial(_evaluate, agent, manifest, {"seed": seed, "progress": False, **options}))


def progress_bar(console: Console | None, *, shown: bool = True) -> Progress:
    """Return a progress bar with count, rate and time left; it is only shown on terminals, so that pipes stay clean."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not shown or console is None or not (console.is_terminal or console.is_jupyter),
    )


def _evaluate(agent: Callable[[], Agent], manifest: Manifest, options: Mapping[str, Any]) -> Content:
    return evaluate(agent(), manifest, **options).to_dict()


def _measure(cell: Cell, path: Path) -> None:
    write_json(path, {"key": _plain(cell.key), **cell.measure()})


def _plain(key: Mapping[str, Any]) -> Any:
    """Return a key as a JSON file gives it back."""
    return json.loads(json.dumps(key))


def _start_worker() -> None:
    """Prepare a process that measures cells: one thread, and no traceback when Ctrl-C ends it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    warnings.filterwarnings("ignore", message=".*MINARI.*")
