"""LeRobot's datasets, versions 2.1 and 3.0: a folder with parquet tables, videos, and ``meta/info.json``."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from wm_agents.datasets.checks import chosen_images, refusal
from wm_agents.datasets.import_sources import Record, Source, checked_rows
from wm_agents.datasets.parquet import read_parquet
from wm_agents.datasets.videos import count_frames, read_video, video_info

_ACTION, _STATE = "action", "observation.state"


class _Episode(NamedTuple):
    """Where an episode lies: its table and the rows there, its video and the seconds there to its first frame."""

    length: int
    table: Path
    first: int
    video: Path | None
    start: float


class LeRobotDataset(Source):
    """Rows are frames; the last row of an episode has an action too, which leads nowhere and is dropped.

    The frames come from the videos of one camera, ``pixels``, or from images inside the tables.
    """

    described_as: ClassVar[str] = "a LeRobot dataset, v2.1 or v3.0 (the folder with meta/info.json)"

    def __init__(self, place: str, task: Any | None, pixels: str | None = None) -> None:
        self.place, self._root = place, Path(place)
        self._info = self._read_info()
        self._version = str(self._info.get("codebase_version", ""))
        if not self._version.startswith(("v2.", "v3.")):
            problem = f"its version is {self._version or 'missing'}; v2.1 and v3.0 can be read."
            raise refusal(str(self._root / "meta" / "info.json"), problem, column="codebase_version")
        features = self._info["features"]
        images = {name: f for name, f in features.items() if f.get("dtype") in ("image", "video")}
        self._camera = chosen_images(place, images, pixels)
        self._in_videos = images[self._camera]["dtype"] == "video"
        self._fps = float(self._info["fps"])
        if _ACTION not in features:
            raise refusal(place, f"there is no such column; it has {', '.join(features)}.", column=_ACTION)
        self.action_size = int(np.prod(features[_ACTION]["shape"]))
        size = int(np.prod(features[_STATE]["shape"])) if _STATE in features else 0
        self.state_names = tuple(f"state_{i}" for i in range(size))
        self._episodes = list(self._episodes_v2() if self._version.startswith("v2.") else self._episodes_v3())
        self.episodes = len(self._episodes)
        if not self.episodes:
            raise refusal(place, "it has no episodes.")
        places = {path for episode in self._episodes for path in (episode.table, episode.video) if path is not None}
        for path in sorted(places):
            if not path.is_file():
                raise refusal(place, f"the file {path.relative_to(self._root)} is missing: download it again.")
        self.files = (self._root / "meta" / "info.json", *sorted(places))
        self._loaded: tuple[Path, dict[str, np.ndarray]] | None = None
        self.image_shape = self._image_shape()

    @classmethod
    def recognises(cls, place: str) -> bool:
        """Tell whether it is a folder with LeRobot's sub-folders."""
        folder = Path(place)
        return (folder / "meta" / "info.json").is_file() or ((folder / "meta").is_dir() and (folder / "data").is_dir())

    def read(self, index: int, *, pixels: bool) -> Record:
        """Read one episode; see :class:`~wm_agents.datasets.import_sources.Source`."""
        episode = self._episodes[index]
        columns = self._columns(episode)
        rows = slice(episode.first, episode.first + episode.length)
        if len(columns[_ACTION][rows]) != episode.length:
            problem = f"it has {len(columns[_ACTION][rows])} rows for the episode, meta/ says {episode.length}."
            raise refusal(str(episode.table), problem, episode=index)
        self._check_rate(index, episode, columns["timestamp"][rows])
        actions = checked_rows(str(episode.table), index, _ACTION, columns[_ACTION][rows], last_may_be_nan=True)
        states = None
        if self.state_names:
            states = checked_rows(str(episode.table), index, _STATE, columns[_STATE][rows])
        frames = self._frames(index, episode, columns, rows) if pixels else None
        return Record(actions[:-1], states, frames)

    def _read_info(self) -> dict[str, Any]:
        path = self._root / "meta" / "info.json"
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
            for key in ("features", "fps", "data_path"):
                if key not in info:
                    raise refusal(str(path), "it is missing: is it LeRobot's?", column=key)
            for name, feature in info["features"].items():
                if not isinstance(feature, dict) or not {"dtype", "shape"} <= set(feature):
                    raise refusal(str(path), f"{name!r} has no dtype and shape: is it LeRobot's?", column="features")
            return info
        except FileNotFoundError:
            raise refusal(self.place, "meta/info.json is missing: download the whole dataset.") from None
        except (OSError, json.JSONDecodeError) as error:
            raise refusal(str(path), f"it cannot be read ({error}).") from error

    def _episodes_v2(self) -> Iterator[_Episode]:
        path = self._root / "meta" / "episodes.jsonl"
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            lengths = {int(line["episode_index"]): int(line["length"]) for line in lines}
        except FileNotFoundError:
            raise refusal(self.place, "meta/episodes.jsonl is missing: download the whole dataset.") from None
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise refusal(str(path), f"it cannot be read ({error!r}).") from error
        for episode, length in sorted(lengths.items()):
            names = {"episode_index": episode, "episode_chunk": episode // int(self._info.get("chunks_size", 1000))}
            table, video = self._paths(names, names)
            yield _Episode(length, table, 0, video, 0.0)

    def _episodes_v3(self) -> Iterator[_Episode]:
        tables = sorted((self._root / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
        if not tables:
            raise refusal(self.place, "meta/episodes/ is missing: download the whole dataset.")
        begins: dict[Path, int] = {}  # the first row of the dataset that each table holds
        video = f"videos/{self._camera}"
        wanted = ["episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index"]
        if self._in_videos:
            wanted += [f"{video}/chunk_index", f"{video}/file_index", f"{video}/from_timestamp"]
        parts = [read_parquet(table, wanted) for table in tables]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in wanted}
        for row in np.argsort(columns["episode_index"]):
            at = {name: values[row] for name, values in columns.items()}
            data = {"chunk_index": int(at["data/chunk_index"]), "file_index": int(at["data/file_index"])}
            shown = {key: int(at[f"{video}/{key}"]) for key in data} if self._in_videos else {}
            path, file = self._paths(data, shown)
            first = int(at["dataset_from_index"])
            start = float(at[f"{video}/from_timestamp"]) if self._in_videos else 0.0
            yield _Episode(int(at["length"]), path, first - begins.setdefault(path, first), file, start)

    def _paths(self, table: dict[str, int], video: dict[str, int]) -> tuple[Path, Path | None]:
        found = self._path("data_path", table)
        return found, self._path("video_path", {"video_key": self._camera, **video}) if self._in_videos else None

    def _path(self, key: str, names: dict[str, Any]) -> Path:
        try:
            return self._root / self._info[key].format(**names)
        except (AttributeError, IndexError, KeyError, ValueError) as error:
            problem = f"it is missing, or has other fields than {', '.join(names)} ({error!r})."
            raise refusal(str(self._root / "meta" / "info.json"), problem, column=key) from error

    def _columns(self, episode: _Episode) -> dict[str, np.ndarray]:
        """Return the columns of an episode's table; the last table is kept, since many episodes may share it."""
        if self._loaded is None or self._loaded[0] != episode.table:
            wanted = [_ACTION, "timestamp", *([_STATE] if self.state_names else [])]
            wanted += [] if self._in_videos else [self._camera]
            self._loaded = episode.table, read_parquet(episode.table, wanted)
        return self._loaded[1]

    def _check_rate(self, index: int, episode: _Episode, times: np.ndarray) -> None:
        """Raise unless table, metadata and video have one number of frames a second, and enough frames."""
        rate = 1 / max(float(np.median(np.diff(times))), 1e-9) if len(times) > 1 else self._fps
        if abs(rate - self._fps) > 0.05 * self._fps:
            problem = f"it has {rate:.3g} rows a second; meta/info.json says {self._fps:g} frames a second."
            raise refusal(str(episode.table), problem, episode=index, column="timestamp")
        late = np.abs(times - times[:1] - np.arange(len(times)) / self._fps) > 0.5 / self._fps
        if late.any() or not np.isfinite(times).all():
            row = int(np.argmax(late))
            problem = f"row {row} is at {times[row]:g} s; rows are missing, doubled, or in another order."
            raise refusal(str(episode.table), problem, episode=index, column="timestamp")
        if episode.video is None:
            return
        shown = video_info(episode.video).fps
        if abs(shown - self._fps) > 0.05 * self._fps:
            problem = f"it has {shown:g} frames a second; meta/info.json says {self._fps:g}."
            raise refusal(str(episode.video), problem, episode=index)
        held, needed = count_frames(episode.video), round(episode.start * self._fps) + episode.length
        if held < needed:
            problem = f"it has {held} frames, and the table needs {needed} to the end of the episode: is it cut short?"
            raise refusal(str(episode.video), problem, episode=index)

    def _frames(
        self, index: int, episode: _Episode, columns: dict[str, np.ndarray], rows: slice
    ) -> Iterator[np.ndarray]:
        if episode.video is not None:
            start = max(0.0, episode.start - 0.5 / self._fps)  # half a frame before: times are rounded
            return read_video(episode.video, episode.length, start=start)
        return (self._stored(index, episode, row, value) for row, value in enumerate(columns[self._camera][rows]))

    def _stored(self, index: int, episode: _Episode, row: int, value: Any) -> np.ndarray:
        """Decode an image that is in the table, as PNG or JPEG."""
        try:
            with Image.open(io.BytesIO(value["bytes"]), formats=("PNG", "JPEG")) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, TypeError, KeyError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            problem = f"row {row} is no image that can be read ({error})."
            raise refusal(str(episode.table), problem, episode=index, column=self._camera) from error

    def _image_shape(self) -> tuple[int, int]:
        first = self._episodes[0]
        if first.video is not None:
            info = video_info(first.video)
            return info.height, info.width
        height, width = self._stored(0, first, 0, self._columns(first)[self._camera][first.first]).shape[:2]
        return height, width
