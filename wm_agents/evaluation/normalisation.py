"""Observations normalised as by Stable-Baselines3's ``VecNormalize`` during an agent's training."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from wm_agents.agents.base import WorldModelAgent
from wm_agents.evaluation.playing import Normalise, Observations

NOTE = "observations normalised with the statistics of the agent's VecNormalize"
MISSING = (
    "the agent seems to have been trained under VecNormalize, whose statistics are missing: it now sees raw "
    "observations. Load it with env=VecNormalize.load(...), or its file with vec_normalize= (--vec-normalize)."
)


def find_normalisation(agent: Any, space: spaces.Dict) -> tuple[Normalise, list[str]]:
    """Return the normalisation of an agent's observations, and notes about it.

    Warns if the agent's ``VecNormalize`` does not fit the environment, or seems to be missing.

    Args:
        agent: Stable-Baselines3's models know their environment after training and after ``load(..., env=...)``.
        space: Observations of the environment that it is evaluated on.
    """
    found = None if isinstance(agent, WorldModelAgent) else _vec_normalize(agent)
    if found is None:
        _warn_of_unknown_images(agent, space)
        if _seems_normalised(agent):
            warnings.warn(MISSING, stacklevel=3)
            return _unchanged, [MISSING]
        return _unchanged, []
    if not found.norm_obs:
        return _unchanged, []
    try:
        found.normalize_obs({key: np.zeros((1, *(box.shape or ())), box.dtype) for key, box in space.spaces.items()})
        fits = all(found.obs_rms[key].mean.shape == space[key].shape for key in found.norm_obs_keys or ())
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        warnings.warn(
            "the agent was trained with VecNormalize on other observations than the environment gives: they are not "
            "normalised.",
            stacklevel=3,
        )
        return _unchanged, ["observations not normalised: the agent's VecNormalize does not fit them"]

    def normalise(observations: Observations) -> Observations:
        return found.normalize_obs(observations)  # type: ignore[return-value]

    return normalise, [NOTE]


def _vec_normalize(agent: Any) -> VecNormalize | None:
    if hasattr(agent, "get_vec_normalize_env"):
        return agent.get_vec_normalize_env()
    env = getattr(agent, "env", None)
    return unwrap_vec_normalize(env) if isinstance(env, VecEnv) else None


def _seems_normalised(agent: Any) -> bool:
    """Tell from the last observations of the training whether they were normalised.

    Stable-Baselines3 keeps the last observation, and the one before normalisation. Without normalisation, on-policy
    algorithms have no second one. Off-policy algorithms then have that of the step before, which has the same goal
    unless an episode has just ended.
    """
    seen, raw = getattr(agent, "_last_obs", None), getattr(agent, "_last_original_obs", None)
    if raw is None or isinstance(agent, OnPolicyAlgorithm):
        return raw is not None
    goals: list[Any] = [part.get("desired_goal") if isinstance(part, dict) else None for part in (seen, raw)]
    return all(goal is not None for goal in goals) and not np.isclose(goals[0], goals[1]).all(axis=-1).any()


def _unchanged(observations: Observations) -> Observations:
    return observations


def _warn_of_unknown_images(agent: Any, space: spaces.Dict) -> None:
    """Warn that images which are not uint8 were normalised with unknown statistics."""
    trained = getattr(agent, "observation_space", None)
    if not isinstance(trained, spaces.Dict):
        return
    if any(space[key].dtype == np.uint8 != box.dtype for key, box in trained.spaces.items() if key in space.spaces):
        warnings.warn(
            "the agent was trained on normalised images, but its statistics are missing: load it with env=, wrapped "
            "in VecNormalize.load(...).",
            stacklevel=4,
        )
