"""Pairs of a start and a goal that nobody trained on: two states of a held-out episode, or two random ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from wm_agents.datasets.episodes import episode_seed, rollout_states

DECIMALS = 6
"""States are rounded to this many decimals, so that files, hashes and what is played agree."""

DRAWS_PER_TASK = 50
"""Average number of candidates tried for each task before giving up on an offset that hardly leaves the goal."""

TOO_SHORT = 300
"""Episodes in a row that end too early for an offset, after which no more are tried."""

REACH = 200
"""Starts in wrapped environments, which are led to them step by step, lie at most so far into an episode."""

Pair = tuple[np.ndarray, np.ndarray, "tuple[int, int] | None"]
"""Start state, goal state, and (episode, step) where they come from an episode."""


def random_pairs(env: gym.Env, seed: int) -> Iterator[Pair]:
    """Yield pairs of random free states."""
    sample_state: Any = env.unwrapped.sample_state  # type: ignore[attr-defined]
    rng = np.random.default_rng(episode_seed("evaluate", seed, 0))
    while True:
        yield sample_state(rng), sample_state(rng), None


def episode_pairs(env: gym.Env, policy: str, offset: int, seed: int) -> Iterator[Pair]:
    """Yield one pair from each held-out episode, which is rolled out no further than its goal.

    Episodes that the policy ends before are left out.

    Args:
        env: A task; its registered step limit is the length of an episode.
        policy: Name in ``POLICIES``.
        offset: Environment steps from start to goal.
        seed: Of the episodes, which collection never uses.

    Raises:
        ValueError: The offset is longer than an episode, or than all that the policy makes.
    """
    known = gym.registry.get(env.spec.id) if env.spec is not None else None
    length = known.max_episode_steps if known is not None else None
    if length is not None and offset > length:
        raise ValueError(
            f"offset {offset} is longer than an episode of {known.id} ({length} steps): "  # type: ignore[union-attr]
            f"use an offset of at most {length}, or random starts and goals."
        )
    steps = np.random.default_rng(episode_seed("evaluate", seed, 0).spawn(1)[0])
    episode = short = 0
    while True:
        step = int(steps.integers((length or offset) - offset + 1))
        states, _ = rollout_states(env, policy, step + offset, episode_seed("evaluate", seed, episode))
        short = 0 if len(states) > step + offset else one_more(short, offset)
        if not short:
            yield states[step], states[step + offset], (episode, step)
        episode += 1


def one_more(short: int, offset: int) -> int:
    """Count one more episode, after ``short`` in a row, that ends too early for goals ``offset`` steps away.

    Raises:
        ValueError: It is the last one of :data:`TOO_SHORT`.
    """
    if short + 1 == TOO_SHORT:
        raise ValueError(
            f"{TOO_SHORT} episodes in a row end too early for goals {offset} steps away: use a smaller offset, or "
            "random goals."
        )
    return short + 1


def replayed_pairs(env: gym.Env, offset: int | None, seed: int) -> Iterator[Pair]:
    """Yield pairs of addresses, each in a held-out episode of its own; episodes that are too short are left out.

    Args:
        env: A wrapped environment, led to states by the rollouts of its exploration policy.
        offset: Environment steps from start to goal. With None the start is that of the episode, and the goal a random
            moment up to ``goal_steps`` later, or the environment's own.
        seed: Of the episodes, which collection never uses.

    Raises:
        ValueError: The environment draws its goals itself, or its episodes end before the offset.
    """
    task: Any = env.unwrapped
    short = 0
    draw = np.random.default_rng(episode_seed("evaluate", seed, 0).spawn(1)[0])
    limit = env.spec.max_episode_steps if env.spec is not None else None
    for episode in range(10**6):
        own = int(episode_seed("evaluate", seed, episode).generate_state(1)[0])
        if task.own_goals:
            if offset is not None:
                raise ValueError("the environment draws its goals itself: offset must be random.")
            step, ahead = 0, -1
        elif offset is None:
            step, ahead = 0, int(draw.integers(1, task.goal_steps, endpoint=True))
            ahead = min(ahead, task.rollout_length(own, ahead))
        else:
            room = max(min(limit or REACH, REACH) - offset, 0)
            step, ahead = int(draw.integers(room, endpoint=True)), offset
            short = one_more(short, offset) if task.rollout_length(own, step + ahead) < step + ahead else 0
            if short:
                continue
        yield np.array([own, step], np.float64), np.array([own, step + ahead], np.float64), (episode, step)


def unsolved(
    env: gym.Env, candidates: Iterator[Pair], tasks: int, offset: object
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take the first pairs that are not solved at the start in any mode, nor, if wrapped, later by doing nothing.

    Args:
        env: A task.
        candidates: Pairs without end.
        tasks: How many to take.
        offset: What to call their distance in the error message.

    Returns:
        Starts and goals, float64 ``[tasks, S]``, and sources, int64 ``[tasks, 2]``, or ``[0, 2]`` for random states.

    Raises:
        ValueError: Too few of them are unsolved.
    """
    task: Any = env.unwrapped
    # Environments of the library stay where they are; others may move by themselves.
    trivial = getattr(task, "idle_reaches", None) or (lambda start, goal: any(task.successes(start, goal).values()))
    kept: list[Pair] = []
    for tried, (start, goal, source) in enumerate(candidates, start=1):
        start, goal = np.round(start, DECIMALS), np.round(goal, DECIMALS)
        if not trivial(start, goal):
            kept.append((start, goal, source))
        if len(kept) == tasks:
            break
        if tried >= DRAWS_PER_TASK * tasks:
            raise ValueError(
                f"only {len(kept)} of {tried} pairs at offset {offset} are unsolved at the start, {tasks} are needed: "
                "use a larger offset, or random starts and goals."
            )
    sources = [source for _, _, source in kept if source is not None]
    return (
        np.stack([start for start, _, _ in kept]),
        np.stack([goal for _, goal, _ in kept]),
        np.array(sources, dtype=np.int64).reshape(-1, 2),
    )


def near_pair(task: Any, offset: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one task as the evaluation does: start and goal, float64 ``[S]``, in one episode of the task's own policy.

    Args:
        task: A ``GoalEnv``, whose state is lost.
        offset: Environment steps from start to goal.
        rng: Draws the episode.

    Raises:
        ValueError: The offset is longer than an episode, or hardly any start leaves its goal in so many steps.
    """
    pairs = episode_pairs(task, task.exploration_policy, offset, int(rng.integers(2**32)))
    starts, goals, _ = unsolved(task, pairs, 1, offset)
    return starts[0], goals[0]
