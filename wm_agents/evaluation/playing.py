"""Playing tasks: the environments, the state of their agent, and the cost of each decision."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from wm_agents.envs import WrappedEnv
from wm_agents.evaluation.results import Outcomes, Timings
from wm_agents.evaluation.tasks import Manifest
from wm_agents.evaluation.video import Recording

Observations = dict[str, np.ndarray]
Normalise = Callable[[Observations], Observations]


class Agent(Protocol):
    """What can be evaluated: any object with Stable-Baselines3's ``predict``.

    Also used, if present: ``observation_space`` (the kind of observations and the size of images), ``action_space``
    (checked), ``set_random_seed(seed)``, ``last_decision`` (a ``DecisionRecord``), ``last_subgoal`` (of hierarchical
    agents, a ``SubgoalRecord``) and ``provenance`` (a dict).
    """

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Return one action ``[N, A]`` for each row of the observation, and the state to hand back next time."""
        ...


class Slot:
    """One environment with its task and its latest observation; recordings have what is ``imagined`` on request."""

    def __init__(self, env: gym.Env, imagined: bool = False) -> None:
        self.env = env
        self.imagined = imagined
        self.task, self.step = -1, 0
        self.observation: dict[str, np.ndarray] = {}
        self.path: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        self.recording: Recording | None = None

    def begin(self, manifest: Manifest, task: int, record: bool) -> None:
        """Set the environment to the start and the goal of a task."""
        options = {"state": manifest.starts[task].copy(), "goal_state": manifest.goals[task].copy()}
        self.observation, info = self.env.reset(seed=task, options=options)
        self.task, self.step, self.path, self.actions = task, 0, [np.array(info["state"])], []
        self.recording = Recording(task, self._image("goal_pixels", manifest.goals[task])) if record else None
        self._record_frame()

    def act(self, action: np.ndarray) -> tuple[bool, bool, bool]:
        """Step the environment; return moderate and strict success, and whether it ended without."""
        self.observation, _, terminated, truncated, info = self.env.step(action)
        self.step += 1
        self.path.append(np.array(info["state"]))
        self.actions.append(np.array(action, dtype=np.float64))
        self._record_frame()
        over = (terminated or truncated) and not info["is_success"]
        return bool(info["success_moderate"]), bool(info["success_strict"]), over

    def note_subgoal(self, state: np.ndarray) -> None:
        """Record the subgoal of the step to come: a simulator state, NaN for the goal itself."""
        if self.recording is None or not state.size or isinstance(self.env.unwrapped, WrappedEnv):
            return
        shown = self.recording.subgoal_states
        if not shown or not np.array_equal(shown[-1], state, equal_nan=True):
            render = self.env.unwrapped.render_state  # type: ignore[attr-defined]
            image = self.recording.goal if np.isnan(state).any() else render(state)
        else:
            image = self.recording.subgoals[-1]
        shown.append(state)
        self.recording.subgoals.append(image)

    def note_plan(self, agent: Any, state: Any, row: int) -> None:
        """Record what the agent expects of its plan, in the state that ``predict`` returned."""
        if self.recording is not None and self.imagined:
            self.recording.plans.append(agent.imagined_plan(state, row))

    def _record_frame(self) -> None:
        if self.recording is not None:
            self.recording.frames.append(self._image("pixels", self.path[-1]))
            self.recording.path.append(self.path[-1])

    def _image(self, key: str, state: np.ndarray) -> np.ndarray:
        if key in self.observation:
            return self.observation[key].copy()
        return self.env.unwrapped.render_state(state)  # type: ignore[attr-defined]


def play(
    agent: Agent, budget: int, slots: Sequence[Slot], outcomes: Outcomes, timings: Timings, normalise: Normalise
) -> Iterator[Slot]:
    """Play tasks that have begun, record their outcomes, and yield each slot when its task ends.

    A slot whose task has ended leaves the batch. The agent's state shrinks with it along the axis that counts the
    environments. If that axis is not clear, the batch stays as it is, and the actions of ended tasks are ignored.
    """
    batch, working, state = list(slots), list(range(len(slots))), None
    axes: set[int] | None = None
    while working:
        actions, state = _decide(agent, batch, working, state, timings, normalise)
        found = _row_axes(state, len(batch))
        axes = found if axes is None else axes & found
        for row in list(working):
            slot = batch[row]
            task = slot.task
            moderate, strict, over = slot.act(actions[row])
            outcomes.moderate[task] = outcomes.moderate[task] or slot.step * moderate
            outcomes.strict[task] = outcomes.strict[task] or slot.step * strict
            if slot.step == budget or over or (outcomes.moderate[task] and outcomes.strict[task]):
                working.remove(row)
                yield slot
        if len(working) < len(batch) and (state is None or len(axes) == 1):
            state = None if state is None else tuple(np.take(part, working, axis=min(axes)) for part in state)
            batch, working = [batch[row] for row in working], list(range(len(working)))


def _row_axes(state: Any, rows: int) -> set[int]:
    """Return the axes that have ``rows`` entries in every array of an agent's state.

    Our agents keep ``[N, ...]``, the LSTMs of sb3-contrib ``[layers, N, hidden]``. Other structures have no such axis.
    """
    if not isinstance(state, tuple) or not state:
        return set()
    each = [{axis for axis, size in enumerate(np.shape(part)) if size == rows} for part in state]
    return set.intersection(*each)


def _decide(
    agent: Agent, batch: Sequence[Slot], working: Sequence[int], state: Any, timings: Timings, normalise: Normalise
) -> tuple[np.ndarray, Any]:
    """Call ``predict`` for a batch and record the time it takes."""
    seen = normalise({key: np.stack([slot.observation[key] for slot in batch]) for key in batch[0].observation})
    episode_start = np.array([slot.step == 0 for slot in batch])
    began = time.perf_counter()
    actions, state = agent.predict(seen, state=state, episode_start=episode_start, deterministic=True)
    elapsed_ms = 1000 * (time.perf_counter() - began)
    actions = np.asarray(actions)
    _check_actions(actions, batch, working)
    rows, record = len(batch), getattr(agent, "last_decision", None)
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
        for row in working:
            batch[row].note_subgoal(subgoal.states[row])
    for row in working:
        batch[row].note_plan(agent, state, row)
    return actions, state


def _check_actions(actions: np.ndarray, batch: Sequence[Slot], working: Sequence[int]) -> None:
    expected = (len(batch), *(batch[0].env.action_space.shape or ()))
    unusable = int((~np.isfinite(actions[working])).sum()) if actions.shape == expected else 0
    if actions.shape != expected or unusable:
        raise ValueError(
            f"predict must return finite actions of shape {expected}, one row for each environment; got shape "
            f"{actions.shape} with {unusable} values not finite."
        )
