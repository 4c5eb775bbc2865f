"""Planning in an action space, real or learned: one face for both, and the agent that executes what was planned."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from gymnasium import spaces

from wm_agents.agents.policy import KEYS, Memory, WorldModelPolicy
from wm_agents.models.latent_actions import LatentActions
from wm_agents.models.world_model import WorldModel
from wm_agents.planning import Planner
from wm_agents.training.latent_actions import LatentWindows
from wm_agents.types import CostFn, DecisionRecord, Plan


class ActionSpace(Protocol):
    """What a planner needs of an action space, and its agent of the planner's actions, all of standard deviation 1."""

    @property
    def name(self) -> str:
        """Regulariser and size, or "real"."""
        ...

    @property
    def size(self) -> int:
        """Numbers in one action, d."""
        ...

    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Bounds of one action: ``low [d], high [d]``."""
        ...

    def imagine(self, z: torch.Tensor, past: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Latents ``[B, S, H, D]`` that ``actions [B, S, H, d]`` lead to; see :meth:`WorldModel.rollout`."""
        ...

    def decode(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Normalised blocks ``[B, K*A]`` that do ``actions [B, d]`` after the latents ``z [B, T, D]``; not clipped."""
        ...

    def infer(self, windows: LatentWindows) -> torch.Tensor:
        """Actions ``[B, R-1, d]`` of recorded windows of R blocks, without the first."""
        ...


@dataclass(frozen=True)
class RealActions:
    """Blocks of normalised primitive actions, imagined by the world model's own predictor."""

    world_model: WorldModel
    name: str = "real"

    @property
    def size(self) -> int:
        """K*A."""
        return self.world_model.config.block_size

    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`ActionSpace`."""
        return self.world_model.block_bounds()

    def imagine(self, z: torch.Tensor, past: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """See :class:`ActionSpace`."""
        return self.world_model.rollout(z, past, actions)

    def decode(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """See :class:`ActionSpace`."""
        return actions

    def infer(self, windows: LatentWindows) -> torch.Tensor:
        """See :class:`ActionSpace`."""
        return windows.blocks[:, 1:]


@dataclass(frozen=True)
class LearnedActions:
    """Standardised latent actions, imagined by their own forward model and decoded to blocks."""

    network: LatentActions

    @property
    def name(self) -> str:
        """Regulariser and size."""
        return f"{self.network.config.regulariser}-{self.size}"

    @property
    def size(self) -> int:
        """Numbers in one latent action, d."""
        return self.network.config.size

    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`ActionSpace`."""
        return self.network.bounds()

    def imagine(self, z: torch.Tensor, past: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """See :class:`ActionSpace`; real actions of the past play no part."""
        return self.network.rollout(z, actions)

    def decode(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """See :class:`ActionSpace`."""
        return self.network.decode(z[:, max(-2, -z.shape[1])], z[:, -1], self.network.destandardise(actions))

    def infer(self, windows: LatentWindows) -> torch.Tensor:
        """See :class:`ActionSpace`."""
        z = windows.z
        return self.network.standardise(self.network.infer(z[:, :-2], z[:, 1:-1], z[:, 2:]))


@dataclass(frozen=True)
class DecodedActions(LearnedActions):
    """The same latent actions, imagined by decoding them and asking the world model's own predictor.

    Nothing can be imagined that no real block does: what differs from :class:`RealActions` is only where the search
    looks, what from :class:`LearnedActions` is only who predicts.
    """

    world_model: WorldModel

    @property
    def name(self) -> str:
        """Regulariser, size, and that it is decoded."""
        return f"{super().name} decoded"

    def imagine(self, z: torch.Tensor, past: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """See :class:`ActionSpace`."""
        batch, samples, horizon = actions.shape[:3]
        low, high = self.world_model.block_bounds()
        latents, blocks = (x.unsqueeze(1).expand(-1, samples, -1, -1).flatten(0, 1) for x in (z, past))
        flat = actions.flatten(0, 1)
        for h in range(horizon):
            block = self.decode(latents, flat[:, h]).clamp(low, high)
            blocks = torch.cat([blocks, block.unsqueeze(1)], dim=1)
            history = min(latents.shape[1], self.world_model.config.history)
            following = self.world_model.predict(latents[:, -history:], blocks[:, -history:])
            latents = torch.cat([latents, following.unsqueeze(1)], dim=1)
        return latents[:, z.shape[1] :].unflatten(0, (batch, samples))


def summed_cost(space: ActionSpace, z: torch.Tensor, past: torch.Tensor, goal: torch.Tensor) -> CostFn:
    """Squared L2 distance of imagined latents to ``goal [B, D]``, averaged over the horizon."""

    def cost(actions: torch.Tensor) -> torch.Tensor:
        return (space.imagine(z, past, actions) - goal[:, None, None]).square().sum(-1).mean(-1)

    return cost


@dataclass(frozen=True)
class MeanAction:
    """A planner that does not plan: every action is 0, the space's mean. The floor of a space.

    Decoded, the mean of a learned space is what its data did on average from where the agent is.
    """

    horizon: int

    num_elites: ClassVar[int] = 1

    def plan(self, cost: CostFn, *, low: torch.Tensor, batch: int = 1, **unused: Any) -> Plan:
        """See :meth:`wm_agents.planning.base.Planner.plan`; no sequence is compared with another."""
        actions = low.new_zeros(batch, 1, self.horizon, low.numel())
        return Plan(actions[:, 0], cost(actions)[:, 0], actions, torch.ones(batch, dtype=torch.int64))


class LatentMPC(WorldModelPolicy):
    """Plans in an action space, executes the first block, plans again; :func:`wm_agents.evaluation.evaluate` takes it.

    Memory: sequences to start the next search from ``[N, E, H, d]``, environment steps since the episode began ``[N]``,
    the last two latents at block boundaries ``[N, 2, D]`` and the normalised blocks that followed them
    ``[N, 2, K*A]``: the last row is being executed.

    Args:
        world_model: Encodes.
        space: Where to plan.
        planner: Searches.
        seed: Of the search: one fixed stream for every plan.
    """

    def __init__(self, world_model: WorldModel, space: ActionSpace, planner: Planner, seed: int = 0) -> None:
        config = world_model.config
        image = spaces.Box(0, 255, (config.image_size, config.image_size, 3), np.uint8)
        low, high = world_model.action_low.cpu().numpy(), world_model.action_high.cpu().numpy()
        super().__init__(spaces.Dict({key: image for key in KEYS}), spaces.Box(low, high), world_model, seed)
        if isinstance(space, LearnedActions):
            space.network.eval().requires_grad_(False)
        self.space = space
        self.planner = planner

    def blank(self, n: int) -> Memory:
        """See :meth:`WorldModelPolicy.blank`."""
        config = self.world_model.config
        return (
            np.zeros((n, self.planner.num_elites, self.planner.horizon, self.space.size), np.float32),
            np.zeros(n, np.int64),
            np.zeros((n, 2, config.latent_size), np.float32),
            np.zeros((n, 2, config.block_size), np.float32),
        )

    def decide(
        self, pixels: np.ndarray, goal: torch.Tensor, memory: Memory
    ) -> tuple[np.ndarray, Memory, DecisionRecord]:
        """See :meth:`WorldModelPolicy.decide`."""
        elites, step, latents, blocks = memory
        k = self.world_model.config.action_block
        due = step % k == 0
        encode_ms = plan_ms = 0.0
        evaluations = 0
        if due.any():
            started = time.perf_counter()
            latents[due] = np.roll(latents[due], -1, axis=1)
            latents[due, -1] = self.encode(pixels[due]).cpu().numpy()
            blocks[due] = np.roll(blocks[due], -1, axis=1)
            encoded = time.perf_counter()
            for first in (True, False):
                rows = np.flatnonzero(due & ((step == 0) == first))
                if len(rows):
                    evaluations += self._plan(elites, latents, blocks, goal, rows, first)
            encode_ms, plan_ms = 1000 * (encoded - started), 1000 * (time.perf_counter() - encoded)
        raw = self.world_model.denormalize(torch.from_numpy(blocks[:, -1]).to(self.device)).cpu().numpy()
        actions = raw.reshape(len(raw), k, -1)[np.arange(len(raw)), step % k]
        step += 1
        return actions, memory, DecisionRecord(encode_ms, plan_ms, int(due.sum()), evaluations)

    def _plan(
        self, elites: np.ndarray, latents: np.ndarray, blocks: np.ndarray, goal: torch.Tensor, rows: np.ndarray,
        first: bool,
    ) -> int:  # fmt: skip
        """Plan for environments that have one frame (``first``) or two; return the world-model evaluations."""
        z, past, init = (torch.from_numpy(array[rows]).to(self.device) for array in (latents, blocks[:, :1], elites))
        if first:
            z, past = z[:, 1:], past[:, 1:]
        low, high = self.space.bounds()
        plan = self.planner.plan(
            summed_cost(self.space, z, past, goal[torch.from_numpy(rows)]), low=low, high=high, batch=len(rows),
            init=None if first else torch.cat([init[:, :, 1:], init[:, :, -1:]], dim=2),
            generator=torch.Generator(device=z.device).manual_seed(self.seed),
        )  # fmt: skip
        elites[rows] = plan.elites.cpu().numpy()
        blocks[rows, -1] = self.space.decode(z, plan.actions[:, 0]).cpu().numpy()
        return int(plan.evaluations.sum()) * self.planner.horizon
