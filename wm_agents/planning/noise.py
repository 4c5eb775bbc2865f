"""Noise that is correlated in time, and the view of a plan as primitive steps in which time runs evenly."""

from __future__ import annotations

import torch


def to_steps(actions: torch.Tensor, action_block: int) -> torch.Tensor:
    """View a plan ``[..., H, K*A]`` as its primitive actions ``[..., H*K, A]``.

    Raises:
        ValueError: ``action_block`` (K) does not divide the size of a block.
    """
    *batch, horizon, size = actions.shape
    if size % action_block:
        raise ValueError(f"action_block ({action_block}) must divide the size of an action block, K*A = {size}.")
    return actions.reshape(*batch, horizon * action_block, size // action_block)


def to_blocks(steps: torch.Tensor, action_block: int) -> torch.Tensor:
    """Undo :func:`to_steps`: ``[..., H*K, A] -> [..., H, K*A]``."""
    *batch, length, size = steps.shape
    return steps.reshape(*batch, length // action_block, action_block * size)


def coloured(
    samples: int,
    steps: int,
    size: int,
    *,
    exponent: float,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Gaussian noise ``[S, T, A]`` whose power falls as ``frequency ** -exponent`` along T; each entry has variance 1.

    Drawn in frequency space and transformed back (Timmer and Koenig, 1995), as iCEM does (arXiv 2008.06389, section
    3.1). The constant component gets the power of the lowest frequency, ``1 / T``. Exponent 0 is white noise, 1 pink,
    2 red (a random walk); one step is a normal number whatever the exponent.
    """
    power = torch.fft.rfftfreq(steps, device=device, dtype=dtype).clamp(min=1 / steps) ** -exponent
    real = [0, -1] if steps % 2 == 0 else [0]  # the constant, and the highest frequency of an even length
    variance = torch.stack([power, power], dim=-1)  # of the real and of the imaginary part
    variance[real] = torch.stack([2 * power[real], torch.zeros_like(power[real])], dim=-1)
    mirrored = torch.full_like(power, 2.0)  # every other frequency stands for its mirror image too
    mirrored[real] = 1.0
    unit = steps / (mirrored[:, None] * variance).sum().sqrt()
    normal = torch.randn(samples, size, power.shape[0], 2, generator=generator, device=device, dtype=dtype)
    spectrum = torch.view_as_complex(normal * variance.sqrt() * unit)
    return torch.fft.irfft(spectrum, n=steps, dim=-1).transpose(1, 2)
