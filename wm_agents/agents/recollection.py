"""What ``predict`` remembers from its last calls if it is called without a state."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from wm_agents.agents.memory import Fields

Key = tuple[int, int]
"""A goal image's checksum, and how many rows of the same call had that goal before this one."""

RECENT = 16  # calls: as many environments may be stepped in turn
REPEATS = 10  # calls with the same frame that get the same answer
JUMP = 4.0  # times the largest change between two frames of the episode


@dataclass
class _Row:
    """One environment in the last call that showed it."""

    call: int
    row: int
    frame: np.ndarray
    before: Fields
    after: Fields
    largest: float
    repeats: int


class Recollection:
    """Lets ``action, _ = agent.predict(observation)`` act as well as a loop that passes the state back.

    An environment is identified by its goal image: a call continues from the last one with the same goal. A call with
    the same frame again gets the same answer. If a frame differs from the last one far more than two frames of that
    episode did, a new episode begins.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._rows: dict[Key, _Row] = {}

    def recall(self, memory: Fields, pixels: np.ndarray, checksums: np.ndarray) -> list[_Row]:
        """Write what is remembered into ``memory``, which is as at an episode's start.

        Args:
            memory: Arrays ``[N, ...]``.
            pixels: ``[N, H, W, C]``.
            checksums: ``[N]``, of the goal images.

        Returns:
            The rows of this call, for :meth:`keep`.
        """
        self._calls += 1
        self._rows = {key: row for key, row in self._rows.items() if self._calls - row.call <= RECENT}
        seen: defaultdict[int, int] = defaultdict(int)
        found, sources = [], {}
        for row, (checksum, frame) in enumerate(zip(checksums.tolist(), pixels, strict=True)):
            key = (checksum, seen[checksum])
            seen[checksum] += 1
            last = self._rows.get(key)
            self._rows[key] = now = _Row(self._calls, row, frame.copy(), memory, memory, 0.0, 0)
            found.append(now)
            if last is None:
                continue
            change = float(np.abs(frame.astype(np.int16) - last.frame).mean())
            now.largest = max(change, last.largest)
            if change == 0 and last.repeats + 1 < REPEATS:
                sources[row], now.repeats = (last.before, last.row), last.repeats + 1
            elif last.largest == 0 or change <= JUMP * last.largest:
                sources[row] = (last.after, last.row)
            else:
                now.largest = 0.0
        for row, (fields, before) in sources.items():
            for name, values in fields.items():
                memory[name][row] = values[before]
        return found

    def keep(self, rows: list[_Row], before: Fields, after: Fields) -> None:
        """Remember the memory before and after a call; do not change either later."""
        for row in rows:
            row.before, row.after = before, after

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
