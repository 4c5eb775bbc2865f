"""Latent actions: d numbers that describe the change between two latents, learned without the real action."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.configs import check_counts, check_numbers
from wm_agents.models.heads.base import Head
from wm_agents.registry import did_you_mean

Regulariser = Literal["vae", "sparse", "vq"]

VARIANCE, COVARIANCE, MEAN = 0.1, 0.001, 0.1
"""Weights of the sparse regulariser's batch terms (arXiv 2601.05230)."""

COMMITMENT = 0.25
"""Weight of the encoder's pull to its code (VQ-VAE, arXiv 1711.00937, equation 3)."""

USAGE_DECAY, DEAD = 0.99, 0.05
"""Of the running share of each code, and the part of an even share below which a code is placed anew."""


@dataclass(frozen=True)
class LatentActionConfig:
    """Shape and regulariser of a latent action space.

    docs/studies/latent-actions.md shows how the weights influence planning on PointMaze-UMaze.

    Attributes:
        latent_size: D of the world model whose latents are explained.
        action_size: A.
        action_block: K, primitive actions between two latents.
        size: d, numbers in one latent action.
        regulariser: "vae" (Gaussian posterior, KL to the standard normal), "sparse" (L1 norm, kept off zero) or "vq"
            (nearest of a few codes).
        codes: Entries of the codebook, "vq" only.
        kl_weight: Weight of the KL divergence, "vae" only (the paper's range is 1e-6 to 5e-3).
        sparsity: Weight of the L1 norm, "sparse" only (the paper's range is 0.01 to 0.4).
        width: Hidden units of each layer.
        depth: Hidden layers of each of the three networks.
    """

    latent_size: int = 32
    action_size: int = 2
    action_block: int = 5
    size: int = 4
    regulariser: Regulariser = "vae"
    codes: int = 32
    kl_weight: float = 5e-3
    sparsity: float = 0.01
    width: int = 256
    depth: int = 2

    def __post_init__(self) -> None:
        check_counts(self, ("latent_size", "action_size", "action_block", "size", "width", "depth"))
        check_counts(self, ("codes",), least=2)
        check_numbers(self, ("kl_weight", "sparsity"))
        if self.regulariser not in get_args(Regulariser):
            raise ValueError(did_you_mean("regulariser", str(self.regulariser), get_args(Regulariser)))

    @property
    def block_size(self) -> int:
        """Numbers in one real action block, K*A."""
        return self.action_block * self.action_size


