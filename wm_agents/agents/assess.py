"""Go or no-go: how likely an agent is to reach a goal, before it takes a step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wm_agents.configs import whole_number
from wm_agents.models import AssessmentHead, Head, LatentGraph
from wm_agents.models.heads import evaluating
from wm_agents.models.modes import prediction_modes

if TYPE_CHECKING:
    from wm_agents.agents.base import WorldModelAgent

LOW = 0.5
"""Probability below which a reason is given."""
SLACK = 1.5
"""Times the largest novelty of the development tasks beyond which nothing is known."""
SAME = 1e-3
"""Squared latent distance, per coordinate, within which start and goal are one."""
BLANK = 8
"""Levels of each colour, of 255, that an image has at least, unless it shows nothing at all."""
BOUNDS = 0.01, 0.99
"""Probabilities are kept in these: no calibration says more."""


@dataclass(frozen=True)
class Assessment:
    """What an agent expects of a task.

    Attributes:
        success_probability: Of reaching the goal within the steps allowed, in [0, 1]; None where that is not known.
        expected_steps: Environment steps that a success should take; None where that is not known.
        reason: Why the probability is low, or not known; empty where it is high.
        known: Whether the probability is calibrated for such a task.
    """

    success_probability: float | None
    expected_steps: float | None
    reason: str
    known: bool

    def __str__(self) -> str:
        if self.success_probability is None or self.expected_steps is None:
            return f"success unknown; {self.reason}"
        why = f"; {self.reason}" if self.reason else ""
        return f"success {100 * self.success_probability:.0f}%, about {self.expected_steps:.0f} steps{why}"


@dataclass(frozen=True)
class Situation:
    """What is known of N tasks before a step is taken.

    Attributes:
        steps: Estimated environment steps to the goal, float64 ``[N]``, at least 1.
        distance: Squared latent distance to the goal, per coordinate, ``[N]``.
        start: Of the start ``[N, 2]``, how new its latent and how strange its image is.
        goal: The same of the goal.
        reachable: Whether the graph knows a way, bool ``[N]``; True where the agent has no graph.
        same: Whether start and goal are one, bool ``[N]``.
        beyond: Probability that no recorded episode leads to the goal, ``[N]``; 0 where the agent has no estimate.
    """

    steps: np.ndarray
    distance: np.ndarray
    start: np.ndarray
    goal: np.ndarray
    reachable: np.ndarray
    same: np.ndarray
    beyond: np.ndarray

    def features(self, budget: np.ndarray | int) -> np.ndarray:
        """``[N, K]``, what the logistic regression reads, for ``budget`` environment steps allowed (``[N]`` or one)."""
        steps, ratio = np.log(self.steps), np.log(self.steps / budget)
        novelty = np.log(np.stack([self.start[:, 0], self.goal[:, 0]]) + 0.1)
        distance = np.log(self.distance + SAME)
        flags = [flag.astype(np.float64) for flag in (~self.reachable, self.same)]
        columns = [ratio, steps, distance, *novelty, *flags, self.beyond, ratio**2]
        return np.stack(columns, axis=1)


def assess(
    agent: WorldModelAgent, observation: Mapping[str, np.ndarray], budget: int | None = None
) -> Assessment | list[Assessment]:
    """See :meth:`wm_agents.agents.base.WorldModelAgent.assess`."""
    pixels, goals, vectorized = agent.policy.images(observation)
    if budget is not None:
        budget = whole_number("budget", budget, 1)
    head = agent.heads.get("assessment")
    unknown = _not_calibrated(agent, head)
    if unknown or not isinstance(head, AssessmentHead):
        found = [Assessment(None, None, unknown, False)] * len(pixels)
    else:
        number = head.config.agents.index(agent.name)
        situation = situation_of(agent, head.to(agent.device), pixels, goals)
        limit = head.config.limit
        found = _judge(head, number, situation, min(budget or limit, limit))
        for what, images in (("goal", goals), ("current", pixels)):
            for row in np.flatnonzero(np.ptp(images, axis=(1, 2)).max(axis=1) <= BLANK):
                found[row] = Assessment(None, None, f"outside the data: the {what} image is blank", False)
    return found if vectorized else found[0]


def _not_calibrated(agent: WorldModelAgent, head: Head | None) -> str:
    """Why the checkpoint says nothing about this agent; empty where it does."""
    way_out = "calibrate it with wm-agents calibrate AGENT"
    if not isinstance(head, AssessmentHead):
        return f"not calibrated: nobody has measured when this agent succeeds; {way_out}"
    if agent.name not in head.config.agents:
        return f"not calibrated for {agent.name}, only for {', '.join(head.config.agents)}; {way_out}"
    defaults = {field.name: field.default for field in dataclasses.fields(agent.Options)}  # of options added since
    measured = defaults | json.loads(head.config.options[head.config.agents.index(agent.name)])
    changed = [f"{name}={value}" for name, value in measured_options(agent).items() if value != measured.get(name)]
    return f"not calibrated with {', '.join(changed)}; {way_out}" if changed else ""


def measured_options(agent: WorldModelAgent) -> dict[str, Any]:
    """The options of an agent that its success may depend on, as JSON gives them back."""
    options = json.loads(json.dumps(agent.options(), default=str))
    return {name: value for name, value in options.items() if name not in ("seed", "precision")}


def situation_of(
    agent: WorldModelAgent, head: AssessmentHead, pixels: np.ndarray, goal_pixels: np.ndarray
) -> Situation:
    """Return what is known of N tasks, from images uint8 ``[N, H, W, 3]`` of starts and goals."""
    model = agent.world_model
    images = torch.from_numpy(np.concatenate([pixels, goal_pixels])).to(agent.device)
    with prediction_modes(agent.device), evaluating(model, *agent.heads.values()):
        features = model.features(model.encode(images))
        z, goal = features.chunk(2)
        novelty = _numbers(torch.stack([head.novelty(features), head.strangeness(images)], dim=1))
        distance = _numbers((z - goal).square().mean(dim=1))
        way = _way(agent.heads, z, goal)
        steps = np.maximum(_steps(agent.heads, z, goal, way, distance), 1.0)
        estimate = agent.heads.get("steps-to-goal")
        beyond = _numbers(estimate.beyond(z, goal)) if estimate is not None else np.zeros(len(z))  # type: ignore[operator]
    start, end = np.split(novelty, 2)
    return Situation(steps, distance, start, end, np.isfinite(way), distance < SAME, beyond)


def _steps(
    heads: Mapping[str, Any], z: torch.Tensor, goal: torch.Tensor, way: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """Estimated environment steps ``[N]``: of the best head that there is, or 100 times the root of the distance."""
    if "steps-to-goal" in heads:
        return _numbers(heads["steps-to-goal"].steps(z, goal))
    if "temporal-distance" in heads:
        return _numbers(heads["temporal-distance"](z, goal))
    rough = 100 * np.sqrt(distance)
    return np.where(np.isfinite(way), way, 2 * rough) if "graph" in heads else rough


def _way(heads: Mapping[str, Any], z: torch.Tensor, goal: torch.Tensor) -> np.ndarray:
    """Steps ``[N]`` of the shortest way through the graph, infinite where there is none; 0 without a graph."""
    graph = heads.get("graph")
    if not isinstance(graph, LatentGraph):
        return np.zeros(len(z))
    here, away = graph.nearest(z)
    there, end = graph.nearest(goal)
    on_the_way = [graph.routes(last)[0][first] for first, last in zip(here.tolist(), there.tolist(), strict=True)]
    return np.array(on_the_way) + _numbers((away + end) * graph.steps_per_unit)


def _numbers(values: torch.Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


def _judge(head: AssessmentHead, number: int, situation: Situation, budget: int) -> list[Assessment]:
    """Turn situations into assessments, one for each row."""
    chances = np.clip(head.probability(number, situation.features(budget)), *BOUNDS)
    constant, slope = head.pace[number].tolist()
    steps = np.where(situation.same, 0.0, np.exp(constant + slope * np.log(situation.steps)))
    limits = SLACK * np.maximum(_numbers(head.farthest), 1e-6)
    found = []
    for row, chance in enumerate(chances.tolist()):
        for what, novelty in (("goal", situation.goal[row]), ("current", situation.start[row])):
            if not (novelty <= limits).all():
                times = SLACK * float((novelty / limits).max())
                reason = f"outside the data: the {what} image is {times:.1f} times as far from it as any that was tried"
                found.append(Assessment(None, None, reason, False))
                break
        else:
            reason = _reason(head, number, situation, row, budget) if chance < LOW else ""
            found.append(Assessment(chance, float(steps[row]), reason, True))
    return found


def _reason(head: AssessmentHead, number: int, situation: Situation, row: int, budget: int) -> str:
    steps, longest = situation.steps[row], float(head.longest[number])
    if situation.same[row]:
        return "the agent seldom stays at a goal that it has reached"
    if not situation.reachable[row]:
        return "no way to the goal is in the graph of recorded states"
    if steps > longest:
        return f"the goal is about {steps:.0f} steps away, and none beyond {longest:.0f} was ever reached"
    return f"most goals about {steps:.0f} steps away, such as this one, are not reached within {budget} steps"
