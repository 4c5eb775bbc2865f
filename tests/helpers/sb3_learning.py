"""Agents that learn online in an instant."""

from __future__ import annotations

from typing import Any

from dot_goals import DotGoals
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from wm_agents import GCIDM, MPC, OnlineConfig
from wm_agents.agents import WorldModelAgent
from wm_agents.models import InverseDynamicsConfig, LeWMConfig, StepsToGoalConfig, TemporalDistanceConfig
from wm_agents.training import (
    InverseDynamicsTrainingConfig,
    StepsToGoalTrainingConfig,
    TemporalDistanceTrainingConfig,
    TrainingConfig,
)

SHAPE = LeWMConfig(latent_size=8, predictor_width=16, action_block=2)
HEADS: dict[str, Any] = {
    "gc-idm": InverseDynamicsConfig(width=16, lag=1),
    "steps-to-goal": StepsToGoalConfig(width=8, bins=4),
    "temporal-distance": TemporalDistanceConfig(width=8, embedding_size=4),
}
FAST = OnlineConfig(
    learning_starts=60,
    train_freq=50,
    head_updates=0.2,
    growth=0,
    least_updates=5,
    buffer_size=400,
    training={
        "world-model": TrainingConfig(batch_size=8, frames=3),
        "gc-idm": InverseDynamicsTrainingConfig(batch_size=8),
        "steps-to-goal": StepsToGoalTrainingConfig(batch_size=8),
        "temporal-distance": TemporalDistanceTrainingConfig(batch_size=8),
    },
)
SEARCH: dict[str, Any] = {"horizon": 2, "samples": 8, "elites": 2, "iterations": 1}
KINDS: dict[str, tuple[type[WorldModelAgent], dict[str, Any]]] = {
    "gc-idm": (GCIDM, {}),
    "estimated": (GCIDM, {"horizon": "estimated"}),
    "cem": (MPC, SEARCH),
    "learned": (MPC, {**SEARCH, "objective": "temporal-distance", "proposals": "gc-idm"}),
    "gradient": (MPC, {"planner": "gradient", "horizon": 2, "steps": 2}),
}
"""Name -> class and options."""


def vec(actions: str = "box", n: int = 1, **options: Any) -> VecEnv:
    """``n`` environments."""
    return DummyVecEnv([lambda: Monitor(DotGoals(actions, **options))] * n)


def make_agent(name: str, env: Any, heads: dict[str, Any] | None = None, **options: Any) -> WorldModelAgent:
    """An untrained agent of ``KINDS`` that learns with ``FAST``; ``heads`` are made besides those that it needs."""
    kind, own = KINDS[name]
    needed = kind.needed_heads(kind.read_options(dict(own)))
    shapes = {head: (heads or {}).get(head) or HEADS[head] for head in {*needed, *(heads or {})}}
    agent = kind(SHAPE, env, heads=shapes, device="cpu", **{"seed": 0, **own, **options})
    agent.online = FAST
    return agent
