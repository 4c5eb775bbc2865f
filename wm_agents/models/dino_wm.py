"""DINO-WM (arXiv 2411.04983): a patch world model on the frozen features of DINOv2."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from wm_agents.configs import check_choices, check_counts
from wm_agents.downloads import download
from wm_agents.models.encoders import ViTEncoder
from wm_agents.models.patch import PatchWorldModel

RANDOM = "random"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
REVISIONS = {"facebook/dinov2-small": "ed25f3a31f01632728cabb09d1542f84ab7b0056"}
"""Repositories on Hugging Face -> the commit that is read."""


@dataclass(frozen=True)
class DinoWMConfig:
    """Shape of a DINO-WM.

    Attributes:
        image_size: Height and width of the images, in pixels.
        action_size: A, primitive action dimensions.
        action_block: K, primitive actions per block.
        history: Frames that a layer's tokens see, K steps apart, including their own; 3 in the paper.
        backbone: Where the encoder's weights come from: a DINOv2 on Hugging Face, a folder with its ``config.json`` and
            ``model.safetensors``, or "random", for tests and as a control.
        revision: Commit of the repository; it is known for "facebook/dinov2-small".
        backbone_image_size: Height and width to which images are resized, in pixels; a multiple of ``patch_size``. 196
            in the paper, which gives 14 x 14 tokens; 56 gives 4 x 4.
        patch_size: Height and width of the backbone's patches, in pixels.
        token_size: D, numbers per token, the backbone's width.
        backbone_depth: Layers of the backbone.
        backbone_heads: Attention heads of the backbone.
        predictor_width: Token width inside the predictor.
        predictor_depth: Transformer layers of the predictor; 6 in the paper.
        predictor_heads: Attention heads of the predictor.
        choices: Number of choices of each discrete action, whose one-hot vectors make up A; empty for continuous ones.
    """

    image_size: int = 64
    action_size: int = 2
    action_block: int = 5
    history: int = 3
    backbone: str = "facebook/dinov2-small"
    revision: str = ""
    backbone_image_size: int = 196
    patch_size: int = 14
    token_size: int = 384
    backbone_depth: int = 12
    backbone_heads: int = 6
    predictor_width: int = 384
    predictor_depth: int = 6
    predictor_heads: int = 6
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = ("image_size", "action_size", "action_block", "history", "backbone_image_size", "patch_size")
        shapes = ("token_size", "backbone_depth", "backbone_heads")
        check_counts(self, (*sizes, *shapes, "predictor_width", "predictor_depth", "predictor_heads"))
        check_choices(self)
        for name in ("backbone", "revision"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"DinoWMConfig.{name} must be text, not {getattr(self, name)!r}.")
        for size, divisor in (
            ("backbone_image_size", "patch_size"),
            ("token_size", "backbone_heads"),
            ("predictor_width", "predictor_heads"),
        ):
            if getattr(self, size) % getattr(self, divisor):
                raise ValueError(
                    f"{size} {getattr(self, size)} must be a multiple of {divisor} {getattr(self, divisor)}."
                )
        if not self.revision:
            object.__setattr__(self, "revision", REVISIONS.get(self.backbone, ""))

    @property
    def block_size(self) -> int:
        """Numbers in one action block, K*A."""
        return self.action_block * self.action_size


class Backbone(ViTEncoder):
    """DINOv2's vision transformer (arXiv 2304.07193), frozen: images are resized and become its patch tokens.

    Its LayerScale is multiplied into the layers before it, and its position embeddings are interpolated once, when the
    weights are read. ``[B, H, W, 3] -> [B, P, features]``, row by row.

    Args:
        config: The shape.
    """

    frozen = True

    def __init__(self, config: DinoWMConfig) -> None:
        self.size = config.backbone_image_size
        self.tokens = (self.size // config.patch_size) ** 2
        super().__init__(
            self.size, config.patch_size, config.token_size, config.backbone_depth, config.backbone_heads, eps=1e-6
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[B, H, W, 3] -> [B, P, features]``."""
        images, size = self.normalize(pixels), (self.size, self.size)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return self.attended(images)[:, 1:]