class LatentActions(Head):
    """Infers latent actions, predicts with them, and translates them to real action blocks (arXiv 2601.05230).

    Three ReLU networks on frozen latents: the inverse dynamics ``u = q(z_before, z, z_next)``, the forward model
    ``z_next = z + f(z_before, z, u)``, and the decoder from ``(z_before, z, u)`` to the block of normalised primitive
    actions. ``z_before`` is the latent one block earlier (``z`` itself if there was none): one frame does not show
    the velocity, which ``u`` would otherwise have to contain too.

    Planners search in **standardised** latent actions ``a``, ``u = mean + std * a``, inside the 2nd to 98th percentile
    of those inferred on the training data (the rule for macro-actions in arXiv 2604.03208): one planner's options then
    mean the same in every space. :meth:`measure` sets the four buffers.

    Args:
        config: Shape and regulariser.
    """

    mean: torch.Tensor
    std: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    usage: torch.Tensor

    name = "latent-actions"
    Config = LatentActionConfig
    learner = "wm_agents.training.latent_actions:LatentActionLearner"

    def __init__(self, config: LatentActionConfig) -> None:
        super().__init__(config)
        state, size = 2 * config.latent_size, config.size
        outputs = 2 * size if config.regulariser == "vae" else size
        self.encoder = _mlp(state + config.latent_size, config.width, config.depth, outputs)
        self.forward_model = _mlp(state + size, config.width, config.depth, config.latent_size)
        self.decoder = _mlp(state + size, config.width, config.depth, config.block_size)
        if config.regulariser == "vq":
            self.codebook = nn.Parameter(torch.randn(config.codes, size))
            self.register_buffer("usage", torch.zeros(config.codes))  # 0: the first batch places every code
        for name, value in (("mean", 0.0), ("std", 1.0), ("low", -1.0), ("high", 1.0)):
            self.register_buffer(name, torch.full((size,), value))

    def infer(self, z_before: torch.Tensor, z: torch.Tensor, z_next: torch.Tensor) -> torch.Tensor:
        """Latent actions ``[..., d]`` between ``z`` and ``z_next [..., D]``: the posterior's mean, or a code."""
        return self.project(self._encode(z_before, z, z_next)[..., : self.config.size])

    def forward(
        self, z_before: torch.Tensor, z: torch.Tensor, z_next: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Infer for training: latent actions ``[B, d]`` (sampled, or straight through a code) and the penalty (scalar).

        In training mode VQ also updates the use of its codes and places dead ones on inputs of the batch.
        """
        encoded = self._encode(z_before, z, z_next)
        if self.config.regulariser == "vae":
            mean, log_variance = encoded.chunk(2, dim=-1)
            log_variance = log_variance.clamp(-10, 10)
            u = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean) if self.training else mean
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=-1)
            return u, self.config.kl_weight * divergence.mean()
        if self.config.regulariser == "sparse":
            return encoded, sparse_penalty(encoded, self.config.sparsity)
        if self.training:
            self._replace_dead_codes(encoded.detach())
        code = self.codebook[self.nearest_code(encoded)]
        pulls = F.mse_loss(code, encoded.detach()) + COMMITMENT * F.mse_loss(encoded, code.detach())
        return self.project(encoded), pulls

    def project(self, u: torch.Tensor) -> torch.Tensor:
        """Move latent actions ``[..., d]`` onto the support: VQ's nearest code (straight through), others unchanged."""
        if self.config.regulariser != "vq":
            return u
        return self.codebook[self.nearest_code(u)].detach() + (u - u.detach())

    def nearest_code(self, u: torch.Tensor) -> torch.Tensor:
        """Index ``[...]`` of the code nearest to ``u [..., d]``, "vq" only."""
        distances = self.codebook.square().sum(-1) - 2 * u.detach() @ self.codebook.T  # + |u|^2, the same for all
        return distances.argmin(dim=-1)

    def predict(self, z_before: torch.Tensor, z: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Next latent ``[..., D]``."""
        return z + self.forward_model(torch.cat([z - z_before, z, u], dim=-1))

    def decode(self, z_before: torch.Tensor, z: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """The normalised action block ``[..., K*A]`` that does what ``u`` did on average; not clipped."""
        return self.decoder(torch.cat([z - z_before, z, u], dim=-1))

    def rollout(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Imagine S sequences of standardised latent actions from each of B histories.

        Args:
            z: ``[B, T, D]``, the latents seen so far, K steps apart, oldest first; the last two are used.
            actions: ``[B, S, H, d]``, standardised.

        Returns:
            ``[B, S, H, D]``; index ``h`` is the latent after latent action ``h``.
        """
        batch, samples, horizon = actions.shape[:3]
        u = self.destandardise(actions).flatten(0, 1)
        now, before = (
            z[:, row].unsqueeze(1).expand(-1, samples, -1).flatten(0, 1) for row in (-1, max(-2, -z.shape[1]))
        )
        latents = []
        for h in range(horizon):
            now, before = self.predict(before, now, u[:, h]), now
            latents.append(now)
        return torch.stack(latents, dim=1).unflatten(0, (batch, samples))

    def destandardise(self, actions: torch.Tensor) -> torch.Tensor:
        """Standardised latent actions ``[..., d]`` to latent actions on the support."""
        return self.project(self.mean + self.std * actions)

    def standardise(self, u: torch.Tensor) -> torch.Tensor:
        """Latent actions ``[..., d]`` to standardised ones."""
        return (u - self.mean) / self.std

    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Bounds of standardised latent actions: ``low [d], high [d]``."""
        return self.low, self.high

    @torch.no_grad()
    def measure(self, u: torch.Tensor) -> None:
        """Set mean, standard deviation and bounds from latent actions ``[M, d]`` inferred on training data."""
        std = u.std(dim=0)
        self.mean.copy_(u.mean(dim=0))
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))
        limits = torch.quantile(self.standardise(u), torch.tensor([0.02, 0.98], device=u.device), dim=0)
        self.low.copy_(limits[0])
        self.high.copy_(limits[1])

    def _encode(self, z_before: torch.Tensor, z: torch.Tensor, z_next: torch.Tensor) -> torch.Tensor:
        return self.encoder(torch.cat([z - z_before, z, z_next - z], dim=-1))

    @torch.no_grad()
    def _replace_dead_codes(self, encoded: torch.Tensor) -> None:
        """Count the codes' use, and place those hardly used on random rows of ``encoded [B, d]``."""
        flat = encoded.reshape(-1, self.config.size)
        dead = self.usage < DEAD
        rows = torch.randint(len(flat), (self.config.codes,), device=flat.device)
        self.codebook.copy_(torch.where(dead.unsqueeze(-1), flat[rows], self.codebook))
        self.usage.copy_(torch.where(dead, torch.ones_like(self.usage), self.usage))
        counts = torch.bincount(self.nearest_code(flat), minlength=self.config.codes)
        self.usage.lerp_(counts * (self.config.codes / len(flat)), 1 - USAGE_DECAY)


def sparse_penalty(u: torch.Tensor, weight: float) -> torch.Tensor:
    """The sparse regulariser of latent actions ``u [B, d]`` (arXiv 2601.05230), a scalar.

    ``weight * |u|_1`` pulls towards few active numbers; a hinge keeps ``|u|^2`` above ``sqrt(d)``, so that shrinking
    does not help; and over the batch, each number keeps a standard deviation near 1 (a hinge), a small covariance with
    the others, and a mean near 0 (the forms of VICReg, arXiv 2105.04906).
    """
    size = u.shape[-1]
    shell = F.relu(math.sqrt(size) - u.square().sum(dim=-1)).mean()
    mean = u.mean(dim=0)
    covariance = (u - mean).T @ (u - mean) / max(1, len(u) - 1)
    variance = covariance.diagonal()
    spread = F.relu(1 - (variance + 1e-4).sqrt()).mean()
    shared = (covariance.square().sum() - variance.square().sum()) / size
    batch = VARIANCE * spread + COVARIANCE * shared + MEAN * mean.square().mean()
    return weight * u.abs().sum(dim=-1).mean() + shell + batch


def _mlp(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    sizes = [inputs] + [width] * depth
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))
