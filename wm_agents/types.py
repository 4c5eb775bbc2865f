"""Small records that the layers pass to each other.

Letters: N environments, B batch, S sampled candidates, H planning horizon in blocks, T frames, D latent size,
F feature size, P tokens of a frame,
A primitive action size, K primitive actions per block. A block is K *different* consecutive actions, concatenated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

CostFn = Callable[[torch.Tensor], torch.Tensor]
"""``actions [B, S, H, K*A] -> cost [B, S]``: what a planner minimises."""

OnIteration = Callable[[int, torch.Tensor], None]
"""Called with the number of the iteration and its candidates' costs ``[B, S]``, before anything is selected."""


@dataclass(frozen=True)
class LatentSpec:
    """Shape of a latent, ``(D,)`` or ``(P, D)``; image size in pixels; A, and K primitive actions per block.

    Discrete actions are one-hot vectors: ``choices`` has the number of choices of each, and their sum is A.
    """

    shape: tuple[int, ...]
    image_size: int
    action_size: int
    action_block: int
    choices: tuple[int, ...] = ()

    @property
    def feature_size(self) -> int:
        """F, numbers in one latent."""
        return math.prod(self.shape)

    @property
    def block_size(self) -> int:
        """K*A, numbers in one action block."""
        return self.action_block * self.action_size


def _no_rollout(seen: int = 1, blocks: int | None = None) -> torch.Tensor:
    raise ValueError("this batch imagines nothing: the learner of world models adds a rollout to its batches.")


@dataclass(frozen=True)
class LatentBatch:
    """One training window in latent space.

    Attributes:
        z: ``[B, T, F]``, features of the encoded frames, with gradients.
        predicted: ``[B, T-1, F]``; row ``t`` predicts ``z[:, t+1]``.
        actions: ``[B, T-1, K*A]``, normalised blocks between the frames.
        pixels: uint8 ``[B, T, H, W, C]``, the frames themselves.
        generator: Source of randomness for terms that sample.
        shape: Shape of one latent, with F numbers.
        own: Losses that the kind of world model computes itself, by name, scalars.
        rollout: ``rollout(seen=1, blocks=None)`` imagines from the window's first ``seen`` frames with its blocks:
            ``[B, blocks, F]``, with gradients; to the window's end without ``blocks``.
        progress: Part of the training that is done, from 0 to 1; 1 outside of training.
    """

    z: torch.Tensor
    predicted: torch.Tensor
    actions: torch.Tensor
    pixels: torch.Tensor
    generator: torch.Generator
    shape: tuple[int, ...] = ()
    own: Mapping[str, torch.Tensor] = field(default_factory=dict)
    rollout: Callable[..., torch.Tensor] = _no_rollout
    progress: float = 1.0


@dataclass(frozen=True)
class Window:
    """A training batch: T frames K steps apart and the action blocks between them.

    Attributes:
        pixels: uint8 ``[B, T, H, W, C]``.
        actions: float32 ``[B, T-1, K*A]``, environment units; block ``t`` leads from frame ``t`` to frame ``t+1``.
        states: float64 ``[B, T, S]``, simulator states; for probes only, never for training.
    """

    pixels: np.ndarray
    actions: np.ndarray
    states: np.ndarray


@dataclass(frozen=True)
class Hindsight:
    """Hindsight goals: frame ``i``, a later frame of the same episode, and the action taken at ``i``.

    Attributes:
        frame: int64 ``[B]``, index of the current frame in the dataset.
        goal: int64 ``[B]``, index of the goal frame.
        steps: int64 ``[B]``, ``goal - frame``, at least 1.
        actions: float32 ``[B, A]``, environment units.
    """

    frame: np.ndarray
    goal: np.ndarray
    steps: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class Plan:
    """The result of a planner.

    Attributes:
        actions: ``[B, H, K*A]``, inside the bounds.
        cost: ``[B]``, the cost of ``actions``.
        elites: ``[B, E, H, K*A]``, sequences to start the next search from, ``actions`` first; E is the planner's
            ``num_elites``.
        evaluations: int64 ``[B]``, candidate sequences scored; a gradient step counts as one for each sequence.
    """

    actions: torch.Tensor
    cost: torch.Tensor
    elites: torch.Tensor
    evaluations: torch.Tensor


@dataclass(frozen=True)
class DecisionRecord:
    """The cost of one ``predict`` call.

    Attributes:
        encode_ms: Milliseconds spent on encoding observations and goals.
        plan_ms: Milliseconds spent on search, or on the policy's forward pass.
        plans: Environments that (re)planned in this call.
        evaluations: World-model evaluations (candidate blocks rolled out), over all plans of this call.
    """

    encode_ms: float
    plan_ms: float
    plans: int
    evaluations: int
