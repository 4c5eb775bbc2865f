"""Sampling action sequences from a learned denoiser."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""``(noisy actions [B, S, H, K*A], noise level) -> clean estimate [B, S, H, K*A]``."""

Adjust = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""``(clean estimate [B, S, H, K*A], noise level) -> a better one``: guidance."""


def signal_and_noise(level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of signal and noise at a level in [0, 1]: the cosine schedule (arXiv 2102.09672, without its offset).

    A noisy sequence is ``signal * clean + noise * standard normal``; the squares of both sum to 1.
    """
    angle = level * (math.pi / 2)
    return angle.cos(), angle.sin()


def ddim(denoise: Denoise, actions: torch.Tensor, steps: int, adjust: Adjust | None = None) -> torch.Tensor:
    """Turn noise into action sequences: deterministic DDIM (arXiv 2010.02502, eq. 12 with sigma 0), even levels.

    Args:
        denoise: The prior, already conditioned on start and goal.
        actions: ``[B, S, H, K*A]``, standard normal noise. Less noise (scaled by 0.5, for example) gives likelier, less
            varied sequences.
        steps: Calls of ``denoise``, at least 1.
        adjust: Changes each clean estimate before the next step.

    Returns:
        ``[B, S, H, K*A]``, not clamped.
    """
    levels = torch.linspace(1, 0, steps + 1, device=actions.device, dtype=actions.dtype)
    for now, following in itertools.pairwise(levels):
        signal, noise = signal_and_noise(now)
        clean = denoise(actions, now)
        if adjust is not None:
            clean = adjust(clean, now)
        next_signal, next_noise = signal_and_noise(following)
        actions = next_signal * clean + next_noise * (actions - signal * clean) / noise
    return clean
