"""``wm-agents doctor`` checks that everything the library needs works on this machine."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable

import gymnasium as gym
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wm_agents.checkpoint import versions
from wm_agents.envs import ENV_IDS

_OLDEST_MUJOCO = (3, 3, 3)  # as pyproject.toml has it


def diagnose(console: Console) -> bool:
    """Print one row per check, and how to fix each one that fails; return whether all passed."""
    table = Table("check", "result", "finding")
    failed: dict[str, str] = {}
    for name, check in CHECKS.items():
        try:
            finding = check()
        except Exception as error:  # whatever is wrong is the finding
            failed[name] = finding = str(error) or type(error).__name__
        table.add_row(name, "[red]FAILED" if name in failed else "[green]ok", escape(finding.splitlines()[0]))
    console.print(table)
    for name, advice in failed.items():
        # Below the table and not wrapped, so that a command can be copied whole.
        console.print(f"{name}: {advice}", style="red", markup=False, highlight=False, soft_wrap=True)
    return not failed


def _python() -> str:
    found = platform.python_version()
    if not (3, 10) <= tuple(int(part) for part in found.split(".")[:2]) <= (3, 12):
        raise RuntimeError(f"Python {found}: tested with 3.10 to 3.12. Make a virtual environment with one of these.")
    return found


def _versions() -> str:
    found = versions()
    mujoco = tuple(int(number) for number in re.findall(r"\d+", found["mujoco"])[:3])
    if not _OLDEST_MUJOCO <= mujoco < (4,):
        raise RuntimeError(
            f"mujoco {found['mujoco']}: the cube tasks need 3.3.3 or newer, and dm_control needs one below 4. "
            'Run: pip install "mujoco>=3.3.3,<4"'
        )
    return ", ".join(f"{name} {version}" for name, version in found.items() if name != "python")


def _rendering() -> str:
    env = gym.make("wm/PointMaze-UMaze-v0")
    observation, _ = env.reset(seed=0)
    if observation["pixels"].mean() < 1:
        other = "osmesa" if os.environ.get("MUJOCO_GL") == "egl" else "egl"
        raise RuntimeError(f"frames are black: try MUJOCO_GL={other}, and unset the variables of OpenGL's drivers.")
    started, frames = time.perf_counter(), 200
    for _ in range(frames):
        env.step(env.action_space.sample())
    rate = frames / (time.perf_counter() - started)
    env.close()
    return f"MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r}, {rate:,.0f} frames/s at 64x64"


def _tasks() -> str:
    for env_id in ENV_IDS:
        env = gym.make(env_id, obs_type="state")
        env.reset(seed=0)
        env.step(env.action_space.sample())
        env.close()
    return f"{len(ENV_IDS)} environments open and step"


def _threads() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    if threads > cores:
        raise RuntimeError(f"torch uses {threads} threads on {cores} cores: set OMP_NUM_THREADS={cores}.")
    return f"torch uses {threads} of {cores} cores; for several processes at once set OMP_NUM_THREADS=1"


def _checkpoint() -> str:
    from wm_agents.agents import list_checkpoints, load

    names = list_checkpoints()
    if not names:
        raise RuntimeError("no shipped checkpoint is installed: install wm-agents again.")
    load(names[0])
    return f"{len(names)} shipped agents; {names[0]} loads"


CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "versions": _versions,
    "rendering": _rendering,
    "tasks": _tasks,
    "threads": _threads,
    "checkpoints": _checkpoint,
}
