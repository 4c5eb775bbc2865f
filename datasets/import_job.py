"""One import: the episodes of a source, checked and turned into those of the dataset to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer

from wm_agents.datasets.checks import ColumnError, SquareFrames, refusal
from wm_agents.datasets.discrete import DiscreteSpace, discrete_space, whole_actions
from wm_agents.datasets.import_sources import Record, Source, replay_error
from wm_agents.datasets.writing import bounded, episode_buffer

MAX_CLIPPED = 0.01
"""Largest share of actions that may lie outside the task's bounds, to be clipped to them."""
MAX_REPLAY_ERROR = 0.15
"""Largest error of replayed transitions; see :func:`~wm_agents.datasets.import_sources.replay_error`.

OGBench's own cube has 0.01 and exact data 0. On PointMaze, PushT, Reacher and Cube, actions of 0.64 times their size
have 0.20 to 0.42, actions stored one row late 0.28 to 0.87.
"""
_REPLAYED_EPISODES, _REPLAYED_STEPS = 16, 8  # at most, and of each


class Job:
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
        choices: Any = None,
    ) -> None:
        self.place, self.source, self.task, self.skip_invalid = place, source, task, skip_invalid
        self._square = SquareFrames(image_size, resize)
        self.total = min(source.episodes, limit or source.episodes)
        self.image_size = image_size
        self.scale = scale if scale is not None else source.default_action_scale(task) if task else 1.0
        given = source.action_space if choices is None else discrete_space(choices)
        self.discrete = None if task or isinstance(given, gym.spaces.Box | None) else given
        if choices is not None and task:
            raise refusal(place, f"the actions of {task.spec.id} are continuous: leave choices out.", column="actions")
        if self.discrete and self.scale != 1:
            raise refusal(place, "its actions are discrete: leave action_scale out.", column="actions")
        own = given if isinstance(given, gym.spaces.Box) and self.scale == 1 else None
        free = gym.spaces.Box(-np.inf, np.inf, (source.action_size,), np.float32)
        self._box: gym.spaces.Box = task.action_space if task else own or free
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

    @property
    def action_space(self) -> gym.spaces.Box | DiscreteSpace:
        """Of the dataset to be."""
        return self.discrete or self._box

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
        self._box = bounded(self._box, low, high)
        self.found["clipped_actions"] = outside / count
        if outside > MAX_CLIPPED * count:
            bounds = f"{self._box.low.tolist()} to {self._box.high.tolist()}"
            owner = self.task.spec.id if self.task else "its own action space"
            raise refusal(
                self.place,
                f"{outside / count:.1%} of the actions (from {low.round(3).tolist()} to {high.round(3).tolist()}, "
                f"multiplied by {self.scale:g}) lie outside the bounds of {owner}, {bounds}. They may have "
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
            actions = self._taken(record.actions)
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
            record = self.source.read(index, pixels=pixels)
            if self.discrete:
                whole_actions(record.actions, self.discrete)  # an error belongs to the reading
            return record
        except ValueError as error:
            if self.skip_invalid:
                return None
            if isinstance(error, ColumnError):
                raise refusal(self.place, error.problem, episode=index, column=error.column) from error
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
            stored = self._square.of(record.pixels)
            if len(stored) != len(record.actions) + 1:
                raise ColumnError("pixels", f"it has {len(stored)} frames for {len(record.actions)} actions.")
            return stored
        except ValueError as error:
            if self.skip_invalid:
                return None
            if isinstance(error, ColumnError):
                raise refusal(self.place, error.problem, episode=index, column="pixels") from error
            raise

    def _taken(self, actions: np.ndarray) -> np.ndarray:
        """Return actions ``[L, A]`` of the source as the dataset has them."""
        if self.discrete:
            return whole_actions(actions, self.discrete)
        return self._clipped(actions * self.scale).astype(np.float32)

    def _clipped(self, actions: np.ndarray) -> np.ndarray:
        return np.clip(actions, self._box.low, self._box.high)

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
