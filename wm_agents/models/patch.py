"""A world model of patch tokens, after DINO-WM (arXiv 2411.04983): a grid of vectors per frame, and a transformer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from wm_agents.configs import check_choices, check_counts
from wm_agents.models.actions import ActionStatistics
from wm_agents.models.base import State, WorldModel
from wm_agents.models.encoders import PixelNormalizer, Projector, make_encoder
from wm_agents.registry import ENCODERS, did_you_mean
from wm_agents.types import LatentBatch

ACTION_SIZE = 10  # numbers of an embedded block, as in DINO-WM


@dataclass(frozen=True)
class PatchConfig:
    """Shape of a patch world model.

    Attributes:
        image_size: Height and width of the images, in pixels.
        action_size: A, primitive action dimensions.
        action_block: K, primitive actions per block.
        history: Frames that a layer's tokens see, K steps apart, including their own.
        token_size: D, numbers per token.
        encoder: One of ``wm_agents.registry.ENCODERS`` that gives tokens, such as "conv-grid".
        predictor_width: Token width inside the predictor.
        predictor_depth: Transformer layers.
        predictor_heads: Attention heads.
        choices: Number of choices of each discrete action, whose one-hot vectors make up A; empty for continuous ones.
    """

    image_size: int = 64
    action_size: int = 2
    action_block: int = 5
    history: int = 2
    token_size: int = 4
    encoder: str = "conv-grid"
    predictor_width: int = 64
    predictor_depth: int = 2
    predictor_heads: int = 4
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = ("image_size", "action_size", "action_block", "history", "token_size")
        check_counts(self, (*sizes, "predictor_width", "predictor_depth", "predictor_heads"))
        check_choices(self)
        if self.encoder not in ENCODERS:
            raise ValueError(did_you_mean("encoder", str(self.encoder), ENCODERS))
        if self.predictor_width % self.predictor_heads:
            raise ValueError(
                f"predictor_width {self.predictor_width} must be a multiple of predictor_heads {self.predictor_heads}."
            )

    @property
    def block_size(self) -> int:
        """Numbers in one action block, K*A."""
        return self.action_block * self.action_size


class ConvGrid(nn.Module):
    """A small strided CNN, 6x6/4 - 4x4/2 - 4x4/2, whose last grid is the tokens: ``[B, H, W, 3] -> [B, P, features]``.

    The layers of :class:`wm_agents.models.encoders.ConvEncoder`. A token sees 42 x 42 pixels; 64 x 64 give 16
    tokens.

    Args:
        image_size: Height and width of the images, in pixels; at least 16.
    """

    features = 64

    def __init__(self, image_size: int) -> None:
        super().__init__()
        if image_size < 16:
            raise ValueError(f"image_size {image_size} is too small: the conv-grid encoder needs at least 16 pixels.")
        self.normalize = PixelNormalizer()
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride in ((3, 32, 6, 4), (32, 64, 4, 2), (64, self.features, 4, 2)):
            conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=1)
            layers += [conv, nn.GroupNorm(8, outputs), nn.SiLU()]
        self.conv = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.tokens = self(torch.zeros(1, image_size, image_size, 3)).shape[1]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[B, H, W, 3] -> [B, P, features]``, row by row."""
        return self.conv(self.normalize(pixels)).flatten(2).transpose(1, 2)


