"""Foreign datasets into the layout of this library: one writer, one small reader for each format."""

from __future__ import annotations

import contextlib
import hashlib
import numbers
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from wm_agents.configs import check_flag, checked_image_size, task_name, whole_number
from wm_agents.datasets.checks import refusal
from wm_agents.datasets.collect import check_same, episode_bar, versions, work_folder
from wm_agents.datasets.dataset import TrajectoryDataset
from wm_agents.datasets.episodes import open_env
from wm_agents.datasets.import_job import Job
from wm_agents.datasets.import_sources import Source
from wm_agents.datasets.loading import dataset_root, load
from wm_agents.datasets.space import require_space, stored_size
from wm_agents.datasets.writing import put_in_place, write_episodes
from wm_agents.envs import WrappedEnv
from wm_agents.images import check_resize
from wm_agents.registry import Registry, did_you_mean

IMPORT_FORMATS = Registry(
    "dataset format",
    {
        "d4rl-pointmaze": "wm_agents.datasets.import_sources:PointMazeDataset",
        "lerobot": "wm_agents.datasets.import_lerobot:LeRobotDataset",
        "lewm-hdf5": "wm_agents.datasets.import_tables:LeWMTable",
        "minari": "wm_agents.datasets.import_minari:MinariDataset",
        "ogbench-npz": "wm_agents.datasets.import_tables:OGBenchTable",
        "robomimic-hdf5": "wm_agents.datasets.import_robomimic:RobomimicFile",
        "videos": "wm_agents.datasets.import_videos:VideoFolder",
    },
)
"""Name to reader (a :class:`~wm_agents.datasets.import_sources.Source`), called as ``reader(place, task, pixels)``."""

FRAMES = ("auto", "stored", "rendered")


def import_dataset(
    source: str | Path,
    *,
    format: str = "auto",
    env_id: str | None = None,
    name: str | None = None,
    frames: str = "auto",
    pixels: str | None = None,
    image_size: int = 64,
    resize: str = "stretch",
    episodes: int | None = None,
    action_scale: float | None = None,
    choices: int | Sequence[int] | None = None,
    skip_invalid: bool = False,
    progress: bool = True,
    overwrite: bool = False,
) -> TrajectoryDataset:
    """Import a foreign dataset and return it, ready for training; one episode at a time is in memory.

    With ``env_id`` it becomes a dataset of that task: actions in the task's units and inside its bounds, states that
    the task's simulator can be in and, if frames are rendered, the task's own images. A sample of transitions is
    replayed by the task; if it goes elsewhere than the data say, the import is refused (``MAX_REPLAY_ERROR``). Without
    ``env_id`` frames and actions stay what they are, and the bounds of the actions are those of the source, or the
    extremes that are found.

    Nothing is at the dataset's name until all of it is there; an interrupted import leaves nothing behind. If the
    dataset already exists and was made by the same arguments from the same file, it is loaded.

    Args:
        source: Path of a file or folder, or id of a local Minari dataset.
        format: A name in ``IMPORT_FORMATS``, or ``"auto"``.
        env_id: The ``wm/...`` task that the data are of; found out where the format tells (PointMaze, OGBench's cubes).
        name: Minari id; ``wm/<task>/<file>-v0`` by default, ``imported/<file>-v0`` without a task.
        frames: ``"stored"``, ``"rendered"`` by the task from states, or ``"auto"``: stored where there are any.
        pixels: Which images are the frames, where the source has several: a camera, a key such as "camera/front".
        image_size: Height and width of the frames in pixels; larger ones are area-averaged.
        resize: How others become square: "stretch" keeps the whole image and gives up its aspect, "crop" keeps the
            centre, "pad" adds black bars.
        episodes: Import only that many, from the first.
        action_scale: What the file's actions are multiplied by; the format's own by default (100/64 for PushT in LeWM's
            files, 1 elsewhere).
        choices: For discrete actions, whole numbers from 0: their number of choices, or several, one for each number of
            an action. A Minari dataset tells its own.
        skip_invalid: Leave out episodes that are not valid, and record how many, in place of an error.
        progress: Show a progress bar.
        overwrite: Replace an existing dataset of that name.

    Raises:
        ValueError: A bad argument, a file that is damaged or of another task, or an episode that is not valid (the
            message names the file, the episode and the column); another dataset has that name.
        RuntimeError: Another process is importing the same dataset.
        OSError: The disk is too full; nothing has been written.
    """
    place = str(source)
    skip_invalid, overwrite = check_flag("skip_invalid", skip_invalid), check_flag("overwrite", overwrite)
    reader = _reader(place, format)
    check_resize(resize)
    image_size, episodes, action_scale = _checked(frames, image_size, episodes, action_scale)
    env_id = env_id or reader.task_id(place)
    name = name or _default_name(place, env_id)
    root = dataset_root(name)
    with contextlib.ExitStack() as stack:
        env = stack.enter_context(contextlib.closing(open_env(env_id, image_size))) if env_id else None
        task: Any = env.unwrapped if env else None
        if isinstance(task, WrappedEnv):
            raise ValueError(
                f"{env_id} is none of this library's tasks, so its states cannot be set nor checked: leave env_id out, "
                "and frames and actions stay what they are."
            )
        opened: Source = stack.enter_context(contextlib.closing(reader(place, task, pixels)))
        job = Job(place, opened, task, frames, image_size, resize, episodes, action_scale, skip_invalid, choices)
        made = {
            "policy": "imported",
            "format": next(key for key in IMPORT_FORMATS if IMPORT_FORMATS.get(key) is reader),
            "env_id": env_id or "",
            "source": Path(place).name if Path(place).exists() else place,
            "source_sha256": _hash(opened.files),
            "limit": episodes,
            "image_size": image_size,
            "frames": job.frames,
            "pixels": pixels,
            "resize": resize,
            "action_scale": job.scale,
            "skip_invalid": job.skip_invalid,
            **({} if choices is None else {"choices": np.asarray(choices).tolist()}),
        }
        if root.exists() and not overwrite:
            check_same(name, root, made)
        else:
            job.survey()
            _write(job, made, name, root, env, progress)
    return load(name)


