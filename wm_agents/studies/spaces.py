"""The action spaces that the study compares: real blocks, and learned latent actions."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wm_agents.agents.action_spaces import ActionSpace
from wm_agents.models import LatentActions, WorldModel
from wm_agents.registry import ACTION_SPACES
from wm_agents.training.latent_actions import LatentWindows


@dataclass(frozen=True)
class Space:
    """An action space by the names that :class:`wm_agents.MPC` takes, and what windows of data look like in it.

    Attributes:
        actions: One of ``wm_agents.registry.ACTION_SPACES``.
        head: The latent actions, where the space is learned.
    """

    actions: str
    head: LatentActions | None = None

    @property
    def name(self) -> str:
        """Regulariser and size, or "real"."""
        if self.head is None:
            return "real"
        config = self.head.config
        return f"{config.regulariser}-{config.size}" + (" decoded" if self.actions == "latent-decoded" else "")

    def of(self, world_model: WorldModel) -> ActionSpace:
        """What a planner searches, imagined with this world model."""
        kind: type[ActionSpace] = ACTION_SPACES.get(self.actions)
        return kind(world_model, self.head)

    def infer(self, windows: LatentWindows) -> torch.Tensor:
        """Actions ``[B, R-1, d]`` of recorded windows of R blocks, without the first."""
        if self.head is None:
            return windows.blocks[:, 1:]
        z = windows.z
        return self.head.standardise(self.head.infer(z[:, :-2], z[:, 1:-1], z[:, 2:]))
