"""The result of an evaluation, and its JSON form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wm_agents.agents.assess import Assessment
from wm_agents.datasets import task_name
from wm_agents.evaluation.files import write_json
from wm_agents.evaluation.statistics import probability_scores, summarise, wilson_interval
from wm_agents.evaluation.tasks import Manifest
from wm_agents.evaluation.video import Recording
from wm_agents.version import __version__

Mode = Literal["moderate", "strict"]


@dataclass(frozen=True)
class Outcomes:
    """How each task ended.

    Attributes:
        moderate: int64 ``[N]``, environment steps until the moderate test first passed; 0 if it never did.
        strict: int64 ``[N]``, the same for the strict test.
    """

    moderate: np.ndarray
    strict: np.ndarray

    def steps(self, mode: Mode = "moderate") -> np.ndarray:
        """Return the steps to success of every task, int64 ``[N]``; 0 where the task failed."""
        return self.moderate if mode == "moderate" else self.strict

    def success_rate(self, mode: Mode = "moderate") -> float:
        """Return the fraction of tasks that succeeded, in [0, 1]."""
        return float((self.steps(mode) > 0).mean())

    def interval(self, mode: Mode = "moderate") -> tuple[float, float]:
        """Return the 95% Wilson interval of the success rate."""
        return wilson_interval(int((self.steps(mode) > 0).sum()), len(self.steps(mode)))

    def to_dict(self) -> dict[str, list[int | None]]:
        """Return the steps to success of every task by mode; None where the task failed."""
        return {
            "moderate": [int(step) or None for step in self.moderate],
            "strict": [int(step) or None for step in self.strict],
        }


@dataclass
class Timings:
    """The cost of the calls of ``predict``, with one entry per call, except for ``ms_per_plan``.

    Attributes:
        ms_per_step: Wall time of the call divided by the environments in it.
        encode_ms_per_step: The part that the agent spent on encoding; empty if it keeps no decision record.
        plan_ms_per_step: The part that it spent on search, or on the policy's forward pass; empty as above.
        ms_per_plan: Planning time divided by the environments that planned; one entry per call in which some planned.
        plans: Environments that planned, over all calls.
        evaluations: World-model evaluations, over all plans.
        subgoals: Subgoals that a hierarchical agent proposed.
        subgoals_reached: Subgoals that were replaced because they were reached.
        subgoals_overdue: Subgoals that were replaced because they took too long.
        detours: Subgoals that were proposed without a known path to the goal.
    """

    ms_per_step: list[float] = field(default_factory=list)
    encode_ms_per_step: list[float] = field(default_factory=list)
    plan_ms_per_step: list[float] = field(default_factory=list)
    ms_per_plan: list[float] = field(default_factory=list)
    plans: int = 0
    evaluations: int = 0
    subgoals: int = 0
    subgoals_reached: int = 0
    subgoals_overdue: int = 0
    detours: int = 0


@dataclass(frozen=True)
class EvaluationResult:
    """The result of evaluating one agent on one manifest.

    Attributes:
        agent: Name of the agent.
        manifest: The tasks.
        outcomes: How each task ended.
        floors: ``"random"`` and ``"noop"``, on the same tasks.
        timings: Cost of the decisions.
        seed: Seed of the agent's randomness and of the random floor.
        num_envs: Environments served by one call of ``predict`` (fewer towards the end).
        threads: Torch's threads.
        command: The command line of the process.
        provenance: How the agent was trained.
        notes: Changes made to the agent's observations, in words; empty if there were none.
        paths: For each task, float64 ``[L+1, S]`` simulator states from the start on.
        actions: For each task, float64 ``[L, A]`` executed actions.
        recordings: The recorded tasks, for :func:`wm_agents.evaluation.write_video`.
        assessments: For each task, what the agent expected of it; empty where it is not calibrated.
    """

    agent: str
    manifest: Manifest
    outcomes: Outcomes
    floors: Mapping[str, Outcomes]
    timings: Timings
    seed: int
    num_envs: int
    threads: int
    command: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    paths: Sequence[np.ndarray] = ()
    actions: Sequence[np.ndarray] = ()
    recordings: Sequence[Recording] = ()
    assessments: Sequence[Assessment] = ()

    @property
    def success_rate(self) -> float:
        """Fraction of tasks solved, moderate mode."""
        return self.outcomes.success_rate()

    def foreseen(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities of success that were known beforehand ``[n]``, and which came true, bool ``[n]``."""
        known = [task for task, one in enumerate(self.assessments) if one.known]
        chances = [self.assessments[task].success_probability for task in known]
        return np.array(chances, dtype=np.float64), self.outcomes.moderate[known] > 0

    def to_dict(self) -> dict[str, Any]:
        """Return everything but paths, actions and recordings, ready for JSON.

        Rates are fractions in [0, 1], times milliseconds. The top level is the moderate mode, ``strict`` the other.
        What was not measured is None, never NaN.
        """
        manifest, timings = self.manifest, self.timings
        content = {
            "agent": self.agent,
            "task": task_name(manifest.env_id),
            "env_id": manifest.env_id,
            "tasks": len(manifest),
            "offset": manifest.offset,
            "budget": manifest.budget,
            "seed": manifest.seed,
            "policy": manifest.policy,
            "manifest_sha256": manifest.sha256,
            **self._mode("moderate"),
            "strict": self._mode("strict"),
            "ms_per_step": {
                **summarise(timings.ms_per_step),
                "encode": summarise(timings.encode_ms_per_step),
                "plan": summarise(timings.plan_ms_per_step),
            },
            "ms_per_plan": summarise(timings.ms_per_plan),
            "plans": timings.plans,
            "evaluations_per_plan": timings.evaluations / timings.plans if timings.plans else None,
            "jerk": action_jerk(self.actions),
            "subgoals": self._subgoals(),
            "assessment": self._assessment(),
            "outcomes": self.outcomes.to_dict(),
            "floor_outcomes": {name: floor.to_dict() for name, floor in self.floors.items()},
            "evaluation_seed": self.seed,
            "num_envs": self.num_envs,
            "threads": self.threads,
            "command": self.command,
            "provenance": dict(self.provenance),
            "notes": list(self.notes),
            "version": __version__,
        }
        return _json_ready(content)

    def save(self, path: str | Path) -> None:
        """Write :meth:`to_dict` as JSON, atomically."""
        write_json(path, self.to_dict(), indent=2)

    def _assessment(self) -> dict[str, Any] | None:
        if not self.assessments:
            return None
        predicted, solved = self.foreseen()
        found = probability_scores(predicted, solved) if len(predicted) else {}
        each = [one.success_probability for one in self.assessments]
        return {"known": len(predicted), **found, "success_probability": each}

    def _subgoals(self) -> dict[str, int] | None:
        found = self.timings
        if not found.subgoals:
            return None
        return {
            "proposed": found.subgoals,
            "reached": found.subgoals_reached,
            "overdue": found.subgoals_overdue,
            "detours": found.detours,
        }

    def _mode(self, mode: Mode) -> dict[str, Any]:
        steps = self.outcomes.steps(mode)
        return {
            "success_rate": self.outcomes.success_rate(mode),
            "ci95": list(self.outcomes.interval(mode)),
            "floors": {name: floor.success_rate(mode) for name, floor in self.floors.items()},
            "steps_to_success": summarise(steps[steps > 0]),
        }


def action_jerk(actions: Sequence[np.ndarray]) -> float | None:
    """Return how rough actions are: the mean square of their third difference over time.

    Args:
        actions: For each task, ``[L, A]`` in the environment's units; tasks of fewer than 4 steps are left out.

    Returns:
        The mean over tasks of each task's mean over steps and dimensions; None if no task is long enough.
    """
    found = [float(np.square(np.diff(task, n=3, axis=0)).mean()) for task in actions if len(task) > 3]
    return float(np.mean(found)) if found else None


def _json_ready(value: Any) -> Any:
    """Turn numpy values, tuples and paths into JSON's types, and numbers that JSON does not have into None."""
    if isinstance(value, Mapping):
        return {str(key): _json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_ready(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _json_ready(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
