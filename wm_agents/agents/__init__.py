"""Agents: world-model control behind Stable-Baselines3's interface."""

from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.gc_idm import GCIDM
from wm_agents.agents.hierarchical import HierarchicalMPC
from wm_agents.agents.loading import AGENTS, list_checkpoints, load
from wm_agents.agents.mpc import (
    CEMMPC,
    ICEMMPC,
    MPC,
    MPPIMPC,
    SGLDMPC,
    DiffusionGuidanceMPC,
    DiffusionMPC,
    GradientMPC,
    PredictiveSamplingMPC,
    RandomShootingMPC,
)
from wm_agents.agents.policy import WorldModelPolicy

__all__ = [
    "AGENTS",
    "CEMMPC",
    "GCIDM",
    "ICEMMPC",
    "MPC",
    "MPPIMPC",
    "SGLDMPC",
    "DiffusionGuidanceMPC",
    "DiffusionMPC",
    "GradientMPC",
    "HierarchicalMPC",
    "PredictiveSamplingMPC",
    "RandomShootingMPC",
    "WorldModelAgent",
    "WorldModelPolicy",
    "list_checkpoints",
    "load",
]
