"""Run an agent on a manifest: batched, timed, with both success modes from one run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.vec_env import VecEnv

from wm_agents.agents.assess import Assessment
from wm_agents.agents.fitting import ids_of, warn_of_ids
from wm_agents.configs import bare_id, check_flag
from wm_agents.envs import WrappedEnv
from wm_agents.evaluation.environments import open_env, whole_number
from wm_agents.evaluation.normalisation import find_normalisation
from wm_agents.evaluation.playing import Agent, Normalise, Slot, play
from wm_agents.evaluation.results import EvaluationResult, Outcomes, Timings
from wm_agents.evaluation.tasks import Manifest, check_manifest, described
from wm_agents.evaluation.video import Recording

PIXEL_KEYS, STATE_KEYS = {"pixels", "goal_pixels"}, {"observation", "achieved_goal", "desired_goal"}


def evaluate(
    agent: Agent,
    manifest: Manifest,
    *,
    num_envs: int = 16,
    seed: int | None = None,
    video: int | Sequence[int] | None = None,
    imagined: bool = False,
    progress: bool = True,
    name: str | None = None,
    known_floors: Mapping[str, Outcomes] | None = None,
) -> EvaluationResult:
    """Let ``agent`` try every task of ``manifest`` once.

    Environments run in this process and share each ``predict`` call; ``state`` is carried from call to call and
    ``episode_start`` marks the rows that begin a task. The first step at which each mode's test succeeded is recorded,
    so one run answers for both; a task ends when both have, or when the budget is used up. As many tasks as there are
    environments begin together, so that planners plan for all of them in one call: one that begins while others are
    under way would need calls of its own, at other steps. A task that ends leaves the batch, so timings and plans count
    working environments only; the batch stays full where nobody can tell which axis of the agent's state counts the
    environments. Observations are normalised if the agent has a ``VecNormalize`` (Stable-Baselines3) with statistics.
    An agent whose file is calibrated says beforehand how likely it is to solve each task.

    Args:
        agent: See :class:`Agent`; any model of Stable-Baselines3 is one, see :func:`load_sb3` for files of them.
            Actions are asked for with ``deterministic=True``.
        manifest: The tasks.
        num_envs: Environments that share a call, at least 1. Agents that draw no random numbers give the same
            outcomes for any number; use ``num_envs=1`` to time a single environment.
        seed: Passed to the agent's ``set_random_seed`` where it has one (Stable-Baselines3's seeds Python, NumPy
            and torch too, and keeps it), and seeds the random floor. None leaves the agent its own; the floor has
            that one too, or 0.
        video: Tasks to record: a number of first tasks, or their indices.
        imagined: Record what the agent expects of its plan, too. It must be one that searches, such as CEM, and have
            the head "viewer".
        progress: Show a progress bar.
        name: Name of the agent in the result; its class name by default.
        known_floors: Earlier result of :func:`floors` for this manifest and seed; measured now by default.

    Raises:
        ValueError: The agent's spaces do not fit the environment, an action has the wrong shape or is not finite,
            a task to record is not in the manifest, or the agent has no plan or no viewer to draw it.
    """
    if not callable(getattr(agent, "predict", None)) or isinstance(agent, type):
        raise ValueError(
            f"the agent must be an object with predict(), not {described(agent)}: open files with wm_agents.load, "
            "those of Stable-Baselines3 with evaluation.load_sb3(path, trust=True)."
        )
    check_manifest(manifest)
    num_envs, progress = whole_number("num_envs", num_envs, 1), check_flag("progress", progress)
    warn_of_ids(_trained_for(agent), {bare_id(manifest.env_id)}, stacklevel=3)
    seed = None if seed is None else whole_number("seed", seed, 0)
    recorded = _recorded(video, len(manifest))
    if imagined:
        _check_imagining(agent, recorded)
    used = seed if seed is not None else getattr(agent, "seed", None) or 0
    slots = [Slot(env, imagined) for env in _make_envs(agent, manifest, min(num_envs, len(manifest)))]
    try:
        _check_action_space(agent, slots[0].env, manifest.env_id)
        if seed is not None and hasattr(agent, "set_random_seed"):
            agent.set_random_seed(seed)
        normalise, notes = find_normalisation(agent, slots[0].env.observation_space)  # type: ignore[arg-type]
        task: Any = slots[0].env.unwrapped
        if isinstance(task, WrappedEnv):
            notes.append(f"success: {task.test.description}")
        outcomes, timings, paths, actions, recordings, assessed = _run(
            agent, manifest, slots, recorded, normalise, progress
        )
    finally:
        for slot in slots:
            slot.env.close()
    return EvaluationResult(
        agent=name or type(agent).__name__,
        manifest=manifest,
        outcomes=outcomes,
        floors=floors(manifest, used) if known_floors is None else known_floors,
        timings=timings,
        seed=used,
        num_envs=len(slots),
        threads=torch.get_num_threads(),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        provenance=getattr(agent, "provenance", None) or {},
        notes=notes,
        paths=paths,
        actions=actions,
        recordings=[recordings[task] for task in recorded],
        assessments=assessed,
    )


def floors(manifest: Manifest, seed: int = 0) -> Mapping[str, Outcomes]:
    """Return what uniformly random actions and zero actions (of discrete ones, action 0) reach on the same tasks.

    Keys ``"random"`` and ``"noop"``. No frame is rendered, and the last few results are kept, so evaluating several
    agents on one manifest measures its floors once. Each task's random actions depend on ``seed`` and its index only.
    """
    check_manifest(manifest)
    return dict(_floors(manifest, whole_number("seed", seed, 0)))


@lru_cache(maxsize=8)
def _floors(manifest: Manifest, seed: int) -> Mapping[str, Outcomes]:
    env = _make_env(manifest, obs_type="state")
    found = {name: np.zeros((2, len(manifest)), np.int64) for name in ("random", "noop")}
    try:
        for task, (start, goal) in enumerate(zip(manifest.starts, manifest.goals, strict=True)):
            random, noop = _aimless(env.action_space, manifest.budget, np.random.default_rng([seed, task]))
            for (moderate, strict), actions in zip(found.values(), (random, noop), strict=True):
                env.reset(seed=task, options={"state": start.copy(), "goal_state": goal.copy()})
                for step, action in enumerate(actions, start=1):
                    _, _, terminated, truncated, info = env.step(action)
                    moderate[task] = moderate[task] or step * info["success_moderate"]
                    strict[task] = strict[task] or step * info["success_strict"]
                    over = (terminated or truncated) and not info["is_success"]
                    if over or (moderate[task] and strict[task]):
                        break
    finally:
        env.close()
    return {name: Outcomes(*steps) for name, steps in found.items()}


def _aimless(space: Any, steps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random actions and zeros, ``[steps, *shape]``."""
    shape = (steps, *space.shape)
    noop = np.zeros(shape, space.dtype)
    if isinstance(space, gym.spaces.Box):
        return rng.uniform(space.low, space.high, shape).astype(space.dtype), noop
    choices: Any = space.nvec if isinstance(space, gym.spaces.MultiDiscrete) else space.n
    return rng.integers(choices, size=shape), noop


