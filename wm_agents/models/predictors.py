"""Latent predictors: from a history of latents and action blocks to the next latent.

Called with ``z [B, T, D]`` and ``actions [B, T, K*A]`` (normalised; ``actions[:, t]`` is the block executed from frame
``t``) both return ``[B, T, D]``: at index ``t`` the prediction of frame ``t+1`` from the frames up to ``t``, at most
``history`` of them. So one forward pass is teacher forcing over a window, and its last row is the next latent.

``imagine`` is the inner loop of planning. From at most ``history`` frames ``z [B, T, D]``, the blocks between them and
H more, ``actions [B, T-1+H, K*A]``, it returns the H latents that follow, ``[B, H, D]``: the last row of ``forward``,
fed back H times, but nothing is computed that no prediction needs.

A predictor is made as ``Predictor(config)`` with a :class:`wm_agents.models.lewm.LeWMConfig`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.models.encoders import Projector

if TYPE_CHECKING:
    from wm_agents.models.lewm import LeWMConfig


class ActionEmbedding(nn.Sequential):
    """Linear, SiLU, Linear over one action block: ``[..., K*A] -> [..., size]``."""

    def __init__(self, block: int, size: int) -> None:
        super().__init__(nn.Linear(block, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))


class MLPPredictor(nn.Module):
    """Residual MLP over the last ``history`` latents and action embeddings; the default, and fast on a CPU.

    Learned tokens replace frames before the first one, so a planner may start from a single frame. Plain
    ReLU layers: LayerNorm and SiLU took half of a plan's time on a CPU.

    Args:
        config: Sizes: ``predictor_width`` hidden units in each of ``predictor_depth`` layers, ``dropout`` after each.
    """

    rows: ClassVar[int] = 600
    """Sequences that a CPU core imagines best at a time: 600 x 256 hidden units, 0.6 MB, stay in its cache."""

    def __init__(self, config: LeWMConfig) -> None:
        super().__init__()
        latent, block, history = config.latent_size, config.block_size, config.history
        width, depth, dropout = config.predictor_width, config.predictor_depth, config.dropout
        self.history = history
        self.embed = ActionEmbedding(block, latent)
        self.missing = nn.Parameter(torch.zeros(1, history - 1, 2 * latent))
        sizes = [2 * latent * history] + [width] * depth
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.net = nn.Sequential(*layers, nn.Linear(width, latent))

    def forward(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Teacher forcing over a window; see the module's docstring."""
        frames = self._frames(z, actions)
        context = frames.unfold(1, self.history, 1).transpose(2, 3).flatten(2)
        return z + self.net(context)

    def imagine(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Roll out; see the module's docstring."""
        # Two-dimensional and contiguous: otherwise torch multiplies row by row, several times slower.
        embedded = self.embed(actions.transpose(0, 1).flatten(0, 1)).unflatten(0, (-1, len(z))).unbind(0)
        latents = list(z.unbind(1))
        context = len(latents)
        missing = self.missing.unflatten(2, (2, z.shape[2])).flatten(1, 2).expand(len(z), -1, -1)
        parts = [*missing.unbind(1)]  # latent, embedded block, latent, embedded block, ...: the frames before the last
        for latent, block in zip(latents, embedded[: context - 1], strict=False):
            parts += [latent, block]
        for block in embedded[context - 1 :]:
            parts = [*parts[len(parts) - 2 * (self.history - 1) :], latents[-1], block]
            latents.append(latents[-1] + self.net(torch.cat(parts, dim=1)))
        return torch.stack(latents[context:], dim=1)

    def _frames(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        frames = torch.cat([z, self.embed(actions)], dim=-1)
        return torch.cat([self.missing.expand(len(z), -1, -1).to(frames.dtype), frames], dim=1)


class TransformerPredictor(nn.Module):
    """Causal transformer over latent tokens; the action enters each block by AdaLN-zero (arXiv 2603.19312).

    Args:
        config: Sizes: ``predictor_depth`` blocks of ``predictor_heads`` heads over tokens of ``predictor_width``
            numbers, ``dropout`` in attention outputs and MLPs.
    """

    rows: ClassVar[int] = 600
    """Sequences that a CPU core imagines best at a time: fewer read the weights more often, more leave its cache."""

    def __init__(self, config: LeWMConfig) -> None:
        super().__init__()
        latent, block, history = config.latent_size, config.block_size, config.history
        width, depth, heads = config.predictor_width, config.predictor_depth, config.predictor_heads
        dropout = config.dropout
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

    def imagine(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Roll out; see the module's docstring. Inside, positions come first: the rows of each lie together."""
        context = z.shape[1]
        positions = self.positions.transpose(0, 1)
        tokens = self.enter(z.transpose(0, 1).contiguous())
        conditions = self.embed(actions.transpose(0, 1).contiguous())
        layers: list[Any] = list(self.blocks)
        modulations = [block.modulation(conditions[: context - 1]) for block in layers]
        latents: list[torch.Tensor] = []
        for condition in conditions[context - 1 :].split(1):
            if latents:
                tokens = self._slide(tokens, self.enter(latents[-1].unsqueeze(0)))
            x = tokens + positions[: len(tokens)]
            for index, block in enumerate(layers):
                modulations[index] = self._slide(modulations[index], block.modulation(condition))
                x = block.imagine(x, modulations[index], last=index == len(layers) - 1)
            latents.append(self.project(self.norm(x[-1])))
        return torch.stack(latents, dim=1)

    def _slide(self, kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Append a position, and drop what lies before the history: ``[T, R, ...], [1, R, ...]``."""
        return torch.cat([kept[max(0, len(kept) + 1 - self.history) :], new])


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
        shift, scale, *rest = self.modulation(condition).chunk(6, dim=-1)
        return self._add(x, self.attend(self._modulated(x, shift, scale)), *rest)

    def imagine(self, x: torch.Tensor, modulation: torch.Tensor, last: bool) -> torch.Tensor:
        """The same with positions first, ``x [T, R, width], modulation [T, R, 6 * width] -> [T, R, width]``.

        The first position sees itself alone, so it needs no query. After the ``last`` block only the last position is
        of interest, ``[1, R, width]``: no other needs more there than key and value.
        """
        shift, scale, *rest = modulation.chunk(6, dim=-1)
        x_in = self._modulated(x, shift, scale)
        query, key_value = self.qkv.weight.split([64 * self.heads, 128 * self.heads])
        start = len(x) - 1 if last else 0
        keys, values = F.linear(x_in, key_value).unflatten(-1, (2, self.heads, 64)).unbind(2)
        attended = []
        for position in range(start, len(x)):
            if position == 0:
                attended.append(values[0])
                continue
            q = F.linear(x_in[position], query).unflatten(-1, (self.heads, 64))
            weights = ((q * keys[: position + 1]).sum(-1, keepdim=True) / 8).softmax(0)
            weights = F.dropout(weights, self.dropout, self.training)
            attended.append((weights * values[: position + 1]).sum(0))
        y = self.out(torch.stack(attended).flatten(2))
        return self._add(x[start:], y, *(part[start:] for part in rest))

    def _modulated(self, x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """The input of the attention."""
        return self.norms[0](x) * (1 + scale) + shift

    def _add(self, x: torch.Tensor, attended: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        gate1, shift, scale, gate2 = rest
        x = x + gate1 * attended
        return x + gate2 * self.mlp(self.norms[1](x) * (1 + scale) + shift)
