"""Any Minari dataset with images: other people's keys, sizes and colours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import minari
import numpy as np

from wm_agents.datasets.checks import ColumnError, chosen_images, numbers, refusal
from wm_agents.datasets.discrete import discrete_space
from wm_agents.datasets.import_sources import Record, Source, local_root


class MinariDataset(Source):
    """A local Minari dataset; its images are the observation itself or a part of it, ``pixels="camera/front"``.

    States are ``infos["state"]`` where there are any, else the parts of the observation that are vectors.
    """

    described_as: ClassVar[str] = "a local Minari dataset with images, by its id"

    def __init__(self, place: str, task: Any | None, pixels: str | None = None) -> None:
        self.place = place
        self.files = tuple(sorted(path for path in (local_root(place) / "data").iterdir() if path.is_file()))
        self._dataset = minari.load_dataset(place)
        self.episodes = int(self._dataset.total_episodes)
        space = self._dataset.action_space
        if isinstance(space, gym.spaces.Discrete):
            self.action_size, self.action_space = 1, discrete_space(int(space.n))
        elif isinstance(space, gym.spaces.MultiDiscrete) and space.nvec.ndim == 1:
            self.action_size, self.action_space = len(space.nvec), discrete_space(space.nvec)
        elif isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
            self.action_size, self.action_space = space.shape[0], space
        else:
            problem = f"its action space is {space}; a one-dimensional Box, Discrete or MultiDiscrete is needed."
            raise refusal(place, problem, column="actions")
        self._start = 0 if isinstance(space, gym.spaces.Box) else np.asarray(space.start)
        leaves = dict(_leaves(self._dataset.observation_space))
        images = {name: leaf for name, leaf in leaves.items() if _is_image(leaf)}
        self._camera = chosen_images(place, images, pixels)
        shape: Any = images[self._camera].shape
        first = len(shape) == 3 and shape[2] not in (1, 3, 4)  # channels
        self.image_shape = shape[1:] if first else shape[:2]
        self._vectors = [
            name for name, leaf in leaves.items() if isinstance(leaf, gym.spaces.Box) and len(leaf.shape) == 1
        ]
        self._iterator: Iterator[Any] = iter(())
        self._next = self.episodes
        self.state_names = tuple(f"state_{i}" for i in range(self._first_state_size()))

    @classmethod
    def recognises(cls, place: str) -> bool:
        """Tell whether it looks like a Minari id, and no file is called so."""
        return re.fullmatch(r"[\w./-]+-v\d+", place) is not None and not Path(place).exists()

    def read(self, index: int, *, pixels: bool) -> Record:
        """Read one episode; see :class:`~wm_agents.datasets.import_sources.Source`."""
        episode = self._episode(index)
        actions = np.asarray(episode.actions, dtype=np.float64) - self._start
        actions = actions[:, None] if actions.ndim == 1 else actions
        images = _part(episode.observations, self._camera)
        if images is None or len(images) != len(actions) + 1 or len(actions) < 2:
            found = 0 if images is None else len(images)
            problem = f"it has {found} frames for {len(actions)} actions; one more, and two actions, are needed."
            raise refusal(self.place, problem, episode=index, column=self._camera or "observations")
        try:
            return Record(numbers(actions, "action", "T"), self._states(episode), images if pixels else None)
        except ColumnError as error:
            raise refusal(self.place, error.problem, episode=index, column=error.column) from error

    def _episode(self, index: int) -> Any:
        if index < self._next or self._next == self.episodes:
            self._next, self._iterator = 0, iter(self._dataset.iterate_episodes())
        try:
            for _ in range(index - self._next + 1):
                episode = next(self._iterator)
        except (OSError, KeyError, RuntimeError, AssertionError, StopIteration) as error:
            self._next = self.episodes
            raise refusal(self.place, f"it cannot be read ({error!r}); download it again.", episode=index) from error
        self._next = index + 1
        return episode

    def _states(self, episode: Any) -> np.ndarray | None:
        steps = len(episode.actions) + 1
        state = (episode.infos or {}).get("state")
        if state is not None and np.ndim(state) == 2 and len(state) == steps:
            return numbers(state, "state", "T+1")
        parts = [_part(episode.observations, name) for name in self._vectors]
        return numbers(np.concatenate(parts, axis=1), "state", "T+1") if parts else None

    def _first_state_size(self) -> int:
        state = self._states(self._episode(0)) if self.episodes else None
        return 0 if state is None else state.shape[1]


def _leaves(space: gym.Space[Any], name: str = "") -> Iterator[tuple[str, gym.Space[Any]]]:
    """Yield the parts of a space and their paths, ``camera/front``; the whole space has the path ``""``."""
    if isinstance(space, gym.spaces.Dict):
        for key, part in space.spaces.items():
            yield from _leaves(part, f"{name}/{key}" if name else key)
    else:
        yield name, space


def _is_image(space: gym.Space[Any]) -> bool:
    if not isinstance(space, gym.spaces.Box) or len(space.shape) not in (2, 3):
        return False
    colours = len(space.shape) == 2 or space.shape[2] in (1, 3, 4) or space.shape[0] in (1, 3, 4)
    floats = space.dtype.kind == "f" and len(space.shape) == 3 and bool((space.low >= 0).all())
    return colours and (space.dtype == np.uint8 or floats)


def _part(observations: Any, path: str) -> Any:
    for key in path.split("/") if path else ():
        if not isinstance(observations, dict) or key not in observations:
            return None
        observations = observations[key]
    return observations
