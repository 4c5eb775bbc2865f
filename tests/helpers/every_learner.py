"""Every shipped stage of training, in some steps and at a tiny size."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from wm_agents.models import (
    ActionStatistics,
    DenoiserConfig,
    DisagreementConfig,
    InverseDynamics,
    InverseDynamicsConfig,
    LatentActionConfig,
    LeWM,
    LeWMConfig,
    MacroActionsConfig,
    StepsToGoalConfig,
    TemporalDistanceConfig,
    ViewerConfig,
    WaypointsConfig,
)
from wm_agents.training import (
    DenoiserTrainingConfig,
    DisagreementTrainingConfig,
    GraphConfig,
    ImaginationTrainingConfig,
    InverseDynamicsTrainingConfig,
    LatentActionTrainingConfig,
    MacroActionsTrainingConfig,
    PredictorTrainingConfig,
    StepsToGoalTrainingConfig,
    TemporalDistanceTrainingConfig,
    TrainingConfig,
    ViewerTrainingConfig,
    WaypointsTrainingConfig,
    train_head,
    train_world_model,
)

SHORT: dict[str, Any] = {"steps": 6, "batch_size": 16, "evaluate_every": 4}
SHAPE = LeWMConfig(latent_size=8, predictor_width=32, dropout=0.3)
STAGES: dict[str, tuple[Any, Any]] = {
    "world-model": (SHAPE, TrainingConfig(**SHORT, frames=3)),
    "predictor": (None, PredictorTrainingConfig(**SHORT, blocks=3)),
    "gc-idm": (InverseDynamicsConfig(width=32, dropout=0.3), InverseDynamicsTrainingConfig(**SHORT)),
    "imagination": (None, ImaginationTrainingConfig(**SHORT, blocks=2)),
    "steps-to-goal": (StepsToGoalConfig(width=32, bins=8), StepsToGoalTrainingConfig(**SHORT)),
    "temporal-distance": (TemporalDistanceConfig(width=32), TemporalDistanceTrainingConfig(**SHORT)),
    "disagreement": (DisagreementConfig(width=32), DisagreementTrainingConfig(**SHORT)),
    "denoiser": (DenoiserConfig(width=32), DenoiserTrainingConfig(**SHORT)),
    "graph": (None, GraphConfig(nodes=20, support=1)),
    "macro-actions": (MacroActionsConfig(width=32, bank_size=32), MacroActionsTrainingConfig(**SHORT)),
    "viewer": (ViewerConfig(width=2), ViewerTrainingConfig(**SHORT)),
    "waypoints": (WaypointsConfig(stride=10, width=32, depth=1, dropout=0.3), WaypointsTrainingConfig(**SHORT)),
    "latent-actions": (LatentActionConfig(width=32), LatentActionTrainingConfig(**SHORT)),
}
"""Name -> shape and options."""


def tiny_world_model(data: Any, seed: int = 0) -> LeWM:
    """An untrained one for these data, in evaluation mode."""
    torch.manual_seed(seed)
    mean, std = data.action_mean_std()
    return LeWM(SHAPE, ActionStatistics(data.action_low, data.action_high, mean, std)).eval()


def tiny_gc_idm(seed: int = 0) -> InverseDynamics:
    torch.manual_seed(seed)
    return InverseDynamics(InverseDynamicsConfig(latent_size=8, width=32)).eval()


def train(name: str, world_model: Any, data: Any, changes: dict[str, Any] | None = None, **options: Any) -> Any:
    """Run one stage; return what it makes."""
    model, training = STAGES[name]
    training = dataclasses.replace(training, **(changes or {}))
    heads = options.pop("heads") if "heads" in options else {"gc-idm": tiny_gc_idm()}
    if name == "world-model":
        return train_world_model(data, model, training, device="cpu", progress=False, **options)[0]
    return train_head(name, world_model, data, model, training, heads=heads, progress=False, **options)[0]
