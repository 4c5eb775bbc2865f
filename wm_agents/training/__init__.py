"""Offline training: the world model, and the inverse dynamics model on its latents."""

from wm_agents.training.inverse_dynamics import InverseDynamicsTrainingConfig, train_inverse_dynamics
from wm_agents.training.world_model import TrainingConfig, train_world_model

__all__ = ["InverseDynamicsTrainingConfig", "TrainingConfig", "train_inverse_dynamics", "train_world_model"]
