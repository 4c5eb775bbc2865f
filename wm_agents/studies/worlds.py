"""Synthetic latent action spaces: three geometries, the worlds that they act on, and the metrics of both.

Source: "Planning in Latent Action Spaces: A Comparative Analysis of Sampling and Optimization Strategies" (2026);
equation numbers below are its own. Everything is batched: B independent draws of a geometry, a world and a problem.

What the paper leaves open is chosen here once, by reasoning, not by matching its results:

- The world's matrices have entries of variance 1/d, so that what enters the tanh is of order 1 at every dimension, and
  the transition is rescaled to a spectral radius of 0.8 (the paper: below 0.9). The bias has standard deviation 0.1.
- sigma in the concentration of eq. 12 is the root mean square distance of the samples to their mean.
- How a geometry constrains planners: see :data:`COUPLINGS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from wm_agents.registry import did_you_mean
from wm_agents.types import CostFn

GEOMETRIES = ("vae", "sparse", "vq")
"""The regularisers whose latent action spaces are imitated: VAE, sparse energy-based model, VQ-VAE."""

COUPLINGS = ("free", "support", "straight-through", "penalty")
"""How the world and the cost treat an action that the geometry would not have produced.

- ``free``: they do not care; only CEM knows the geometry at all, from the standard deviation that it starts with.
- ``support``: the world executes the nearest valid action; its derivative is the exact one, 0 for VQ codes.
- ``straight-through``: the same, but the derivative is that of executing the action as it is.
- ``penalty``: as ``free``, but the cost adds 0.1 x the mean distance to the nearest valid action.
"""

MODES = 8  # K of eqs. 1 and 3
MODE_STD = 2.0  # centres ~ N(0, 4 I), eqs. 1 and 3
VAE_STD, VQ_STD = 0.5, 0.05  # within a mode: variance 0.25 (eq. 1) and 0.0025 (eq. 3)
SPARSE_STD, SPARSE_SHARE = 1.5, 0.3  # variance 2.25, share rho of active dimensions (eq. 2)
SPECTRAL_RADIUS = 0.8
BIAS_STD = 0.1
BOX = 3 * math.hypot(
    MODE_STD, VAE_STD
)  # planners search [-BOX, BOX]^d: three standard deviations of the widest geometry
STATE_STD = 0.5  # starts and goals ~ N(0, 0.25 I), section 3
SMOOTHNESS_WEIGHT = 0.1  # lambda of eq. 5
PENALTY_WEIGHT = 0.1  # as lambda: a nudge, not a wall


class Geometry(Protocol):
    """A distribution of valid latent actions, B independent ones."""

    @property
    def spread(self) -> float:
        """Standard deviation of one coordinate of a valid action, over draws of the geometry."""
        ...

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Draw valid actions ``[B, count, d]``."""
        ...

    def project(self, actions: torch.Tensor) -> torch.Tensor:
        """Return the nearest valid action of each of ``[B, ..., d]``, differentiable where that is."""
        ...


@dataclass(frozen=True)
class Modes:
    """A mixture of equal Gaussians around centres: VAE (eq. 1) and, with little noise, VQ-VAE (eq. 3).

    Attributes:
        centres: ``[B, K, d]``.
        std: Standard deviation within a mode.
        radius: Valid actions lie within this distance of their centre; 0 allows the centres alone.
    """

    centres: torch.Tensor
    std: float
    radius: float

    @property
    def spread(self) -> float:
        """Standard deviation of one coordinate: of centres and within a mode together."""
        return math.hypot(MODE_STD, self.std)

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Draw actions ``[B, count, d]`` from the mixture."""
        batch, modes, dim = self.centres.shape
        mode = torch.randint(modes, (batch, count, 1), generator=generator)
        noise = torch.randn(batch, count, dim, generator=generator)
        return self.centres.gather(1, mode.expand(-1, -1, dim)) + self.std * noise

    def project(self, actions: torch.Tensor) -> torch.Tensor:
        """Pull actions ``[B, ..., d]`` into the ball of the nearest centre."""
        flat = actions.reshape(actions.shape[0], -1, actions.shape[-1])
        with torch.no_grad():  # argmin |a - c| = argmax a.c - |c|^2 / 2
            heights = -self.centres.square().sum(-1)[:, None] / 2
            nearest = torch.baddbmm(heights, flat, self.centres.mT).argmax(-1, keepdim=True)
            centres = self.centres.gather(1, nearest.expand(-1, -1, flat.shape[-1]))
        offset = flat - centres
        distance = offset.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        return (centres + offset * (self.radius / distance).clamp(max=1)).reshape(actions.shape)


@dataclass(frozen=True)
class Sparse:
    """Sparse energy-based model: ``active`` random coordinates ~ N(0, 2.25), the others 0 (eq. 2).

    Attributes:
        batch: B.
        dim: d.
        active: Coordinates that are not 0.
    """

    batch: int
    dim: int
    active: int

    @property
    def spread(self) -> float:
        """Standard deviation of one coordinate, zeros included."""
        return SPARSE_STD * math.sqrt(self.active / self.dim)

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Draw actions ``[B, count, d]``."""
        shape = (self.batch, count, self.dim)
        values = SPARSE_STD * torch.randn(shape, generator=generator)
        return values * _largest(torch.rand(shape, generator=generator), self.active)

    def project(self, actions: torch.Tensor) -> torch.Tensor:
        """Keep the ``active`` largest coordinates of actions ``[B, ..., d]``."""
        return actions * _largest(actions.detach().abs(), self.active)


