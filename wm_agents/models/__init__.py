"""Networks: encoders, predictors, the world model that composes them, and the heads on its latents."""

from wm_agents.models.denoiser import Denoiser, DenoiserConfig
from wm_agents.models.graph import LatentGraph, LatentGraphConfig
from wm_agents.models.inverse_dynamics import InverseDynamics, InverseDynamicsConfig
from wm_agents.models.macro_actions import MacroActions, MacroActionsConfig
from wm_agents.models.temporal_distance import TemporalDistance, TemporalDistanceConfig
from wm_agents.models.waypoints import Waypoints, WaypointsConfig
from wm_agents.models.world_model import WorldModel, WorldModelConfig

__all__ = [
    "Denoiser",
    "DenoiserConfig",
    "InverseDynamics",
    "InverseDynamicsConfig",
    "LatentGraph",
    "LatentGraphConfig",
    "MacroActions",
    "MacroActionsConfig",
    "TemporalDistance",
    "TemporalDistanceConfig",
    "Waypoints",
    "WaypointsConfig",
    "WorldModel",
    "WorldModelConfig",
]
