"""The low level of hierarchical planning: what acts towards subgoals."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
import torch

from wm_agents.agents.policy import Memory, WorldModelPolicy
from wm_agents.models import InverseDynamics
from wm_agents.types import DecisionRecord


class LowLevel(Protocol):
    """Acts towards subgoals."""

    def blank(self, n: int) -> Memory:
        """Memory of ``n`` environments at the start of an episode."""
        ...

    def act(
        self, pixels: np.ndarray, z: torch.Tensor, subgoal: torch.Tensor, steps: np.ndarray, memory: Memory, seed: int
    ) -> tuple[np.ndarray, Memory, DecisionRecord]:
        """Choose actions.

        Args:
            pixels: uint8 ``[n, H, W, C]``.
            z: ``[n, D]``, their latents.
            subgoal: ``[n, D]``.
            steps: ``[n]``, environment steps that it should take.
            memory: As :meth:`blank` makes it; may be changed in place.
            seed: Of what is sampled.

        Returns:
            Actions ``[n, A]`` in environment units, the new memory, what it cost beyond ``z``.
        """
        ...


class AmortisedControl:
    """GC-IDM, told the steps that the subgoal should take.

    Memory: the latents of the last ``lag`` steps ``[n, lag + 1, D]``, oldest first, and how many frames were seen.

    Args:
        network: GC-IDM.
    """

    def __init__(self, network: InverseDynamics) -> None:
        self.network = network

    def blank(self, n: int) -> Memory:
        config = self.network.config
        return np.zeros((n, config.lag + 1, config.latent_size), np.float32), np.zeros(n, np.int64)

    def act(
        self, pixels: np.ndarray, z: torch.Tensor, subgoal: torch.Tensor, steps: np.ndarray, memory: Memory, seed: int
    ) -> tuple[np.ndarray, Memory, DecisionRecord]:
        latents, seen = memory
        started = time.perf_counter()
        latents = np.concatenate([latents[:, 1:], z.cpu().numpy()[:, None]], axis=1)
        latents[seen == 0] = latents[seen == 0, -1:]  # no past yet: as if standing still
        before = torch.from_numpy(latents[:, 0]).to(z.device)
        told = torch.from_numpy(np.rint(steps).astype(np.int64)).to(z.device)
        actions = self.network(z, before, subgoal, told).cpu().numpy()
        return actions, (latents, seen + 1), DecisionRecord(0.0, 1000 * (time.perf_counter() - started), 0, 0)


class SearchControl:
    """A flat planner, whose memory is its own.

    Args:
        policy: Of an :class:`MPC`.
    """

    def __init__(self, policy: WorldModelPolicy) -> None:
        self.policy = policy

    def blank(self, n: int) -> Memory:
        return self.policy.blank(n)

    def act(
        self, pixels: np.ndarray, z: torch.Tensor, subgoal: torch.Tensor, steps: np.ndarray, memory: Memory, seed: int
    ) -> tuple[np.ndarray, Memory, DecisionRecord]:
        self.policy.seed = seed
        return self.policy.decide(pixels, subgoal, memory)
