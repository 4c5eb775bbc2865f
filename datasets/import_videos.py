"""A folder of videos with tables of actions: what a robot, a game or a screen recorder leaves.

Either each video has a table of its own beside it (``run 1.mp4`` and ``run 1.csv``), or one table (``actions.csv``)
holds the rows of all, with a column ``video`` or ``episode`` that tells whose they are.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import warnings
import zipfile
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

import numpy as np

from wm_agents.datasets.checks import ColumnError, refusal
from wm_agents.datasets.import_sources import NpzArray, Record, Source
from wm_agents.datasets.parquet import read_parquet
from wm_agents.datasets.videos import SUFFIXES, count_frames, read_video, video_info

TABLES = (".csv", ".npz", ".parquet")
_WHOSE = ("video", "episode", "episode_index")
_ORDERED = re.compile(
    r"|(unnamed|frame|index|row|step|time|timestamp)[\W_]*(s|ms|us|ns|sec|seconds|index|number|id|no|\d+)?[\W_]*",
    re.IGNORECASE,
)
"""Names of columns that count rows or tell the time: ``frame_number``, ``Time (s)``, and those of pandas' index."""

Columns = dict[str, np.ndarray]
"""Columns of a table: numbers ``[rows]`` or ``[rows, size]``, or text ``[rows]``."""


