"""One exploration episode: its seed, how to run it, and the file that stores it until the dataset is assembled."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from wm_agents.configs import whole_number
from wm_agents.datasets.space import require_space
from wm_agents.envs.wrapping import open_task
from wm_agents.registry import POLICIES, did_you_mean

KINDS = ("collect", "evaluate")
TRIES = 20


@dataclass(frozen=True)
class Episode:
    """One episode of L actions.

    Attributes:
        actions: float32 ``[L, A]``, environment units; int64 ``[L]`` or ``[L, M]`` where they are discrete.
        states: float64 ``[L+1, S]``, simulator states.
        goal_states: float64 ``[L+1, S]``, the goal of the policy at each frame, or the environment's own goal if the
            policy has none. The last frame repeats the one before it.
        pixels: uint8 ``[L+1, H, W, C]``, or None where the environment shows no pixels.
    """

    actions: np.ndarray
    states: np.ndarray
    goal_states: np.ndarray
    pixels: np.ndarray | None


def episode_seed(kind: str, seed: int, episode: int) -> np.random.SeedSequence:
    """Return the seed of one episode; no two (kind, seed, episode) share a stream.

    Args:
        kind: ``"collect"`` for training data, ``"evaluate"`` for held-out episodes.
        seed: The run's seed, at least 0.
        episode: Index of the episode, at least 0.

    Raises:
        ValueError: Unknown kind, or a number that is negative or not whole.
    """
    if kind not in KINDS:
        raise ValueError(did_you_mean("kind of episode", kind, KINDS))
    seed, episode = whole_number("seed", seed), whole_number("episode", episode)
    if seed < 0 or episode < 0:
        raise ValueError(f"Seeds and episodes count from 0; got seed={seed}, episode={episode}.")
    return np.random.SeedSequence(seed, spawn_key=(KINDS.index(kind), episode))


def open_env(env_id: str, image_size: int) -> gym.Env:
    """Open a task with pixels by its Gymnasium id; other environments are wrapped (:func:`wm_agents.wrap`).

    Raises:
        ValueError: No such environment is registered, or it cannot be wrapped.
    """
    return open_task(env_id, image_size=image_size)


def rollout(
    env: gym.Env, policy: str | Callable[..., Any], steps: int, seed_sequence: np.random.SeedSequence
) -> Episode:
    """Run one exploration episode of ``steps`` actions.

    The start is a random free state. Goals and time limits do not end the episode: the unwrapped task is stepped. A
    policy that is ``finished`` does, and a wrapped environment, which starts from the seed, may end it, too; an episode
    of fewer than 2 actions is tried again.

    Args:
        env: A ``wm/...`` task, of any ``obs_type``, or a wrapped environment; pixels are kept where it shows them.
        policy: Name in ``POLICIES``, or what is called as they are.
        steps: Number of actions at most, at least 1.
        seed_sequence: All randomness comes from it: the same sequence gives the same episode.

    Raises:
        ValueError: Unknown policy, bad number of steps, the simulation left finite numbers, or every episode ends at
            once.
    """
    steps = whole_number("steps", steps)
    if steps < 1:
        raise ValueError(f"An episode has at least 1 step, not {steps}.")
    for source in (seed_sequence, *seed_sequence.spawn(TRIES)):
        episode = _rollout(env.unwrapped, policy, steps, source)
        if len(episode.actions) >= min(steps, 2):
            return episode
    raise ValueError(f"The episodes of {env} end after one action, {TRIES} in a row: nothing can be learnt from them.")


def _rollout(task: Any, policy: str | Callable[..., Any], steps: int, seed_sequence: np.random.SeedSequence) -> Episode:
    rng = np.random.default_rng(seed_sequence)
    seed = int(seed_sequence.generate_state(1)[0])
    wrapped = hasattr(task, "explore")
    start = None if wrapped else task.sample_state(rng)
    behaviour = (POLICIES.get(policy) if isinstance(policy, str) else policy)(task, rng)
    observation, info = task.explore(seed) if wrapped else task.reset(seed=seed, options={"state": start})
    actions: list[np.ndarray] = []
    states, goal_states = [info["state"]], []
    pixels = [observation["pixels"]] if "pixels" in observation else []
    over = False
    while len(actions) < steps and not over:
        behaviour.pixels = observation.get("pixels")
        actions.append(np.asarray(behaviour.act(info["state"])))
        goal_states.append(behaviour.goal_state if behaviour.goal_state is not None else info["goal_state"])
        observation, _, terminated, truncated, info = task.step(actions[-1])
        over = getattr(behaviour, "finished", False) or (wrapped and (terminated or truncated))
        states.append(info["state"])
        if pixels:
            pixels.append(observation["pixels"])
    path = np.array(states, dtype=np.float64)
    if not np.isfinite(path).all():
        raise ValueError(f"The simulation of {task} became non-finite in an exploration episode.")
    goals = np.array([*goal_states, goal_states[-1]], dtype=np.float64)
    return Episode(np.stack(actions), path, goals, np.stack(pixels) if pixels else None)


def rollout_states(
    env: gym.Env, policy: str, steps: int, seed_sequence: np.random.SeedSequence
) -> tuple[np.ndarray, np.ndarray]:
    """Run one exploration episode and keep states and actions only.

    With ``obs_type="state"`` nothing is rendered; the states are the same as with pixels.

    Args:
        env: A ``wm/...`` task.
        policy: Name in ``POLICIES``.
        steps: Number of actions L.
        seed_sequence: See ``episode_seed``.

    Returns:
        States float64 ``[L+1, S]`` and actions float32 ``[L, A]``.
    """
    episode = rollout(env, policy, steps, seed_sequence)
    return episode.states, episode.actions


def episode_path(folder: Path, index: int) -> Path:
    """Return the file of finished episode ``index``."""
    return folder / f"episode_{index:06d}.npz"


def save_episode(folder: Path, index: int, episode: Episode) -> None:
    """Write a finished episode, so that its file is either complete or absent.

    Raises:
        OSError: The disk is full.
    """
    assert episode.pixels is not None, "only episodes with pixels are kept"
    require_space(folder, episode.pixels.nbytes)
    path = episode_path(folder, index)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            np.savez(
                file,
                actions=episode.actions,
                states=episode.states,
                goal_states=episode.goal_states,
                pixels=episode.pixels,
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_episode(folder: Path, index: int) -> Episode:
    """Read a finished episode."""
    with np.load(episode_path(folder, index), allow_pickle=False) as file:
        return Episode(file["actions"], file["states"], file["goal_states"], file["pixels"])


def is_recorded(folder: Path, index: int) -> bool:
    """Tell whether the file of episode ``index`` is complete: the directory at the end of the archive is readable."""
    return zipfile.is_zipfile(episode_path(folder, index))


def record_episode(env: gym.Env, policy: str, steps: int, seed: int, folder: Path, index: int) -> None:
    """Run collection episode ``index`` and write its file."""
    save_episode(folder, index, rollout(env, policy, steps, episode_seed("collect", seed, index)))
