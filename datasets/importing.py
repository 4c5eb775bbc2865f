"""Foreign datasets into the layout of this library: one writer, one small reader for each format."""

from __future__ import annotations

import contextlib
import hashlib
import numbers
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer

from wm_agents.configs import whole_number
from wm_agents.datasets.checks import ColumnError, refusal, square_frames
from wm_agents.datasets.collect import check_same, episode_bar, task_name, versions, work_folder
from wm_agents.datasets.dataset import TrajectoryDataset
from wm_agents.datasets.episodes import open_env
from wm_agents.datasets.import_sources import Record, Source, replay_error
from wm_agents.datasets.loading import dataset_root, load
from wm_agents.datasets.space import require_space, stored_size
from wm_agents.datasets.writing import episode_buffer, put_in_place, write_episodes
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
MAX_CLIPPED = 0.01
"""Largest share of actions that may lie outside the task's bounds, to be clipped to them."""
MAX_REPLAY_ERROR = 0.15
"""Largest error of replayed transitions; see :func:`~wm_agents.datasets.import_sources.replay_error`.

OGBench's own cube has 0.01 and exact data 0. On PointMaze, PushT, Reacher and Cube, actions of 0.64 times their size
have 0.20 to 0.42, actions stored one row late 0.28 to 0.87.
"""
_REPLAYED_EPISODES, _REPLAYED_STEPS = 16, 8  # at most, and of each
_SIZES = (16, 2048)  # of frames, as the environments have them


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
    skip_invalid: bool = False,
    progress: bool = True,
    overwrite: bool = False,
) -> TrajectoryDataset:
    """Import a foreign dataset and return it, ready for training; one episode at a time is in memory.

    With ``env_id`` it becomes a dataset of that task: actions in the task's units and inside its bounds, states that
    the task's simulator can be in and, if frames are rendered, the task's own images. A sample of transitions is
    replayed by the task; if it goes elsewhere than the data say, the import is refused (``MAX_REPLAY_ERROR``). Without
    ``env_id`` frames and actions stay what they are, and the bounds of the actions are the extremes that are found.

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
    reader = _reader(place, format)
    check_resize(resize)
    image_size, episodes, action_scale = _checked(frames, image_size, episodes, action_scale)
    env_id = env_id or reader.task_id(place)
    name = name or _default_name(place, env_id)
    root = dataset_root(name)
    with contextlib.ExitStack() as stack:
        env = stack.enter_context(contextlib.closing(open_env(env_id, image_size))) if env_id else None
        task: Any = env.unwrapped if env else None
        opened: Source = stack.enter_context(contextlib.closing(reader(place, task, pixels)))
        job = _Job(place, opened, task, frames, image_size, resize, episodes, action_scale, bool(skip_invalid))
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
    image_size = whole_number("image_size", image_size)
    limit = None if episodes is None else whole_number("episodes", episodes)
    if not _SIZES[0] <= image_size <= _SIZES[1] or (limit is not None and limit < 1):
        raise ValueError(
            f"image_size is {_SIZES[0]} to {_SIZES[1]} pixels and episodes at least 1; got {image_size} and {limit}."
        )
    if action_scale is None:
        return image_size, limit, None
    number = isinstance(action_scale, (numbers.Real, np.ndarray)) and not isinstance(action_scale, (bool, np.bool_))
    if not number or np.ndim(action_scale) != 0 or not np.isfinite(action_scale) or action_scale == 0:
        raise ValueError(f"action_scale must be a finite number other than 0, not {action_scale!r}.")
    return image_size, limit, float(action_scale)


def _write(job: _Job, made: dict[str, Any], name: str, root: Path, env: gym.Env | None, progress: bool) -> None:
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


class _Job:
    """What is imported: the episodes of a source as the dataset is to have them."""

    def __init__(
        self,
        place: str,
        source: Source,
        task: Any,
        frames: str,
        image_size: int,
        resize: str,
        limit: int | None,
        scale: float | None,
        skip_invalid: bool,
    ) -> None:
        self.place, self.source, self.task, self.skip_invalid = place, source, task, skip_invalid
        self.total = min(source.episodes, limit or source.episodes)
        self.image_size, self.resize = image_size, resize
        self.scale = scale if scale is not None else source.default_action_scale(task) if task else 1.0
        self.frames = frames if frames != "auto" else "stored" if source.image_shape else "rendered"
        self.found: dict[str, Any] = {}
        self.mean_steps, self.size = 0, 0  # actions in an episode, bytes of all
        if task and (source.action_size,) != task.action_space.shape:
            size = task.action_space.shape[0]
            problem = f"its actions have {source.action_size} numbers, those of {task.spec.id} {size}."
            raise refusal(place, f"{problem} Is it a dataset of another task?", column="actions")
        side = min(source.image_shape or (0,))
        if self.frames == "stored" and not side:
            raise refusal(place, "it has no images to keep; render them: frames='rendered'.", column="pixels")
        if self.frames == "stored" and side < image_size:
            problem = f"its images are {side} px, less than image_size={image_size}: pass image_size={side}"
            raise refusal(place, f"{problem}{' or frames=rendered' if task else ''}.", column="pixels")
        if self.frames == "rendered" and not task:
            raise refusal(place, "it has no images to keep, and rendering them takes a task: pass env_id.")
        if self.frames == "rendered" and not source.shows_task_states:
            names = ", ".join(task.state_names) if task else ""
            raise refusal(place, f"rendering takes a column with the task's states ({names}).", column="state")

    def survey(self) -> None:
        """Read all actions and a sample of transitions before anything is written."""
        low = np.full(self.source.action_size, np.inf)
        high, outside, count = -low, 0, 0
        sample: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        sampled = set(np.linspace(0, self.total - 1, _REPLAYED_EPISODES).round().astype(int).tolist())
        for index in range(self.total):
            record = self._read(index, pixels=False)
            if record is None:
                continue
            actions = record.actions * self.scale
            low, high = np.minimum(low, actions.min(axis=0)), np.maximum(high, actions.max(axis=0))
            if self.task:
                outside += int((np.abs(actions - self._clipped(actions)) > 1e-6).any(axis=1).sum())
            if index in sampled and record.states is not None and self.source.shows_task_states:
                steps = np.linspace(0, len(actions) - 1, _REPLAYED_STEPS).round().astype(int)
                sample += [(record.states[t], actions[t], record.states[t + 1]) for t in np.unique(steps)]
            count += len(actions)
        if not count:
            raise refusal(self.place, "none of its episodes is valid.")
        self.mean_steps = round(count / self.total)
        numbers_per_frame = len(self.source.state_names) + self.source.action_size
        self.size = (count + self.total) * (3 * self.image_size**2 + 8 * numbers_per_frame)
        self.action_space: gym.spaces.Box = (
            self.task.action_space
            if self.task
            else gym.spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
        )
        self.found["clipped_actions"] = outside / count
        if outside > MAX_CLIPPED * count:
            bounds = f"{self.task.action_space.low.tolist()} to {self.task.action_space.high.tolist()}"
            raise refusal(
                self.place,
                f"{outside / count:.1%} of the actions (from {low.round(3).tolist()} to {high.round(3).tolist()}, "
                f"multiplied by {self.scale:g}) lie outside the bounds of {self.task.spec.id}, {bounds}. They may have "
                "other units: pass action_scale.",
                column="actions",
            )
        if self.task and sample:
            self._check_replay(sample)

    def episodes(self, report: Callable[[int], None], card: dict[str, Any]) -> Iterator[EpisodeBuffer]:
        """Yield the episodes and, at the end, enter their number into the card."""
        kept = 0
        for index in range(self.total):
            report(index)
            record = self._read(index, pixels=self.frames == "stored")
            frames = self._frames(index, record) if record is not None else None
            if record is None or frames is None:
                continue
            actions = self._clipped(record.actions * self.scale).astype(np.float32)
            infos = {} if record.states is None else {"state": record.states}
            yield episode_buffer(kept, frames, actions, **infos)
            kept += 1
        report(self.total)
        if not kept:
            raise refusal(self.place, "none of its episodes is valid.")
        card.update(episodes=kept, skipped=self.total - kept, state_names=list(self.source.state_names))

    def _read(self, index: int, *, pixels: bool) -> Record | None:
        """Read an episode; None if it is not valid and such are left out."""
        try:
            return self.source.read(index, pixels=pixels)
        except ValueError:
            if self.skip_invalid:
                return None
            raise

    def _frames(self, index: int, record: Record) -> np.ndarray | None:
        """Return the frames of an episode whose states have been checked; None as in ``_read``."""
        rendered = []
        if self.task and record.states is not None and self.source.shows_task_states:
            for row, state in enumerate(record.states):
                try:
                    self.task.validate_state(state, f"row {row}")
                except ValueError as error:
                    if self.skip_invalid:
                        return None
                    problem = f"{error} To leave such episodes out pass skip_invalid=True."
                    raise refusal(self.place, problem, episode=index, column="state") from error
                if self.frames == "rendered":
                    rendered.append(self.task.render_state(state))
        if self.frames == "rendered":
            return np.stack(rendered)
        assert record.pixels is not None, "a source with a side has frames"
        try:
            stored = square_frames(record.pixels, self.image_size, self.resize)
            if len(stored) != len(record.actions) + 1:
                raise ColumnError("pixels", f"it has {len(stored)} frames for {len(record.actions)} actions.")
            return stored
        except ValueError as error:
            if self.skip_invalid:
                return None
            if isinstance(error, ColumnError):
                raise refusal(self.place, error.problem, episode=index, column="pixels") from error
            raise

    def _clipped(self, actions: np.ndarray) -> np.ndarray:
        space = self.task.action_space if self.task else self.action_space
        return np.clip(actions, space.low, space.high)

    def _check_replay(self, sample: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
        error = replay_error(self.task.spec.id, *(np.array(part) for part in zip(*sample, strict=True)))
        self.found["replay_error"] = round(error, 4)
        if error > MAX_REPLAY_ERROR:
            raise refusal(
                self.place,
                f"{self.task.spec.id} does not do what the data say: replaying {len(sample)} of their actions misses "
                f"the next states by {error:.0%} of a step's change ({MAX_REPLAY_ERROR:.0%} is allowed). It is another "
                "task, the units are other ones (pass action_scale), or actions are not stored with the frame at which "
                "they were taken.",
                column="actions",
            )


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
