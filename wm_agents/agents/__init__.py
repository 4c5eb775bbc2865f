"""Agents: control with a world model, with the interface of Stable-Baselines3.

A policy turns observations into latents and keeps the memory; its controller decides. Each agent is an SB3 algorithm
that builds its controller from a world model, heads and options.
"""

from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.gc_idm import GCIDM
from wm_agents.agents.hierarchical import HierarchicalMPC
from wm_agents.agents.hiql import HIQL
from wm_agents.agents.loading import agent_class, list_checkpoints, load
from wm_agents.agents.memory import Memory
from wm_agents.agents.mpc import MPC
from wm_agents.agents.online import OnlineConfig
from wm_agents.agents.policy import WorldModelPolicy
from wm_agents.registry import AGENTS

CEMMPC = MPC.using("cem")
DiffusionGuidanceMPC = MPC.using("diffusion-guidance")
DiffusionMPC = MPC.using("diffusion")
GradientMPC = MPC.using("gradient")
ICEMMPC = MPC.using("icem")
MPPIMPC = MPC.using("mppi")
PredictiveSamplingMPC = MPC.using("predictive-sampling")
RandomShootingMPC = MPC.using("random-shooting")
SGLDMPC = MPC.using("sgld")

__all__ = [
    "AGENTS",
    "CEMMPC",
    "GCIDM",
    "HIQL",
    "ICEMMPC",
    "MPC",
    "MPPIMPC",
    "SGLDMPC",
    "DiffusionGuidanceMPC",
    "DiffusionMPC",
    "GradientMPC",
    "HierarchicalMPC",
    "Memory",
    "OnlineConfig",
    "PredictiveSamplingMPC",
    "RandomShootingMPC",
    "WorldModelAgent",
    "WorldModelPolicy",
    "agent_class",
    "list_checkpoints",
    "load",
]
