"""robomimic's HDF5: ``/data/demo_0/actions``, ``/data/demo_0/obs/agentview_image`` and so on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from wm_agents.datasets.checks import chosen_images, refusal
from wm_agents.datasets.import_sources import Record, Source, checked_rows


class RobomimicFile(Source):
    """Rows are frames; the last row of a demonstration has an action too, which leads nowhere and is dropped."""

    described_as: ClassVar[str] = "a robomimic HDF5 file with images"

    def __init__(self, place: str, task: Any | None, pixels: str | None = None) -> None:
        self.place, self.files = place, (Path(place),)
        try:
            self._file = h5py.File(place, "r")
        except OSError as error:
            raise refusal(place, f"it is cut short or damaged ({error}).") from error
        try:
            names = [name for name in self._file["data"] if re.fullmatch(r"demo_\d+", name)]
            self._demos = sorted(names, key=lambda name: int(name.removeprefix("demo_")))
            self.episodes = len(self._demos)
            first = self._file["data"][self._demos[0]]
            images = {name: part for name, part in first.get("obs", {}).items() if part.ndim == 4}
            if not images:
                problem = "it has no images; make them with robomimic's dataset_states_to_obs.py."
                raise refusal(place, problem, episode=0, column="obs")
            self._camera = chosen_images(place, images, pixels)
            shape = images[self._camera].shape[1:]
            self.image_shape = shape[:2] if shape[2] in (1, 3, 4) else shape[1:]
            self.action_size = self._column(0, "actions").shape[1]
            size = self._column(0, "states").shape[1] if "states" in first else 0
            self.state_names = tuple(f"state_{i}" for i in range(size))
        except BaseException:
            self.close()
            raise

    @classmethod
    def recognises(cls, place: str) -> bool:
        """Tell by the groups inside an HDF5 file."""
        if not Path(place).is_file() or not h5py.is_hdf5(place):
            return False
        try:
            with h5py.File(place, "r") as file:
                data = file.get("data")
                return isinstance(data, h5py.Group) and any(name.startswith("demo_") for name in data)
        except OSError:
            return False

    def read(self, index: int, *, pixels: bool) -> Record:
        """Read one episode; see :class:`~wm_agents.datasets.import_sources.Source`."""
        actions = checked_rows(self.place, index, "actions", self._rows(index, "actions"), last_may_be_nan=True)
        if len(actions) < 3:
            problem = f"it has {len(actions)} row(s); two actions and the frame after them take three."
            raise refusal(self.place, problem, episode=index)
        states = checked_rows(self.place, index, "states", self._rows(index, "states")) if self.state_names else None
        column = f"obs/{self._camera}"
        for name, rows in (("states", states), (column, self._column(index, column))):
            if rows is not None and len(rows) != len(actions):
                problem = f"it has {len(rows)} rows, the actions {len(actions)}."
                raise refusal(self.place, problem, episode=index, column=name)
        return Record(actions[:-1], states, self._rows(index, column) if pixels else None)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _column(self, index: int, name: str) -> Any:
        demo = self._file["data"][self._demos[index]]
        if name not in demo:
            problem = f"{self._demos[index]} has no such column; it has {', '.join(demo)}."
            raise refusal(self.place, problem, episode=index, column=name)
        return demo[name]

    def _rows(self, index: int, name: str) -> np.ndarray:
        try:
            return np.asarray(self._column(index, name)[:])
        except (OSError, RuntimeError) as error:
            raise refusal(self.place, f"it cannot be read ({error}).", episode=index, column=name) from error