class Layer(nn.Module):
    """A transformer layer over the tokens of the last ``history`` frames.

    A learned bias for each head, age of the frame and pair of tokens guides the attention (Swin, arXiv 2103.14030). It
    replaces embeddings of time, so that keys and values of past frames stay valid.
    """

    def __init__(self, tokens: int, history: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(inplace=True), nn.Linear(2 * width, width))
        self.bias = nn.Parameter(0.02 * torch.randn(heads, tokens, history, tokens))

    def forward(
        self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens after this layer, and the keys and values that the next frame sees.

        Args:
            x: Tokens of now, ``[B, P, width]``.
            keys: Of the ``history - 1`` frames before, oldest first, ``[B, heads, (history - 1) * P, width / heads]``.
            values: Of the same shape.
            mask: ``[B, 1, 1, history, 1]``, minus infinity for frames that never were; None where all were.
        """
        tokens = x.shape[1]
        split = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, new_keys, new_values = split.unbind(0)
        keys = torch.cat([keys, new_keys], dim=2)
        values = torch.cat([values, new_values], dim=2)
        bias = self.bias if mask is None else self.bias + mask
        # Written out: with a bias, torch's scaled_dot_product_attention takes twice as long on a CPU.
        weights = (queries @ keys.transpose(2, 3) * queries.shape[-1] ** -0.5 + bias.flatten(-2)).softmax(-1)
        x = x + self.out((weights @ values).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x)), keys[:, :, tokens:], values[:, :, tokens:]


class PatchPredictor(nn.Module):
    """From the tokens of a frame and an action block to the tokens of the next: a frame-causal transformer.

    In each layer, tokens see all tokens of their own frame and of the ``history - 1`` before it. Later
    frames only see the keys and values of a frame. They are kept, so each further block computes the tokens of only one
    frame.
    """

    def __init__(self, config: Any, tokens: int) -> None:
        super().__init__()
        width, heads = config.predictor_width, config.predictor_heads
        self.history = config.history
        self.kept = (config.predictor_depth, heads, (config.history - 1) * tokens, width // heads)
        self.embed = nn.Sequential(nn.Linear(config.block_size, width), nn.SiLU(), nn.Linear(width, ACTION_SIZE))
        self.enter = nn.Linear(config.token_size + ACTION_SIZE, width)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.layers = nn.ModuleList(Layer(tokens, config.history, width, heads) for _ in range(config.predictor_depth))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.token_size))

    def forward(
        self, z: torch.Tensor, block: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The next tokens ``[B, P, D]``, and the keys and values to give with them.

        Args:
            z: Tokens of now, ``[B, P, D]``.
            block: Normalised actions, ``[B, K*A]``.
            keys: Of earlier frames, ``[B, *kept]``.
            values: Of the same shape.
            seen: int64 ``[B]``, frames so far, now included.
        """
        mask = None
        if bool((seen < self.history).any()):
            ages = torch.arange(self.history - 1, -1, -1, device=z.device)
            missing = ages > (seen - 1).clamp(min=0).unsqueeze(1)
            mask = z.new_zeros(missing.shape).masked_fill(missing, -torch.inf)[:, None, None, :, None]
        action = self.embed(block).unsqueeze(1).expand(-1, z.shape[1], -1)
        x = self.enter(torch.cat([z, action], dim=-1)) + self.positions
        kept_keys, kept_values = [], []
        for layer, old_keys, old_values in zip(self.layers, keys.unbind(1), values.unbind(1), strict=True):
            x, new_keys, new_values = layer(x, old_keys, old_values, mask)
            kept_keys.append(new_keys)
            kept_values.append(new_values)
        following = z + self.leave(x).float()
        return following, torch.stack(kept_keys, dim=1).float(), torch.stack(kept_values, dim=1).float()


class PatchWorldModel(WorldModel):
    """A grid of tokens per frame ``[..., P, D]``, and a transformer from one frame's tokens to the next's.

    DINO-WM's design: the embedded action block is concatenated to every token, attention is causal over frames, and
    planning measures distances over all tokens. The differences:

    - DINO-WM's encoder is a frozen DINOv2, which :class:`wm_agents.models.dino_wm.DinoWM` has. Here, "conv-grid" is
      trained with the rest, which a CPU can do, and SIGReg keeps it from collapsing (LeWorldModel, arXiv 2603.19312).
      Your own encoder may be frozen: see :mod:`wm_agents.models.encoders`.
    - A projector, the same for every token, makes tokens of ``token_size`` numbers; DINO-WM uses DINOv2's 384. Few
      numbers are better if few things move: SIGReg fills all dimensions, and a winding path through many dimensions is
      hard to predict.
    - The next tokens are predicted as a change of the present ones.
    - Attention sees the last ``history`` frames in each layer, and its keys and values are kept. DINO-WM computes the
      whole window again for each imagined block.

    The state contains the present tokens and those of one block ago, keys and values of earlier frames, and the number
    of frames.

    Args:
        config: The shape of the networks.
        actions: Bounds and statistics of the primitive actions.

    Raises:
        ValueError: The encoder gives one vector per frame.
    """

    Config: ClassVar[type] = PatchConfig
    losses: ClassVar[Mapping[str, float]] = {"prediction": 1.0, "sigreg": 0.09}

    def __init__(self, config: Any, actions: ActionStatistics) -> None:
        encoder, projector = self.networks(config)
        super().__init__(config, actions, (encoder.tokens, config.token_size))
        self.encoder, self.projector = encoder, projector
        self.predictor = PatchPredictor(config, encoder.tokens)

    @staticmethod
    def networks(config: Any) -> tuple[Any, nn.Module]:
        """Encoder, which gives tokens, and projector of single tokens."""
        encoder = make_encoder(config.encoder, config.image_size)
        if getattr(encoder, "tokens", None) is None:
            raise ValueError(
                f"the encoder {config.encoder!r} gives one vector per frame, and a patch world model needs one that "
                'gives tokens [B, P, features] and has an attribute `tokens`, P: "conv-grid" is one.'
            )
        return encoder, Projector(encoder.features, 2 * encoder.features, config.token_size)

    def parts(self) -> dict[str, str]:
        return {"encoder": self.config.encoder}

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.encoder(pixels)
        return self.projector(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])

    def initial(self, n: int) -> State:
        like = self.action_mean
        return {
            "latent": like.new_zeros(n, *self.spec.shape),
            "previous": like.new_zeros(n, *self.spec.shape),
            "keys": like.new_zeros(n, *self.predictor.kept),
            "values": like.new_zeros(n, *self.predictor.kept),
            "seen": torch.zeros(n, dtype=torch.int64, device=like.device),
        }

    def observe(self, state: State, latent: torch.Tensor, block: torch.Tensor) -> State:
        state = self.advance(state, block)
        first = (state["seen"] == 1)[:, None, None]
        return {**state, "latent": latent, "previous": torch.where(first, latent, state["previous"])}

    def advance(self, state: State, block: torch.Tensor) -> State:
        latent, keys, values = self.predictor(state["latent"], block, state["keys"], state["values"], state["seen"])
        return {
            "latent": latent,
            "previous": state["latent"],
            "keys": keys,
            "values": values,
            "seen": state["seen"] + 1,
        }

    def latent(self, state: State) -> torch.Tensor:
        return state["latent"]

    def previous(self, state: State) -> torch.Tensor:
        return state["previous"]

    def learn(self, pixels: torch.Tensor, actions: torch.Tensor, generator: torch.Generator) -> LatentBatch:
        encoded = self.features(self.encode(pixels))
        z = self.unflatten(encoded)  # so that all gradients reach the encoder through the features
        start = self.initial(len(z))
        keys, values, seen, predicted = start["keys"], start["values"], start["seen"], []
        for t, block in enumerate(actions.unbind(1)):
            seen = seen + 1
            following, keys, values = self.predictor(z[:, t], block, keys, values, seen)
            predicted.append(following)
        features = self.features(torch.stack(predicted, dim=1))
        return LatentBatch(encoded, features, actions, pixels, generator, self.spec.shape)
