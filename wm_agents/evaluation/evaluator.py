"""Run an agent on a manifest: batched, timed, with both success modes from one run."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wm_agents.evaluation.results import EvaluationResult, Outcomes, Timings
from wm_agents.evaluation.tasks import Manifest, check_env_id
from wm_agents.evaluation.video import Recording

PIXEL_KEYS, STATE_KEYS = {"pixels", "goal_pixels"}, {"observation", "achieved_goal", "desired_goal"}


class Agent(Protocol):
    """What is evaluated: Stable-Baselines3's ``predict``.

    Used when present: ``observation_space`` (which observations, how large the images), ``action_space`` (checked),
    ``set_random_seed(seed)``, ``last_decision`` (a ``DecisionRecord``), ``last_subgoal`` (of hierarchical agents, a
    ``SubgoalRecord``) and ``provenance`` (a dict).
    """

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Return one action ``[N, A]`` for each row of the observation, and the state to hand back next time."""
        ...


class _Slot:
    """One environment with its task, and the observation that its next action answers."""

    def __init__(self, env: gym.Env) -> None:
        self.env = env
        self.task, self.step = -1, 0
        self.observation: dict[str, np.ndarray] = {}
        self.path: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        self.recording: Recording | None = None

    def begin(self, manifest: Manifest, task: int, record: bool) -> None:
        options = {"state": manifest.starts[task].copy(), "goal_state": manifest.goals[task].copy()}
        self.observation, info = self.env.reset(seed=task, options=options)
        self.task, self.step, self.path, self.actions = task, 0, [np.array(info["state"])], []
        self.recording = Recording(task, self._image("goal_pixels", manifest.goals[task])) if record else None
        self._record_frame()

    def act(self, action: np.ndarray) -> tuple[bool, bool]:
        """Step the environment and return whether the moderate and the strict test succeed."""
        self.observation, _, _, _, info = self.env.step(action)
        self.step += 1
        self.path.append(np.array(info["state"]))
        self.actions.append(np.array(action, dtype=np.float64))
        self._record_frame()
        return bool(info["success_moderate"]), bool(info["success_strict"])

    def note_subgoal(self, state: np.ndarray) -> None:
        """Record the subgoal of the step to come: a simulator state, NaN for the goal itself."""
        if self.recording is None or not state.size:
            return
        shown = self.recording.subgoal_states
        if not shown or not np.array_equal(shown[-1], state, equal_nan=True):
            render = self.env.unwrapped.render_state  # type: ignore[attr-defined]
            image = self.recording.goal if np.isnan(state).any() else render(state)
        else:
            image = self.recording.subgoals[-1]
        shown.append(state)
        self.recording.subgoals.append(image)

    def _record_frame(self) -> None:
        if self.recording is not None:
            self.recording.frames.append(self._image("pixels", self.path[-1]))
            self.recording.path.append(self.path[-1])

    def _image(self, key: str, state: np.ndarray) -> np.ndarray:
        if key in self.observation:
            return self.observation[key].copy()
        return self.env.unwrapped.render_state(state)  # type: ignore[attr-defined]


def evaluate(
    agent: Agent,
    manifest: Manifest,
    *,
    num_envs: int = 16,
    seed: int | None = None,
    video: int | Sequence[int] | None = None,
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
    working environments only.

    Args:
        agent: See :class:`Agent`. Actions are asked for with ``deterministic=True``.
        manifest: The tasks.
        num_envs: Environments that share a call, at least 1. Agents that draw no random numbers give the same
            outcomes whatever it is; timings for a single environment want ``num_envs=1``.
        seed: Passed to the agent's ``set_random_seed`` where it has one (Stable-Baselines3's seeds Python, NumPy
            and torch too, and keeps it), and seeds the random floor. None leaves the agent its own; the floor has
            that one too, or 0.
        video: Tasks to record: how many of the first, or their indices.
        progress: Show a progress bar.
        name: What to call the agent; its class name by default.
        known_floors: What :func:`floors` returned earlier for this manifest and seed; measured now by default.

    Raises:
        ValueError: The agent's spaces do not fit the environment, an action has the wrong shape or is not finite,
            or a task to record is not in the manifest.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}.")
    recorded = _recorded(video, len(manifest))
    used = seed if seed is not None else getattr(agent, "seed", None) or 0
    slots = [_Slot(env) for env in _make_envs(agent, manifest, min(num_envs, len(manifest)))]
    try:
        _check_action_space(agent, slots[0].env, manifest.env_id)
        if seed is not None and hasattr(agent, "set_random_seed"):
            agent.set_random_seed(seed)
        outcomes, timings, paths, actions, recordings = _run(agent, manifest, slots, recorded, progress)
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
        paths=paths,
        actions=actions,
        recordings=[recordings[task] for task in recorded],
    )


