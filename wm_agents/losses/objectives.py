"""Training objectives by name: the loss terms of world models from the literature, with their weights.

An objective is weights of loss terms, as :data:`wm_agents.losses.LossWeights` has them. The table
``wm_agents.registry.TRAINING_OBJECTIVES`` holds them; other packages add theirs with its ``register``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wm_agents.losses.base import LossWeights, split_options
from wm_agents.registry import TRAINING_OBJECTIVES, WORLD_MODELS

LEWM: LossWeights = {"prediction": 1.0, "sigreg": 0.09}
"""LeWorldModel (arXiv 2603.19312); the default of the kinds "lewm" and "patch"."""

SMWM: LossWeights = {"prediction": 1.0, "inverse_dynamics": "auto"}
"""Sensorimotor world model (arXiv 2606.20104): inverse dynamics is the only regulariser. The paper sets its weight by
task, from 0.1 to 30."""

PLDM: LossWeights = {
    "prediction": 1.0,
    "vicreg": {"weight": 16.0, "covariance": 0.5},
    "temporal_similarity": 12.0,
    "inverse_dynamics": 1.0,
}
"""PLDM (arXiv 2502.14819), with the weights of a small recipe for two rooms (github.com/facebookresearch/eb_jepa,
``examples/ac_video_jepa``): variance 16, covariance 8, similarity 12, inverse dynamics 1."""

STRAIGHTENED: LossWeights = {
    "prediction": {"weight": 1.0, "stop_gradient": True},
    "sigreg": 0.09,
    "straightening": 0.1,
}
"""LeWorldModel with temporal straightening (arXiv 2603.12231): curvature of a learned aggregation, fixed targets."""

RC_AUX: LossWeights = {"rollout": {"weight": 1.0, "weighting": "linear"}, "sigreg": 0.09, "reachability": 0.35}
"""RC-aux (arXiv 2605.07278) without its planner and its curriculum: open-loop prediction and reachability."""

VARIABLE_LENGTH: LossWeights = {"variable_length": 1.0, "sigreg": 0.09}
"""Prediction over any number of blocks, with VLWM's curriculum (arXiv 2606.21775) and LeWorldModel's regulariser."""

FORWARD_ONLY: LossWeights = {"prediction": 1.0}
"""Prediction alone, which collapses: a control."""

RECONSTRUCTION: LossWeights = {"prediction": 1.0, "reconstruction": 1.0}
"""Prediction in a latent from which the frame can be drawn, as in autoencoding world models."""


def objective_weights(name: str, changes: LossWeights | None = None) -> dict[str, float | str | Mapping[str, Any]]:
    """Weights of a named objective, some of them changed.

    Args:
        name: Of ``wm_agents.registry.TRAINING_OBJECTIVES``.
        changes: Terms to add, or to weight otherwise; of a term with options, only what is given changes.

    Raises:
        ValueError: An unknown name, that of a kind of world model, or a weight that is no weight.
    """
    if name not in TRAINING_OBJECTIVES and name in WORLD_MODELS:
        raise ValueError(
            f"{name!r} is a kind of world model with loss terms of its own, and no objective: give it as the model, "
            f"train_world_model(data, {name!r}), or as wm-agents train --kind {name}."
        )
    found = {term: _options(given) for term, given in TRAINING_OBJECTIVES.get(name).items()}
    for term, given in (changes or {}).items():
        found[term] = {**found.get(term, {}), **_options(given)}
    split_options(found)
    return {term: options["weight"] if len(options) == 1 else options for term, options in found.items()}


def _options(given: Any) -> dict[str, Any]:
    return dict(given) if isinstance(given, Mapping) else {"weight": given}
