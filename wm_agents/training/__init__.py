"""Offline training: the world model, and the heads on its latents."""

from wm_agents.training.denoiser import DenoiserTrainingConfig, train_denoiser
from wm_agents.training.graph import GraphConfig, fit_graph
from wm_agents.training.heads import HeadTrainingConfig, encode_frames
from wm_agents.training.imagination import ImaginationTrainingConfig, train_in_imagination
from wm_agents.training.inverse_dynamics import InverseDynamicsTrainingConfig, train_inverse_dynamics
from wm_agents.training.macro_actions import MacroActionsTrainingConfig, train_macro_actions
from wm_agents.training.predictor import PredictorTrainingConfig, train_predictor
from wm_agents.training.temporal_distance import TemporalDistanceTrainingConfig, train_temporal_distance
from wm_agents.training.waypoints import WaypointsTrainingConfig, train_waypoints
from wm_agents.training.world_model import TrainingConfig, train_world_model

__all__ = [
    "DenoiserTrainingConfig",
    "GraphConfig",
    "HeadTrainingConfig",
    "ImaginationTrainingConfig",
    "InverseDynamicsTrainingConfig",
    "MacroActionsTrainingConfig",
    "PredictorTrainingConfig",
    "TemporalDistanceTrainingConfig",
    "TrainingConfig",
    "WaypointsTrainingConfig",
    "encode_frames",
    "fit_graph",
    "train_denoiser",
    "train_in_imagination",
    "train_inverse_dynamics",
    "train_macro_actions",
    "train_predictor",
    "train_temporal_distance",
    "train_waypoints",
    "train_world_model",
]
