"""Checks that parts belong together: heads and world models, environments and agents."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, is_vecenv_wrapped, unwrap_vec_normalize

from wm_agents.agents.policy import KEYS
from wm_agents.configs import bare_id
from wm_agents.models import Head, WorldModel
from wm_agents.models.modes import ordinary
from wm_agents.registry import HEADS, did_you_mean

OTHER_NAMES = {"inverse_dynamics": "gc-idm"}
"""Keywords by which heads were given to constructors in version 0.1, where they are not the head's name."""


class AnotherTaskWarning(UserWarning):
    """An agent acts in an environment that it was not trained for."""


def collect_heads(
    heads: Mapping[str, Head | None] | Iterable[Head | None] | None, options: Mapping[str, Any]
) -> tuple[dict[str, Head], dict[str, Any]]:
    """Return all heads by name, including those given as keywords among the options, and the remaining options.

    None instead of a head means that it is not given, as with any optional argument.

    Raises:
        ValueError: A head is not a :class:`Head`, or is given by the name of another head.
    """
    if isinstance(heads, Head):
        heads = [heads]
    pairs = list(heads.items()) if isinstance(heads, Mapping) else [("", head) for head in heads or ()]
    rest = {}
    for option, value in options.items():
        if isinstance(value, Head) or (value is None and _head_meant(option) in HEADS):
            pairs.append((option, value))
        else:
            rest[option] = value
    found = {}
    for given, head in pairs:
        if head is None:
            continue
        if not isinstance(head, Head):
            raise ValueError(f"heads must be networks such as wm_agents.train_head makes, not {type(head).__name__}.")
        if not getattr(head, "name", ""):
            raise ValueError(f"{type(head).__name__} has no name: set its class attribute to the one in HEADS.")
        if given and _head_meant(given) != head.name:
            raise ValueError(f"{given} was given the head {head.name!r}: pass it in heads=[...], or by its own name.")
        found[head.name] = ordinary(head)
    return found, rest


def _head_meant(option: str) -> str:
    """The name of the head that a keyword or a key stands for."""
    return option if option in HEADS else OTHER_NAMES.get(option, option.replace("_", "-"))


def check_head(head: Head, world_model: WorldModel) -> None:
    """Raise ``ValueError`` unless a head was made on this world model."""
    head.check(world_model)
    spec = world_model.spec
    for name in ("action_size", "action_block", "block_size"):
        size = getattr(head.config, name, getattr(spec, name))
        if size != getattr(spec, name):
            raise ValueError(
                f"the {head.name} head was made on another world model, with {name}={size} and not "
                f"{getattr(spec, name)}: make one on this world model."
            )


def head_named(heads: Mapping[str, Head], name: str, option: str) -> Head:
    """Return one of the heads; see :meth:`wm_agents.agents.base.WorldModelAgent.head`."""
    if name not in heads:
        raise ValueError(
            f"{option} needs the head {name!r}: make one (wm_agents.train_head({name!r}, world_model, dataset)) and "
            "pass it in heads=[...], or load an agent that has one."
        )
    return heads[name]


def check_seed(seed: Any) -> int | None:
    """Return a seed as an int, or None as it is.

    Raises:
        ValueError: It is neither None nor a whole number in 0..2**32 - 1, which is what NumPy takes.
    """
    if seed is None:
        return None
    whole = isinstance(seed, numbers.Integral) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be None or a whole number from 0 to 2**32 - 1, not {seed!r}.")
    return int(seed)


def made(env: Any, verbose: int) -> Any:
    """Make an environment of its id, as SB3 does; anything else stays what it is.

    Raises:
        ValueError: It cannot be made.
    """
    try:
        return maybe_make_env(env, verbose)
    except gym.error.Error as error:
        raise ValueError(f"env={env!r} cannot be made: {' '.join(str(error).split())}") from error


def check_device(device: Any) -> None:
    """Raise ``ValueError`` unless torch knows a device by that name; as in SB3, the CPU stands in for a missing GPU."""
    try:
        if device != "auto":
            torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(did_you_mean("device", str(device), ("auto", "cpu", "cuda"))) from None