class DinoWM(PatchWorldModel):
    """Frozen patch features of DINOv2, and a transformer from one frame's to the next's.

    Only the predictor and its embedding of actions are trained, by the prediction error alone: targets that are fixed
    cannot collapse. Otherwise it is a :class:`PatchWorldModel`, whose docstring lists the differences to the paper
    in the predictor; there is no dropout and no proprioception.

    The weights of the backbone are read once, before the training, and stored in checkpoints: these load without
    network and without another package. They are rounded to half precision, which halves their size there.

    Args:
        config: The shape of the networks, a :class:`DinoWMConfig`.
        actions: Bounds and statistics of the primitive actions.
    """

    Config: ClassVar[type] = DinoWMConfig
    losses: ClassVar[Mapping[str, float]] = {"prediction": 1.0}

    @staticmethod
    def networks(config: DinoWMConfig) -> tuple[Backbone, nn.Module]:
        return Backbone(config).eval().requires_grad_(False), nn.Identity()

    def parts(self) -> dict[str, str]:
        return {}

    def fetch(self) -> None:
        """Read the backbone's weights, from its folder or from Hugging Face.

        Raises:
            ValueError: The files are damaged, or of a backbone of another shape; the message says of which.
            ImportError: huggingface_hub is needed and not installed.
            ConnectionError: The files cannot be downloaded.
        """
        config = self.config
        tensors = {name: value.clone() for name, value in self.encoder.state_dict().items()}
        if config.backbone != RANDOM:
            folder = Path(config.backbone)
            if not folder.is_dir():
                folder = download(config.backbone, (CONFIG, WEIGHTS), config.revision, REVISIONS)
            tensors = read_backbone(folder, config)
        halved = {name: value.half().float() if value.ndim > 1 else value for name, value in tensors.items()}
        self.encoder.load_state_dict(halved)


def read_backbone(folder: Path, config: DinoWMConfig) -> dict[str, torch.Tensor]:
    """The tensors of :class:`Backbone` from the files of a DINOv2 as Hugging Face's transformers writes them.

    Raises:
        ValueError: A file is missing or damaged, or the backbone is of another shape than the configuration's.
    """
    try:
        shape = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        theirs = load_file(folder / WEIGHTS)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise ValueError(
            f"{folder} has no {CONFIG} and {WEIGHTS} of a backbone that can be read ({error}): give a DINOv2 such as "
            f"{next(iter(REVISIONS))!r}."
        ) from error
    if not isinstance(shape, dict) or shape.get("model_type") != "dinov2" or shape.get("use_swiglu_ffn"):
        raise ValueError(
            f"{config.backbone} is no DINOv2 of size small, base or large: give one, such as {next(iter(REVISIONS))!r}."
        )
    fields = {
        "patch_size": "patch_size",
        "hidden_size": "token_size",
        "num_hidden_layers": "backbone_depth",
        "num_attention_heads": "backbone_heads",
    }
    others = [
        f"{field}={shape.get(name)}" for name, field in fields.items() if shape.get(name) != getattr(config, field)
    ]
    if others:
        raise ValueError(f"{config.backbone} is a backbone of another shape: set {', '.join(others)} in DinoWMConfig.")
    try:
        return _renamed(theirs, config)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{folder / WEIGHTS} does not fit its {CONFIG}: {error}.") from error


def _renamed(theirs: Mapping[str, torch.Tensor], config: DinoWMConfig) -> dict[str, torch.Tensor]:
    found: dict[str, Any] = {
        "cls": theirs["embeddings.cls_token"],
        "positions": _resized(theirs["embeddings.position_embeddings"], config),
    }
    for end in ("weight", "bias"):
        found[f"patches.{end}"] = theirs[f"embeddings.patch_embeddings.projection.{end}"]
        found[f"layers.norm.{end}"] = theirs[f"layernorm.{end}"]
        for index in range(config.backbone_depth):
            own, other = f"layers.layers.{index}", f"encoder.layer.{index}"
            for norm in ("norm1", "norm2"):
                found[f"{own}.{norm}.{end}"] = theirs[f"{other}.{norm}.{end}"]
            stacked = [theirs[f"{other}.attention.attention.{part}.{end}"] for part in ("query", "key", "value")]
            found[f"{own}.self_attn.in_proj_{end}"] = torch.cat(stacked)
            found[f"{own}.linear1.{end}"] = theirs[f"{other}.mlp.fc1.{end}"]
            for name, layer, scale in (
                ("self_attn.out_proj", "attention.output.dense", "layer_scale1"),
                ("linear2", "mlp.fc2", "layer_scale2"),
            ):
                values, by = theirs[f"{other}.{layer}.{end}"], theirs[f"{other}.{scale}.lambda1"]
                found[f"{own}.{name}.{end}"] = values * (by[:, None] if end == "weight" else by)
    return found


def _resized(positions: torch.Tensor, config: DinoWMConfig) -> torch.Tensor:
    """Position embeddings ``[1, 1 + P, D]`` for the grid of ``backbone_image_size``, as transformers resizes them."""
    side = config.backbone_image_size // config.patch_size
    trained = math.isqrt(positions.shape[1] - 1)
    if trained == side:
        return positions
    grid = positions[:, 1:].unflatten(1, (trained, trained)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid.float(), (side, side), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
