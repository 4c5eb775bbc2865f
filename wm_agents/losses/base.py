"""The input and the interface of loss terms."""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from wm_agents.registry import LOSSES, did_you_mean
from wm_agents.types import LatentBatch, LatentSpec

LossWeights = Mapping[str, float | str | Mapping[str, Any]]
"""Weights of loss terms by name, ``{"sigreg": 0.09}``, or weights and options,
``{"sigreg": {"weight": 0.09, "directions": 1024}}``. The weight "auto" is set in training, from the sizes of gradients:
see :class:`wm_agents.training.balance.Balance`."""

AUTO = "auto"


class LossTerm(Protocol):
    """A differentiable scalar of a latent batch; lower is better.

    ``wm_agents.registry.LOSSES`` holds classes of terms, made with their options, or plain functions of a batch. Three
    class attributes, all optional, say what a term needs: ``least_frames`` in a window (2 without it),
    ``reads_actions``, without which data whose actions never change would do, and ``imagines``, for terms that call
    ``batch.rollout``.
    """

    def __call__(self, batch: LatentBatch) -> torch.Tensor:
        """Return the loss, a scalar."""
        ...


@runtime_checkable
class LearnedLossTerm(Protocol):
    """A term with its own network, an ``nn.Module``: it is trained with the world model and then dropped."""

    def prepare(self, spec: LatentSpec, frames: torch.Tensor) -> None:
        """Build the network, before training.

        Args:
            spec: The world model's ``LatentSpec``.
            frames: uint8 ``[M, H, W, C]``, a sample of the training frames.
        """
        ...


def split_options(weights: LossWeights, *, changes: bool = False) -> dict[str, tuple[float | str, dict[str, Any]]]:
    """Return each term's weight, a number or :data:`AUTO`, and its options.

    Args:
        weights: See :data:`LossWeights`.
        changes: They change an objective, which has the other terms, and the weights that are not given here.

    Raises:
        ValueError: There is no term, a weight is negative or not finite, or every weight is automatic or 0.
    """
    if not (isinstance(weights, Mapping) and weights):
        raise ValueError(f"loss terms are weights by name, at least one: {{'sigreg': 0.09}}, not {weights!r}.")
    found: dict[str, tuple[float | str, dict[str, Any]]] = {}
    for name, given in weights.items():
        options = dict(given) if isinstance(given, Mapping) else {"weight": given}
        weight: Any = options.pop("weight", 0.0 if changes else None)
        number = isinstance(weight, numbers.Real) and not isinstance(weight, bool)
        if weight != AUTO and not (number and 0 <= weight < math.inf):
            raise ValueError(
                f'the weight of the loss term {name!r} must be a finite number of at least 0, or "{AUTO}", not '
                f"{weight!r}."
            )
        found[name] = (AUTO if weight == AUTO else float(weight), options)
    if changes or any(isinstance(weight, float) and weight for weight, _ in found.values()):
        return found
    automatic = [name for name, (weight, _) in found.items() if weight == AUTO]
    if automatic:
        raise ValueError(
            f'the weight "{AUTO}" of the loss term {automatic[0]!r} is relative to other terms: give one a number.'
        )
    raise ValueError("all loss terms have the weight 0, so nothing would be learned: give one a larger weight.")


def make_losses(weights: LossWeights, own: Mapping[str, float]) -> dict[str, LossTerm]:
    """Make the loss terms that are registered; the others must be computed by the kind of world model itself.

    Terms of weight 0 are checked and left out.

    Args:
        weights: See :data:`LossWeights`.
        own: The kind's default weights, which include the terms that it computes itself.

    Raises:
        ValueError: An unknown term, or an option that a term does not have.
    """
    terms: dict[str, LossTerm] = {}
    for name, (weight, options) in split_options(weights).items():
        if name not in LOSSES:
            if name in own and not options:
                continue
            raise ValueError(did_you_mean("loss term", str(name), [*LOSSES, *own]))
        kind = LOSSES.get(name)
        free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        known = [key for key, given in inspect.signature(kind).parameters.items() if given.kind not in free]
        if not isinstance(kind, type):  # a function of the batch, its first parameter, and of options
            known = known[1:]
        for option in options:
            if option not in known:
                raise ValueError(did_you_mean(f"option of the loss term {name!r}", option, [*known, "weight"]))
        term = kind(**options) if isinstance(kind, type) else functools.partial(kind, **options)
        if weight:
            terms[name] = term
    return terms
