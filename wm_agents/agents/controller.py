"""Controllers: how to act, given latents and goals. A policy has one; a hierarchy has one for each level."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from wm_agents.agents.memory import Fields
from wm_agents.models import WorldModel


class Frames:
    """The input of a controller: the frames of N environments, which are encoded once and on demand, and their goals.

    Args:
        world_model: Encodes.
        pixels: uint8 ``[N, H, W, C]``.
        goal: ``[N, *shape]``, the goals' latents.
        elapsed: int64 ``[N]``, environment steps since the goal was given.
        seed: Seed of everything that is sampled.
        steps: ``[N]``, environment steps that the goal should take; None if this is not known.
        checksums: int64 ``[N]``, of the goals' images; 0 by default.

    Attributes:
        encode_ms: Milliseconds spent on encoding so far.
    """

    def __init__(
        self,
        world_model: WorldModel,
        pixels: np.ndarray,
        goal: torch.Tensor,
        elapsed: np.ndarray,
        seed: int,
        steps: np.ndarray | None = None,
        checksums: np.ndarray | None = None,
    ) -> None:
        self.world_model = world_model
        self.pixels = pixels
        self.goal = goal
        self.elapsed = elapsed
        self.seed = seed
        self.steps = steps
        self.checksums = np.zeros(len(pixels), np.int64) if checksums is None else checksums
        self.encode_ms = 0.0
        self._latents: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def latents(self, rows: np.ndarray | None = None) -> torch.Tensor:
        """Latents ``[n, *shape]`` of all frames, or of the rows marked by booleans ``[N]``."""
        if self._latents is None:
            everything = rows is None or bool(rows.all())
            latents = self._encode(self.pixels if everything else self.pixels[rows])
            if not everything:
                return latents
            self._latents = latents
        return self._latents if rows is None else self._latents[torch.from_numpy(rows).to(self._latents.device)]

    def towards(self, goal: torch.Tensor, steps: np.ndarray) -> Frames:
        """The same frames with another goal ``[N, *shape]`` that should take ``steps [N]``."""
        other = Frames(self.world_model, self.pixels, goal, self.elapsed, self.seed, steps, self.checksums)
        other._latents = self._latents
        return other

    def _encode(self, pixels: np.ndarray) -> torch.Tensor:
        started = time.perf_counter()
        latents = self.world_model.encode(torch.from_numpy(np.ascontiguousarray(pixels)).to(self.goal.device))
        self.encode_ms += 1000 * (time.perf_counter() - started)
        return latents


@dataclass(frozen=True)
class Decision:
    """The decision of a controller.

    Attributes:
        actions: ``[N, A]``, in environment units.
        plans: Environments that (re)planned.
        evaluations: World-model evaluations, over all plans.
    """

    actions: np.ndarray
    plans: int
    evaluations: int


class Controller(ABC):
    """Chooses actions. It stores nothing about an episode; all of that is in the memory that it is given."""

    @abstractmethod
    def initial_memory(self, n: int) -> Fields:
        """Memory of n environments at the start of an episode."""

    @abstractmethod
    def act(self, frames: Frames, memory: Fields) -> Decision:
        """Choose actions and update the memory, named arrays ``[N, ...]``, in place."""

    def goal_changed(self, memory: Fields, rows: np.ndarray) -> None:  # noqa: B027
        """Forget in place, in these rows, everything about the previous goal; called before :meth:`act`."""

    def executed(self, memory: Fields, world_model: WorldModel, actions: np.ndarray) -> None:  # noqa: B027
        """Correct the memory in place where other actions ``[N, ...]`` are taken than :meth:`act` has just chosen."""

    def modules(self) -> Iterable[nn.Module]:
        """Networks that it uses in addition to the world model."""
        return ()


def action_vectors(actions: np.ndarray, choices: tuple[int, ...]) -> np.ndarray:
    """Actions of N environments as world models take them, float32 ``[N, A]``: one-hot vectors of discrete ones."""
    if not choices:
        return np.asarray(actions, np.float32)
    numbers = np.asarray(actions).reshape(len(actions), -1).T
    hot = [np.eye(count, dtype=np.float32)[chosen] for count, chosen in zip(choices, numbers, strict=True)]
    return np.concatenate(hot, axis=1)
