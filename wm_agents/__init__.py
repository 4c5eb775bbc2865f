"""World-model agents with the face of Stable-Baselines3.

Importing the package registers the ``wm/*`` environments with Gymnasium. The public names are loaded on first use, so
that worker processes which only step environments do not import torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_agents.version import __version__

# A checkout keeps envs/ and datasets/ beside this folder; only an installation puts them inside the package.
_FOLDER = Path(__file__).resolve().parent
_ENVS = importlib.util.find_spec("wm_agents.envs")
if _ENVS is None or _FOLDER.parent not in Path(str(_ENVS.origin)).resolve().parents:
    raise ImportError(
        f"{_FOLDER} belongs to a checkout of wm-agents that is not installed. Run `pip install -e .` in "
        f"{_FOLDER.parent}, or start Python in another folder to use the version that is installed."
    )

from wm_agents import envs  # noqa: E402

_LAZY = {
    "CEMMPC": "wm_agents.agents",
    "DenoiserConfig": "wm_agents.models",
    "DenoiserTrainingConfig": "wm_agents.training",
    "DiffusionGuidanceMPC": "wm_agents.agents",
    "DiffusionMPC": "wm_agents.agents",
    "GCIDM": "wm_agents.agents",
    "GradientMPC": "wm_agents.agents",
    "GraphConfig": "wm_agents.training",
    "HierarchicalMPC": "wm_agents.agents",
    "ICEMMPC": "wm_agents.agents",
    "ImaginationTrainingConfig": "wm_agents.training",
    "InverseDynamicsConfig": "wm_agents.models",
    "InverseDynamicsTrainingConfig": "wm_agents.training",
    "MPC": "wm_agents.agents",
    "MPPIMPC": "wm_agents.agents",
    "MacroActionsConfig": "wm_agents.models",
    "MacroActionsTrainingConfig": "wm_agents.training",
    "PredictiveSamplingMPC": "wm_agents.agents",
    "PredictorTrainingConfig": "wm_agents.training",
    "RandomShootingMPC": "wm_agents.agents",
    "SGLDMPC": "wm_agents.agents",
    "TemporalDistanceConfig": "wm_agents.models",
    "TemporalDistanceTrainingConfig": "wm_agents.training",
    "TrainingConfig": "wm_agents.training",
    "WaypointsConfig": "wm_agents.models",
    "WaypointsTrainingConfig": "wm_agents.training",
    "WorldModel": "wm_agents.models",
    "WorldModelConfig": "wm_agents.models",
    "fit_graph": "wm_agents.training",
    "list_checkpoints": "wm_agents.agents",
    "load": "wm_agents.agents",
    "train_denoiser": "wm_agents.training",
    "train_in_imagination": "wm_agents.training",
    "train_inverse_dynamics": "wm_agents.training",
    "train_macro_actions": "wm_agents.training",
    "train_predictor": "wm_agents.training",
    "train_temporal_distance": "wm_agents.training",
    "train_waypoints": "wm_agents.training",
    "train_world_model": "wm_agents.training",
}
_MODULES = ("agents", "checkpoint", "datasets", "evaluation", "losses", "models", "planning", "recipes", "training")

if TYPE_CHECKING:
    from wm_agents import agents, checkpoint, datasets, evaluation, losses, models, planning, recipes, training
    from wm_agents.agents import (
        CEMMPC,
        GCIDM,
        ICEMMPC,
        MPC,
        MPPIMPC,
        SGLDMPC,
        DiffusionGuidanceMPC,
        DiffusionMPC,
        GradientMPC,
        HierarchicalMPC,
        PredictiveSamplingMPC,
        RandomShootingMPC,
        list_checkpoints,
        load,
    )
    from wm_agents.models import (
        DenoiserConfig,
        InverseDynamicsConfig,
        MacroActionsConfig,
        TemporalDistanceConfig,
        WaypointsConfig,
        WorldModel,
        WorldModelConfig,
    )
    from wm_agents.training import (
        DenoiserTrainingConfig,
        GraphConfig,
        ImaginationTrainingConfig,
        InverseDynamicsTrainingConfig,
        MacroActionsTrainingConfig,
        PredictorTrainingConfig,
        TemporalDistanceTrainingConfig,
        TrainingConfig,
        WaypointsTrainingConfig,
        fit_graph,
        train_denoiser,
        train_in_imagination,
        train_inverse_dynamics,
        train_macro_actions,
        train_predictor,
        train_temporal_distance,
        train_waypoints,
        train_world_model,
    )


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"wm_agents.{name}")
    raise AttributeError(f"module 'wm_agents' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_MODULES])


__all__ = [
    "CEMMPC",
    "GCIDM",
    "ICEMMPC",
    "MPC",
    "MPPIMPC",
    "SGLDMPC",
    "DenoiserConfig",
    "DenoiserTrainingConfig",
    "DiffusionGuidanceMPC",
    "DiffusionMPC",
    "GradientMPC",
    "GraphConfig",
    "HierarchicalMPC",
    "ImaginationTrainingConfig",
    "InverseDynamicsConfig",
    "InverseDynamicsTrainingConfig",
    "MacroActionsConfig",
    "MacroActionsTrainingConfig",
    "PredictiveSamplingMPC",
    "PredictorTrainingConfig",
    "RandomShootingMPC",
    "TemporalDistanceConfig",
    "TemporalDistanceTrainingConfig",
    "TrainingConfig",
    "WaypointsConfig",
    "WaypointsTrainingConfig",
    "WorldModel",
    "WorldModelConfig",
    "__version__",
    "agents",
    "checkpoint",
    "datasets",
    "envs",
    "evaluation",
    "fit_graph",
    "list_checkpoints",
    "load",
    "losses",
    "models",
    "planning",
    "recipes",
    "train_denoiser",
    "train_in_imagination",
    "train_inverse_dynamics",
    "train_macro_actions",
    "train_predictor",
    "train_temporal_distance",
    "train_waypoints",
    "train_world_model",
    "training",
]
