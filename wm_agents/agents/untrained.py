"""Agents from nothing: a world model for an environment and the heads that an agent needs, with random weights."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from wm_agents.agents.fitting import check_images_untouched
from wm_agents.agents.policy import KEYS
from wm_agents.models import ActionStatistics, Head, WorldModel
from wm_agents.registry import HEADS
from wm_agents.training.learner import sized
from wm_agents.training.world_model import kind_of

if TYPE_CHECKING:
    from wm_agents.agents.base import WorldModelAgent


def untrained_world_model(model: Any, env: VecEnv) -> WorldModel:
    """Make a world model for an environment's images and actions, with the weights that its constructor draws.

    Its statistics of actions are those of uniform ones; ``learn`` replaces them by those of its first data.

    Args:
        model: A kind's name or a configuration, as for :func:`wm_agents.train_world_model`.
        env: Gives square images under "pixels" and "goal_pixels".

    Raises:
        ValueError: An unknown kind, or an environment without such images or with actions that no agent takes.
    """
    kind: Any
    kind, config = kind_of(model)
    if not kind.losses:
        raise ValueError(f"{kind.__name__} cannot be trained: choose another kind of world model.")
    space, actions = env.observation_space, env.action_space
    keys = list(space.spaces) if isinstance(space, spaces.Dict) else []
    if any(key not in keys for key in KEYS):
        raise ValueError(
            f"the environment's observations are {keys or space}, the agent needs {list(KEYS)}: make it with "
            'obs_type="pixels", or wrap it with wm_agents.wrap.'
        )
    check_images_untouched(env)
    choices: tuple[int, ...] = ()
    if isinstance(actions, spaces.Box) and len(actions.shape) == 1 and actions.is_bounded():
        low, high = actions.low, actions.high
    elif isinstance(actions, spaces.Discrete | spaces.MultiDiscrete):
        choices = (int(actions.n),) if isinstance(actions, spaces.Discrete) else tuple(actions.nvec.tolist())
        low, high = np.zeros(sum(choices), np.float32), np.ones(sum(choices), np.float32)
    else:
        raise ValueError(f"the environment's actions are {actions}: wrap it with wm_agents.wrap(env, bounds=...).")
    assert isinstance(space, spaces.Dict)
    sizes: dict[str, Any] = {"image_size": max(space["pixels"].shape or (0,)), "action_size": len(low)}
    statistics = ActionStatistics(low, high, (low + high) / 2, (high - low) / np.sqrt(12))
    if choices:
        sizes["choices"] = choices
        statistics = ActionStatistics(low, high, np.zeros_like(low), np.ones_like(low))
    return kind(dataclasses.replace(config, **sizes), statistics).eval()


def untrained_heads(names: Iterable[str], world_model: WorldModel, shapes: Mapping[str, Any]) -> dict[str, Head]:
    """Make heads with random weights for a world model; ``shapes`` are their configurations, where they are given."""
    made = {}
    for name in names:
        kind = HEADS.get(name)
        made[name] = kind(sized(shapes.get(name) or kind.Config(), world_model)).eval()
        made[name].stamp(world_model)
    return made


def from_nothing(
    model: Any, env: VecEnv, needed: Iterable[str], shapes: Mapping[str, Any], seed: int
) -> tuple[WorldModel, dict[str, Head]]:
    """Make an untrained world model for an environment, and its heads; torch's own random numbers stay as they are.

    Args:
        model: A kind's name or a configuration.
        env: The environment.
        needed: Names of the heads that the agent needs.
        shapes: Configurations of heads by name; those that are not needed are made as well.
        seed: Of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = untrained_world_model(model, env)
        return made, untrained_heads(sorted({*needed, *shapes}), made, shapes)


def heads_to_learn(agent: WorldModelAgent) -> dict[str, Head]:
    """The heads with which an agent acts and explores, those that it still needs among them.

    The others are dropped with a warning: they read latents of an encoder that is about to change.
    """
    used = {id(network) for network in agent.policy.controller.modules()}
    needed = [*agent.needed_heads(agent.settings), *(["disagreement"] if agent.online.curious_episodes else [])]
    heads = {name: head for name, head in agent.heads.items() if id(head) in used or name in needed}
    dropped = sorted(agent.heads.keys() - heads.keys())
    if dropped:
        warnings.warn(
            f"learn() changes the encoder, so the heads that {type(agent).__name__} does not act with are dropped: "
            f"{', '.join(dropped)}. Train them again on the new world model (wm_agents.train_head).",
            UserWarning,
            stacklevel=7,
        )
    return heads | untrained_heads([name for name in needed if name not in heads], agent.world_model, {})
