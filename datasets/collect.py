"""Record reward-free episodes into a Minari dataset: in parallel, resumable, the same whatever the interruptions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from filelock import FileLock, Timeout
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from wm_agents.configs import checked_image_size, task_name, whole_number
from wm_agents.datasets.dataset import TrajectoryDataset
from wm_agents.datasets.episodes import episode_seed, is_recorded, open_env, rollout
from wm_agents.datasets.loading import PROVENANCE, dataset_root, load, read_metadata
from wm_agents.datasets.policies import default_policy
from wm_agents.datasets.recording import record
from wm_agents.datasets.space import require_space, stored_size
from wm_agents.datasets.writing import put_in_place, write_dataset
from wm_agents.envs.wrapping import registered_spec, view_of
from wm_agents.registry import POLICIES
from wm_agents.version import __version__

_PACKAGES = (
    *("mujoco", "gymnasium", "minari", "numpy", "torch"),
    *("gymnasium-robotics", "gym-pusht", "pymunk", "dm-control", "ogbench"),  # what the tasks stand on
)
_TRIED, _LONGER = 8, 1.25  # episodes that are tried out for their length, and a margin for the others


def default_name(env_id: str, policy: str | None = None) -> str:
    """Return the Minari id that ``collect`` gives a dataset: ``"wm/pointmaze-umaze/waypoint-v0"``."""
    return f"wm/{task_name(env_id)}/{policy or default_policy(env_id)}-v0"


def collect(
    env_id: str,
    *,
    policy: str | None = None,
    episodes: int = 120,
    steps: int = 300,
    seed: int = 0,
    name: str | None = None,
    image_size: int = 64,
    workers: int | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> TrajectoryDataset:
    """Record exploration episodes and return them, ready for training.

    The result is a Minari dataset (hdf5, lossless images): observations ``{"pixels": uint8 [H, W, C]}``, rewards 0,
    ``infos`` with ``state`` and ``goal_state`` per frame (where the policy was heading; the environment's goal for
    policies that head nowhere). It depends on the arguments only, not on ``workers`` nor on interruptions: every
    finished episode is kept beside the dataset until all are there, and the same call continues. If the dataset
    already exists and was made by the same arguments, it is loaded.

    Args:
        env_id: A ``wm/...`` task.
        policy: Name in ``POLICIES``; by default the one that suits the task (``default_policy``).
        episodes: Number of episodes, at least 1.
        steps: Actions an episode, at least 2; goals and time limits do not cut it short.
        seed: At least 0.
        name: Minari id; ``wm/<task>/<policy>-v0`` by default.
        image_size: Height and width of the frames in pixels.
        workers: Processes; by default as many as there are cores. With 1 all happens in the calling process, as it
            always does for "curious", which learns from each episode for the next ones.
        progress: Show a progress bar.
        overwrite: Replace an existing dataset of that name, and drop a partial one of other arguments.

    Raises:
        ValueError: A bad argument; another dataset, or a partial one of other arguments, has that name.
        RuntimeError: A process failed, or another process is collecting the same dataset.
        OSError: The disk is too full; nothing has been written.
    """
    policy = policy or default_policy(env_id)
    kind = POLICIES.get(policy)
    episodes, steps, workers = _checked_sizes(episodes, steps, workers)
    seed, image_size = whole_number("seed", seed), checked_image_size(image_size)
    episode_seed("collect", seed, 0)
    name = name or default_name(env_id, policy)
    root = dataset_root(name)
    request = {"env_id": env_id, "policy": policy, "steps": steps, "seed": seed, "image_size": image_size}
    view = view_of(env_id)
    if view is not None:  # data of an environment that is wrapped otherwise have other frames
        request["view"] = view
    if root.exists() and not overwrite:
        check_same(name, root, {**request, "episodes": episodes})
        return load(name)
    if hasattr(kind, "record"):  # each episode depends on the others, and all on these
        request |= {"episodes": episodes, "settings": kind.settings}
    folder = root.parent / f".{root.name}.partial"
    spec = registered_spec(env_id)
    if spec is not None:  # other processes cannot look it up
        request, workers = {**request, "spec": spec}, workers if spec else 1
    with contextlib.closing(open_env(env_id, image_size)) as env:
        _require_space(env, folder, request, episodes)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, name):
            _prepare(folder, {**request, "versions": versions()}, name, overwrite)
            missing = [index for index in range(episodes) if not is_recorded(folder, index)]
            with episode_bar(progress, name, episodes, steps) as report:
                record(env, folder, missing, workers, lambda left: report(episodes - left))
            write_dataset(env, name, folder, {**request, "episodes": episodes, "versions": versions()})
            put_in_place(name, folder, root)
        shutil.rmtree(folder, ignore_errors=True)
    return load(name)


def _checked_sizes(episodes: int, steps: int, workers: int | None) -> tuple[int, int, int]:
    """Return the three as Python's ints, the number of cores where ``workers`` is None."""
    episodes, steps = whole_number("episodes", episodes), whole_number("steps", steps)
    processes = _cores() if workers is None else whole_number("workers", workers)
    if episodes < 1 or steps < 2 or processes < 1:
        raise ValueError(
            f"At least 1 episode, 2 steps and 1 worker are needed; got episodes={episodes}, steps={steps}, "
            f"workers={processes}."
        )
    return episodes, steps, processes


