"""LeWorldModel (arXiv 2603.19312): a vector per frame, and a predictor over a short history of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from wm_agents.configs import check_choices, check_counts, check_numbers
from wm_agents.models.actions import ActionStatistics
from wm_agents.models.base import State, WorldModel
from wm_agents.models.encoders import Projector, make_encoder
from wm_agents.registry import ENCODERS, PREDICTORS, did_you_mean
from wm_agents.types import LatentBatch


@dataclass(frozen=True)
class LeWMConfig:
    """Shape of a LeWorldModel.

    Attributes:
        image_size: Height and width of the images, in pixels.
        action_size: A, primitive action dimensions.
        action_block: K, primitive actions per block.
        history: Frames of context, K steps apart; 2 lets the model see velocity.
        latent_size: D, numbers in a latent.
        encoder: One of ``wm_agents.registry.ENCODERS``: "conv" (fast on a CPU) or "vit" (ViT-Tiny, for a GPU).
        predictor: One of ``PREDICTORS``: "mlp" (fast on a CPU) or "transformer" (causal, AdaLN).
        predictor_width: Hidden units or token width.
        predictor_depth: Hidden layers or transformer blocks.
        predictor_heads: Attention heads of the transformer.
        dropout: Dropout of the predictor. LeWorldModel uses 0.1 on Push-T.
        choices: Number of choices of each discrete action, whose one-hot vectors make up A; empty for continuous ones.
    """

    image_size: int = 64
    action_size: int = 2
    action_block: int = 5
    history: int = 2
    latent_size: int = 32
    encoder: str = "conv"
    predictor: str = "mlp"
    predictor_width: int = 256
    predictor_depth: int = 2
    predictor_heads: int = 4
    dropout: float = 0.0
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = ("image_size", "action_size", "action_block", "history", "latent_size")
        check_counts(self, (*sizes, "predictor_width", "predictor_depth", "predictor_heads"))
        check_numbers(self, ("dropout",), 0, 0.99)
        check_choices(self)
        for kind, registry in (("encoder", ENCODERS), ("predictor", PREDICTORS)):
            if getattr(self, kind) not in registry:
                raise ValueError(did_you_mean(kind, str(getattr(self, kind)), registry))

    @property
    def block_size(self) -> int:
        """Numbers in one action block, K*A."""
        return self.action_block * self.action_size


class LeWM(WorldModel):
    """Encoder, projector and action-conditioned predictor in one latent space of vectors ``[..., D]``.

    The state holds the last ``history`` latents, the blocks between them, and how many of the latents are real.

    Args:
        config: The shape of the networks, a :class:`LeWMConfig`.
        actions: Bounds and statistics of the primitive actions.
    """

    Config: ClassVar[type] = LeWMConfig
    losses: ClassVar[Mapping[str, float]] = {"prediction": 1.0, "sigreg": 0.09}

    def __init__(self, config: Any, actions: ActionStatistics) -> None:
        super().__init__(config, actions, (config.latent_size,))
        self.encoder, self.projector, self.predictor = self.networks(config)

    @staticmethod
    def networks(config: Any) -> tuple[Any, nn.Module, Any]:
        """Encoder, projector and predictor."""
        encoder = make_encoder(config.encoder, config.image_size)
        projector = Projector(encoder.features, 2 * encoder.features, config.latent_size)
        return encoder, projector, PREDICTORS.get(config.predictor)(config)

    def parts(self) -> dict[str, str]:
        return {"encoder": self.config.encoder, "predictor": self.config.predictor}

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.projector(self.encoder(pixels))

    def initial(self, n: int) -> State:
        config, like = self.config, self.action_mean
        return {
            "latents": like.new_zeros(n, config.history, config.latent_size),
            "blocks": like.new_zeros(n, config.history - 1, config.block_size),
            "seen": torch.zeros(n, dtype=torch.int64, device=like.device),
        }

    def observe(self, state: State, latent: torch.Tensor, block: torch.Tensor) -> State:
        return {
            "latents": torch.cat([state["latents"][:, 1:], latent.unsqueeze(1)], dim=1),
            "blocks": torch.cat([state["blocks"], block.unsqueeze(1)], dim=1)[:, 1:],
            "seen": (state["seen"] + 1).clamp(max=self.config.history),
        }

    def advance(self, state: State, block: torch.Tensor) -> State:
        return self.observe(state, self.imagine(state, block[:, None, None])[:, 0, 0], block)

    def latent(self, state: State) -> torch.Tensor:
        return state["latents"][:, -1]

    def previous(self, state: State) -> torch.Tensor:
        latents = state["latents"]
        return torch.where((state["seen"] > 1).unsqueeze(1), latents[:, max(-2, -latents.shape[1])], latents[:, -1])

    def imagine(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        seen = state["seen"].clamp(min=1).tolist()
        if len(set(seen)) == 1:
            return self._rollout(state, actions, seen[0])
        # The predictor takes rows with equally many real frames at a time.
        rows = [[row for row, count in enumerate(seen) if count == frames] for frames in sorted(set(seen))]
        parts = [
            self._rollout({name: values[row] for name, values in state.items()}, actions[row], seen[row[0]])
            for row in rows
        ]
        order = torch.tensor([row for part in rows for row in part], device=actions.device).argsort()
        return torch.cat(parts)[order]

    def _rollout(self, state: State, actions: torch.Tensor, frames: int) -> torch.Tensor:
        """Imagine from the last ``frames`` real latents of every row."""
        samples = actions.shape[1]
        past = state["blocks"][:, state["blocks"].shape[1] - (frames - 1) :]
        latents = state["latents"][:, -frames:].unsqueeze(1).expand(-1, samples, -1, -1).flatten(0, 1)
        blocks = torch.cat([past.unsqueeze(1).expand(-1, samples, -1, -1), actions], dim=2).flatten(0, 1)
        # CPU cores are faster on rows that fit their caches. In training, BatchNorm must see all of them.
        cached = actions.device.type == "cpu" and not self.predictor.training
        rows = getattr(self.predictor, "rows", 600) * torch.get_num_threads() if cached else max(1, len(latents))
        parts = zip(latents.split(rows), blocks.split(rows), strict=True)
        return torch.cat([self.predictor.imagine(*part) for part in parts]).float().unflatten(0, actions.shape[:2])

    def learn(self, pixels: torch.Tensor, actions: torch.Tensor, generator: torch.Generator) -> LatentBatch:
        z = self.encode(pixels)
        return LatentBatch(z, self.predictor(z[:, :-1], actions).float(), actions, pixels, generator, self.spec.shape)
