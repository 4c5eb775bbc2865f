"""The world-model contract: everything that agents, heads and planners know about a world model. Start reading here.

Pixels become **latents**, one per frame, of the shape that :class:`LatentSpec` names: a vector ``(D,)``, or tokens
``(P, D)``. A latent depends only on its frame, so goals, datasets and graphs are encoded once. Everything
that must be remembered beyond the last frame (earlier latents and action blocks, a recurrent state) is in the model's
:data:`State`: named tensors ``[N, ...]``, one row per environment, which only the model reads.

A new kind of world model is one file: a subclass with a ``Config``, registered in ``WORLD_MODELS``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from wm_agents.models.actions import ActionStatistics, ScaledActions
from wm_agents.models.encoders import check_pixels
from wm_agents.types import LatentBatch, LatentSpec

State = dict[str, torch.Tensor]


class WorldModel(ScaledActions, ABC):
    """Encodes frames and imagines the result of action blocks. Actions are always normalised blocks ``[..., K*A]``.

    A subclass sets ``encoder`` (used by :meth:`embed` alone) and implements the abstract methods.

    Args:
        config: Of the class ``Config``, with at least ``image_size``, ``action_size`` and ``action_block``; with
            ``choices`` too where actions may be discrete.
        actions: Bounds and statistics of the primitive actions.
        shape: Shape of one latent.
    """

    Config: ClassVar[type]
    losses: ClassVar[Mapping[str, float]]  # weights of the loss terms that train this kind, by name
    reads_actions: ClassVar[bool] = True  # whether training reads actions
    encoder: nn.Module

    def __init__(self, config: Any, actions: ActionStatistics, shape: tuple[int, ...]) -> None:
        choices = getattr(config, "choices", ())
        super().__init__(actions, config.action_size, config.action_block, choices)
        self.config = config
        self.spec = LatentSpec(shape, config.image_size, config.action_size, config.action_block, choices)

    @abstractmethod
    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Latents ``[B, *shape]`` of uint8 frames ``[B, H, W, C]``, each from its frame alone."""

    @abstractmethod
    def initial(self, n: int) -> State:
        """State of n environments before their first frame."""

    @abstractmethod
    def observe(self, state: State, latent: torch.Tensor, block: torch.Tensor) -> State:
        """State after a new frame: its ``latent [N, *shape]``, and the ``block`` that led to it (ignored at first)."""

    @abstractmethod
    def advance(self, state: State, block: torch.Tensor) -> State:
        """State after an imagined ``block [N, K*A]``, without a frame."""

    @abstractmethod
    def latent(self, state: State) -> torch.Tensor:
        """Present latents ``[N, *shape]``."""

    @abstractmethod
    def previous(self, state: State) -> torch.Tensor:
        """Latents ``[N, *shape]`` of one block ago; the present ones if there was no frame yet."""

    @abstractmethod
    def learn(self, pixels: torch.Tensor, actions: torch.Tensor, generator: torch.Generator) -> LatentBatch:
        """The input of loss terms, from frames ``[B, T, H, W, C]`` and the blocks between them ``[B, T-1, K*A]``."""

    def fetch(self) -> None:
        """Get weights that come from elsewhere, before the first training step; files that are loaded have them."""

    def train(self, mode: bool = True) -> WorldModel:
        """Set training mode; an encoder with ``frozen = True`` stays in evaluation mode."""
        super().train(mode)
        if getattr(self.encoder, "frozen", False):
            self.encoder.eval()
        return self

    def parts(self) -> dict[str, str]:
        """Registered parts that the configuration names, kind -> name: ``{"encoder": "conv"}``."""
        return {}

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Latents ``[..., *shape]`` of uint8 frames ``[..., H, W, 3]``; ``ValueError`` for other types and sizes."""
        size = self.spec.image_size
        check_pixels(pixels, size)
        latents = self.embed(pixels.reshape(-1, size, size, 3)).float()
        return latents.reshape(*pixels.shape[:-3], *self.spec.shape)

    def imagine(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        """Latents ``[N, S, H, *shape]`` after each block of S candidate sequences ``actions [N, S, H, K*A]``."""
        samples = actions.shape[1]
        state = {name: values.repeat_interleave(samples, dim=0) for name, values in state.items()}
        latents = []
        for block in actions.flatten(0, 1).unbind(1):
            state = self.advance(state, block)
            latents.append(self.latent(state))
        return torch.stack(latents, dim=1).unflatten(0, actions.shape[:2])

    def remember(self, latents: torch.Tensor, blocks: torch.Tensor) -> State:
        """State after frames in order, ``latents [N, T, *shape]``, and the ``blocks [N, T-1, K*A]`` between them."""
        state = self.initial(len(latents))
        none = latents.new_zeros(len(latents), self.spec.block_size)
        for t, latent in enumerate(latents.unbind(1)):
            state = self.observe(state, latent, blocks[:, t - 1] if t else none)
        return state

    def features(self, latent: torch.Tensor) -> torch.Tensor:
        """The flat view ``[..., F]`` of latents ``[..., *shape]``, which heads, graphs and distances read."""
        return latent.flatten(-len(self.spec.shape))

    def unflatten(self, features: torch.Tensor) -> torch.Tensor:
        """Latents ``[..., *shape]`` of their flat view ``[..., F]``."""
        return features.unflatten(-1, self.spec.shape)
