"""Disagreement: where an ensemble of predictors does not know yet what an action leads to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from wm_agents.configs import check_counts
from wm_agents.models.heads.base import Head


@dataclass(frozen=True)
class DisagreementConfig:
    """Shape of the ensemble.

    Attributes:
        latent_size: F; taken from the world model when trained.
        block_size: K*A, numbers of an action block; taken from the world model when trained.
        members: Predictors, at least 2. Plan2Explore has 5 (arXiv 2005.05960).
        width: Hidden units of each.
    """

    latent_size: int = 32
    block_size: int = 10
    members: int = 5
    width: int = 128

    def __post_init__(self) -> None:
        check_counts(self, ("latent_size", "block_size", "width"))
        check_counts(self, ("members",), least=2)


class Disagreement(Head):
    """An ensemble of one-step predictors, whose variance says how little is known (Plan2Explore, arXiv 2005.05960).

    Each member predicts the features one action block later. They agree where there are enough data, even if the
    outcome is noisy, because each of them learns its mean. They differ elsewhere, because they begin with other weights
    and see other samples.

    Args:
        config: The shape.
    """

    name = "disagreement"
    Config = DisagreementConfig
    learner = "wm_agents.training.disagreement:DisagreementLearner"

    def __init__(self, config: DisagreementConfig) -> None:
        super().__init__(config)
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Linear(config.latent_size + config.block_size, config.width),
                nn.SiLU(),
                nn.Linear(config.width, config.width),
                nn.SiLU(),
                nn.Linear(config.width, config.latent_size),
            )
            for _ in range(config.members)
        )

    def forward(self, z: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        """The M members' predictions ``[M, ..., F]``, a normalised ``block [..., K*A]`` after ``z [..., F]``."""
        given = torch.cat([z, block], dim=-1)
        return torch.stack([z + member(given) for member in self.members])

    def disagreement(self, z: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        """Variance of the members' predictions, averaged over the features: ``[...]``, at least 0."""
        return self(z, block).var(dim=0).mean(-1)