def floors(manifest: Manifest, seed: int = 0) -> Mapping[str, Outcomes]:
    """Return what uniformly random actions and zero actions reach on the same tasks.

    Keys ``"random"`` and ``"noop"``. No frame is rendered, and the last few results are kept, so evaluating several
    agents on one manifest measures its floors once. Each task's random actions depend on ``seed`` and its index only.
    """
    return dict(_floors(manifest, seed))


@lru_cache(maxsize=8)
def _floors(manifest: Manifest, seed: int) -> Mapping[str, Outcomes]:
    env = _make_env(manifest, obs_type="state")
    space: Any = env.action_space
    found = {name: np.zeros((2, len(manifest)), np.int64) for name in ("random", "noop")}
    try:
        for task, (start, goal) in enumerate(zip(manifest.starts, manifest.goals, strict=True)):
            shape = (manifest.budget, *space.shape)
            random = np.random.default_rng([seed, task]).uniform(space.low, space.high, shape).astype(space.dtype)
            noop = np.zeros(shape, space.dtype)
            for (moderate, strict), actions in zip(found.values(), (random, noop), strict=True):
                env.reset(seed=task, options={"state": start.copy(), "goal_state": goal.copy()})
                for step, action in enumerate(actions, start=1):
                    info = env.step(action)[-1]
                    moderate[task] = moderate[task] or step * info["success_moderate"]
                    strict[task] = strict[task] or step * info["success_strict"]
                    if moderate[task] and strict[task]:
                        break
    finally:
        env.close()
    return {name: Outcomes(*steps) for name, steps in found.items()}


