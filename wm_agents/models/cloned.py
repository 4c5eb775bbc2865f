"""An encoder without a world model: what goal-conditioned behaviour cloning leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import torch

from wm_agents.configs import check_choices, check_counts
from wm_agents.models.actions import ActionStatistics
from wm_agents.models.base import State, WorldModel
from wm_agents.models.encoders import make_encoder
from wm_agents.registry import ENCODERS, did_you_mean
from wm_agents.types import LatentBatch


@dataclass(frozen=True)
class ClonedConfig:
    """Shape of an encoder that a policy was trained with.

    Attributes:
        image_size: Height and width of the images, in pixels.
        action_size: A, primitive action dimensions.
        action_block: 1: nothing is predicted in blocks.
        encoder: One of ``wm_agents.registry.ENCODERS``.
        choices: Number of choices of each discrete action, whose one-hot vectors make up A; empty for continuous ones.
    """

    image_size: int = 64
    action_size: int = 2
    action_block: int = 1
    encoder: str = "conv"
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_counts(self, ("image_size", "action_size", "action_block"))
        check_choices(self)
        if self.encoder not in ENCODERS:
            raise ValueError(did_you_mean("encoder", self.encoder, ENCODERS))


class ClonedEncoder(WorldModel):
    """Frames to the features that a policy reads. It imagines nothing: agents that search with it raise ``ValueError``.

    Args:
        config: The shape.
        actions: Bounds and statistics of the primitive actions.
    """

    Config = ClonedConfig
    losses: ClassVar[Mapping[str, float]] = {}

    def __init__(self, config: ClonedConfig, actions: ActionStatistics) -> None:
        encoder: Any = make_encoder(config.encoder, config.image_size)
        super().__init__(config, actions, (encoder.features,))
        self.encoder = encoder

    def parts(self) -> dict[str, str]:
        return {"encoder": self.config.encoder}

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.encoder(pixels)

    def initial(self, n: int) -> State:
        self._refuse()

    def observe(self, state: State, latent: torch.Tensor, block: torch.Tensor) -> State:
        self._refuse()

    def advance(self, state: State, block: torch.Tensor) -> State:
        self._refuse()

    def latent(self, state: State) -> torch.Tensor:
        self._refuse()

    def previous(self, state: State) -> torch.Tensor:
        self._refuse()

    def learn(self, pixels: torch.Tensor, actions: torch.Tensor, generator: torch.Generator) -> LatentBatch:
        self._refuse()

    @staticmethod
    def _refuse() -> NoReturn:
        raise ValueError(
            "this file holds a policy from behaviour cloning and no world model, so nothing can be imagined with it: "
            "load it as gc-idm, or train a world model (wm_agents.train_world_model)."
        )
