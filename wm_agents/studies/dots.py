"""Dot worlds: dots on a white canvas, of which actions move some (sensorimotor world models, arXiv 2606.20104).

Sizes, motions and colours are those of the paper's code (github.com/petr-ivashkov/sensorimotor-world-model, folder
``toy``): 64x64 pixels, dots of radius 2, integer displacements of up to 16 pixels, starts at which every displacement
stays on the canvas, no two dots that touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_agents.datasets import TrajectoryDataset

SIZE = 64
RADIUS = 2
REACH = 16
"""Largest displacement in x and in y, in pixels."""
LOWEST, HIGHEST = RADIUS + REACH, SIZE - 1 - RADIUS - REACH
"""Range of the coordinates at the start of a step."""
COLOURS = np.array([(255, 0, 0), (0, 220, 0), (0, 100, 255), (255, 220, 0), (255, 0, 255)], dtype=np.uint8)


@dataclass(frozen=True)
class DotWorld:
    """Dots by how they move.

    Attributes:
        name: In words.
        pairs: Pairs of dots; the two of a pair move alike, by one action of two numbers.
        free: Dots with an action of two numbers each.
        random: Dots that move by chance; no action shows it.
    """

    name: str
    pairs: int = 0
    free: int = 0
    random: int = 0

    @property
    def controlled(self) -> int:
        """Controllable degrees of freedom, which is also the size of an action."""
        return 2 * (self.pairs + self.free)

    @property
    def dots(self) -> int:
        """Number of dots."""
        return 2 * self.pairs + self.free + self.random

    def draw(self, steps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw independent steps: positions ``[steps, 2, dots, 2]`` before and after, and actions ``[steps, A]``."""
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        while sum(len(moves) for _, moves in parts) < steps:
            start = rng.integers(LOWEST, HIGHEST, (steps, self.dots, 2), endpoint=True)
            moves = rng.integers(-REACH, REACH, (steps, self.pairs + self.free + self.random, 2), endpoint=True)
            moved = np.concatenate([moves[:, : self.pairs].repeat(2, axis=1), moves[:, self.pairs :]], axis=1)
            positions = np.stack([start, start + moved], axis=1)
            fine = ~touching(positions).any(axis=1)
            parts.append((positions[fine], moves[fine, : self.pairs + self.free].reshape(fine.sum(), -1)))
        positions, actions = (np.concatenate(part)[:steps] for part in zip(*parts, strict=True))
        return positions, actions.astype(np.float32)

    def dataset(self, steps: int, seed: int) -> TrajectoryDataset:
        """A dataset of episodes of one step each, whose frames are drawn when they are read.

        Args:
            steps: Episodes.
            seed: Of positions and actions.
        """
        positions, actions = self.draw(steps, np.random.default_rng(seed))
        flat = positions.reshape(2 * steps, self.dots, 2)
        return TrajectoryDataset(
            name=f"dots/{self.name.replace(' ', '-')}-v0",
            env_id="",
            pixels=Frames(flat),  # type: ignore[arg-type]
            actions=np.stack([actions, np.zeros_like(actions)], axis=1).reshape(2 * steps, -1),
            states=flat.reshape(2 * steps, -1).astype(np.float64),
            starts=np.arange(0, 2 * steps, 2),
            lengths=np.ones(steps, dtype=np.int64),
            action_low=np.full(self.controlled, -REACH, dtype=np.float32),
            action_high=np.full(self.controlled, REACH, dtype=np.float32),
            state_names=tuple(f"dot{dot}_{axis}" for dot in range(self.dots) for axis in "xy"),
            provenance={"world": self.name, "seed": seed},
            episode_ids=np.arange(steps),
        )


class Frames:
    """Frames of dots, rendered when they are indexed: as an array, uint8 ``[N, 64, 64, 3]``.

    Args:
        positions: ``[N, dots, 2]``, x and y in pixels.
    """

    def __init__(self, positions: np.ndarray) -> None:
        self.positions = positions
        self.shape = (len(positions), SIZE, SIZE, 3)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Any) -> np.ndarray:
        return render(self.positions[index])


def render(positions: np.ndarray) -> np.ndarray:
    """Draw positions ``[..., dots, 2]`` as uint8 frames ``[..., 64, 64, 3]``; later dots cover earlier ones."""
    flat = positions.reshape(-1, *positions.shape[-2:])
    canvas = np.full((len(flat), SIZE, SIZE, 3), 255, dtype=np.uint8)
    across = np.arange(-RADIUS, RADIUS + 1)
    down, right = (offset.ravel() for offset in np.meshgrid(across, across, indexing="ij"))
    disk = down**2 + right**2 <= RADIUS**2
    down, right, rows = down[disk], right[disk], np.arange(len(flat))[:, None]
    for dot, colour in enumerate(COLOURS[: flat.shape[1]]):
        x, y = flat[:, dot, 0, None], flat[:, dot, 1, None]
        canvas[rows, y + down, x + right] = colour
    return canvas.reshape(*positions.shape[:-2], SIZE, SIZE, 3)


def touching(positions: np.ndarray) -> np.ndarray:
    """Whether any two dots of ``[..., dots, 2]`` are nearer than 5 pixels: their disks could share one."""
    apart = np.linalg.norm(positions[..., :, None, :] - positions[..., None, :, :], axis=-1)
    same = np.eye(positions.shape[-2], dtype=bool)
    return ((apart < 2 * RADIUS + 1) & ~same).any(axis=(-2, -1))


WORLDS = (
    DotWorld("one dot", free=1),
    DotWorld("two dots", free=2),
    DotWorld("coupled pair", pairs=1),
    DotWorld("dot and distractor", free=1, random=1),
    DotWorld("combined", pairs=1, free=2, random=1),
)
"""The paper's five worlds; 2, 4, 2, 2 and 6 degrees of freedom can be controlled."""