def _run(
    agent: Agent, manifest: Manifest, slots: list[_Slot], recorded: Sequence[int], progress: bool
) -> tuple[Outcomes, Timings, list[np.ndarray], list[np.ndarray], dict[int, Recording]]:
    n = len(manifest)
    outcomes, timings = Outcomes(np.zeros(n, np.int64), np.zeros(n, np.int64)), Timings()
    paths, executed = [np.empty(0)] * n, [np.empty(0)] * n
    recordings: dict[int, Recording] = {}
    with _progress_bar(progress) as bar:
        shown = bar.add_task("evaluating", total=n, solved=0)
        for tasks in np.array_split(np.arange(n), -(-n // len(slots))):
            for slot, task in zip(slots, tasks.tolist(), strict=False):
                slot.begin(manifest, task, task in recorded)
            for slot in _play(agent, manifest.budget, slots[: len(tasks)], outcomes, timings):
                task = slot.task
                paths[task], executed[task] = np.stack(slot.path), np.stack(slot.actions)
                if slot.recording is not None:
                    slot.recording.success_step = int(outcomes.moderate[task]) or None
                    recordings[task] = slot.recording
                bar.update(shown, advance=1, solved=int((outcomes.moderate > 0).sum()))
    return outcomes, timings, paths, executed, recordings


def _play(agent: Agent, budget: int, active: Sequence[_Slot], outcomes: Outcomes, timings: Timings) -> Iterator[_Slot]:
    """Play tasks that have begun, enter how they go, and yield each slot when its task ends."""
    state = None
    while active:
        actions, state = _decide(agent, active, state, timings)
        working: list[int] = []
        for row, slot in enumerate(active):
            task = slot.task
            moderate, strict = slot.act(actions[row])
            outcomes.moderate[task] = outcomes.moderate[task] or slot.step * moderate
            outcomes.strict[task] = outcomes.strict[task] or slot.step * strict
            if slot.step == budget or (outcomes.moderate[task] and outcomes.strict[task]):
                yield slot
            else:
                working.append(row)
        if len(working) < len(active):
            active = [active[row] for row in working]
            state = None if state is None else tuple(np.asarray(part)[working] for part in state)


def _decide(agent: Agent, active: Sequence[_Slot], state: Any, timings: Timings) -> tuple[np.ndarray, Any]:
    """Call ``predict`` for the active slots and enter what it cost."""
    batch = {key: np.stack([slot.observation[key] for slot in active]) for key in active[0].observation}
    episode_start = np.array([slot.step == 0 for slot in active])
    began = time.perf_counter()
    actions, state = agent.predict(batch, state=state, episode_start=episode_start, deterministic=True)
    elapsed_ms = 1000 * (time.perf_counter() - began)
    actions, space = np.asarray(actions), active[0].env.action_space
    if actions.shape != (len(active), *(space.shape or ())) or not np.isfinite(actions).all():
        raise ValueError(
            f"predict must return finite actions of shape {(len(active), *(space.shape or ()))}, one row for each "
            f"environment; got shape {actions.shape} with {int((~np.isfinite(actions)).sum())} values not finite."
        )
    rows, record = len(active), getattr(agent, "last_decision", None)
    timings.ms_per_step.append(elapsed_ms / rows)
    if record is not None:
        timings.encode_ms_per_step.append(record.encode_ms / rows)
        timings.plan_ms_per_step.append(record.plan_ms / rows)
        if record.plans:
            timings.ms_per_plan.append(record.plan_ms / record.plans)
            timings.plans += record.plans
            timings.evaluations += record.evaluations
    subgoal = getattr(agent, "last_subgoal", None)
    if subgoal is not None:
        timings.subgoals += int(subgoal.new.sum())
        timings.subgoals_reached += int(subgoal.reached.sum())
        timings.subgoals_overdue += int(subgoal.overdue.sum())
        timings.detours += int((subgoal.detour & subgoal.new).sum())
        for slot, shown in zip(active, subgoal.states, strict=True):
            slot.note_subgoal(shown)
    return actions, state


def _make_env(manifest: Manifest, **options: Any) -> gym.Env:
    check_env_id(manifest.env_id)
    return gym.make(
        manifest.env_id,
        success="strict",
        max_episode_steps=manifest.budget,
        disable_env_checker=True,
        **options,
    )


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
            return [_make_env(manifest, **options) for _ in range(count)]
    raise ValueError(
        f"the agent's observations are {sorted(keys) or space}, which no obs_type of {manifest.env_id} gives: it must "
        'have been made for obs_type "pixels", "state" or "pixels_state".'
    )


def _check_action_space(agent: Agent, env: gym.Env, env_id: str) -> None:
    space = getattr(agent, "action_space", None)
    if space is not None and space.shape != env.action_space.shape:
        raise ValueError(
            f"the agent's actions have shape {space.shape}, those of {env_id} {env.action_space.shape}: "
            "evaluate it on the task it was trained on."
        )


def _recorded(video: int | Sequence[int] | None, tasks: int) -> list[int]:
    if video is None:
        return []
    chosen = list(range(min(video, tasks))) if isinstance(video, int) else list(dict.fromkeys(video))
    unknown = [task for task in chosen if not 0 <= task < tasks]
    if unknown:
        raise ValueError(f"cannot record tasks {unknown}: the manifest has tasks 0 to {tasks - 1}.")
    return chosen


def _progress_bar(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("solved {task.fields[solved]}"),
        TimeRemainingColumn(),
        disable=not shown,
        transient=True,
    )
