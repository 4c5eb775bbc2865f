"""Pytest plugin: each agent, cheap to run, environments for it as SB3 has them, and what it could see there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.monitor import Monitor

from wm_agents import GCIDM, MPC, HierarchicalMPC
from wm_agents.agents import WorldModelAgent
from wm_agents.models import Denoiser, DenoiserConfig, TemporalDistance, TemporalDistanceConfig
from wm_agents.training import GraphConfig, fit_graph

UMAZE = "wm/PointMaze-UMaze-v0"
CHEAP: dict[str, Any] = {"samples": 24, "elites": 6, "iterations": 2, "horizon": 3}
Make = Callable[..., WorldModelAgent]
KINDS: dict[str, tuple[type[WorldModelAgent], dict[str, Any]]] = {
    "cem": (MPC.using("cem"), CHEAP),
    "gradient": (MPC, {"planner": "gradient", "steps": 2, "horizon": 3, "objective": "temporal-distance"}),
    "gc-idm": (GCIDM, {}),
    "hierarchical": (HierarchicalMPC, {"low": "cem", "low_options": CHEAP, "lookahead": 60}),
}


def make_env(steps: int = 12, **options: Any) -> Callable[[], gym.Env]:
    # With the module's name in the id, a spawned process registers the tasks by itself.
    return lambda: Monitor(gym.make(f"wm_agents:{UMAZE}", max_episode_steps=steps, **options))


@pytest.fixture(scope="session")
def heads(trained: Any, small_dataset: Any) -> dict[str, Any]:
    """Heads of the session's world model; the distance and the denoiser are untrained."""
    torch.manual_seed(0)
    distance = TemporalDistance(TemporalDistanceConfig(width=16, embedding_size=8)).eval()
    denoiser = Denoiser(DenoiserConfig(horizon=3, width=32, depth=1)).eval()
    for head in (distance, denoiser):
        head.stamp(trained.world_model)
    graph = fit_graph(trained.world_model, small_dataset, GraphConfig(nodes=40, support=1), progress=False)
    return {head.name: head for head in (trained.agent.inverse_dynamics, distance, denoiser, graph)}


@pytest.fixture(params=sorted(KINDS))
def make(request: pytest.FixtureRequest, trained: Any, heads: Any) -> Make:
    """Factory of each agent, cheap to run, on the session's world model."""
    kind, cheap = KINDS[request.param]

    def build(env: Any = None, **options: Any) -> WorldModelAgent:
        return kind(trained.world_model, env, **{"heads": heads, "device": "cpu", **cheap, **options})

    return build


@pytest.fixture(scope="session")
def frames() -> list[dict[str, np.ndarray]]:
    """13 consecutive observations of 3 environments, batched, under fixed random actions."""
    envs = [gym.make(UMAZE) for _ in range(3)]
    rng = np.random.default_rng(0)
    now = [env.reset(seed=10 + row)[0] for row, env in enumerate(envs)]
    recorded = []
    for _ in range(13):
        recorded.append({key: np.stack([obs[key] for obs in now]) for key in now[0]})
        now = [env.step(rng.uniform(-1, 1, 2).astype(np.float32))[0] for env in envs]
    for env in envs:
        env.close()
    return recorded