def _run(
    agent: Agent, manifest: Manifest, slots: list[Slot], recorded: Sequence[int], normalise: Normalise, progress: bool
) -> tuple[Outcomes, Timings, list[np.ndarray], list[np.ndarray], dict[int, Recording], list[Assessment]]:
    n = len(manifest)
    outcomes, timings = Outcomes(np.zeros(n, np.int64), np.zeros(n, np.int64)), Timings()
    paths, executed = [np.empty(0)] * n, [np.empty(0)] * n
    recordings: dict[int, Recording] = {}
    assessed: list[Assessment] = []
    with _progress_bar(progress) as bar:
        shown = bar.add_task("evaluating", total=n, solved=0)
        for tasks in np.array_split(np.arange(n), -(-n // len(slots))):
            for slot, task in zip(slots, tasks.tolist(), strict=False):
                slot.begin(manifest, task, task in recorded)
            assessed += _assess(agent, manifest.budget, slots[: len(tasks)])
            for slot in play(agent, manifest.budget, slots[: len(tasks)], outcomes, timings, normalise):
                task = slot.task
                paths[task], executed[task] = np.stack(slot.path), np.stack(slot.actions)
                if slot.recording is not None:
                    slot.recording.success_step = int(outcomes.moderate[task]) or None
                    recordings[task] = slot.recording
                bar.update(shown, advance=1, solved=int((outcomes.moderate > 0).sum()))
    return outcomes, timings, paths, executed, recordings, assessed


def _assess(agent: Any, budget: int, slots: Sequence[Slot]) -> list[Assessment]:
    """What the agent expects of the tasks that have begun, if its file is calibrated; captions for those recorded."""
    if "assessment" not in getattr(agent, "heads", {}):
        return []
    seen = {key: np.stack([slot.observation[key] for slot in slots]) for key in PIXEL_KEYS}
    found = agent.assess(seen, budget)
    for slot, one in zip(slots, found, strict=True):
        if slot.recording is not None:
            slot.recording.caption = str(one)
    return found


def _make_env(manifest: Manifest, **options: Any) -> gym.Env:
    env = open_env(manifest.env_id, success="strict", max_episode_steps=manifest.budget, **options)
    if isinstance(env.unwrapped, WrappedEnv):
        env.unwrapped.policy = manifest.policy  # it leads to starts and goals
    return env


def _make_envs(agent: Agent, manifest: Manifest, count: int) -> list[gym.Env]:
    """Open environments with the observations that the agent's observation space asks for (pixels by default)."""
    space = getattr(agent, "observation_space", None)
    keys = set(space.spaces) if isinstance(space, gym.spaces.Dict) else PIXEL_KEYS if space is None else set()
    kinds = {"pixels": PIXEL_KEYS, "state": STATE_KEYS, "pixels_state": PIXEL_KEYS | STATE_KEYS}
    for obs_type, expected in kinds.items():
        if keys == expected:
            options: dict[str, Any] = {"obs_type": obs_type}
            if space is not None and "pixels" in keys:
                # Square images: the middle side is their size in HWC and, after VecTransposeImage, in CHW.
                options["image_size"] = space["pixels"].shape[1]
            envs = [_make_env(manifest, **options) for _ in range(count)]
            if envs[0].observation_space.keys() >= keys:  # type: ignore[attr-defined]
                if space is not None:
                    _check_shapes(space, envs[0].observation_space, manifest.env_id)
                return envs
    raise ValueError(
        f"the agent's observations are {sorted(keys) or space}, which no obs_type of {manifest.env_id} gives: it must "
        'have been made for obs_type "pixels", "state" or "pixels_state".'
    )


def _check_shapes(space: Any, given: Any, env_id: str) -> None:
    """Raise ``ValueError`` unless an agent sees the environment's shapes; images may have their channels first."""
    for key, box in space.spaces.items():
        if sorted(box.shape) != sorted(given[key].shape):
            raise ValueError(
                f"the agent was trained on {key!r} of shape {box.shape}, {env_id} gives {given[key].shape}: evaluate "
                "it on the task it was trained on, and without stacked frames."
            )


def _trained_for(agent: Any) -> set[str]:
    """Ids of the environments that an agent was trained in, as far as it knows; Stable-Baselines3's has them in env."""
    env = getattr(agent, "env", None)
    return {env_id} if (env_id := getattr(agent, "env_id", "")) else ids_of(env) if isinstance(env, VecEnv) else set()


def _check_action_space(agent: Agent, env: gym.Env, env_id: str) -> None:
    space = getattr(agent, "action_space", None)
    own: Any = env.action_space
    continuous = isinstance(own, gym.spaces.Box)
    if space is None:
        return
    if continuous and isinstance(space, gym.spaces.Box) and space.shape == own.shape:
        if not (np.allclose(space.low, own.low) and np.allclose(space.high, own.high)):
            raise ValueError(
                f"the agent's actions are from {space.low} to {space.high}, those of {env_id} from {own.low} to "
                f"{own.high}: evaluate it on the task it was trained on, and without wrappers that change actions."
            )
    elif space.shape != own.shape or space != own:
        said = (
            f"shape {space.shape}, those of {env_id} {own.shape}" if continuous else f"{space}, those of {env_id} {own}"
        )
        raise ValueError(f"the agent's actions have {said}: evaluate it on the task it was trained on.")


def _check_imagining(agent: Any, recorded: Sequence[int]) -> None:
    """Raise ``ValueError`` unless plans can be drawn, and there are videos to show them in."""
    if not recorded:
        raise ValueError("imagined=True draws plans into videos, and no task is recorded: add video=1.")
    if not hasattr(agent, "imagined_plan"):
        raise ValueError(
            f"imagined=True draws the plan of an agent that searches, such as cem; {getattr(agent, 'name', '')} "
            f"({type(agent).__name__}) makes none: leave it out."
        )
    agent.head("viewer", "imagined=True")


def _recorded(video: int | Sequence[int] | None, tasks: int) -> list[int]:
    if video is None:
        return []
    if isinstance(video, (list, tuple, range)) or np.ndim(video):
        chosen = list(dict.fromkeys(whole_number("a task to record", task) for task in video))  # type: ignore[union-attr]
    else:
        chosen = list(range(min(whole_number("video", video, 0), tasks)))
    unknown = [task for task in chosen if not 0 <= task < tasks]
    if unknown:
        raise ValueError(f"cannot record tasks {unknown}: the manifest has tasks 0 to {tasks - 1}.")
    return chosen


def _progress_bar(shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("solved {task.fields[solved]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not shown or not (console.is_terminal or console.is_jupyter),
        transient=True,
    )
