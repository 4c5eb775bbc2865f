"""Pytest plugin: every agent on one tiny world model with random weights, all of its heads, and images for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from wm_agents import GCIDM, MPC, HierarchicalMPC
from wm_agents.agents import HIQL, WorldModelAgent
from wm_agents.models import (
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
    TemporalDistance,
    TemporalDistanceConfig,
    WorldModel,
)

CEM: dict[str, Any] = {"samples": 8, "elites": 3, "iterations": 2}
SEARCH: dict[str, Any] = {"planner": "cem", "horizon": 3, **CEM}
AGENTS: dict[str, tuple[type[WorldModelAgent], dict[str, Any], tuple[str, ...]]] = {
    "gc-idm": (GCIDM, {}, ("gc-idm",)),
    "hiql": (HIQL, {}, ("hiql",)),
    "cem": (MPC, SEARCH, ()),
    "learned": (MPC, {**SEARCH, "objective": "temporal-distance"}, ("temporal-distance",)),
    "weighted": (MPC, {**SEARCH, "objective": {"temporal-distance": 1.0, "control": 0.1}}, ("temporal-distance",)),
    "proposals": (MPC, {**SEARCH, "proposals": "gc-idm"}, ("gc-idm",)),
    "denoiser": (MPC, {**SEARCH, "proposals": "diffusion"}, ("denoiser",)),
    "prior": (
        MPC,
        {"planner": "diffusion", "proposals": "diffusion", "horizon": 3, "samples": 4, "steps": 2, "guidance": 0.1},
        ("denoiser",),
    ),
    "latent": (MPC, {**SEARCH, "actions": "latent"}, ("latent-actions",)),
    "decoded": (MPC, {**SEARCH, "actions": "latent-decoded"}, ("latent-actions",)),
    "macro": (MPC, {**SEARCH, "actions": "macro"}, ("macro-actions",)),
    "gradient": (MPC, {"planner": "gradient", "horizon": 3, "steps": 2}, ()),
    "sgld": (MPC, {"planner": "sgld", "horizon": 3, "steps": 2}, ()),
    "guidance": (MPC, {"planner": "diffusion-guidance", "horizon": 3, "samples": 4, "steps": 2}, ()),
    "graph": (HierarchicalMPC, {"low": "gc-idm"}, ("graph", "gc-idm")),
    "graph+cem": (HierarchicalMPC, {"low": "cem", "low_options": {"horizon": 3, **CEM}}, ("graph",)),
    "graph+latent": (
        HierarchicalMPC,
        {"low": "cem", "low_options": {"horizon": 3, "actions": "latent", **CEM}},
        ("graph", "latent-actions"),
    ),
    "macro+gc-idm": (
        HierarchicalMPC,
        {"high": "cem", "high_options": CEM},
        ("macro-actions", "temporal-distance", "graph", "gc-idm"),
    ),
}
"""Name -> class, options, and the heads that it uses."""


def tiny_heads(world_model: WorldModel, seed: int = 0) -> dict[str, Head]:
    """Heads with random weights, made on this world model."""
    torch.manual_seed(seed)
    size = world_model.spec.feature_size
    block = {"action_size": 2, "action_block": 3}
    graph = LatentGraph(LatentGraphConfig(size, 5, 4, 0))
    graph.latents.copy_(torch.randn(5, size))
    graph.sources.copy_(torch.arange(4))
    graph.targets.copy_(torch.arange(1, 5))
    graph.steps.fill_(10.0)
    graph.steps_per_unit.fill_(5.0)
    graph.radius.fill_(10.0)
    macro = MacroActions(MacroActionsConfig(latent_size=size, block_size=6, macro_size=4, width=16, bank_size=8))
    macro.bank.copy_(torch.randn(8, 4))
    heads = [
        InverseDynamics(InverseDynamicsConfig(latent_size=size, width=16)),
        HIQLPolicy(HIQLConfig(latent_size=size, width=16)),
        TemporalDistance(TemporalDistanceConfig(latent_size=size, width=16, embedding_size=8)),
        Denoiser(DenoiserConfig(latent_size=size, block_size=6, horizon=3, width=16, depth=1)),
        LatentActions(LatentActionConfig(latent_size=size, size=4, width=16, **block)),
        macro,
        graph,
    ]
    for head in heads:
        head.stamp(world_model)
    return {head.name: head for head in heads}


@pytest.fixture(scope="session")
def tiny(world_model: Callable[..., WorldModel]) -> tuple[WorldModel, dict[str, Head]]:
    """A tiny world model, and all heads on it; not to be changed."""
    model = world_model()
    return model, tiny_heads(model)


@pytest.fixture
def build(tiny: Any) -> Callable[..., WorldModelAgent]:
    """Make an agent of ``AGENTS`` by name."""

    def make(name: str, *, heads: Any = None, world_model: Any = None, **options: Any) -> WorldModelAgent:
        kind, own, _ = AGENTS[name]
        heads = tiny[1] if heads is None else heads
        return kind(world_model or tiny[0], heads=heads, **{"device": "cpu", **own, **options})

    return make


def images(n: int = 2, seed: int = 0, goal: int = 99) -> dict[str, np.ndarray]:
    """Observations of noise."""
    rngs = {"pixels": np.random.default_rng(seed), "goal_pixels": np.random.default_rng(goal)}
    return {key: rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8) for key, rng in rngs.items()}


def act(agent: WorldModelAgent, steps: int = 5, n: int = 2) -> np.ndarray:
    """Actions ``[steps, n, A]`` on some observations."""
    state, actions = None, []
    for step in range(steps):
        action, state = agent.predict(images(n, step), state)
        actions.append(action)
    return np.stack(actions)
