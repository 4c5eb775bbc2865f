"""The policy of hierarchical implicit Q-learning: a code of the next subgoal, and the action towards it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.configs import check_choices, check_counts
from wm_agents.models.heads.base import Head


@dataclass(frozen=True)
class HIQLConfig:
    """Shape of HIQL's policy.

    Attributes:
        latent_size: D of the encoder that it reads.
        action_size: A, numbers in an action.
        width: Hidden units of each of three layers, in both levels.
        code_size: Numbers in the code of a subgoal (OGBench's 10).
        choices: Of discrete actions, whose one-hot vectors make up A; empty for continuous ones.
    """

    latent_size: int = 256
    action_size: int = 2
    width: int = 512
    code_size: int = 10
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_counts(self, ("latent_size", "action_size", "width", "code_size"))
        check_choices(self)


class HIQLPolicy(Head):
    """Both levels of HIQL (Park et al., arXiv 2307.11949).

    The high level proposes the code of a subgoal on the way to the goal. The low level chooses an action towards it.
    The action is in environment units and not clipped; for discrete actions it is their scores.

    Args:
        config: The shape of the networks.
    """

    name = "hiql"
    Config = HIQLConfig
    learner = None  # it is trained with its encoder, by wm_agents.baselines.train_hiql

    def __init__(self, config: HIQLConfig) -> None:
        super().__init__(config)
        self.high = perceptron(2 * config.latent_size, config.width, config.code_size)
        self.low = perceptron(config.latent_size + config.code_size, config.width, config.action_size)

    def forward(self, z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Actions ``[B, A]`` for features of frames and goals ``[B, D]``."""
        return self.act(z, of_length(self.propose(z, goal)))

    def propose(self, z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Codes of subgoals ``[B, code_size]``, of any length."""
        return self.high(torch.cat([z, goal], dim=-1))

    def act(self, z: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Actions ``[B, A]`` towards the subgoals of codes ``[B, code_size]``."""
        return self.low(torch.cat([z, code], dim=-1))


def of_length(codes: torch.Tensor) -> torch.Tensor:
    """Codes ``[B, n]`` with the length that all codes have, the square root of n."""
    return F.normalize(codes, dim=-1) * codes.shape[-1] ** 0.5


def perceptron(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Three hidden layers with GELU and LayerNorm, then a linear one: ``[B, inputs] -> [B, outputs]``."""
    sizes = (inputs, width, width, width)
    hidden = [
        layer
        for before, after in itertools.pairwise(sizes)
        for layer in (nn.Linear(before, after), nn.GELU(), nn.LayerNorm(after))
    ]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))
