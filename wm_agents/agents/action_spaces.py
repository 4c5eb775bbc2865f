"""Action spaces of planners: what the numbers of a plan mean, how they are imagined, and how they are executed."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import nn

from wm_agents.models import LatentActions, MacroActions, State, WorldModel


class ActionSpace(ABC):
    """What a planner searches over: sequences of actions of ``size`` numbers, between bounds.

    Args:
        world_model: Imagines the result of actions.
        head: The network that defines the space, if it has one.
    """

    needs: ClassVar[str] = ""
    """The head that it is made of, by name; "" for none."""
    size: int

    def __init__(self, world_model: WorldModel, head: Any = None) -> None:
        self.world_model = world_model
        self.head = head

    @abstractmethod
    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Bounds of one action: ``low [d], high [d]``."""

    @abstractmethod
    def imagine(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        """Latents ``[N, S, H, *shape]`` that the candidates ``actions [N, S, H, d]`` lead to."""

    @abstractmethod
    def blocks(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        """Normalised blocks ``[N, K*A]`` that do ``actions [N, d]`` in this state; not clipped."""

    def imagined_by(self, world_model: WorldModel) -> ActionSpace:
        """The same space with another world model to imagine with."""
        other = copy.copy(self)
        other.world_model = world_model
        return other

    def modules(self) -> list[nn.Module]:
        """Networks in addition to the world model."""
        return [] if self.head is None else [self.head]


class Blocks(ActionSpace):
    """Blocks of normalised primitive actions, K*A numbers: what the world model itself imagines."""

    def __init__(self, world_model: WorldModel, head: Any = None) -> None:
        super().__init__(world_model)
        self.size = world_model.spec.block_size

    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.world_model.block_bounds()

    def imagine(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        return self.world_model.imagine(state, actions)

    def blocks(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        return actions


class LatentActionSpace(ActionSpace):
    """Standardised latent actions, imagined by their own forward model and decoded to blocks (arXiv 2601.05230)."""

    needs = "latent-actions"
    head: LatentActions

    def __init__(self, world_model: WorldModel, head: LatentActions) -> None:
        super().__init__(world_model, head)
        self.size = head.config.size

    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.head.bounds()

    def imagine(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        seen = torch.stack(self._seen(state), dim=1)
        return self.world_model.unflatten(self.head.rollout(seen, actions))

    def blocks(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        return self.head.decode(*self._seen(state), self.head.destandardise(actions))

    def _seen(self, state: State) -> tuple[torch.Tensor, torch.Tensor]:
        """Features ``[N, F]`` of one block ago and of now."""
        model = self.world_model
        return model.features(model.previous(state)), model.features(model.latent(state))


class DecodedActionSpace(LatentActionSpace):
    """The same latent actions, imagined by decoding them and using the world model's own predictor.

    Only results of real blocks can be imagined. The difference to :class:`Blocks` is only where the search looks, and
    the difference to :class:`LatentActionSpace` is only which model predicts.
    """

    def imagine(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        batch, samples = actions.shape[:2]
        low, high = self.world_model.block_bounds()
        state = {name: values.repeat_interleave(samples, dim=0) for name, values in state.items()}
        latents = []
        for action in actions.flatten(0, 1).unbind(1):
            state = self.world_model.advance(state, self.blocks(state, action).clamp(low, high))
            latents.append(self.world_model.latent(state))
        return torch.stack(latents, dim=1).unflatten(0, (batch, samples))


class MacroActionSpace(ActionSpace):
    """Macro-actions, each a stretch of blocks (HWM, arXiv 2604.03208), imagined by their own predictor.

    A macro-action has no decoder. The recorded stretch whose macro-action is nearest is executed, one block at a
    time. Candidates are kept near recorded ones in the same way as
    :class:`wm_agents.agents.subgoals.MacroSubgoals` does with ``support="bank"``.
    """

    needs = "macro-actions"
    head: MacroActions

    def __init__(self, world_model: WorldModel, head: MacroActions) -> None:
        super().__init__(world_model, head)
        self.size = head.config.macro_size

    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.head.bounds()

    def imagine(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        z = self.world_model.features(self.world_model.latent(state))
        return self.world_model.unflatten(self.head.rollout(z, self.head.near_bank(actions)))

    def blocks(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        return self.head.bank_blocks[self.head.nearest(actions)]
