"""Offline training: one loop, one learner per file (the world model, and what is trained on its latents)."""

from wm_agents.training.denoiser import DenoiserTrainingConfig, train_denoiser
from wm_agents.training.device import find_device
from wm_agents.training.disagreement import DisagreementTrainingConfig
from wm_agents.training.gc_idm import InverseDynamicsTrainingConfig, train_inverse_dynamics
from wm_agents.training.graph import GraphConfig, fit_graph
from wm_agents.training.heads import learner_of, train_head
from wm_agents.training.imagination import ImaginationTrainingConfig, train_in_imagination
from wm_agents.training.latent_actions import LatentActionTrainingConfig, train_latent_actions
from wm_agents.training.latents import encode_frames
from wm_agents.training.learner import Callback, HeadLearner, LatentLearner, Learner, LearnerConfig, SplitConfig
from wm_agents.training.macro_actions import MacroActionsTrainingConfig, train_macro_actions
from wm_agents.training.predictor import PredictorTrainingConfig, train_predictor
from wm_agents.training.run import DivergedError
from wm_agents.training.state import History
from wm_agents.training.steps_to_goal import StepsToGoalTrainingConfig, train_steps_to_goal
from wm_agents.training.temporal_distance import TemporalDistanceTrainingConfig, train_temporal_distance
from wm_agents.training.video import ActionMapsTrainingConfig, infer_actions, train_action_maps
from wm_agents.training.viewer import ViewerTrainingConfig, train_viewer
from wm_agents.training.waypoints import WaypointsTrainingConfig, train_waypoints
from wm_agents.training.world_model import CollapseWarning, TrainingConfig, UntrainedWarning, train_world_model

__all__ = [
    "ActionMapsTrainingConfig",
    "Callback",
    "CollapseWarning",
    "DenoiserTrainingConfig",
    "DisagreementTrainingConfig",
    "DivergedError",
    "GraphConfig",
    "HeadLearner",
    "History",
    "ImaginationTrainingConfig",
    "InverseDynamicsTrainingConfig",
    "LatentActionTrainingConfig",
    "LatentLearner",
    "Learner",
    "LearnerConfig",
    "MacroActionsTrainingConfig",
    "PredictorTrainingConfig",
    "SplitConfig",
    "StepsToGoalTrainingConfig",
    "TemporalDistanceTrainingConfig",
    "TrainingConfig",
    "UntrainedWarning",
    "ViewerTrainingConfig",
    "WaypointsTrainingConfig",
    "encode_frames",
    "find_device",
    "fit_graph",
    "infer_actions",
    "learner_of",
    "train_action_maps",
    "train_denoiser",
    "train_head",
    "train_in_imagination",
    "train_inverse_dynamics",
    "train_latent_actions",
    "train_macro_actions",
    "train_predictor",
    "train_steps_to_goal",
    "train_temporal_distance",
    "train_viewer",
    "train_waypoints",
    "train_world_model",
]
