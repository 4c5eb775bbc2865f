"""Latent predictors: from a history of latents and action blocks to the next latent.

Both take ``z [B, T, D]`` and ``actions [B, T, K*A]`` (normalised; ``actions[:, t]`` is the block executed from frame
``t``) and return ``[B, T, D]``: at index ``t`` the prediction of frame ``t+1`` from the frames up to ``t``, at most
``history`` of them. So one forward pass is teacher forcing over a window, and its last row is the next latent;
``latest`` computes that row alone, ``[B, D]``, from at most ``history`` frames.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.models.encoders import Projector


class ActionEmbedding(nn.Sequential):
    """Linear, SiLU, Linear over one action block: ``[..., K*A] -> [..., size]``."""

    def __init__(self, block: int, size: int) -> None:
        super().__init__(nn.Linear(block, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))


class MLPPredictor(nn.Module):
    """Residual MLP over the last ``history`` latents and action embeddings; the default, and fast on a CPU.

    Frames before the first one are stood for by learned tokens, so a planner may start from a single frame. Plain
    ReLU layers: LayerNorm and SiLU took half of a plan's time on a CPU.

    Args:
        latent: D.
        block: K*A.
        history: Frames of context, at least 1.
        width: Hidden units of each layer.
        depth: Hidden layers.
        dropout: Probability, after each hidden layer.
    """

    def __init__(self, latent: int, block: int, history: int, width: int = 256, depth: int = 2, dropout: float = 0.0):
        super().__init__()
        self.history = history
        self.embed = ActionEmbedding(block, latent)
        self.missing = nn.Parameter(torch.zeros(1, history - 1, 2 * latent))
        sizes = [2 * latent * history] + [width] * depth
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
        self.net = nn.Sequential(*layers, nn.Linear(width, latent))

    def forward(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Teacher forcing over a window; see the module's docstring."""
        frames = self._frames(z, actions)
        context = frames.unfold(1, self.history, 1).transpose(2, 3).flatten(2)
        return z + self.net(context)

    def latest(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the next latent; the inner loop of planning."""
        # Two-dimensional and contiguous: otherwise torch multiplies row by row, several times slower.
        context = self._frames(z, actions)[:, -self.history :].flatten(1)
        return z[:, -1] + self.net(context)

    def _frames(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        frames = torch.cat([z, self.embed(actions)], dim=-1)
        return torch.cat([self.missing.expand(len(z), -1, -1).to(frames.dtype), frames], dim=1)


class TransformerPredictor(nn.Module):
    """Causal transformer over latent tokens; the action enters each block by AdaLN-zero (arXiv 2603.19312).

    Args:
        latent: D.
        block: K*A.
        history: Frames of context, at least 1.
        width: Token width.
        depth: Blocks.
        heads: Attention heads.
        dropout: Probability, in attention outputs and MLPs.
    """

    def __init__(
        self, latent: int, block: int, history: int, width: int = 192, depth: int = 6, heads: int = 16,
        dropout: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.history = history
        self.embed = ActionEmbedding(block, width)
        self.enter = nn.Linear(latent, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, history, width))
        self.blocks = nn.ModuleList(AdaLNBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.project = Projector(width, 4 * width, latent)

    def forward(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """``z [B, T, D], actions [B, T, K*A] -> [B, T, D]``."""
        length = z.shape[1]
        if length > self.history:  # slide: each target sees at most `history` frames, as it does in a rollout
            head = self.forward(z[:, : self.history], actions[:, : self.history])
            windows = z.unfold(1, self.history, 1)[:, 1:].transpose(2, 3).flatten(0, 1)
            blocks = actions.unfold(1, self.history, 1)[:, 1:].transpose(2, 3).flatten(0, 1)
            tail = self.forward(windows, blocks)[:, -1].unflatten(0, (len(z), length - self.history))
            return torch.cat([head, tail], dim=1)
        tokens = self.enter(z) + self.positions[:, :length]
        condition = self.embed(actions)
        for block in self.blocks:
            tokens = block(tokens, condition)
        return self.project(self.norm(tokens).flatten(0, 1)).unflatten(0, z.shape[:2])

    def latest(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the next latent."""
        return self.forward(z, actions)[:, -1]


class AdaLNBlock(nn.Module):
    """A causal transformer block whose two branches are shifted, scaled and gated by a condition, all zero at first."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        inner = 64 * heads
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.out = nn.Sequential(nn.Linear(inner, width), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            nn.Linear(width, 2048), nn.GELU(), nn.Dropout(dropout), nn.Linear(2048, width), nn.Dropout(dropout)
        )
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        nn.init.zeros_(self.modulation[1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.modulation[1].bias)  # type: ignore[arg-type]

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """Causal self-attention: ``x [B, T, width] -> [B, T, width]``."""
        q, k, v = (part.unflatten(-1, (self.heads, 64)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout if self.training else 0.0)
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """``x [B, T, width], condition [B, T, width] -> [B, T, width]``."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate1 * self.attend(self.norms[0](x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norms[1](x) * (1 + scale2) + shift2)
