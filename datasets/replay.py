"""A dataset that grows while an agent acts: the newest episodes, in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from wm_agents.configs import whole_number
from wm_agents.datasets.dataset import TrajectoryDataset

LEAST = 200
"""Frames that a replay buffer holds at least."""


class ReplayDataset(TrajectoryDataset):
    """A dataset of which nothing is held out: experience that is still to come is the test."""

    def split(self, validation_fraction: float = 0.1, seed: int = 0) -> tuple[TrajectoryDataset, TrajectoryDataset]:
        """Return all of it, for training and for validation."""
        return self, self


class ReplayBuffer:
    """Images and actions of the newest episodes; nothing of the simulator's state, and no rewards.

    Args:
        size: Frames that it holds; the oldest episodes make room for new ones.
        image_size: Height and width of the frames in pixels.
        action_low: ``[A]``, bounds of the actions.
        action_high: ``[A]``.
        choices: Number of choices of each discrete action, whose one-hot vectors make up A.

    Attributes:
        starts: The first frame of each episode, oldest episode first.
        lengths: The number of actions in each episode; it has one more frame.

    Raises:
        ValueError: The size is too small, or it does not fit into the machine's memory.
    """

    def __init__(
        self,
        size: int,
        image_size: int,
        action_low: np.ndarray,
        action_high: np.ndarray,
        choices: tuple[int, ...] = (),
    ) -> None:
        self.size = whole_number("buffer_size", size, LEAST)
        needed = self.size * image_size * image_size * 3
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else np.inf
        if needed > 0.8 * memory:
            raise ValueError(
                f"a replay buffer of {self.size:,} frames takes {needed / 1e9:.0f} GB, and this machine has "
                f"{memory / 1e9:.0f} GB: give a smaller buffer_size."
            )
        self.action_low, self.action_high, self.choices = action_low, action_high, tuple(choices)
        self.pixels = np.empty((self.size, image_size, image_size, 3), np.uint8)  # memory that is used when written
        self.actions = np.zeros((self.size, len(action_low)), np.float32)
        self.starts: list[int] = []
        self.lengths: list[int] = []
        self._end = 0

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.lengths)

    @property
    def longest(self) -> int:
        """Actions of the longest episode that may be added: two such episodes always fit."""
        return self.size // 4 - 1

    def add(self, pixels: Sequence[np.ndarray] | np.ndarray, actions: Sequence[np.ndarray] | np.ndarray) -> None:
        """Store an episode.

        Args:
            pixels: uint8 ``[L+1, H, W, 3]``.
            actions: ``[L, A]``, in environment units; one-hot vectors where they are discrete.

        Raises:
            ValueError: It has no action, more than :attr:`longest`, or not one more frame than actions.
        """
        length = len(actions)
        if not 1 <= length <= self.longest or len(pixels) != length + 1:
            raise ValueError(
                f"an episode has 1 to {self.longest} actions and one more frame, not {length} and {len(pixels)}."
            )
        wraps = self._end + length + 1 > self.size
        first = 0 if wraps else self._end
        last = first + length + 1
        kept = [
            (start, count)
            for start, count in zip(self.starts, self.lengths, strict=True)
            if (start >= last or start + count + 1 <= first) and not (wraps and start >= self._end)
        ]
        self.pixels[first:last] = pixels
        self.actions[first : last - 1], self.actions[last - 1] = actions, 0
        self.starts = [*(start for start, _ in kept), first]
        self.lengths = [*(count for _, count in kept), length]
        self._end = last

    def frame(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a frame (uint8 ``[H, W, 3]``), all equally likely."""
        counts = np.cumsum(np.add(self.lengths, 1))
        place = rng.integers(counts[-1])
        episode = int(np.searchsorted(counts, place, side="right"))
        return self.pixels[self.starts[episode] + place - (counts[episode - 1] if episode else 0)].copy()

    def dataset(self, env_id: str = "") -> ReplayDataset:
        """Return the episodes as a dataset, which is valid until the next one is added."""
        order = np.argsort(self.starts)
        provenance: dict[str, Any] = {"policy": "replay buffer"}
        return ReplayDataset(
            name="replay buffer",
            env_id=env_id,
            pixels=self.pixels,
            actions=self.actions,
            states=np.zeros((self.size, 0)),
            starts=np.array(self.starts, np.int64)[order],
            lengths=np.array(self.lengths, np.int64)[order],
            action_low=self.action_low,
            action_high=self.action_high,
            state_names=(),
            provenance=provenance,
            episode_ids=np.arange(len(self)),
            choices=self.choices,
        )
