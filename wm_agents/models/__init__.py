"""World models with one common interface (``base.py``), their parts, and the heads on their features."""

from wm_agents.models.actions import ActionStatistics
from wm_agents.models.base import LatentSpec, State, WorldModel
from wm_agents.models.heads import (
    AssessmentConfig,
    AssessmentHead,
    Denoiser,
    DenoiserConfig,
    Head,
    HIQLConfig,
    HIQLPolicy,
    InverseDynamics,
    InverseDynamicsConfig,
    LatentActionConfig,
    LatentActions,
    LatentGraph,
    LatentGraphConfig,
    MacroActions,
    MacroActionsConfig,
    StepsToGoal,
    StepsToGoalConfig,
    TemporalDistance,
    TemporalDistanceConfig,
    Viewer,
    ViewerConfig,
    Waypoints,
    WaypointsConfig,
)
from wm_agents.models.lewm import LeWM, LeWMConfig
from wm_agents.models.public_lewm import PublicLeWM, PublicLeWMConfig

WorldModelConfig = LeWMConfig  # its name in version 0.1

__all__ = [
    "ActionStatistics",
    "AssessmentConfig",
    "AssessmentHead",
    "Denoiser",
    "DenoiserConfig",
    "HIQLConfig",
    "HIQLPolicy",
    "Head",
    "InverseDynamics",
    "InverseDynamicsConfig",
    "LatentActionConfig",
    "LatentActions",
    "LatentGraph",
    "LatentGraphConfig",
    "LatentSpec",
    "LeWM",
    "LeWMConfig",
    "MacroActions",
    "MacroActionsConfig",
    "PublicLeWM",
    "PublicLeWMConfig",
    "State",
    "StepsToGoal",
    "StepsToGoalConfig",
    "TemporalDistance",
    "TemporalDistanceConfig",
    "Viewer",
    "ViewerConfig",
    "Waypoints",
    "WaypointsConfig",
    "WorldModel",
    "WorldModelConfig",
]
