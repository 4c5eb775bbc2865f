"""Whether parts belong together: heads and world models, environments and agents."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from wm_agents.agents.policy import KEYS
from wm_agents.models import Head, WorldModel
from wm_agents.registry import HEADS

OTHER_NAMES = {"inverse_dynamics": "gc-idm"}
"""Keywords by which heads were given to constructors in version 0.1, where they are not the head's name."""


class AnotherTaskWarning(UserWarning):
    """An agent acts in an environment that it was not trained for."""


def collect_heads(
    heads: Mapping[str, Head] | Iterable[Head] | None, options: Mapping[str, Any]
) -> tuple[dict[str, Head], dict[str, Any]]:
    """Return all heads by name, those given as keywords among the options too, and the options that are left.

    Raises:
        ValueError: What is given as a head is none.
    """
    given = list(heads.values() if isinstance(heads, Mapping) else heads or ())
    rest = {}
    for option, value in options.items():
        name = OTHER_NAMES.get(option, option.replace("_", "-"))
        if (isinstance(value, Head) or value is None) and name in HEADS:
            given += [] if value is None else [value]
        else:
            rest[option] = value
    for head in given:
        if not isinstance(head, Head):
            raise ValueError(f"heads must be networks such as wm_agents.train_head makes, not {type(head).__name__}.")
    return {head.name: head for head in given}, rest


def head_named(heads: Mapping[str, Head], name: str, option: str, world_model: WorldModel) -> Head:
    """Return one of the heads; see :meth:`wm_agents.agents.base.WorldModelAgent.head`."""
    if name not in heads:
        raise ValueError(
            f"{option} needs the head {name!r}: make one (wm_agents.train_head({name!r}, world_model, dataset)) and "
            "pass it in heads=[...], or load an agent that has one."
        )
    heads[name].check(world_model)
    return heads[name]


def warn_of_another_task(env: VecEnv, env_id: str) -> None:
    """Warn when an environment has another id than the one that an agent was trained for."""
    try:
        found = {spec.id for spec in env.get_attr("spec") if spec is not None}
    except AttributeError:  # an environment without a spec
        return
    trained = env_id.rpartition(":")[2]
    if trained and found and trained not in found:
        warnings.warn(
            f"the agent was trained for {trained} and now acts in {', '.join(sorted(found))}: images and actions have "
            "the same shapes, but they mean something else.",
            AnotherTaskWarning,
            stacklevel=3,
        )


def check_env_fits(env: VecEnv, world_model: WorldModel) -> None:
    """Raise ``ValueError`` unless the environment has the images and actions that the world model was trained on."""
    low, high = world_model.action_low.cpu().numpy(), world_model.action_high.cpu().numpy()
    action_space, observation_space = env.action_space, env.observation_space
    if not isinstance(action_space, spaces.Box) or action_space.shape != low.shape:
        raise ValueError(
            f"the environment's action space is {action_space}, the checkpoint was trained with actions of shape "
            f"{low.shape}: pass the environment that it was trained on."
        )
    if not (np.allclose(action_space.low, low) and np.allclose(action_space.high, high)):
        raise ValueError(
            f"the environment's action bounds are {action_space.low}..{action_space.high}, the checkpoint was trained "
            f"with {low}..{high}: pass the environment that it was trained on."
        )
    keys = list(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else []
    if any(key not in keys for key in KEYS):
        raise ValueError(
            f"the environment's observations are {keys or observation_space}, the agent needs {list(KEYS)}: "
            'make it with obs_type="pixels" or "pixels_state".'
        )
    size = world_model.spec.image_size
    assert isinstance(observation_space, spaces.Dict)
    shape = observation_space["pixels"].shape
    if shape not in ((size, size, 3), (3, size, size)):
        raise ValueError(
            f"the environment's images are {shape}, the agent was trained on size {size}: "
            f"make it with image_size={size}."
        )
