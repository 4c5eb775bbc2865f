"""Networks: encoders, predictors, the world model that composes them, and the inverse dynamics model."""

from wm_agents.models.inverse_dynamics import InverseDynamics, InverseDynamicsConfig
from wm_agents.models.world_model import WorldModel, WorldModelConfig

__all__ = ["InverseDynamics", "InverseDynamicsConfig", "WorldModel", "WorldModelConfig"]
