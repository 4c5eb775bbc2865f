"""Trainings of some steps, of tiny models."""

from __future__ import annotations

from typing import Any

import torch

from wm_agents.models import InverseDynamicsConfig, LeWMConfig
from wm_agents.training import (
    InverseDynamicsTrainingConfig,
    TrainingConfig,
    train_inverse_dynamics,
    train_world_model,
)

TINY = LeWMConfig(latent_size=8, predictor_width=32)
SHORT = TrainingConfig(steps=9, batch_size=8, frames=3, evaluate_every=4)
TINY_IDM = InverseDynamicsConfig(width=32)
SHORT_IDM = InverseDynamicsTrainingConfig(steps=30, batch_size=32, evaluate_every=8)


def learn(dataset: Any, model: LeWMConfig = TINY, training: TrainingConfig = SHORT, **options: Any) -> Any:
    return train_world_model(dataset, model, training, device="cpu", progress=False, **options)


def learn_actions(trained: Any, dataset: Any, training: InverseDynamicsTrainingConfig = SHORT_IDM, **options: Any):
    return train_inverse_dynamics(trained.world_model, dataset, TINY_IDM, training, progress=False, **options)


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    different = [name for name, value in one.state_dict().items() if not torch.equal(value, other.state_dict()[name])]
    assert not different