def _largest(values: torch.Tensor, count: int) -> torch.Tensor:
    """Mask ``[..., d]`` of the ``count`` largest coordinates."""
    return torch.zeros_like(values).scatter_(-1, values.topk(count, dim=-1).indices, 1.0)


def draw_geometry(name: str, batch: int, dim: int, generator: torch.Generator) -> Geometry:
    """Draw ``batch`` geometries of dimension ``dim``.

    A VAE's valid actions are those within the 3-sigma ball of a mode: the one that holds 99.7% of the mode's samples,
    whose radius in d dimensions is, to two digits, ``sigma (sqrt(d) + 2)``.

    Raises:
        ValueError: Unknown name, or fewer than 4 dimensions.
    """
    if name not in GEOMETRIES:
        raise ValueError(did_you_mean("geometry", name, GEOMETRIES))
    if dim < 4:
        raise ValueError(f"a latent action space needs at least 4 dimensions, so that one in 0.3 is active, not {dim}.")
    if name == "sparse":
        return Sparse(batch, dim, int(SPARSE_SHARE * dim))
    centres = MODE_STD * torch.randn(batch, MODES, dim, generator=generator)
    if name == "vq":
        return Modes(centres, VQ_STD, 0.0)
    return Modes(centres, VAE_STD, VAE_STD * (math.sqrt(dim) + 2))


