"""The training reader: a memory map of every frame, random windows, hindsight goals, splits by episode."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_agents.configs import whole_number
from wm_agents.datasets.frame_files import take

if TYPE_CHECKING:  # torch comes with these; a collection process does without
    from wm_agents.types import Hindsight, Window


@dataclass(frozen=True, eq=False)
class TrajectoryDataset:
    """Episodes of frames and actions, all in one set of arrays of N frames.

    Frame and action indices are global: the indices of a split are valid in the arrays of the whole dataset.

    Attributes:
        name: Minari id.
        env_id: Gymnasium id of the task; empty if the dataset does not contain it.
        pixels: uint8 ``[N, H, W, C]``, a read-only memory map.
        actions: float32 ``[N, A]``, environment units; row ``i`` was taken at frame ``i``, zeros at an episode's end.
        states: float64 ``[N, S]``, simulator states (S may be 0 in a dataset from elsewhere).
        starts: int64 ``[E]``, the first frame of each episode.
        lengths: int64 ``[E]``, the number of actions in each episode; it has one more frame.
        action_low: float32 ``[A]``, bounds of the action space.
        action_high: float32 ``[A]``.
        choices: Number of choices of each discrete action, whose one-hot vectors make up A; empty for continuous ones.
        state_names: Names of the S numbers.
        provenance: Policy, seed, versions, episodes and ``sha256`` (of actions, states and pixels).
        episode_ids: int64 ``[E]``, each episode's index in the Minari dataset.
        goal_states: float64 ``[N, S]``, the goal of the policy at each frame, NaN where none is recorded; None if the
            dataset holds no goals.
    """

    name: str
    env_id: str
    pixels: np.ndarray = field(repr=False)
    actions: np.ndarray = field(repr=False)
    states: np.ndarray = field(repr=False)
    starts: np.ndarray = field(repr=False)
    lengths: np.ndarray = field(repr=False)
    action_low: np.ndarray
    action_high: np.ndarray
    state_names: tuple[str, ...]
    provenance: dict[str, Any] = field(repr=False)
    episode_ids: np.ndarray = field(repr=False)
    choices: tuple[int, ...] = ()
    goal_states: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.lengths)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self.lengths.sum()) + len(self)

    def frames_at(self, index: np.ndarray) -> np.ndarray:
        """Read frames, uint8 ``[..., H, W, C]``, by their indices ``[...]``.

        Frames of a large memory map do not stay in the memory of the process, but in the system's cache of files while
        there is room: training on any amount of data takes as much memory as training on little.
        """
        return take(self.pixels, index)

    def frame_indices(self) -> np.ndarray:
        """Return the indices (int64 ``[frames]``) of all frames, episode by episode."""
        return self._ranges(self.lengths + 1)

    def split(self, validation_fraction: float = 0.1, seed: int = 0) -> tuple[TrajectoryDataset, TrajectoryDataset]:
        """Split by episode into training and validation data that share the memory map.

        Args:
            validation_fraction: Share of the episodes held out, in (0, 1); at least one episode goes to each side.
            seed: Chooses the episodes; the same seed gives the same split.

        Raises:
            ValueError: The fraction is outside (0, 1), the seed is not a whole number, or there are fewer than two
                episodes.
        """
        seed = whole_number("seed", seed)
        if not (isinstance(validation_fraction, Real) and 0 < validation_fraction < 1):
            raise ValueError(f"validation_fraction must lie between 0 and 1 (exclusive), got {validation_fraction!r}.")
        if len(self) < 2:
            raise ValueError(f"Dataset {self.name!r} has {len(self)} episode(s); a split by episode needs two or more.")
        held_out = min(max(round(validation_fraction * len(self)), 1), len(self) - 1)
        order = np.random.default_rng(seed).permutation(len(self))
        return self._select(np.sort(order[held_out:])), self._select(np.sort(order[:held_out]))

    def windows(self, batch_size: int, frames: int, block: int, rng: np.random.Generator) -> Window:
        """Draw random windows; every window that fits into an episode is equally likely.

        Args:
            batch_size: Windows B.
            frames: Frames T of a window, K steps apart.
            block: Actions K between two frames.
            rng: Source of randomness.

        Returns:
            Pixels ``[B, T, H, W, C]``, action blocks ``[B, T-1, K*A]`` and states ``[B, T, S]``.

        Raises:
            ValueError: A size is below 1, or no episode is as long as a window.
        """
        from wm_agents.types import Window

        batch_size, frames, block = _positive(batch_size=batch_size, frames=frames, block=block)
        span = (frames - 1) * block
        first = self._draw(self.lengths - span + 1, batch_size, rng, f"{frames} frames, {block} steps apart", span)[0]
        index = first[:, None] + np.arange(frames) * block
        steps = first[:, None] + np.arange(span)
        actions = self.actions[steps].reshape(batch_size, frames - 1, block * self.actions.shape[1])
        return Window(pixels=self.frames_at(index), actions=actions, states=self.states[index])

    def segments(self, batch_size: int, steps: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the first frames (int64 ``[B]``) of random stretches of ``steps`` actions, all equally likely.

        Raises:
            ValueError: A size is below 1, or no episode is that long.
        """
        batch_size, steps = _positive(batch_size=batch_size, steps=steps)
        return self._draw(self.lengths - steps + 1, batch_size, rng, f"{steps} steps", steps)[0]

    def hindsight(self, batch_size: int, max_horizon: int, rng: np.random.Generator, min_horizon: int = 1) -> Hindsight:
        """Draw frames (uniformly over all that have such a goal) and a later frame of the same episode as goal.

        Args:
            batch_size: Pairs B.
            max_horizon: The goal is uniform among the frames up to ``max_horizon`` steps ahead, as far as the episode
                goes.
            rng: Source of randomness.
            min_horizon: Goals are at least this many steps ahead.

        Raises:
            ValueError: A size is below 1, or no episode is as long as ``min_horizon``.
        """
        from wm_agents.types import Hindsight

        batch_size, max_horizon, min_horizon = _positive(
            batch_size=batch_size, max_horizon=max_horizon, min_horizon=min_horizon
        )
        goal = f"a goal {min_horizon} steps ahead"
        frame, left = self._draw(self.lengths - min_horizon + 1, batch_size, rng, goal, min_horizon)
        steps = rng.integers(min_horizon, np.minimum(left, max_horizon), endpoint=True)
        return Hindsight(frame=frame, goal=frame + steps, steps=steps, actions=self.actions[frame])

    def commanded_goals(self) -> tuple[np.ndarray, TrajectoryDataset]:
        """Return the episodes that were sent to one goal and reached it, and pictures of these goals.

        The goals are drawn by the task, and its success test tells which of them were reached.

        Returns:
            The first frames of these episodes, int64 ``[G]`` in rising order, and the pictures as a dataset of G
            episodes that are one frame long.

        Raises:
            ValueError: No episode was sent to a goal and reached it, or the data are not of one of this library's
                tasks.
        """
        from wm_agents.datasets.commanded import commanded_goals

        return commanded_goals(self)

    def episode_of(self, frames: np.ndarray) -> np.ndarray:
        """Return the position (int64 ``[B]``, 0 to ``len(self) - 1``) of the episode that each frame belongs to."""
        return np.searchsorted(self.starts, frames, side="right") - 1

    def action_mean_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (float32 ``[A]``) of this split's actions; 1 where one never varies.

        One-hot vectors of discrete actions stay as they are: 0 and 1.
        """
        if self.choices:
            return np.zeros_like(self.action_low), np.ones_like(self.action_low)
        actions = self.actions[self._ranges(self.lengths)].astype(np.float64)
        std = actions.std(axis=0)
        return actions.mean(axis=0).astype(np.float32), np.where(std > 1e-8, std, 1.0).astype(np.float32)

    def _draw(
        self, counts: np.ndarray, size: int, rng: np.random.Generator, what: str, needed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw frames uniformly among the first ``counts[e]`` of each episode; also how many steps each has left."""
        ends = np.cumsum(np.maximum(counts, 0))
        if not len(ends) or ends[-1] == 0:
            longest = int(np.argmax(self.lengths)) if len(self) else None
            found = (
                "it has no episodes"
                if longest is None
                else (f"the longest episode, {self.episode_ids[longest]}, has {self.lengths[longest]} actions")
            )
            raise ValueError(
                f"No episode of {self.name!r} holds {what} ({needed} actions): {found}. "
                "Use fewer frames or smaller blocks, or collect longer episodes."
            )
        position = rng.integers(ends[-1], size=size)
        episode = np.searchsorted(ends, position, side="right")
        offset = position - np.where(episode > 0, ends[episode - 1], 0)
        return self.starts[episode] + offset, self.lengths[episode] - offset

    def _ranges(self, counts: np.ndarray) -> np.ndarray:
        """Return the first ``counts[e]`` frame indices of every episode, concatenated."""
        before = np.cumsum(counts) - counts
        return np.repeat(self.starts - before, counts) + np.arange(int(counts.sum()))

    def _select(self, episodes: np.ndarray) -> TrajectoryDataset:
        return replace(
            self,
            starts=self.starts[episodes],
            lengths=self.lengths[episodes],
            episode_ids=self.episode_ids[episodes],
        )


def _positive(**sizes: int) -> list[int]:
    """Return the sizes as Python's ints.

    Raises:
        ValueError: One of them is not a whole number, or is below 1.
    """
    checked = {name: whole_number(name, value) for name, value in sizes.items()}
    for name, value in checked.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    return list(checked.values())
