"""The latent world model: encoder, projector and predictor behind three calls, ``encode``, ``predict``, ``rollout``."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from wm_agents.models.encoders import ConvEncoder, Projector, ViTEncoder
from wm_agents.models.predictors import MLPPredictor, TransformerPredictor
from wm_agents.registry import did_you_mean

EncoderName = Literal["conv", "vit"]
PredictorName = Literal["mlp", "transformer"]


@dataclass(frozen=True)
class WorldModelConfig:
    """Shape of a world model.

    Attributes:
        image_size: Height and width of the images, in pixels.
        action_size: A, primitive action dimensions.
        action_block: K, primitive actions per block.
        history: Frames of context, K steps apart; 2 lets the model see velocity.
        latent_size: D.
        encoder: "conv" (fast on a CPU) or "vit" (ViT-Tiny, for a GPU).
        predictor: "mlp" (fast on a CPU) or "transformer" (causal, AdaLN).
        predictor_width: Hidden units or token width.
        predictor_depth: Hidden layers or transformer blocks.
        predictor_heads: Attention heads of the transformer.
        dropout: Of the predictor. LeWorldModel uses 0.1 on Push-T.
    """

    image_size: int = 64
    action_size: int = 2
    action_block: int = 5
    history: int = 2
    latent_size: int = 32
    encoder: EncoderName = "conv"
    predictor: PredictorName = "mlp"
    predictor_width: int = 256
    predictor_depth: int = 2
    predictor_heads: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in (
            "image_size", "action_size", "action_block", "history", "latent_size",
            "predictor_width", "predictor_depth", "predictor_heads",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"WorldModelConfig.{name} must be at least 1, not {getattr(self, name)}.")
        for kind, known in (("encoder", get_args(EncoderName)), ("predictor", get_args(PredictorName))):
            if getattr(self, kind) not in known:
                raise ValueError(did_you_mean(kind, getattr(self, kind), known))

    @property
    def block_size(self) -> int:
        """Numbers in one action block, K*A."""
        return self.action_block * self.action_size


@dataclass
class ActionStatistics:
    """Bounds and statistics of the primitive actions, each ``[A]``, in environment units."""

    low: np.ndarray = field(default_factory=lambda: np.zeros(0))
    high: np.ndarray = field(default_factory=lambda: np.zeros(0))
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    std: np.ndarray = field(default_factory=lambda: np.zeros(0))


class WorldModel(nn.Module):
    """Encoder and action-conditioned predictor in one latent space (LeWorldModel, arXiv 2603.19312).

    Latents are float32 ``[..., D]``. Actions are **normalised** blocks everywhere here, z-scored per primitive
    dimension with the training split's statistics, which travel with the weights; ``normalize`` and ``denormalize``
    convert from and to environment units.

    Args:
        config: The shape of the networks.
        actions: Bounds and statistics of the primitive actions.
    """

    action_low: torch.Tensor
    action_high: torch.Tensor
    action_mean: torch.Tensor
    action_std: torch.Tensor

    def __init__(self, config: WorldModelConfig, actions: ActionStatistics) -> None:
        super().__init__()
        self.config = config
        for name in ("low", "high", "mean", "std"):
            values = torch.as_tensor(np.asarray(getattr(actions, name)), dtype=torch.float32)
            if values.shape != (config.action_size,):
                raise ValueError(f"action {name} has shape {tuple(values.shape)}, expected ({config.action_size},).")
            self.register_buffer(f"action_{name}", values)
        self.encoder: nn.Module = (
            ConvEncoder(config.image_size) if config.encoder == "conv" else ViTEncoder(config.image_size)
        )
        features: int = self.encoder.features  # type: ignore[assignment]
        self.projector = Projector(features, 2 * features, config.latent_size)
        sizes: dict[str, Any] = {
            "latent": config.latent_size,
            "block": config.block_size,
            "history": config.history,
            "width": config.predictor_width,
            "depth": config.predictor_depth,
            "dropout": config.dropout,
        }
        self.predictor: nn.Module = (
            MLPPredictor(**sizes)
            if config.predictor == "mlp"
            else TransformerPredictor(heads=config.predictor_heads, **sizes)
        )

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode uint8 pixels ``[..., H, W, C]`` to latents ``[..., D]``.

        Raises:
            ValueError: The images are not uint8, or not of the size that the model was trained on.
        """
        size = self.config.image_size
        if pixels.dtype != torch.uint8:
            raise ValueError(
                f"pixels must be uint8 in 0..255, not {pixels.dtype}: pass the environment's images as is."
            )
        if tuple(pixels.shape[-3:]) != (size, size, 3):
            raise ValueError(
                f"images are {tuple(pixels.shape[-3:])}, the world model was trained on ({size}, {size}, 3): "
                f"make the environment with image_size={size}."
            )
        z = self.projector(self.encoder(pixels.reshape(-1, size, size, 3))).float()
        return z.reshape(*pixels.shape[:-3], self.config.latent_size)

    def forward(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Teacher forcing: ``z [B, T, D], actions [B, T, K*A] -> [B, T, D]``, row ``t`` predicts frame ``t+1``."""
        return self.predictor(z, actions).float()

    def predict(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Next latent ``[B, D]`` from ``z [B, T, D]`` and ``actions [B, T, K*A]``, T between 1 and ``history``."""
        history = self.config.history
        return self.predictor.imagine(z[:, -history:], actions[:, -history:])[:, 0].float()  # type: ignore[operator]

    def rollout(self, z: torch.Tensor, past: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Imagine S action sequences from each of B histories.

        Args:
            z: ``[B, T, D]``, the latents seen so far, oldest first.
            past: ``[B, T-1, K*A]``, the blocks executed between them.
            actions: ``[B, S, H, K*A]``, the candidates.

        Returns:
            ``[B, S, H, D]``; index ``h`` is the latent after block ``h``.
        """
        z = z[:, -self.config.history :]
        past = past[:, past.shape[1] - (z.shape[1] - 1) :]
        samples = actions.shape[1]
        latents = z.unsqueeze(1).expand(-1, samples, -1, -1).flatten(0, 1)
        blocks = torch.cat([past.unsqueeze(1).expand(-1, samples, -1, -1), actions], dim=2).flatten(0, 1)
        predictor: Any = self.predictor
        # CPU cores are faster on rows that fit their caches. In training, BatchNorm must see all of them.
        cached = actions.device.type == "cpu" and not predictor.training
        rows = predictor.rows * torch.get_num_threads() if cached else max(1, len(latents))
        parts = zip(latents.split(rows), blocks.split(rows), strict=True)
        return torch.cat([predictor.imagine(*part) for part in parts]).float().unflatten(0, actions.shape[:2])

    def for_bf16(self) -> WorldModel:
        """Return this model, as it is now, for rollouts under bf16 autocast: the same results, up to twice as fast.

        Autocast casts frozen weights in every call. Here the predictor's linear layers hold them in bf16; all else is
        shared or copied.
        """
        model = copy.deepcopy(self, {id(part): part for part in (self.encoder, self.projector)})
        for layer in model.predictor.modules():
            if isinstance(layer, nn.Linear):
                layer.bfloat16()
        return model

    def normalize(self, actions: torch.Tensor) -> torch.Tensor:
        """Environment units to z-scores; the last dimension is A or K*A."""
        repeat = actions.shape[-1] // self.config.action_size
        return (actions - self.action_mean.repeat(repeat)) / self.action_std.repeat(repeat)

    def denormalize(self, actions: torch.Tensor) -> torch.Tensor:
        """Z-scores to environment units, clipped into the action bounds; the last dimension is A or K*A."""
        repeat = actions.shape[-1] // self.config.action_size
        raw = actions * self.action_std.repeat(repeat) + self.action_mean.repeat(repeat)
        return torch.clamp(raw, self.action_low.repeat(repeat), self.action_high.repeat(repeat))

    def block_bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The action bounds as normalised blocks: ``low [K*A], high [K*A]``."""
        repeat = self.config.action_block
        return self.normalize(self.action_low.repeat(repeat)), self.normalize(self.action_high.repeat(repeat))
