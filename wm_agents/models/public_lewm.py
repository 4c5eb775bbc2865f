"""LeWorldModel as its authors published it (arXiv 2603.19312): the networks, and the names of the weights in its files.

The facts are those of the public implementation, github.com/galilai-group/stable-worldmodel (``wm/lewm``), and of the
ViT of Hugging Face's transformers that it takes as encoder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from wm_agents.configs import check_choices, check_counts, check_numbers
from wm_agents.models.encoders import Projector, ViTEncoder
from wm_agents.models.lewm import LeWM
from wm_agents.models.predictors import ActionEmbedding, AdaLNBlock, TransformerPredictor

HIDDEN = 2048
"""Hidden units of both projectors."""
SMOOTHED = 10
"""Numbers that an action block becomes before it is embedded."""


@dataclass(frozen=True)
class PublicLeWMConfig:
    """Shape of the published LeWorldModel; the defaults are those of its files for Push-T, Reacher and Two-Room.

    Attributes:
        image_size: Height and width of the images, in pixels; a multiple of ``patch_size``.
        action_size: A, primitive action dimensions.
        action_block: K, primitive actions per block.
        history: Frames of context, K steps apart.
        latent_size: D, numbers in a latent, and width of all tokens; a multiple of ``encoder_heads``.
        patch_size: Height and width of the ViT's patches, in pixels.
        encoder_depth: Layers of the ViT.
        encoder_heads: Attention heads of the ViT.
        predictor_depth: Blocks of the predictor.
        predictor_heads: Attention heads of the predictor, of 64 numbers each.
        dropout: Dropout of the predictor.
        choices: Number of choices of each discrete action, whose one-hot vectors make up A; empty for continuous ones.
    """

    image_size: int = 224
    action_size: int = 2
    action_block: int = 5
    history: int = 3
    latent_size: int = 192
    patch_size: int = 14
    encoder_depth: int = 12
    encoder_heads: int = 3
    predictor_depth: int = 6
    predictor_heads: int = 16
    dropout: float = 0.1
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = ("image_size", "action_size", "action_block", "history", "latent_size", "patch_size")
        check_counts(self, (*sizes, "encoder_depth", "encoder_heads", "predictor_depth", "predictor_heads"))
        check_numbers(self, ("dropout",), 0, 0.99)
        check_choices(self)
        if self.latent_size % self.encoder_heads:
            raise ValueError(
                f"latent_size {self.latent_size} must be a multiple of encoder_heads {self.encoder_heads}."
            )

    @property
    def block_size(self) -> int:
        """Numbers in one action block, K*A."""
        return self.action_block * self.action_size


class PublicBlock(AdaLNBlock):
    """A block whose attention and MLP begin with a LayerNorm of their own, after the modulated one."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, heads, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width, 1e-6, elementwise_affine=False) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.mlp.insert(0, nn.LayerNorm(width))

    def _modulated(self, x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.norm(super()._modulated(x, shift, scale))


class PublicPredictor(TransformerPredictor):
    """The published predictor: latents are its tokens, without a layer before them.

    Args:
        config: A :class:`PublicLeWMConfig`.
    """

    def __init__(self, config: Any) -> None:
        nn.Module.__init__(self)
        width = config.latent_size
        self.history = config.history
        self.embed: Any = nn.Sequential(nn.Linear(config.block_size, SMOOTHED), *ActionEmbedding(SMOOTHED, width))
        self.enter: Any = nn.Identity()
        self.positions = nn.Parameter(torch.randn(1, config.history, width))
        self.blocks = nn.ModuleList(
            PublicBlock(width, config.predictor_heads, config.dropout) for _ in range(config.predictor_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.project = Projector(width, HIDDEN, width)


class PublicLeWM(LeWM):
    """LeWorldModel with the published encoder, projector and predictor; ``wm_agents.from_pretrained`` reads its files.

    Args:
        config: The shape of the networks, a :class:`PublicLeWMConfig`.
        actions: Bounds and statistics of the primitive actions.
    """

    Config = PublicLeWMConfig

    @staticmethod
    def networks(config: PublicLeWMConfig) -> tuple[nn.Module, nn.Module, nn.Module]:
        width = config.latent_size
        encoder = ViTEncoder(
            config.image_size, config.patch_size, width, config.encoder_depth, config.encoder_heads, eps=1e-12
        )
        return encoder, Projector(width, HIDDEN, width), PublicPredictor(config)

    def parts(self) -> dict[str, str]:
        return {}

    def load_public(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Load the weights of a published file, in either layout of their names.

        Raises:
            ValueError: Tensors are missing, unknown or of other shapes; the message names them.
        """
        found = {in_first_layout(name): value for name, value in tensors.items()}
        own = {key: value for key, value in self.state_dict().items() if "." in key}  # others are action statistics
        wanted = {name: shape for key, value in own.items() for name, shape in published(key, tuple(value.shape))}
        problems = [f"{name} is missing" for name in wanted if name not in found]
        problems += [f"{name} is unknown" for name in found if name not in wanted]
        problems += [
            f"{name} has the shape {tuple(found[name].shape)}, not {shape}"
            for name, shape in wanted.items()
            if name in found and tuple(found[name].shape) != shape
        ]
        problems += [
            f"{name} does not hold finite numbers" for name in wanted if name in found and not plain(found[name])
        ]
        if len(found) < len(tensors):
            problems.append("some tensors are there twice, in both layouts")
        if problems:
            more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
            raise ValueError("; ".join(problems[:5]) + more)
        with torch.no_grad():
            for key, value in own.items():
                parts = [found[name].reshape(-1) for name, _ in published(key, tuple(value.shape))]
                value.copy_(torch.cat(parts).view_as(value))


def plain(value: torch.Tensor) -> bool:
    """Whether a tensor holds finite real numbers, and is neither sparse, quantised nor empty of data."""
    real = value.layout is torch.strided and not (value.is_quantized or value.is_complex() or value.is_meta)
    return real and bool(value.isfinite().all())


NAMES = (
    (r"encoder\.cls", "encoder.embeddings.cls_token"),
    (r"encoder\.positions", "encoder.embeddings.position_embeddings"),
    (r"encoder\.patches\.", "encoder.embeddings.patch_embeddings.projection."),
    (r"encoder\.layers\.layers\.(\d+)\.self_attn\.in_proj_", r"encoder.encoder.layer.\1.attention.attention.*."),
    (r"encoder\.layers\.layers\.(\d+)\.self_attn\.out_proj\.", r"encoder.encoder.layer.\1.attention.output.dense."),
    (r"encoder\.layers\.layers\.(\d+)\.linear1\.", r"encoder.encoder.layer.\1.intermediate.dense."),
    (r"encoder\.layers\.layers\.(\d+)\.linear2\.", r"encoder.encoder.layer.\1.output.dense."),
    (r"encoder\.layers\.layers\.(\d+)\.norm1\.", r"encoder.encoder.layer.\1.layernorm_before."),
    (r"encoder\.layers\.layers\.(\d+)\.norm2\.", r"encoder.encoder.layer.\1.layernorm_after."),
    (r"encoder\.layers\.norm\.", "encoder.layernorm."),
    (r"projector\.", "projector.net."),
    (r"predictor\.positions", "predictor.pos_embedding"),
    (r"predictor\.norm\.", "predictor.transformer.norm."),
    (r"predictor\.blocks\.(\d+)\.(norm)\.", r"predictor.transformer.layers.\1.attn.\2."),
    (r"predictor\.blocks\.(\d+)\.(qkv|out)\.", r"predictor.transformer.layers.\1.attn.to_\2."),
    (r"predictor\.blocks\.(\d+)\.mlp\.", r"predictor.transformer.layers.\1.mlp.net."),
    (r"predictor\.blocks\.(\d+)\.modulation\.", r"predictor.transformer.layers.\1.adaLN_modulation."),
    (r"predictor\.project\.", "pred_proj.net."),
    (r"predictor\.embed\.0\.", "action_encoder.patch_embed."),
    (r"predictor\.embed\.1\.", "action_encoder.embed.0."),
    (r"predictor\.embed\.3\.", "action_encoder.embed.2."),
)
"""How own names begin -> how published ones do; * stands for query, key and value, which are stacked here."""


def published(key: str, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """The published names and shapes of the tensors that make up one of :class:`PublicLeWM`'s."""
    pattern, beginning = next(pair for pair in NAMES if re.match(pair[0], key))
    name = re.sub(f"^{pattern}", beginning, key)
    if "*" in name:
        third = (shape[0] // 3, *shape[1:])
        return [(name.replace("*", part), third) for part in ("query", "key", "value")]
    return [(name, (*shape, 1) if name == "action_encoder.patch_embed.weight" else shape)]  # a 1x1 convolution


SECOND_LAYOUT = (
    (r"^encoder\.layers\.", "encoder.encoder.layer."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
"""What version 5 of transformers calls the parts of a ViT -> what earlier ones do."""


def in_first_layout(name: str) -> str:
    """A published name as versions of transformers before 5 have it."""
    if name.startswith("encoder."):
        for pattern, replacement in SECOND_LAYOUT:
            name = re.sub(pattern, replacement, name)
    return name