@dataclass(frozen=True)
class World:
    """B worlds ``s' = tanh(A s + B a + b)`` (eq. 4): A, B ``[B, d, d]`` and b ``[B, d]``, in this order."""

    transition: torch.Tensor
    action_map: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def draw(cls, batch: int, dim: int, generator: torch.Generator) -> World:
        """Draw worlds at random; see the module for the scales."""
        transition = torch.randn(batch, dim, dim, generator=generator)
        radius = torch.linalg.eigvals(transition).abs().amax(-1)
        action_map = torch.randn(batch, dim, dim, generator=generator) / math.sqrt(dim)
        bias = BIAS_STD * torch.randn(batch, dim, generator=generator)
        return cls(transition * (SPECTRAL_RADIUS / radius)[:, None, None], action_map, bias)

    def repeat(self, times: int) -> World:
        """Return the same worlds ``times`` times over, ``[times * B, ...]``."""
        square = (times, 1, 1)
        return World(self.transition.repeat(square), self.action_map.repeat(square), self.bias.repeat(times, 1))

    def rollout(self, start: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Execute actions ``[B, S, H, d]`` from ``start [B, d]``; returns the states after each, ``[B, S, H, d]``."""
        batch, samples, horizon, dim = actions.shape
        driven = torch.baddbmm(self.bias[:, None], actions.reshape(batch, -1, dim), self.action_map.mT)
        driven = driven.view(batch, samples, horizon, dim)
        state, states = start[:, None].expand(-1, samples, -1), []
        for step in range(horizon):
            state = torch.tanh(torch.baddbmm(driven[:, :, step], state, self.transition.mT))
            states.append(state)
        return torch.stack(states, dim=2)


@dataclass(frozen=True)
class Problems:
    """B problems: reach ``goal [B, d]`` from ``start [B, d]``, each in its own world and, by name, geometries."""

    world: World
    geometries: dict[str, Geometry]
    start: torch.Tensor
    goal: torch.Tensor

    @classmethod
    def draw(cls, batch: int, dim: int, seed: int) -> Problems:
        """Draw problems, the same for the same ``seed`` and ``dim``."""
        generator = torch.Generator().manual_seed(10_000 * seed + dim)
        world = World.draw(batch, dim, generator)
        start, goal = STATE_STD * torch.randn(2, batch, dim, generator=generator)
        return cls(world, {name: draw_geometry(name, batch, dim, generator) for name in GEOMETRIES}, start, goal)

    def cost(self, cases: Sequence[tuple[str, str]], guidance: bool = False) -> CostFn:
        """Cost of eq. 5 for ``len(cases) * B`` environments: all problems in each case in turn.

        Args:
            cases: Of a geometry and one of :data:`COUPLINGS` each.
            guidance: Give the cost, in place of its gradient, the one of eq. 10: ``B^T (s_T - s*)`` at every step.

        Returns:
            ``actions [len(cases) * B, S, H, d] -> [len(cases) * B, S]``.

        Raises:
            ValueError: Unknown geometry or coupling.
        """
        for geometry, coupling in cases:
            if geometry not in GEOMETRIES:
                raise ValueError(did_you_mean("geometry", geometry, GEOMETRIES))
            if coupling not in COUPLINGS:
                raise ValueError(did_you_mean("coupling", coupling, COUPLINGS))
        times = len(cases)
        world, start, goal = self.world.repeat(times), self.start.repeat(times, 1), self.goal.repeat(times, 1)

        def exact(actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            executed, off = [], []
            for part, (geometry, coupling) in zip(actions.chunk(times), cases, strict=True):
                valid = part if coupling == "free" else self.geometries[geometry].project(part)
                executed.append(execute(part, valid, coupling))
                off.append(off_support(part, valid) if coupling == "penalty" else part.new_zeros(part.shape[:2]))
            states = world.rollout(start, torch.cat(executed))
            total = goal_distance(states, goal) + SMOOTHNESS_WEIGHT * smoothness(start, states)
            return total + PENALTY_WEIGHT * torch.cat(off), states[:, :, -1]

        def guided(actions: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                total, last = exact(actions)
                slope = (last - goal[:, None]) @ world.action_map  # rows: (B^T e)^T = e^T B
            return total + (slope.unsqueeze(2) * (actions - actions.detach())).sum((-1, -2))

        return guided if guidance else lambda actions: exact(actions)[0]


def execute(actions: torch.Tensor, valid: torch.Tensor, coupling: str) -> torch.Tensor:
    """Return what the world executes when it is given ``actions``, of which ``valid`` are the nearest valid ones."""
    if coupling == "straight-through":
        return actions + (valid - actions).detach()
    return valid if coupling == "support" else actions


def off_support(actions: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Mean distance of the actions of sequences ``[B, S, H, d]`` to the nearest valid ones, ``[B, S]``."""
    return (actions - valid).norm(dim=-1).mean(-1)


def goal_distance(states: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Distance of the last of states ``[B, S, H, d]`` to ``goal [B, d]``, ``[B, S]``."""
    return (states[:, :, -1] - goal[:, None]).norm(dim=-1)


def smoothness(start: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """Mean step length from ``start [B, d]`` along states ``[B, S, H, d]``, ``[B, S]``; less is smoother (eq. 11)."""
    before = torch.cat([start[:, None, None].expand(-1, states.shape[1], -1, -1), states[:, :, :-1]], dim=2)
    return (states - before).norm(dim=-1).mean(-1)


def effective_dimension(samples: torch.Tensor) -> torch.Tensor:
    """Participation ratio of the covariance's eigenvalues of samples ``[B, n, d]``, ``[B]`` in [1, d] (eq. 13)."""
    centred = samples - samples.mean(1, keepdim=True)
    covariance = centred.mT @ centred / (samples.shape[1] - 1)
    # (sum of eigenvalues)^2 / sum of their squares, without the eigenvalues: traces of C and C^2
    return covariance.diagonal(dim1=1, dim2=2).sum(-1).square() / covariance.square().sum((1, 2))


def amenability(samples: torch.Tensor) -> torch.Tensor:
    """Planning amenability of samples ``[B, n, d]``, ``[B]`` in [0, 1]; more should be easier to plan in (eq. 12)."""
    count, dim = samples.shape[1:]
    distance = (samples - samples.mean(1, keepdim=True)).norm(dim=-1)
    concentration = (distance <= 2 * distance.square().mean(1, keepdim=True).sqrt()).float().mean(1)
    apart = torch.cdist(samples, samples).sum((1, 2)) / (count * (count - 1))
    return 0.4 * concentration + 0.3 * (1 - effective_dimension(samples) / dim) + 0.3 / (1 + apart / math.sqrt(dim))
