"""Pytest plugin: each agent, cheap to run, environments for it as SB3 has them, and what it could see there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor

from wm_agents import CEMMPC, GCIDM
from wm_agents.agents import WorldModelAgent

UMAZE = "wm/PointMaze-UMaze-v0"
CHEAP: dict[str, Any] = {"samples": 24, "elites": 6, "iterations": 2, "horizon": 3, "device": "cpu"}
Make = Callable[..., WorldModelAgent]


def make_env(steps: int = 12, **options: Any) -> Callable[[], gym.Env]:
    # With the module's name in the id, a spawned process registers the tasks by itself.
    return lambda: Monitor(gym.make(f"wm_agents:{UMAZE}", max_episode_steps=steps, **options))


@pytest.fixture(params=["cem-mpc", "gc-idm"])
def make(request: pytest.FixtureRequest, trained: Any) -> Make:
    """Factory of each agent, cheap to run, on the session's world model."""

    def build(env: Any = None, **options: Any) -> WorldModelAgent:
        if request.param == "cem-mpc":
            return CEMMPC(trained.world_model, env, **{**CHEAP, **options})
        network = trained.agent.inverse_dynamics
        return GCIDM(trained.world_model, env, inverse_dynamics=network, **{"device": "cpu", **options})

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
