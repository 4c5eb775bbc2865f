"""What importers share, the interface of a foreign dataset first; and the reader of Minari's own PointMaze datasets."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import gymnasium as gym
import minari
import numpy as np

from wm_agents.datasets.checks import refusal
from wm_agents.datasets.discrete import DiscreteSpace
from wm_agents.datasets.loading import dataset_root, read_metadata


class Record(NamedTuple):
    """One foreign episode of L actions, in the units of its source.

    Attributes:
        actions: float64 ``[L, A]``, discrete ones from 0; action t was taken at frame t.
        states: float64 ``[L+1, S]``, or None where the source has none.
        pixels: L+1 images of any size, an array or an iterator (:func:`wm_agents.images.square_image` says which
            images); None where the source has none or they were not asked for.
    """

    actions: np.ndarray
    states: np.ndarray | None
    pixels: Iterable[np.ndarray] | None


class Source(ABC):
    """A foreign dataset, checked when it is opened and read an episode at a time.

    Args:
        place: Path or id, as the caller gave it.
        task: The unwrapped task that the data are of, or None if they are of none of this library's.
        pixels: Which images, where the source has several of each frame: a camera, a key, a column.

    Raises:
        ValueError: It is damaged, of another format, or not of that task.

    Attributes:
        episodes: How many there are.
        files: The files that hold them.
        action_size: A.
        action_space: Bounds or numbers of choices that the source declares; None where it declares none.
        state_names: What the S numbers of a state are; empty where there are no states.
        shows_task_states: Whether those are the task's own states, complete.
        image_shape: Height and width of the stored frames in pixels; None where there are none.
    """

    described_as: ClassVar[str]
    """The format in a few words, for messages."""
    episodes: int
    files: tuple[Path, ...]
    action_size: int
    action_space: gym.spaces.Box | DiscreteSpace | None = None
    state_names: tuple[str, ...] = ()
    shows_task_states: bool = False
    image_shape: tuple[int, int] | None = None

    @abstractmethod
    def __init__(self, place: str, task: Any | None, pixels: str | None = None) -> None: ...

    @classmethod
    @abstractmethod
    def recognises(cls, place: str) -> bool:
        """Tell whether ``place`` looks like this format; nothing but names and first bytes is read."""

    @classmethod
    def task_id(cls, place: str) -> str | None:
        """Return the id of the task that ``place`` is of, where its name or metadata tell; None where they do not."""
        return None

    @abstractmethod
    def read(self, index: int, *, pixels: bool) -> Record:
        """Read one episode.

        Args:
            index: From 0; reading in ascending order is fastest.
            pixels: Whether to read the stored frames too.

        Raises:
            ValueError: The episode is damaged, too short, or not finite.
        """

    def default_action_scale(self, task: Any) -> float:
        """Return by what this format's actions are multiplied to be those of ``task``."""
        return 1.0

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """Let the files go."""


class PointMazeDataset(Source):
    """Minari's ``D4RL/pointmaze/*`` datasets: states ``(x, y, vx, vy)`` of Gymnasium-Robotics' PointMaze, no images.

    The maze is recognised by its map, which the dataset's environment specification holds: UMaze, Medium and Large are
    here too, other layouts (Open) are refused.
    """

    described_as: ClassVar[str] = "a local Minari dataset of PointMaze"

    def __init__(self, place: str, task: Any | None, pixels: str | None = None) -> None:
        self.place = place
        root = local_root(place)
        self.files = tuple(sorted(path for path in (root / "data").iterdir() if path.suffix != ".json"))
        if task is None or not hasattr(task, "maze_map"):
            raise refusal(place, "its states are those of a maze: pass env_id of one of the wm/PointMaze-* tasks.")
        maze = _maze_of(place)
        if not np.array_equal(maze, task.maze_map):
            raise refusal(
                place, f"its maze is not that of the task: {_drawn(maze)} instead of {_drawn(task.maze_map)}."
            )
        dataset = minari.load_dataset(place)
        self.episodes = int(dataset.total_episodes)
        shape = dataset.action_space.shape
        if shape is None or len(shape) != 1:
            raise refusal(
                place, f"its action space is {dataset.action_space}, no one-dimensional Box.", column="actions"
            )
        self.action_size, self.state_names, self.shows_task_states = shape[0], task.state_names, True
        self._iterator: Iterator[Any] = iter(())
        self._next = self.episodes
        self._dataset = dataset

    @classmethod
    def recognises(cls, place: str) -> bool:
        """Tell whether it is a Minari id with ``pointmaze`` in it, of a dataset without images."""
        if re.fullmatch(r"[\w./-]*pointmaze[\w./-]*-v\d+", place) is None or Path(place).exists():
            return False
        root = dataset_root(place)
        return not (root / "data").is_dir() or "pixels" not in read_metadata(place, root).get("observation_space", "")

    @classmethod
    def task_id(cls, place: str) -> str | None:
        """Return the task whose maze has the same map.

        Raises:
            ValueError: There is none; the message shows the map.
        """
        maze = _maze_of(place)
        for name, spec in sorted(gym.registry.items()):
            if name.startswith("wm/") and "maze_map" in spec.kwargs:
                with gym.make(name, obs_type="state") as env:
                    if np.array_equal(maze, env.unwrapped.maze_map):  # type: ignore[attr-defined]
                        return name
        raise refusal(
            place, f"no task of this library has its maze, {_drawn(maze)}; UMaze, Medium and Large can be read."
        )

    def read(self, index: int, *, pixels: bool) -> Record:
        """Read one episode; see :class:`Source`."""
        if index < self._next or self._next == self.episodes:
            self._next, self._iterator = 0, iter(self._dataset.iterate_episodes())
        try:
            for _ in range(index - self._next + 1):
                episode = next(self._iterator)
        except (OSError, KeyError, RuntimeError, AssertionError, StopIteration) as error:
            self._next = self.episodes
            raise refusal(self.place, f"it cannot be read ({error!r}); download it again.", episode=index) from error
        self._next = index + 1
        observations = episode.observations
        if not isinstance(observations, dict) or "observation" not in observations:
            raise refusal(self.place, "it is missing.", episode=index, column="observations/observation")
        states = np.asarray(observations["observation"], dtype=np.float64)
        actions = np.asarray(episode.actions, dtype=np.float64)
        if states.shape != (len(actions) + 1, len(self.state_names)) or len(actions) < 2:
            problem = f"it has the shape {states.shape} for {len(actions)} actions; ({len(actions) + 1}, 4) and two"
            raise refusal(
                self.place, f"{problem} actions or more are needed.", episode=index, column="observations/observation"
            )
        if not np.isfinite(actions).all():
            raise refusal(self.place, "it holds NaN or infinite values.", episode=index, column="actions")
        return Record(actions, states, None)