def _require_space(env: gym.Env, folder: Path, request: dict[str, Any], episodes: int) -> None:
    """Raise ``OSError`` where the episodes that are missing and the dataset that they become do not fit on the disk.

    Where they would not fit at full length, the first few are tried out: many policies, and many environments, end an
    episode before its time.
    """
    task: Any = env.unwrapped
    numbers = 2 * len(task.state_names) + int(np.prod(task.action_space.shape))
    frame = int(np.prod(task.observation_space["pixels"].shape)) + 8 * numbers
    missing = sum(not is_recorded(folder, index) for index in range(episodes))

    def require(steps: float) -> None:
        episode = int((steps + 1) * frame)
        require_space(folder, missing * episode + stored_size(episodes, episodes * episode))

    try:
        require(request["steps"])
    except OSError:
        if hasattr(POLICIES.get(request["policy"]), "record"):  # no episode can be tried out alone
            raise
        require(_typical_steps(env, request, min(episodes, _TRIED)))


def _typical_steps(env: gym.Env, request: dict[str, Any], episodes: int) -> float:
    """The mean length of the first episodes, and a margin for the others; at most the full length."""
    tried = (
        rollout(env, request["policy"], request["steps"], episode_seed("collect", request["seed"], index))
        for index in range(episodes)
    )
    return min(_LONGER * float(np.mean([len(episode.actions) for episode in tried])), request["steps"])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that decides what a dataset holds."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return {**found, "wm_agents": __version__}


def check_same(name: str, root: Path, request: dict[str, Any]) -> None:
    """Raise unless the dataset at ``root`` was made by the same arguments."""
    way_out = "Pass another name, or overwrite=True to replace it."
    try:
        made = read_metadata(name, root).get(PROVENANCE)
    except ValueError as error:
        raise ValueError(f"{name!r} is taken by something that is no dataset ({error}). {way_out}") from error
    if made is None:
        raise ValueError(f"A dataset {name!r} already exists and was not made by collect. {way_out}")
    changes = ", ".join(_differences(made, request))
    if changes:
        raise ValueError(f"A dataset {name!r} already exists, made with {changes}. {way_out}")


def _differences(made: Mapping[str, Any], request: Mapping[str, Any]) -> Iterator[str]:
    """What another dataset was made with, in words; of a view, what differs in it."""
    for key, value in request.items():
        old = made.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            yield from _differences(old, value)
        elif isinstance(value, dict) and old is None:
            yield f"another version of {key} or options of it, which it does not name"
        elif old != value:
            yield f"{key} {old!r} instead of {value!r}"


@contextlib.contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold the partial dataset's lock; the operating system lets it go if this process dies."""
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout:
        raise RuntimeError(f"Another process is writing {name!r}; wait for it, or pass another name.") from None


@contextlib.contextmanager
def work_folder(name: str, root: Path, kind: str) -> Iterator[Path]:
    """Yield a locked folder beside ``root`` to write the dataset in; it is gone afterwards, whatever happens.

    A process that is killed leaves a hidden folder, which the next one of that kind clears.
    """
    folder = root.parent / f".{root.name}.{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, name):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _prepare(folder: Path, request: dict[str, Any], name: str, overwrite: bool) -> None:
    """Begin a partial dataset in ``folder``, or make sure that the one there has the same arguments."""
    path = folder / "request.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if found and found != request and not overwrite:
        changes = ", ".join(_differences(found, request))
        raise ValueError(
            f"An unfinished collection of {name!r} has other arguments ({changes}). Call with those to finish it, "
            "pass another name, or overwrite=True to drop it."
        )
    if found != request:
        for file in folder.glob("episode_*"):
            file.unlink()
    for leftover in [*folder.glob("*.tmp"), *folder.glob("*.log")]:
        leftover.unlink()
    for leftover in (folder / "dataset", folder / "replaced"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(request), encoding="utf-8")
    os.replace(temporary, path)


@contextlib.contextmanager
def episode_bar(progress: bool, name: str, episodes: int | None, steps: int) -> Iterator[Callable[[int], None]]:
    """Show finished episodes, rate and time left; yields a function of the number of episodes finished.

    Nobody may know how many ``episodes`` there will be; the bar then only counts.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task(name, total=episodes, rate="")
        first, begin = None, time.perf_counter()

        def report(done: int) -> None:
            nonlocal first
            first = done if first is None else first
            rate = (done - first) * (steps + 1) / (time.perf_counter() - begin)
            bar.update(task, completed=done, rate=f"{rate:,.0f} frames/s" if done > first and steps else "")

        yield report
