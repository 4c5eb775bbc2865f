"""Logs, progress bars and Ctrl-C for long runs."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from stable_baselines3.common.logger import Logger, configure


def open_log(folder: Path) -> Logger:
    """Log to ``progress.csv`` and TensorBoard; rows from before an interruption stay, in ``progress-1.csv`` etc."""
    before = folder / "progress.csv"
    if before.exists() and before.stat().st_size:
        names = (folder / f"progress-{number}.csv" for number in itertools.count(1))
        before.rename(next(name for name in names if not name.exists()))
    return configure(str(folder), ["csv", "tensorboard"])


@contextlib.contextmanager
def progress_bar(label: str, total: int, start: int, show: bool) -> Iterator[Any]:
    """A rich bar with rate and ETA; yields ``update(step, note)``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, disable=not show) as bar:
        task = bar.add_task(label, total=total, completed=start, note="")
        yield lambda step, note="": bar.update(task, completed=step, **({"note": note} if note else {}))


class _Speed(ProgressColumn):
    """Steps per second, once they are known."""

    def render(self, task: Task) -> Text:
        """Return the rate."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


@contextlib.contextmanager
def held_interrupt() -> Iterator[Callable[[], bool]]:
    """Hold Ctrl-C back until the current step is complete; a state saved within a step cannot be resumed exactly.

    Yields a function that tells whether Ctrl-C was pressed. A second Ctrl-C interrupts at once. Outside the main
    thread, where Python delivers no signals, nothing is changed.
    """
    pressed = False

    def hold(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, hold)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
