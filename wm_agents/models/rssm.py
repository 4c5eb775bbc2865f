"""A recurrent state-space model, after PlaNet (arXiv 1811.04551): a deterministic memory and a stochastic latent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from wm_agents.configs import check_choices, check_counts, check_numbers
from wm_agents.models.actions import ActionStatistics
from wm_agents.models.base import State, WorldModel
from wm_agents.models.encoders import Projector, make_encoder
from wm_agents.registry import ENCODERS, did_you_mean
from wm_agents.types import LatentBatch

MIN_STD = 0.1  # of the latent's Gaussians, as in PlaNet


@dataclass(frozen=True)
class RSSMConfig:
    """Shape of a recurrent state-space model. All fields except sizes are constants of DreamerV3 (arXiv 2301.04104).

    Attributes:
        image_size: Height and width of the images, in pixels.
        action_size: A, primitive action dimensions.
        action_block: K, primitive actions per block.
        latent_size: D, of the stochastic latent.
        recurrent_size: Size of the deterministic memory, and of the layers around it.
        encoder: One of ``wm_agents.registry.ENCODERS`` that gives a vector per frame: "conv" or "vit".
        free_nats: Lower bound of a frame's divergence in the loss: below it, the prior need not become better.
        dynamics_scale: Weight of the divergence that trains the prior.
        representation_scale: Weight of the divergence that trains the posterior.
        choices: Number of choices of each discrete action, whose one-hot vectors make up A; empty for continuous ones.
    """

    image_size: int = 64
    action_size: int = 2
    action_block: int = 5
    latent_size: int = 32
    recurrent_size: int = 256
    encoder: str = "conv"
    free_nats: float = 1.0
    dynamics_scale: float = 1.0
    representation_scale: float = 0.1
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_counts(self, ("image_size", "action_size", "action_block", "latent_size", "recurrent_size"))
        check_numbers(self, ("free_nats", "dynamics_scale", "representation_scale"))
        check_choices(self)
        if self.encoder not in ENCODERS:
            raise ValueError(did_you_mean("encoder", str(self.encoder), ENCODERS))

    @property
    def block_size(self) -> int:
        """Numbers in one action block, K*A."""
        return self.action_block * self.action_size


class Recurrence(nn.Module):
    """The GRU of Dreamer (arXiv 2010.02193): normalised gates, and a bias towards keeping what it remembers."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Linear(inputs, size), nn.SiLU())
        self.gates = nn.Sequential(nn.Linear(2 * size, 3 * size), nn.LayerNorm(3 * size))

    def forward(self, memory: torch.Tensor, latent: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        """The memory ``[B, size]`` after a block ``[B, K*A]`` from where the latent was ``[B, D]``."""
        entered = self.enter(torch.cat([latent, block], dim=-1))
        reset, candidate, update = self.gates(torch.cat([entered, memory], dim=-1)).float().chunk(3, dim=-1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return memory + torch.sigmoid(update - 1) * (candidate - memory)


class RSSM(WorldModel):
    """A Gaussian latent per frame ``[..., D]``, and a recurrent memory that predicts the next one.

    ``h' = GRU(h, [s, block])``, prior ``p(s' | h', s)``, posterior ``q(s' | frame)``; a decoder, the loss term
    "reconstruction", draws the frame from ``s``. The differences to PlaNet, and the reasons:

    - The posterior sees the frame alone, not ``h``, and the decoder sees ``s`` alone: a goal image is encoded without
      a past, and its latent must contain the picture. ``h`` contains the velocity, which no frame shows.
    - The latent of a frame is the posterior's mean, and imagining follows the prior's mean: plans compare means.
      Training samples, and its loss terms read the samples.
    - The prior's mean is a change of ``s``. Blocks are predicted better, and distances between latents grow with time
      for longer.
    - A window's first frame has no past, so its prior is N(0, 1). This bounds the scale of the latents, which heads and
      graphs read.
    - The two directions of the divergence are weighted 1 (prior) and 0.1 (posterior), with 1 free nat, as in DreamerV3
      (arXiv 2301.04104). PlaNet has one direction and 3 free nats. Its overshooting and its reward are left out.
    - The drawing's error is relative to that of the mean frame, as that term measures it: in nats of pixels, a small
      object counts for next to nothing, and the latent would leave it out.

    Train it on windows of 8 frames, ``TrainingConfig(frames=8, batch_size=32)``: a memory trained on 4 frames drifts
    when it imagines 10 blocks.

    The state contains ``h``, the present latents and those of one block ago, and the number of frames.

    Args:
        config: The shape of the networks.
        actions: Bounds and statistics of the primitive actions.
    """

    Config = RSSMConfig
    losses: ClassVar[Mapping[str, float]] = {"kl": 1.0, "reconstruction": 10.0}

    def __init__(self, config: RSSMConfig, actions: ActionStatistics) -> None:
        super().__init__(config, actions, (config.latent_size,))
        latent, size = config.latent_size, config.recurrent_size
        self.encoder = encoder = make_encoder(config.encoder, config.image_size)
        # Frames differ in few pixels. Without the projector's BatchNorm, latents stay alike for hundreds of steps.
        self.posterior = Projector(encoder.features, 2 * encoder.features, 2 * latent)
        self.recurrence = Recurrence(latent + config.block_size, size)
        self.prior = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, 2 * latent))

    def parts(self) -> dict[str, str]:
        return {"encoder": self.config.encoder}

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.posterior(self.encoder(pixels)).chunk(2, dim=-1)[0]

    def initial(self, n: int) -> State:
        config, like = self.config, self.action_mean
        return {
            "h": like.new_zeros(n, config.recurrent_size),
            "latent": like.new_zeros(n, config.latent_size),
            "previous": like.new_zeros(n, config.latent_size),
            "seen": torch.zeros(n, dtype=torch.int64, device=like.device),
        }

    def observe(self, state: State, latent: torch.Tensor, block: torch.Tensor) -> State:
        first = (state["seen"] == 0).unsqueeze(1)
        after = self.recurrence(state["h"], state["latent"], block)
        return {
            "h": torch.where(first, state["h"], after),
            "latent": latent,
            "previous": torch.where(first, latent, state["latent"]),
            "seen": state["seen"] + 1,
        }

    def advance(self, state: State, block: torch.Tensor) -> State:
        h = self.recurrence(state["h"], state["latent"], block)
        latent = state["latent"] + self.prior(h).chunk(2, dim=-1)[0].float()
        return {"h": h, "latent": latent, "previous": state["latent"], "seen": state["seen"] + 1}

    def latent(self, state: State) -> torch.Tensor:
        return state["latent"]

    def previous(self, state: State) -> torch.Tensor:
        return state["previous"]

    def learn(self, pixels: torch.Tensor, actions: torch.Tensor, generator: torch.Generator) -> LatentBatch:
        config = self.config
        posterior = gaussian(self.posterior(self.encoder(pixels.flatten(0, 1))).float().unflatten(0, pixels.shape[:2]))
        noise = torch.randn(posterior.mean.shape, generator=generator).to(posterior.mean)
        samples = posterior.mean + posterior.stddev * noise if self.training else posterior.mean
        h = self.initial(len(pixels))["h"]
        means, stds = [torch.zeros_like(noise[:, 0])], [torch.ones_like(noise[:, 0])]
        for sample, block in zip(samples.unbind(1), actions.unbind(1), strict=False):
            h = self.recurrence(h, sample, block)
            change = gaussian(self.prior(h).float())
            means.append(sample + change.mean)
            stds.append(change.stddev)
        prior = Normal(torch.stack(means, dim=1), torch.stack(stds, dim=1), validate_args=False)
        kl = config.dynamics_scale * self._divergence(fixed(posterior), prior)
        kl = kl + config.representation_scale * self._divergence(posterior, fixed(prior))
        predicted = prior.mean[:, 1:]
        return LatentBatch(samples, predicted, actions, pixels, generator, self.spec.shape, {"kl": kl})

    def _divergence(self, q: Normal, p: Normal) -> torch.Tensor:
        """Nats per frame, at least the free ones."""
        return kl_divergence(q, p).sum(-1).clamp(min=self.config.free_nats).mean()


def gaussian(raw: torch.Tensor) -> Normal:
    """The Gaussian of size D that a layer's ``[..., 2 * D]`` numbers stand for."""
    mean, std = raw.chunk(2, dim=-1)
    return Normal(mean, F.softplus(std) + MIN_STD, validate_args=False)


def fixed(distribution: Normal) -> Normal:
    """The same distribution, through which no gradient flows."""
    return Normal(distribution.mean.detach(), distribution.stddev.detach(), validate_args=False)
