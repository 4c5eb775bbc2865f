"""Image encoders: uint8 frames ``[B, H, W, 3]`` in, one feature vector per frame out, ``[B, features]``.

An encoder is a module made as ``Encoder(image_size)`` with an attribute ``features``. One whose weights come from
elsewhere and stay fixed sets ``frozen = True``: it is not trained, and if it also sets ``identity`` to a text that
names its weights exactly, checkpoints store that text instead of the weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from wm_agents.registry import ENCODERS

# Channel statistics of ImageNet, the pixel normalisation of LeWorldModel (arXiv 2603.19312).
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def make_encoder(name: str, image_size: int) -> Any:
    """Make an encoder by its name in ``ENCODERS``; one with ``frozen = True`` stays untrained, in evaluation mode."""
    encoder = ENCODERS.get(name)(image_size)
    return encoder.eval().requires_grad_(False) if getattr(encoder, "frozen", False) else encoder


def check_pixels(pixels: torch.Tensor, size: int) -> None:
    """Raise ``ValueError`` unless ``pixels [..., H, W, 3]`` are uint8 images of this height and width."""
    if pixels.dtype != torch.uint8:
        raise ValueError(
            f"pixels must be uint8 in 0..255, not {pixels.dtype}: pass the environment's images unchanged."
        )
    if tuple(pixels.shape[-3:]) != (size, size, 3):
        raise ValueError(
            f"images are {tuple(pixels.shape[-3:])}, the world model was trained on ({size}, {size}, 3): "
            f"make the environment with image_size={size}."
        )


class PixelNormalizer(nn.Module):
    """uint8 ``[B, H, W, 3]`` to normalised float ``[B, 3, H, W]`` (channels-last in memory)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(_MEAN), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(_STD), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[B, H, W, 3] -> [B, 3, H, W]``.

        A row of pixels at a time: with three channels as the innermost dimension it is several times slower on a CPU.
        """
        width = pixels.shape[2]
        rows = pixels.reshape(-1, 3 * width).float()  # a copy, which may be changed
        rows.sub_(self.mean.repeat(width)).div_(self.std.repeat(width))
        return rows.reshape(pixels.shape).permute(0, 3, 1, 2)


class ConvEncoder(nn.Module):
    """A small strided CNN, 6x6/4 - 4x4/2 - 4x4/2 with GroupNorm and SiLU, then one linear layer.

    The first layer's stride of 4 makes it about 1.6 times faster on a CPU than four stride-2 layers, with no visible
    loss on the tasks here. ``[B, H, W, 3] -> [B, features]``.

    Args:
        image_size: Height and width of the images, in pixels; at least 16.
        features: Size of the output.
    """

    def __init__(self, image_size: int, features: int = 256) -> None:
        super().__init__()
        if image_size < 16:
            raise ValueError(f"image_size {image_size} is too small: the conv encoder needs at least 16 pixels.")
        self.features = features
        self.normalize = PixelNormalizer()
        self.conv = nn.Sequential(
            nn.Conv2d(3, 32, 6, stride=4, padding=1),
            nn.GroupNorm(8, 32),
            nn.SiLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
            nn.Conv2d(64, 64, 4, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
            nn.Flatten(),
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            flat = self.conv(torch.zeros(1, 3, image_size, image_size)).shape[1]
        self.head = nn.Sequential(nn.Linear(flat, features), nn.LayerNorm(features), nn.SiLU())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[B, H, W, 3] -> [B, features]``."""
        return self.head(self.conv(self.normalize(pixels)))


class ViTEncoder(nn.Module):
    """ViT-Tiny trained from scratch: 12 layers, 3 heads, 192 features, CLS token (LeWorldModel, arXiv 2603.19312).

    ``[B, H, W, 3] -> [B, features]``. About 40 times the cost of :class:`ConvEncoder` on a CPU: meant for a GPU.

    Args:
        image_size: Height and width of the images; a multiple of ``patch``.
        patch: Patch size, in pixels.
        features: Width of the tokens and size of the output.
        depth: Transformer layers.
        heads: Attention heads.
        eps: What LayerNorms add to the variance.
    """

    def __init__(
        self,
        image_size: int,
        patch: int = 8,
        features: int = 192,
        depth: int = 12,
        heads: int = 3,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if image_size % patch:
            raise ValueError(f"image_size {image_size} is not a multiple of the ViT's patch size {patch}.")
        self.features = features
        self.normalize = PixelNormalizer()
        self.patches = nn.Conv2d(3, features, patch, stride=patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, features))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + (image_size // patch) ** 2, features))
        layer = nn.TransformerEncoderLayer(
            features,
            heads,
            4 * features,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=eps,
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(features, eps)
        self.layers = nn.TransformerEncoder(layer, depth, norm, enable_nested_tensor=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[B, H, W, 3] -> [B, features]``."""
        return self.attended(self.normalize(pixels))[:, 0]

    def attended(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens ``[B, 1 + P, features]`` of normalised images ``[B, 3, H, W]``, the CLS token first."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(len(tokens), -1, -1), tokens], dim=1) + self.positions
        return self.layers(tokens)


class Projector(nn.Sequential):
    """Linear, BatchNorm, GELU, Linear: from features to latents.

    The BatchNorm matters: a head that ends in LayerNorm fixes each latent's norm, which SIGReg's target, an isotropic
    Gaussian, does not allow (LeWorldModel, arXiv 2603.19312). ``[B, features] -> [B, latent]``.
    """

    def __init__(self, features: int, hidden: int, latent: int) -> None:
        super().__init__(nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, latent))
