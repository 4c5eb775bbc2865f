"""Heads: networks on a world model's features, one file each, found by name in ``wm_agents.registry.HEADS``."""

from wm_agents.models.heads.assessment import AssessmentConfig, AssessmentHead
from wm_agents.models.heads.base import Head, evaluating, fingerprint
from wm_agents.models.heads.denoiser import Denoiser, DenoiserConfig
from wm_agents.models.heads.disagreement import Disagreement, DisagreementConfig
from wm_agents.models.heads.gc_idm import InverseDynamics, InverseDynamicsConfig
from wm_agents.models.heads.graph import LatentGraph, LatentGraphConfig
from wm_agents.models.heads.hiql import HIQLConfig, HIQLPolicy
from wm_agents.models.heads.latent_actions import LatentActionConfig, LatentActions
from wm_agents.models.heads.macro_actions import MacroActions, MacroActionsConfig
from wm_agents.models.heads.steps_to_goal import StepsToGoal, StepsToGoalConfig
from wm_agents.models.heads.temporal_distance import TemporalDistance, TemporalDistanceConfig
from wm_agents.models.heads.viewer import Viewer, ViewerConfig
from wm_agents.models.heads.waypoints import Waypoints, WaypointsConfig

__all__ = [
    "AssessmentConfig",
    "AssessmentHead",
    "Denoiser",
    "DenoiserConfig",
    "Disagreement",
    "DisagreementConfig",
    "HIQLConfig",
    "HIQLPolicy",
    "Head",
    "InverseDynamics",
    "InverseDynamicsConfig",
    "LatentActionConfig",
    "LatentActions",
    "LatentGraph",
    "LatentGraphConfig",
    "MacroActions",
    "MacroActionsConfig",
    "StepsToGoal",
    "StepsToGoalConfig",
    "TemporalDistance",
    "TemporalDistanceConfig",
    "Viewer",
    "ViewerConfig",
    "Waypoints",
    "WaypointsConfig",
    "evaluating",
    "fingerprint",
]