class VideoFolder(Source):
    """Videos in a folder, in the order of their names, and their tables (csv, npz or parquet).

    The columns whose name begins with ``action`` are the actions; where none does, all columns of numbers are, but for
    frame numbers and times. Columns whose name begins with ``state`` are states. Row t is the action taken at frame t.
    A video has as many frames as its table rows (the last action then leads nowhere and is dropped), or one more.
    """

    described_as: ClassVar[str] = "a folder of videos with a table of actions for each, or one for all"

    def __init__(self, place: str, task: Any | None, pixels: str | None = None) -> None:
        self.place = place
        folder = Path(place)
        self._videos = _files(folder, SUFFIXES)
        if not self._videos:
            raise refusal(place, f"there are no videos in it ({', '.join(SUFFIXES)}).")
        if pixels is not None:  # several cameras: only the videos of one
            self._videos = [path for path in self._videos if pixels in path.stem]
            if not self._videos:
                raise refusal(place, f"none of its videos has {pixels!r} in its name (pixels=, --pixels).")
        self._tables = _find_tables(folder, self._videos)
        self.files = (*self._videos, *sorted(set(self._tables.values())))
        self.episodes = len(self._videos)
        self._loaded: tuple[Path, Columns] | None = None
        self._columns: list[str] = []  # of the last table's actions
        self._order: list[str] = []  # of the first one's
        info = video_info(self._videos[0])
        self.image_shape = info.height, info.width
        actions, states = self._arrays(0)
        self.action_size = actions.shape[1]
        self._order = self._columns
        self.state_names = tuple(f"state_{i}" for i in range(states.shape[1])) if states is not None else ()

    @classmethod
    def recognises(cls, place: str) -> bool:
        """Tell whether it is a folder with videos in it."""
        folder = Path(place)
        return folder.is_dir() and bool(_files(folder, SUFFIXES))

    def read(self, index: int, *, pixels: bool) -> Record:
        """Read one episode; see :class:`~wm_agents.datasets.import_sources.Source`."""
        video, (actions, states) = self._videos[index], self._arrays(index)
        frames, rows = count_frames(video), len(actions)
        if frames not in (rows, rows + 1):
            raise refusal(
                str(video),
                f"it has {frames} frames, and {self._tables[video].name} {rows} rows for it; as many rows as frames, "
                f"or one less, are needed. {_rate_hint(video, frames, rows)}",
                episode=index,
            )
        if actions.shape[1] != self.action_size or set(self._columns) != set(self._order):
            problem = (
                f"its columns are {', '.join(self._columns)} ({actions.shape[1]} numbers), those of the first video "
                f"{', '.join(self._order)} ({self.action_size})."
            )
            raise refusal(str(self._tables[video]), problem, episode=index, column="actions")
        if states is not None and len(states) < frames:
            actions, states, frames = actions[: rows - 1], states[:rows], rows  # there is no state after the last row
        return Record(actions[: frames - 1], states, read_video(video, frames) if pixels else None)

    def _arrays(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return actions ``[rows, A]`` and, where there are any, states ``[rows, S]`` of a video."""
        video = self._videos[index]
        table = self._tables[video]
        if self._loaded is None or self._loaded[0] != table:
            self._loaded = table, read_table(table)
        columns = self._loaded[1]
        whose = _whose(columns)
        try:
            if table.stem != video.stem and video.stem in columns:  # an npz of one array for each video
                self._columns = ["actions"]
                return _matrix({"actions": columns[video.stem]}, ("actions",)), None
            if table.stem != video.stem and whose is not None:
                rows = _rows_of(columns[whose], video, index, whose)
                columns = {name: values[rows] for name, values in columns.items()}
            _check_order(columns)
            names = _named(columns, "action")
            self._columns = sorted(names, key=self._order.index) if set(names) == set(self._order) else names
            actions = _matrix(columns, self._columns)
            states = [name for name in columns if name.lower().startswith("state")]
            return actions, _matrix(columns, states) if states else None
        except ColumnError as error:
            raise refusal(str(table), error.problem, episode=index, column=error.column) from error


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files of a folder with one of these endings, without hidden ones, by name: "run 2" before "run 10"."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith("."))
    return sorted((path for path in found if path.is_file()), key=_natural)


def _natural(path: Path) -> tuple[Any, ...]:
    parts = re.split(r"(\d+)", path.name)  # text and digits in turns
    return *((part, int(digits)) for part, digits in zip(parts[::2], [*parts[1::2], "0"], strict=True)), path.name


def _find_tables(folder: Path, videos: list[Path]) -> dict[Path, Path]:
    """Return the table of each video.

    Raises:
        ValueError: One has none; the message says what is missing.
    """
    tables = _files(folder, TABLES)
    own = {path.stem: path for path in tables}
    if all(video.stem in own for video in videos):
        every = {path.stem for path in _files(folder, SUFFIXES)}
        if lonely := [path.name for path in tables if path.stem not in every]:
            warnings.warn(f"{folder}: no video belongs to {', '.join(lonely)}, so it is left out.", stacklevel=5)
        return {video: own[video.stem] for video in videos}
    shared = [path for path in tables if path.stem not in {video.stem for video in videos}]
    without = [video.name for video in videos if video.stem not in own]
    if len(shared) != 1:
        found = f"there are {', '.join(path.name for path in shared)}" if shared else "there is none"
        raise refusal(
            str(folder),
            f"there are no actions for {without[0]}"
            + (f" and {len(without) - 1} more" if len(without) > 1 else "")
            + f": put a table beside each video, {Path(without[0]).stem}.csv, or one for all, actions.csv with a "
            f"column 'video'; {found}. Tables are csv, npz or parquet.",
        )
    columns = read_table(shared[0])
    by_name = shared[0].suffix == ".npz" and all(video.stem in columns for video in videos)
    if not by_name and _whose(columns) is None and len(videos) > 1:
        raise refusal(
            str(shared[0]),
            f"it is the only table for {len(videos)} videos, and nothing in it tells whose a row is: add a column "
            f"'video' with their names. It has {', '.join(columns)}.",
            column="video",
        )
    if not by_name and (whose := _whose(columns)) is not None:
        _check_all_there(shared[0], whose, columns[whose], videos, _files(folder, SUFFIXES))
    return dict.fromkeys(videos, shared[0])


def _check_all_there(table: Path, column: str, whose: np.ndarray, videos: list[Path], every: list[Path]) -> None:
    """Warn of rows of videos that are not there; refuse numbers of episodes of which nobody knows the video."""
    if whose.dtype.kind in "fiu" and not (column.lower() == "video" and all(path.stem.isdecimal() for path in videos)):
        if (count := len(np.unique(whose))) > len(videos):
            raise refusal(
                str(table),
                f"it has rows of {count} episodes, and there are {len(videos)} videos, so that nothing tells which "
                "episode a video shows: add the missing ones, or a column 'video' with the names.",
                column=column,
            )
        return
    if whose.dtype.kind in "fiu":
        known = {float(path.stem) for path in every if path.stem.isdecimal()}
        missing = [f"{value:g}" for value in np.unique(whose) if value not in known]
    else:
        known_names = {name for path in every for name in (path.name, path.stem)}
        names = dict.fromkeys(PureWindowsPath(str(name)).name for name in whose)
        missing = [name for name in names if name not in known_names]
    if missing:
        some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        warnings.warn(f"{table}: no video is there for its rows of {some}; they are left out.", stacklevel=6)


def read_table(path: Path) -> Columns:
    """Read a table of numbers; nothing in it is executed.

    Raises:
        ValueError: It cannot be read; the message names the row and the column.
    """
    if path.suffix.lower() == ".parquet":
        return read_parquet(path)
    if path.suffix.lower() == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                arrays = {name: NpzArray(archive, name, str(path)) for name in archive.namelist()}
                return {name.removesuffix(".npy"): array.rows(0, array.shape[0]) for name, array in arrays.items()}
        except (OSError, EOFError, IndexError, zipfile.BadZipFile) as error:
            raise refusal(str(path), f"it is no npz file, cut short or damaged ({error}).") from error
    return _read_csv(path)


def _read_csv(path: Path) -> Columns:
    """Read a csv file in UTF-8 whose first line names the columns, separated by commas, semicolons or tabs."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        separator = max(",;\t", key=first.count)
        header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise refusal(str(path), f"it is no csv file in UTF-8 ({error}).") from error
    names = [name.strip() for name in header]
    ragged = [number for number, row in enumerate(rows) if len(row) != len(names)]
    problem = ""
    if not names:
        problem = "it is empty"
    elif ragged:
        problem = f"row {ragged[0]} has {len(rows[ragged[0]])} of {len(names)} columns"
    elif not rows:
        problem = "it has no rows"
    elif all(_is_number(name) for name in names):
        problem = "its first line has numbers and no names"
    elif len(set(names)) < len(names):
        problem = f"two of its columns have one name, of {', '.join(names)}"
    if problem:
        raise refusal(str(path), f"{problem}; a first line with the names of the columns, and rows are needed.")
    return {name: _parsed([row[i] for row in rows], separator == ";") for i, name in enumerate(names)}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_order(columns: Columns) -> None:
    """Raise ``ColumnError`` unless frame numbers and times, where there are any, grow from row to row."""
    for name, values in columns.items():
        if not _ORDERED.fullmatch(name):
            continue
        if values.ndim == 1 and values.dtype.kind in "fiu" and (np.diff(values.astype(np.float64)) <= 0).any():
            row = int(np.flatnonzero(np.diff(values.astype(np.float64)) <= 0)[0])
            raise ColumnError(name, f"it does not grow from row {row} to row {row + 1}: sort the rows of an episode.")


def _parsed(texts: list[str], decimal_commas: bool) -> np.ndarray:
    """Return a column of a csv file: numbers, or text where a row is no number."""
    for changed in (False, True) if decimal_commas else (False,):
        with contextlib.suppress(ValueError):
            return np.array([float(text.replace(",", ".", 1) if changed else text) for text in texts])
    return np.array([text.strip() for text in texts])


def _whose(columns: Columns) -> str | None:
    """The column that tells whose a row is, if there is one."""
    return next((name for known in _WHOSE for name in columns if name.lower() == known), None)


def _named(columns: Columns, start: str) -> list[str]:
    """Return the columns of actions: those that are called so, or all that may be."""
    found = [name for name in columns if name.lower().startswith(start)]
    return found or [
        name
        for name, values in columns.items()
        if not (name.lower() in _WHOSE or name.lower().startswith("state") or _ORDERED.fullmatch(name))
        and values.dtype.kind in "fiuU"
    ]


def _matrix(columns: Columns, names: Any) -> np.ndarray:
    """Return columns side by side, float64 ``[rows, size]``.

    Raises:
        ColumnError: There are none, or one holds no finite numbers.
    """
    if not names:
        raise ColumnError("action", f"there is no such column; it has {', '.join(columns)}.")
    parts = []
    for name in names:
        values = columns[name]
        if values.dtype.kind == "U":
            row = next((row for row, text in enumerate(values) if not _is_number(text.replace(",", "."))), 0)
            found = f"is {str(values[row])!r}, which is no number" if values[row] else "is empty"
            problem = f"row {row} {found}. Text may be in other columns than action_..., if some are called so."
            raise ColumnError(name, problem)
        if values.dtype.kind not in "fiub" or values.ndim not in (1, 2):
            raise ColumnError(name, f"it is {values.dtype} {values.shape}; numbers [rows] or [rows, size] are needed.")
        part = values.astype(np.float64).reshape(len(values), -1)
        bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
        if len(bad):
            raise ColumnError(name, f"row {bad[0]} is NaN or infinite.")
        parts.append(part)
    return np.concatenate(parts, axis=1)


def _rows_of(whose: np.ndarray, video: Path, index: int, column: str) -> np.ndarray:
    """Return the rows of a video: by its name with or without ending, or by its number in the order of names."""
    if whose.dtype.kind in "fiu":
        rows = whose == (float(video.stem) if column.lower() == "video" and video.stem.isdecimal() else index)
    else:
        rows = np.array([PureWindowsPath(str(name)).name in (video.name, video.stem) for name in whose])
    if not rows.any():
        known = ", ".join(f"{value:g}" if whose.dtype.kind == "f" else str(value) for value in np.unique(whose)[:4])
        raise ColumnError(
            column, f"it has no rows for {video.name} (number {index}, counted from 0); it has {known}, ..."
        )
    return np.flatnonzero(rows)


def _rate_hint(video: Path, frames: int, rows: int) -> str:
    fps = video_info(video).fps
    rate = fps * rows / frames
    if abs(rate - round(rate)) < 0.05 * rate and abs(rate - fps) > 0.05 * fps:
        return f"The video has {fps:g} frames a second; the rows look like {rate:.0f} a second: bring both to one rate."
    return "Is the video cut short?"
