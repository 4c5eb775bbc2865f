"""Macro-actions: a stretch of action blocks as one small vector, and the latent to which it leads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import nn

from wm_agents.configs import check_counts
from wm_agents.models.heads.base import Head
from wm_agents.registry import did_you_mean

RESIDUAL = 0.1  # in standard deviations of macro-actions, as in arXiv 2607.12547
MacroEncoderName = Literal["transformer", "mlp"]


@dataclass(frozen=True)
class MacroActionsConfig:
    """Shape of the macro-action model.

    Attributes:
        latent_size: D; taken from the world model when trained.
        block_size: K*A, numbers in one action block; taken from the world model when trained.
        encoder: "transformer" for stretches of any length between ``shortest`` and ``longest``; "mlp" for one length.
        macro_size: M, numbers in a macro-action. More numbers lead to subgoals that cannot be reached (HWM,
            arXiv 2604.03208, whose mazes have 8).
        shortest: Blocks of the shortest stretch.
        longest: Blocks of the longest stretch.
        width: Hidden units of the predictor; the transformer's tokens have a quarter of them.
        depth: Hidden layers of the predictor.
        bank_size: Macro-actions of the training data that are kept, to tell whether others are like the data.
    """

    latent_size: int = 32
    block_size: int = 10
    encoder: MacroEncoderName = "transformer"
    macro_size: int = 8
    shortest: int = 3
    longest: int = 8
    width: int = 256
    depth: int = 2
    bank_size: int = 1024

    def __post_init__(self) -> None:
        sizes = ("latent_size", "block_size", "macro_size", "shortest", "longest", "width", "depth", "bank_size")
        check_counts(self, sizes)
        if self.encoder not in get_args(MacroEncoderName):
            raise ValueError(did_you_mean("macro-action encoder", str(self.encoder), get_args(MacroEncoderName)))
        if self.longest < self.shortest:
            raise ValueError(f"the longest stretch ({self.longest} blocks) is shorter than the shortest.")
        if self.encoder == "mlp" and self.longest != self.shortest:
            raise ValueError(
                f'encoder="mlp" reads stretches of one length, not {self.shortest} to {self.longest} blocks: set '
                'shortest and longest to one number, or use encoder="transformer".'
            )


class MacroActions(Head):
    """Encoder of macro-actions and high-level predictor (HWM, arXiv 2604.03208).

    The encoder compresses normalised action blocks; a BatchNorm without parameters keeps every coordinate near mean 0
    and variance 1. The predictor leads from latent to latent, one macro-action at a time, in the world model's space.

    Attributes:
        bank: float32 ``[bank_size, M]``, macro-actions of the training data.
        bank_blocks: float32 ``[bank_size, K*A]``, the first block of each, normalised.

    Args:
        config: The shape.
    """

    bank: torch.Tensor
    bank_blocks: torch.Tensor

    name = "macro-actions"
    Config = MacroActionsConfig
    learner = "wm_agents.training.macro_actions:MacroActionsLearner"

    def __init__(self, config: MacroActionsConfig) -> None:
        super().__init__(config)
        if config.encoder == "transformer":
            self.encoder: nn.Module = ChunkTransformer(
                config.block_size, max(32, config.width // 4), config.macro_size, config.longest
            )
        else:
            self.encoder = ChunkMLP(config.block_size * config.longest, config.width, config.macro_size)
        self.norm = nn.BatchNorm1d(config.macro_size, affine=False)
        sizes = [config.latent_size + config.macro_size] + [config.width] * config.depth
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.predictor = nn.Sequential(*layers, nn.Linear(config.width, config.latent_size))
        self.register_buffer("bank", torch.zeros(config.bank_size, config.macro_size))
        self.register_buffer("bank_blocks", torch.zeros(config.bank_size, config.block_size))

    def encode(self, blocks: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Macro-actions ``[B, M]`` of stretches of blocks.

        Args:
            blocks: ``[B, longest, K*A]``, normalised; blocks beyond a stretch's length are ignored.
            lengths: int64 ``[B]``, blocks in each, ``shortest`` to ``longest``.

        Raises:
            ValueError: Stretches of another shape, or of a length that the encoder was not made for.
        """
        config = self.config
        if tuple(blocks.shape[1:]) != (config.longest, config.block_size):
            raise ValueError(
                f"stretches of {tuple(blocks.shape[1:])}, the macro-actions were trained on "
                f"({config.longest}, {config.block_size}): pad them to {config.longest} blocks."
            )
        if ((lengths < config.shortest) | (lengths > config.longest)).any():
            raise ValueError(f"stretches must have {config.shortest} to {config.longest} blocks.")
        return self.norm(self.encoder(blocks, lengths))

    def predict(self, z: torch.Tensor, macro: torch.Tensor) -> torch.Tensor:
        """Latent after a macro-action: ``z [..., D], macro [..., M] -> [..., D]``."""
        return z + self.predictor(torch.cat([z, macro], dim=-1))

    def rollout(self, z: torch.Tensor, macros: torch.Tensor) -> torch.Tensor:
        """Waypoints ``[B, S, H, D]`` from ``z [B, D]`` under candidates ``macros [B, S, H, M]``."""
        latent = z.unsqueeze(1).expand(-1, macros.shape[1], -1)
        waypoints = []
        for macro in macros.unbind(dim=2):
            latent = self.predict(latent, macro)
            waypoints.append(latent)
        return torch.stack(waypoints, dim=2)

    def nearest(self, macros: torch.Tensor) -> torch.Tensor:
        """Index ``[...]`` in the bank of the recorded macro-action nearest to each of ``macros [..., M]``."""
        return torch.cdist(macros.flatten(0, -2), self.bank).argmin(dim=1).view(macros.shape[:-1])

    def near_bank(self, macros: torch.Tensor) -> torch.Tensor:
        """Pull macro-actions ``[..., M]`` to within ``RESIDUAL`` of their nearest in the bank (arXiv 2607.12547)."""
        centre = self.bank[self.nearest(macros)]
        return centre + (macros - centre).clamp(-RESIDUAL, RESIDUAL)

    def bounds(self, percent: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Percentiles ``percent`` and ``100 - percent`` of the bank, ``[M]`` each (HWM has 2 and 98)."""
        low, high = torch.quantile(self.bank, torch.tensor([percent, 100 - percent]).to(self.bank) / 100, dim=0)
        return low, high


class ChunkTransformer(nn.Module):
    """Two transformer layers over blocks and a CLS token, whose output is the macro-action."""

    def __init__(self, block: int, width: int, size: int, longest: int) -> None:
        super().__init__()
        self.enter = nn.Linear(block, width)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + longest, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.leave = nn.Linear(width, size)

    def forward(self, blocks: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """``blocks [B, L, K*A], lengths [B] -> [B, size]``."""
        tokens = torch.cat([self.cls.expand(len(blocks), -1, -1), self.enter(blocks)], dim=1) + self.positions
        beyond = torch.arange(tokens.shape[1], device=lengths.device) > lengths.unsqueeze(1)
        return self.leave(self.layers(tokens, src_key_padding_mask=beyond)[:, 0])


class ChunkMLP(nn.Module):
    """Two hidden layers over all blocks of a stretch of fixed length, concatenated."""

    def __init__(self, inputs: int, width: int, size: int) -> None:
        super().__init__()
        layers = (nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size))
        self.net = nn.Sequential(nn.Flatten(), *layers)

    def forward(self, blocks: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """``blocks [B, L, K*A] -> [B, size]``; all lengths are L."""
        return self.net(blocks)