def _checked(
    frames: str, image_size: int, episodes: int | None, action_scale: float | None
) -> tuple[int, int | None, float | None]:
    """Return the numbers as Python's, once all four arguments have been found valid."""
    if frames not in FRAMES:
        raise ValueError(did_you_mean("kind of frames", frames, FRAMES))
    image_size = checked_image_size(image_size)
    limit = None if episodes is None else whole_number("episodes", episodes, 1)
    if action_scale is None:
        return image_size, limit, None
    number = isinstance(action_scale, (numbers.Real, np.ndarray)) and not isinstance(action_scale, (bool, np.bool_))
    if not number or np.ndim(action_scale) != 0 or not np.isfinite(action_scale) or action_scale == 0:
        raise ValueError(f"action_scale must be a finite number other than 0, not {action_scale!r}.")
    return image_size, limit, float(action_scale)


def _write(job: Job, made: dict[str, Any], name: str, root: Path, env: gym.Env | None, progress: bool) -> None:
    """Write the dataset next to its place and move it there; nothing is left if that fails."""
    size = job.image_size
    require_space(root, stored_size(job.total, job.size))
    with work_folder(name, root, "import") as folder, episode_bar(progress, name, job.total, job.mean_steps) as report:
        card = {**made, **job.found, "versions": versions()}
        write_episodes(
            job.episodes(report, card),
            name,
            folder,
            pixel_space=gym.spaces.Box(0, 255, (size, size, 3), np.uint8),
            action_space=job.action_space,
            env_spec=env.spec if env else None,
            description=f"Imported from {made['source']}, {job.source.described_as}.",
            made=card,
        )
        put_in_place(name, folder, root)


def _reader(place: str, format: str) -> type[Source]:
    """Return the reader of a format, or the one that recognises ``place``."""
    if format != "auto":
        found: type[Source] = IMPORT_FORMATS.get(format)
    else:
        if Path(place).suffix == ".parquet":
            problem = "a table of its own has no episodes; give the folder of the dataset that it belongs to."
            raise refusal(place, problem)
        fitting = [name for name in IMPORT_FORMATS if IMPORT_FORMATS.get(name).recognises(place)]
        if not fitting:
            known = "; ".join(f"{name}: {IMPORT_FORMATS.get(name).described_as}" for name in IMPORT_FORMATS)
            problem = "its format is not recognised" if Path(place).exists() else "there is no such file or dataset"
            raise refusal(place, f"{problem}. What can be imported: {known}.")
        found = IMPORT_FORMATS.get(fitting[0])
    return found


def _default_name(place: str, env_id: str | None) -> str:
    stem = re.sub(r"\W+", "-", re.sub(r"-v\d+$", "", Path(place).stem if Path(place).exists() else place)).strip("-")
    return f"wm/{task_name(env_id)}/{stem.lower()}-v0" if env_id else f"imported/{stem.lower()}-v0"


def _hash(files: tuple[Path, ...]) -> str:
    """Return the SHA-256 of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
