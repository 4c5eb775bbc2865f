"""LeWorldModel from video: latent actions stand for the real ones, which neither encoder nor predictor sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from wm_agents.configs import check_counts, check_numbers
from wm_agents.models.actions import ActionStatistics
from wm_agents.models.base import State, WorldModel
from wm_agents.models.lewm import LeWM, LeWMConfig
from wm_agents.types import LatentBatch

UNMAPPED = "this world model knows no real actions yet: call train_action_maps(world_model, labelled) first."


@dataclass(frozen=True)
class VideoLeWMConfig(LeWMConfig):
    """Shape of a LeWorldModel that is trained on video; the other fields are those of :class:`LeWMConfig`.

    Attributes:
        latent_action_size: d, numbers in one latent action.
        action_width: Hidden units of the networks that infer latent actions and translate them.
        action_dropout: Dropout of the two networks that translate; they learn from little data.
    """

    latent_action_size: int = 2
    action_width: int = 256
    action_dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("latent_action_size", "action_width"))
        check_numbers(self, ("action_dropout",), 0, 0.99)

    @property
    def block_size(self) -> int:
        """Numbers that the predictor reads for each block: those of a latent action."""
        return self.latent_action_size


class VideoLeWM(LeWM):
    """A LeWorldModel whose predictor reads latent actions, which are inferred from frames.

    An inverse network reads what happened off three latents one block apart, ``q(u | z_before, z, z_after)``, a
    Gaussian of d numbers; ``z_before`` is ``z`` itself where there was no earlier frame. The predictor gets a sample of
    it in place of the actions. What ``u`` can say of ``z_after`` is limited: d is small, noise is added, and the
    divergence from N(0, 1) is minimised ("kl"), as in latent action models (arXiv 2601.05230). The term "linear" is the
    error of a linear prediction, ``z_after = z + L [z - z_before, u]``. It pulls latents towards a flat space, in which
    a latent action would mean the same everywhere.

    Two small networks translate between real and latent actions. :func:`wm_agents.training.train_action_maps` trains
    them. With them, the world model imagines real actions as any other kind does; without, it refuses. Loss terms get
    zeros in place of the actions.

    Args:
        config: The shape of the networks.
        actions: Bounds and statistics of the primitive actions; training on video does not use them.
    """

    mapped: torch.Tensor

    Config: ClassVar[type] = VideoLeWMConfig
    losses: ClassVar[Mapping[str, float]] = {"prediction": 1.0, "sigreg": 0.01, "kl": 1e-3, "linear": 3.0}
    reads_actions: ClassVar[bool] = False

    def __init__(self, config: Any, actions: ActionStatistics) -> None:
        super().__init__(config, actions)
        latent, size, block = config.latent_size, config.latent_action_size, self.spec.block_size
        width, dropout = config.action_width, config.action_dropout
        self.inverse = _mlp(3 * latent, width, 2 * size)
        self.linear = nn.Linear(latent + size, latent, bias=False)
        self.to_block = _mlp(2 * latent + size, width, block, dropout).requires_grad_(False)  # trained later
        self.to_latent = _mlp(2 * latent + block, width, size, dropout).requires_grad_(False)
        self.register_buffer("mapped", torch.tensor(False))  # whether the translations are trained

    def infer(self, before: torch.Tensor, z: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Latent actions ``[..., d]`` between ``z`` and ``after [..., D]``: the mean of the posterior."""
        return self._posterior(before, z, after)[0]

    def decode(self, before: torch.Tensor, z: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """The normalised blocks ``[..., K*A]`` that do what ``u [..., d]`` stands for; not clipped."""
        return self.to_block(torch.cat([z - before, z, u], dim=-1))

    def translate(self, before: torch.Tensor, z: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        """The latent actions ``[..., d]`` that normalised blocks ``[..., K*A]`` amount to."""
        return self.to_latent(torch.cat([z - before, z, block], dim=-1))

    def observe(self, state: State, latent: torch.Tensor, block: torch.Tensor) -> State:
        return super().observe(state, latent, self.infer(self.previous(state), self.latent(state), latent))

    def advance(self, state: State, block: torch.Tensor) -> State:
        if not self.mapped:
            raise ValueError(UNMAPPED)
        u = self.translate(self.previous(state), self.latent(state), block)
        return super().observe(state, super().imagine(state, u[:, None, None])[:, 0, 0], u)

    def imagine(self, state: State, actions: torch.Tensor) -> torch.Tensor:
        return WorldModel.imagine(self, state, actions)  # block by block: what a real action does depends on the state

    def learn(self, pixels: torch.Tensor, actions: torch.Tensor, generator: torch.Generator) -> LatentBatch:
        if pixels.shape[1] < 3:
            raise ValueError("video-lewm learns from windows of at least 3 frames: set frames=3 in TrainingConfig.")
        z = self.encode(pixels)
        before = torch.cat([z[:, :1], z[:, :-2]], dim=1)
        mean, log_variance = self._posterior(before, z[:, :-1], z[:, 1:])
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        u = mean + torch.exp(0.5 * log_variance) * noise if self.training else mean
        step = self.linear(torch.cat([z[:, :-1] - before, u], dim=-1))
        own = {
            "kl": 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=-1).mean(),
            "linear": (z[:, :-1] + step - z[:, 1:])[:, 1:].square().mean(),  # the first step does not show its past
        }
        predicted, unseen = self.predictor(z[:, :-1], u).float(), torch.zeros_like(actions)
        return LatentBatch(z, predicted, unseen, pixels, generator, self.spec.shape, own)

    def _posterior(
        self, before: torch.Tensor, z: torch.Tensor, after: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logarithm of the variance, ``[..., d]`` each."""
        mean, log_variance = self.inverse(torch.cat([z - before, z, after - z], dim=-1)).float().chunk(2, dim=-1)
        return mean, log_variance.clamp(-10, 10)


def _mlp(inputs: int, width: int, outputs: int, dropout: float = 0.0) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (inputs, width):
        layers += [nn.Linear(size, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(width, outputs))