def checked_rows(
    place: str, episode: int, column: str, values: np.ndarray, *, last_may_be_nan: bool = False
) -> np.ndarray:
    """Return a column of an episode as float64 ``[rows, size]``.

    Raises:
        ValueError: It holds no numbers, or NaN.
    """
    if values.dtype.kind not in "fiub" or values.ndim not in (1, 2):
        problem = f"it is {values.dtype} {values.shape}; numbers [rows, size] are needed."
        raise refusal(place, problem, episode=episode, column=column)
    rows = values.astype(np.float64).reshape(len(values), -1)
    bad = np.flatnonzero(~np.isfinite(rows[: len(rows) - last_may_be_nan]).all(axis=1))
    if len(bad):
        raise refusal(place, f"row {bad[0]} is NaN or infinite.", episode=episode, column=column)
    return rows


class NpzArray:
    """One array of an npz file; its rows are decompressed on the way to those that are asked for."""

    def __init__(self, archive: zipfile.ZipFile, name: str, place: str) -> None:
        column = Path(name).stem
        try:
            self._stream: IO[bytes] = archive.open(name)
            version = np.lib.format.read_magic(self._stream)
            reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            self.shape, by_column, self.dtype = reader(self._stream)
        except (KeyError, ValueError, OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
            raise refusal(place, f"it is no array that can be read ({error}).", column=column) from error
        if self.dtype.hasobject:
            raise refusal(
                place, "it holds pickled objects, which can run any code; they are not opened.", column=column
            )
        if by_column and len(self.shape) > 1:
            raise refusal(place, "it is stored column by column; save it in C order.", column=column)
        self._first = self._stream.tell()
        self._row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        if self.shape and archive.getinfo(name).file_size != self._first + self.shape[0] * self._row:
            raise refusal(place, f"its size does not fit its shape {self.shape}: it is damaged.", column=column)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Read rows ``start`` to ``stop``; cheapest in ascending order."""
        self._stream.seek(self._first + start * self._row)
        data = self._stream.read((stop - start) * self._row)
        if len(data) != (stop - start) * self._row:
            raise EOFError("it ends early")
        return np.frombuffer(data, dtype=self.dtype).reshape(stop - start, *self.shape[1:])


def replay_error(env_id: str, states: np.ndarray, actions: np.ndarray, following: np.ndarray) -> float:
    """Return how far a task's own next states are from recorded ones, as a share of what changes in a step.

    For each entry of the state it is the root mean square of the error over that of the change; the result is the
    median over the entries that change. 0 is exact; 1 is what a simulation that stands still gets.

    Args:
        env_id: The task.
        states: float64 ``[N, S]``; those that the task refuses are left out.
        actions: ``[N, A]``, environment units.
        following: float64 ``[N, S]``, the recorded states after the actions.
    """
    errors, changes = [], []
    with gym.make(env_id, obs_type="state") as env:
        task: Any = env.unwrapped
        for state, action, after in zip(states, actions, following, strict=True):
            try:
                task.reset(options={"state": state, "goal_state": state})
            except ValueError:
                continue
            errors.append(task.step(np.clip(action, task.action_space.low, task.action_space.high))[4]["state"] - after)
            changes.append(after - state)
    if not errors:
        return 0.0
    error, change = (np.sqrt(np.mean(np.square(part), axis=0)) for part in (errors, changes))
    moving = change > 1e-9
    return float(np.median(error[moving] / change[moving])) if moving.any() else 0.0


def local_root(place: str) -> Path:
    """Return the folder of a local Minari dataset; raise ``ValueError`` where there is none."""
    root = dataset_root(place)
    if not (root / "data").is_dir():
        raise refusal(place, f"there is no such local Minari dataset. Fetch it first: minari download {place}")
    return root


def _maze_of(place: str) -> np.ndarray:
    """Return the map in the dataset's environment specification, int64, 1 for a wall."""
    metadata = read_metadata(place, local_root(place))
    rows = json.loads(metadata.get("env_spec") or "{}").get("kwargs", {}).get("maze_map")
    if not isinstance(rows, list):
        raise refusal(place, "its environment specification has no maze_map: it is no dataset of PointMaze.")
    return np.array([[int(cell in (1, "1")) for cell in row] for row in rows])


def _drawn(maze: np.ndarray) -> str:
    return " / ".join("".join("#" if cell else "." for cell in row) for row in maze)
