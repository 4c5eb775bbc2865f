"""Foreign files of flat rows, all episodes behind each other: the HDF5 of LeWM's datasets and OGBench's npz.

In both a row is a frame: the last row of an episode has an action too (NaN in LeWM's files), which leads nowhere and is
dropped.
"""

from __future__ import annotations

import contextlib
import importlib
import zipfile
import zlib
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from wm_agents.datasets.checks import refusal
from wm_agents.datasets.import_robomimic import RobomimicFile
from wm_agents.datasets.import_sources import NpzArray, Record, Source
from wm_agents.registry import did_you_mean

# PushT in LeWM's data (stable-worldmodel): the state has the first 7 of our 10 numbers, the block's velocities are
# missing; an action of 1 moves the target by 100 px.
_LEWM_PUSHT_STATE, _LEWM_PUSHT_REACH = 7, 100.0


class Table(Source):
    """Columns of the same number of rows, and where each episode starts and ends."""

    pixel_column: str | None
    action_column: ClassVar[str]
    state_columns: tuple[str, ...] = ()

    def _open(self, place: str, task: Any | None, pixel_column: str | None) -> None:
        """Check the columns; the subclass has opened the file and set ``starts`` and ``lengths`` in rows."""
        self.place, self.task, self.files = place, task, (Path(place),)
        self.pixel_column = pixel_column
        self.starts, self.lengths = self._extents()
        self.episodes = len(self.lengths)
        if not self.episodes:
            raise refusal(place, "it has no episodes.")
        rows = int(self.lengths.sum())
        self._choose_states(task)
        for column in (self.action_column, *self.state_columns, *([pixel_column] if pixel_column else [])):
            shape, dtype = self._described(column)
            if shape[0] != rows:
                last = self.episodes - 1
                raise refusal(
                    place, f"it has {shape[0]} rows, the episodes {rows} together.", episode=last, column=column
                )
            if column != pixel_column and (len(shape) != 2 or dtype.kind not in "fiu"):
                raise refusal(place, f"it is {dtype} {shape}; numbers [rows, size] are needed.", column=column)
        self.action_size = self._described(self.action_column)[0][1]
        if pixel_column:
            self.image_shape = self._frame_shape(pixel_column)

    @abstractmethod
    def _names(self) -> list[str]:
        """Return the names of all columns."""

    @abstractmethod
    def _described(self, column: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and type of a column; raise if there is none of that name."""

    @abstractmethod
    def _extents(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first row and the number of rows of every episode, int64 ``[E]`` each."""

    @abstractmethod
    def _load(self, column: str, start: int, stop: int) -> np.ndarray:
        """Read rows of a column; an ``OSError`` or ``ValueError`` becomes one that says where."""

    def read(self, index: int, *, pixels: bool) -> Record:
        """Read one episode; see :class:`~wm_agents.datasets.import_sources.Source`."""
        if self.lengths[index] < 3:
            found = f"it has {self.lengths[index]} row(s); two actions and the frame after them take three."
            raise refusal(self.place, found, episode=index)
        actions = self._rows(self.action_column, index).astype(np.float64)[:-1]
        bad = np.flatnonzero(~np.isfinite(actions).all(axis=1))
        if len(bad):
            late = " Are actions stored with the frame that they lead to? Move them up by a row." if bad[0] == 0 else ""
            problem = f"row {bad[0]} is NaN or infinite, which only the last row of an episode may be.{late}"
            raise refusal(self.place, problem, episode=index, column=self.action_column)
        return Record(actions, self._states(index), self._frames(index) if pixels else None)

    def _states(self, index: int) -> np.ndarray | None:
        if not self.state_columns:
            return None
        states = np.concatenate([self._rows(column, index) for column in self.state_columns], axis=1).astype(np.float64)
        if not np.isfinite(states).all():
            row = int(np.argmin(np.isfinite(states).all(axis=1)))
            raise refusal(
                self.place, f"row {row} is NaN or infinite.", episode=index, column=" + ".join(self.state_columns)
            )
        if self.shows_task_states and states.shape[1] < len(self.state_names):
            states = np.pad(states, ((0, 0), (0, len(self.state_names) - states.shape[1])))  # PushT's block at rest
            states[:, 4] = np.unwrap(states[:, 4])
        return states

    def _frames(self, index: int) -> np.ndarray | None:
        if not self.pixel_column:
            return None
        return self._rows(self.pixel_column, index)

    def _rows(self, column: str, index: int) -> np.ndarray:
        start = int(self.starts[index])
        try:
            return self._load(column, start, start + int(self.lengths[index]))
        except (OSError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
            raise refusal(
                self.place, f"it cannot be read ({error}).{_plugin_hint(error)}", episode=index, column=column
            ) from error

    def _choose_states(self, task: Any) -> None:
        """Find the columns that hold the state: all of the task's, or without a task whatever there is."""
        candidates = [("qpos", "qvel"), ("state",), *([] if task else [("proprio",)])]
        present = [columns for columns in candidates if all(column in self._names() for column in columns)]
        sizes = {}
        for columns in present:
            shapes = [self._described(column)[0] for column in columns]
            sizes[columns] = sum(shape[1] if len(shape) == 2 else 1 for shape in shapes)
        for columns, size in sizes.items():
            if task is None:
                self.state_columns, self.state_names = columns, tuple(f"state_{i}" for i in range(size))
                return
            if size == len(task.state_names) or (_is_pusht(task) and size == _LEWM_PUSHT_STATE):
                self.state_columns, self.state_names, self.shows_task_states = columns, task.state_names, True
                return
        if sizes:
            found = ", ".join(f"{' + '.join(columns)} of {size}" for columns, size in sizes.items())
            raise refusal(
                self.place,
                f"its states have another size than those of {task.spec.id} ({len(task.state_names)}): it has {found}. "
                "Is it a dataset of another task?",
                column=" + ".join(next(iter(sizes))),
            )

    def _frame_shape(self, column: str) -> tuple[int, int]:
        shape, dtype = self._described(column)
        if dtype.kind in "OSUV" or len(shape) < 3:
            raise refusal(
                self.place,
                f"it is {dtype} {shape}: encoded images (JPEG, PNG) are not read. Decode them into uint8 "
                "[rows, height, width, 3] first.",
                column=column,
            )
        first = len(shape) == 4 and shape[3] not in (1, 3, 4)  # channels
        if len(shape) > 4 or (first and shape[1] not in (1, 3, 4)):
            raise refusal(
                self.place,
                f"it is {shape}; images are [rows, height, width] or [rows, height, width, 3].",
                column=column,
            )
        return (shape[2], shape[3]) if first else (shape[1], shape[2])


class LeWMTable(Table):
    """The HDF5 layout of the public LeWM and stable-worldmodel datasets.

    Columns ``pixels`` (``[rows, H, W]``, ``[rows, H, W, C]`` or ``[rows, C, H, W]``), ``action`` (``[rows, A]``),
    ``ep_len`` and ``ep_offset`` (``[episodes]``, in rows) and, for states, ``qpos`` and ``qvel``, ``state`` or
    ``proprio``.
    """

    described_as: ClassVar[str] = "an HDF5 file in the layout of LeWM's datasets"
    action_column: ClassVar[str] = "action"

    def __init__(self, place: str, task: Any | None, pixels: str | None = None) -> None:
        with contextlib.suppress(ImportError):
            importlib.import_module("hdf5plugin")  # where it is installed, more ways to compress can be read
        if not Path(place).is_file() or not h5py.is_hdf5(place):
            raise refusal(place, "it is no HDF5 file." if Path(place).is_file() else "there is no such file.")
        try:
            self._file = h5py.File(place, "r")
        except OSError as error:
            raise refusal(place, f"it is cut short or damaged ({error}).") from error
        try:
            self.place = place
            self._open(place, task, pixels or ("pixels" if "pixels" in self._file else None))
        except BaseException:
            self.close()
            raise

    @classmethod
    def recognises(cls, place: str) -> bool:
        """Tell by the ending or the first bytes."""
        hdf5 = Path(place).suffix in (".h5", ".hdf5") or (Path(place).is_file() and h5py.is_hdf5(place))
        return hdf5 and not RobomimicFile.recognises(place)

    def default_action_scale(self, task: Any) -> float:
        """Return 1 but for PushT, whose action of 1 is 100 px in these files."""
        return _LEWM_PUSHT_REACH / task.reach if _is_pusht(task) else 1.0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _names(self) -> list[str]:
        return [name for name in self._file if isinstance(self._file[name], h5py.Dataset)]

    def _described(self, column: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        if column not in self._names():
            raise refusal(self.place, did_you_mean("column", column, self._names()), column=column)
        return self._file[column].shape, self._file[column].dtype

    def _extents(self) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for column in ("ep_offset", "ep_len"):
            shape, dtype = self._described(column)
            if len(shape) != 1 or dtype.kind not in "iu":
                raise refusal(self.place, f"it is {dtype} {shape}; whole numbers [episodes] are needed.", column=column)
            found.append(self._file[column][:].astype(np.int64))
        starts, lengths = found
        if len(starts) != len(lengths):
            raise refusal(self.place, f"it has {len(starts)} entries, ep_len {len(lengths)}.", column="ep_offset")
        wrong = np.flatnonzero((starts != np.cumsum(lengths) - lengths) | (lengths < 0))
        if len(wrong):
            first = int(wrong[0])
            problem = f"it starts at row {starts[first]}, and the episodes before it end at {lengths[:first].sum()}."
            raise refusal(self.place, problem, episode=first, column="ep_offset")
        return starts, lengths

    def _load(self, column: str, start: int, stop: int) -> np.ndarray:
        return np.asarray(self._file[column][start:stop])


class OGBenchTable(Table):
    """OGBench's npz: ``observations``, ``actions``, ``terminals``, ``qpos`` and ``qvel``, each ``[rows, ...]``.

    Observations that are uint8 images (the ``visual-*`` datasets) are frames; others are not used: the state is
    ``qpos`` and ``qvel``. Arrays are read a few rows at a time, never whole, and pickled objects never.
    """

    described_as: ClassVar[str] = "an OGBench npz"
    action_column: ClassVar[str] = "actions"
    _TASKS: ClassVar[dict[str, str]] = {"cube-single": "wm/Cube-Single-v0", "cube-double": "wm/Cube-Double-v0"}

    def __init__(self, place: str, task: Any | None, pixels: str | None = None) -> None:
        self.place = place
        if not Path(place).is_file():
            raise refusal(place, "there is no such file.")
        try:
            self._archive = zipfile.ZipFile(place)
        except (OSError, zipfile.BadZipFile) as error:
            raise refusal(place, f"it is no npz file, cut short or damaged ({error}).") from error
        try:
            self._members: dict[str, NpzArray] = {}
            shape, dtype = self._described("observations")
            images = len(shape) == 4 or dtype == np.uint8
            self._open(place, task, pixels or ("observations" if images else None))
        except BaseException:
            self.close()
            raise

    @classmethod
    def recognises(cls, place: str) -> bool:
        """Tell by the ending."""
        return Path(place).suffix == ".npz"

    @classmethod
    def task_id(cls, place: str) -> str | None:
        """Tell by the file's name, as OGBench gives it: ``cube-single-play-v0.npz``, ``visual-cube-double-...``."""
        name = Path(place).name.removeprefix("visual-")
        return next((env_id for start, env_id in cls._TASKS.items() if name.startswith(f"{start}-")), None)

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def _names(self) -> list[str]:
        return [name.removesuffix(".npy") for name in self._archive.namelist() if name.endswith(".npy")]

    def _described(self, column: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        if column not in self._names():
            raise refusal(self.place, did_you_mean("column", column, self._names()), column=column)
        if column not in self._members:
            self._members[column] = NpzArray(self._archive, f"{column}.npy", self.place)
        return self._members[column].shape, self._members[column].dtype

    def _extents(self) -> tuple[np.ndarray, np.ndarray]:
        shape, dtype = self._described("terminals")
        if len(shape) != 1 or dtype.kind not in "bfiu":
            raise refusal(self.place, f"it is {dtype} {shape}; flags [rows] are needed.", column="terminals")
        try:
            ends = np.flatnonzero(self._load("terminals", 0, shape[0])) + 1
        except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
            raise refusal(self.place, f"it cannot be read ({error}).", column="terminals") from error
        if shape[0] and (not len(ends) or ends[-1] != shape[0]):
            problem = f"the last of its {shape[0]} rows is not marked as an end: the file is cut short."
            raise refusal(self.place, problem, episode=len(ends), column="terminals")
        starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]])[: len(ends)]
        return starts, ends - starts

    def _load(self, column: str, start: int, stop: int) -> np.ndarray:
        return self._members[column].rows(start, stop)


def _is_pusht(task: Any) -> bool:
    return task.spec.id.startswith("wm/PushT-")


def _plugin_hint(error: Exception) -> str:
    missing = any(word in str(error).lower() for word in ("filter", "plugin"))
    return " It is compressed in a way that needs a plugin: pip install hdf5plugin" if missing else ""
