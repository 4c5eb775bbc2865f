"""Run the missing episodes of a partial dataset, in this process or in several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym

from wm_agents.datasets.episodes import is_recorded, record_episode
from wm_agents.registry import POLICIES


def record(env: gym.Env, folder: Path, missing: list[int], workers: int, left: Callable[[int], None]) -> None:
    """Record episodes into ``folder``, which holds ``request.json``.

    Args:
        env: The task, used when one worker is enough.
        folder: Where finished episodes go.
        missing: Indices of the episodes to record.
        workers: Processes; with 1 nothing is started, nor for policies that record their episodes in order.
        left: Called from time to time with the number of episodes that are still missing.

    Raises:
        RuntimeError: A process failed; the message contains its output.
    """
    left(len(missing))
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    in_order = getattr(POLICIES.get(request["policy"]), "record", None)
    if in_order is not None:
        in_order(env, folder, missing, left)
        return
    if min(workers, len(missing)) > 1:
        _record_in_processes(folder, missing, min(workers, len(missing)), left)
        return
    for count, index in enumerate(missing, start=1):
        record_episode(env, request["policy"], request["steps"], request["seed"], folder, index)
        left(len(missing) - count)


def _record_in_processes(folder: Path, missing: list[int], workers: int, left: Callable[[int], None]) -> None:
    logs = [folder / f"worker_{number}.log" for number in range(workers)]
    processes: list[subprocess.Popen[str]] = []
    try:
        for number, log in enumerate(logs):
            processes.append(_start(folder, log))
            _hand_over(processes[-1], missing[number::workers])
        unfinished = set(missing)
        while unfinished:
            running = [process.poll() is None for process in processes]
            unfinished = {index for index in unfinished if not is_recorded(folder, index)}
            left(len(unfinished))
            for process, log in zip(processes, logs, strict=True):
                if process.poll():
                    raise RuntimeError(_failure(folder, process.returncode, log))
            if unfinished and not any(running):
                raise RuntimeError(
                    f"Episodes {sorted(unfinished)[:5]} are missing although every process has finished."
                )
            time.sleep(0.05)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


# Not `-m`, which looks in the working folder first: that may be a checkout other than the installed package.
_WORKER = "import sys; sys.path = [*filter(None, sys.path)]; from wm_agents.datasets.worker import main; main()"


def _start(folder: Path, log: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    with log.open("w", encoding="utf-8") as stderr:
        return subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environment,
            text=True,
        )


def _hand_over(process: subprocess.Popen[str], episodes: list[int]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(episodes))
        process.stdin.close()
    except BrokenPipeError:
        pass  # it died at once; the caller sees that from its exit status


def _failure(folder: Path, status: int, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    said = f": {lines[-1]}" if lines else " and said nothing."
    return (
        f"A collection process {how}{said}\nFinished episodes are kept; the same call continues. "
        f"The process's whole output is in {log}."
    )
