"""The goal-conditioned inverse dynamics model: from latent, goal latent and remaining steps to one action."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.configs import check_choices, check_counts, check_numbers
from wm_agents.models.heads.base import Head


@dataclass(frozen=True)
class InverseDynamicsConfig:
    """Shape of an inverse dynamics model.

    Attributes:
        latent_size: D of the world model whose latents it reads.
        action_size: A, numbers in an action.
        width: Hidden units of each of the three layers (the paper's 512 at D = 192).
        max_horizon: Largest distance of a training goal, in steps; longer distances are clamped to it.
        lag: Environment steps back to the earlier frame whose latent shows the velocity; 0 reads the current frame
            alone, as the paper does.
        dropout: Dropout after each hidden layer.
        embedding: Numbers that one small network makes of each latent, now and goal alike, before the layers see them;
            0 leaves it out, as in the paper. It helps where one frame's pose is hard to read.
        choices: Of the world model, for discrete actions.
    """

    latent_size: int = 32
    action_size: int = 2
    width: int = 256
    max_horizon: int = 150
    lag: int = 5
    dropout: float = 0.1
    embedding: int = 0
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_counts(self, ("latent_size", "action_size", "width", "max_horizon"))
        check_counts(self, ("lag", "embedding"), least=0)
        check_numbers(self, ("dropout",), 0, 0.99)
        check_choices(self)


class InverseDynamics(Head):
    """GC-IDM (arXiv 2605.08732): three layers on ``[z, z_goal]``, modulated by the fraction of the horizon left.

    The fraction ``min(steps, max_horizon) / max_horizon`` enters as a 64-d sinusoid through a small MLP that scales
    and shifts the last hidden layer; scale and shift start at zero. The output is one **primitive** action in
    environment units, not squashed: callers clip it. For discrete actions it is their scores (logits), of which callers
    take the largest.

    Three things are not in the paper (docs/agents/gc-idm.md has the measurements). 0 steps mean an *unknown* distance,
    which has its own learned embedding: the distance of a free goal is not known, and a fixed one is wrong for most
    goals. The change of the latent since ``lag`` steps ago is a third input: one frame does not show the velocity,
    and a controller that does not see it overshoots. And the inputs can be embedded first, all by the same network.

    Args:
        config: The shape of the network.
    """

    _table: torch.Tensor | None

    name = "gc-idm"
    Config = InverseDynamicsConfig
    learner = "wm_agents.training.gc_idm:InverseDynamicsLearner"

    def __init__(self, config: InverseDynamicsConfig) -> None:
        super().__init__(config)
        width, size = config.width, config.embedding or config.latent_size
        self.embed: nn.Module = nn.Identity()
        if config.embedding:
            layers = [*_layer(config.latent_size, 2 * size), *_layer(2 * size, 2 * size), nn.Linear(2 * size, size)]
            self.embed = nn.Sequential(*layers)
        self.body = nn.Sequential()
        for inputs in ((3 if config.lag else 2) * size, width, width):
            self.body.extend([*_layer(inputs, width), nn.Dropout(config.dropout)])
        self.condition = nn.Sequential(nn.Linear(64, width), nn.GELU(), nn.Linear(width, width))
        self.unknown = nn.Parameter(torch.zeros(width))
        self.modulation = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.head = nn.Linear(width, config.action_size)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self._weights = (*self.condition.parameters(), *self.modulation.parameters(), self.unknown)
        self._made_of: tuple[tuple[int, int], ...] = ()
        self.register_buffer("_table", None, persistent=False)

    def forward(
        self, z: torch.Tensor, z_before: torch.Tensor, z_goal: torch.Tensor, steps_remaining: torch.Tensor
    ) -> torch.Tensor:
        """Return actions ``[B, A]``, in environment units, not clipped.

        Args:
            z: ``[B, D]``, now.
            z_before: ``[B, D]``, ``lag`` steps ago; ``z`` itself where there was no frame yet.
            z_goal: ``[B, D]``.
            steps_remaining: ``[B]``, whole environment steps to the goal; 0 where that is not known.
        """
        if self.config.embedding:  # in one call: a decision is one step of one environment
            z, z_goal, z_before = self.embed(torch.stack([z, z_goal, z_before])).unbind()
        inputs = [z, z_goal, z - z_before] if self.config.lag else [z, z_goal]
        hidden = self.body(torch.cat(inputs, dim=-1))
        steps = steps_remaining.clamp(0, self.config.max_horizon).long()
        # Not by indexing: its gradient is added up in whatever order the threads arrive.
        scale, shift = F.embedding(steps, self._modulations()).chunk(2, dim=-1)
        return self.head(hidden * (1 + scale) + shift)

    def _modulations(self) -> torch.Tensor:
        """Scale and shift at every distance, ``[max_horizon + 1, 2 * width]``; row 0 is that of the unknown one.

        They only depend on the weights, so control calculates them once, and again when the weights have changed.
        """
        weights = tuple((id(weight), weight._version) for weight in self._weights)  # a copy counts its versions anew
        if self._table is not None and weights == self._made_of and not (self.training or torch.is_grad_enabled()):
            return self._table
        steps = torch.arange(self.config.max_horizon + 1, device=self.unknown.device)
        known = self.condition(sinusoid(steps / self.config.max_horizon))
        table = self.modulation(torch.where((steps > 0).unsqueeze(-1), known, self.unknown))
        self._table, self._made_of = table.detach(), weights
        return table


def _layer(inputs: int, outputs: int) -> list[nn.Module]:
    linear = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    return [linear, nn.LayerNorm(outputs), nn.GELU()]


def sinusoid(fraction: torch.Tensor, size: int = 64) -> torch.Tensor:
    """Embed numbers in [0, 1] as sines and cosines of geometric frequencies from 1 to 100 rad: ``[B] -> [B, size]``.

    Neighbouring horizons (1/50 apart) stay distinct without aliasing at the highest frequency.
    """
    exponents = torch.arange(size // 2, device=fraction.device, dtype=fraction.dtype) / (size // 2 - 1)
    angles = fraction.unsqueeze(-1) * torch.exp(math.log(100.0) * exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