def warn_of_another_task(env: VecEnv, env_id: str, stacklevel: int) -> None:
    """Warn when an environment has another id than the one that an agent was trained for."""
    warn_of_ids({env_id}, ids_of(env), stacklevel + 1)


def ids_of(env: VecEnv) -> set[str]:
    """Return the ids of the environments in a VecEnv, as far as they are known."""
    try:
        return {spec.id for spec in env.get_attr("spec") if spec is not None}
    except (AttributeError, NotImplementedError, OSError, EOFError):  # a VecEnv of one's own, or one that is closed
        return set()


def warn_of_ids(trained: set[str], found: set[str], stacklevel: int) -> None:
    """Warn when none of the ids that an agent was trained for is among those in which it acts."""
    known = {bare_id(env_id) for env_id in trained if env_id}
    if known and found and not known & found:
        warnings.warn(
            f"the agent was trained for {', '.join(sorted(known))} and now acts in {', '.join(sorted(found))}: "
            "observations and actions have the same shapes, but they mean something else.",
            AnotherTaskWarning,
            stacklevel=stacklevel,
        )


def action_space_of(world_model: WorldModel) -> spaces.Space:
    """The action space of the environments that a world model was trained on: a Box, Discrete or MultiDiscrete."""
    choices = world_model.spec.choices
    if choices:
        return spaces.Discrete(choices[0]) if len(choices) == 1 else spaces.MultiDiscrete(list(choices))
    low, high = world_model.action_low.cpu().numpy(), world_model.action_high.cpu().numpy()
    return spaces.Box(low, high, dtype=np.float32)


def check_env_fits(env: VecEnv, world_model: WorldModel) -> None:
    """Raise ``ValueError`` unless the environment has the images and actions that the world model was trained on."""
    trained, action_space, observation_space = action_space_of(world_model), env.action_space, env.observation_space
    continuous = isinstance(trained, spaces.Box) and isinstance(action_space, spaces.Box)
    if action_space.shape != trained.shape or (not continuous and action_space != trained):
        was = f"actions of shape {trained.shape}" if isinstance(trained, spaces.Box) else f"{trained}"
        raise ValueError(
            f"the environment's action space is {action_space}, the checkpoint was trained with {was}: pass the "
            "environment that it was trained on."
        )
    if isinstance(trained, spaces.Box) and isinstance(action_space, spaces.Box):
        low, high = trained.low, trained.high
        if not (np.allclose(action_space.low, low) and np.allclose(action_space.high, high)):
            raise ValueError(
                f"the environment's action bounds are {action_space.low}..{action_space.high}, the checkpoint was "
                f"trained with {low}..{high}: pass the environment that it was trained on."
            )
    keys = list(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else []
    if any(key not in keys for key in KEYS):
        raise ValueError(
            f"the environment's observations are {keys or observation_space}, the agent needs {list(KEYS)}: "
            'make it with obs_type="pixels" or "pixels_state".'
        )
    size = world_model.spec.image_size
    assert isinstance(observation_space, spaces.Dict)
    check_images_untouched(env)
    shape = observation_space["pixels"].shape
    if shape not in ((size, size, 3), (3, size, size)):
        raise ValueError(
            f"the environment's images are {shape}, the agent was trained on size {size}: "
            f"make it with image_size={size}."
        )


def check_images_untouched(env: VecEnv) -> None:
    """Raise ``ValueError`` where a wrapper of SB3's changes images in a way that has no meaning for these agents."""
    if is_vecenv_wrapped(env, VecFrameStack):
        raise ValueError(
            "VecFrameStack has no meaning here: these agents see one frame at a time and remember the last ones "
            "themselves, and a goal is a single image. Leave the wrapper out."
        )
    normalize = unwrap_vec_normalize(env)
    if normalize is not None and normalize.norm_obs and set(normalize.norm_obs_keys or KEYS) & set(KEYS):
        raise ValueError(
            "VecNormalize has no meaning for images: the encoder scales them itself, and takes uint8. Leave the "
            "wrapper out, or pass norm_obs=False to keep its rewards."
        )
