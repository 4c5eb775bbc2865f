"""The controller of a hierarchy: a high level proposes subgoals, and a low level acts towards them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from wm_agents.agents.controller import Controller, Decision, Frames
from wm_agents.agents.memory import Fields, part, prefixed
from wm_agents.agents.subgoals import HighLevel
from wm_agents.models import LatentGraph, StepsToGoal, WorldModel

OVERDUE = 2.0  # times the steps that a subgoal should take
NEARBY = 16  # nodes, one of which an agent heads for when it has given up a subgoal


@dataclass(frozen=True)
class SubgoalRecord:
    """The subgoals of the last ``predict`` call, one entry per environment.

    Attributes:
        latents: float32 ``[N, F]``, features.
        node: int64 ``[N]``, the node of the graph; -1 if the subgoal is the goal itself, -2 if it is not a node.
        new: bool ``[N]``, proposed in this call.
        reached: bool ``[N]``, the subgoal before this one was reached; False unless ``new``.
        overdue: bool ``[N]``, the subgoal before this one took too long, and was given up for a node nearby; False
            unless ``new``.
        detour: bool ``[N]``, no path to the goal is known, so the subgoal leads as near to it as the graph does.
        states: float64 ``[N, S]``, simulator states of the nodes, or of the nearest ones, NaN for the goal itself; for
            pictures. S is 0 without a graph.
    """

    latents: np.ndarray
    node: np.ndarray
    new: np.ndarray
    reached: np.ndarray
    overdue: np.ndarray
    detour: np.ndarray
    states: np.ndarray


class HierarchicalController(Controller):
    """Proposes subgoals when they are due, and lets the low level act towards them.

    A new subgoal is due at the start, when the goal changes, when the subgoal is reached, after ``replan_every`` steps,
    and when it is overdue. The high level usually proposes an overdue subgoal again, since nothing has changed: the
    agent then heads for a random node nearby, to come from elsewhere.

    Memory: ``subgoal [N, F]``; ``age``, steps since it was proposed (-1: none yet); ``expected``, steps that it should
    take; ``pursued``, steps since its node was first proposed, and ``patience``, steps that it should take from there;
    ``astray``, the subgoal is such a node nearby; ``node`` and ``detour`` as in :class:`SubgoalRecord`, each ``[N]``;
    and the low level's.

    Args:
        world_model: Gives the sizes.
        high: Proposes the subgoals.
        low: Acts towards them.
        replan_every: Steps after which a subgoal is replaced in any case; None: never.
        horizon: Environment steps in which a goal is to be reached; None: no limit.
        graph: Gives the simulator states of subgoals, for pictures, and the nodes near an agent that gives up.
        distance: Estimates the steps in which to reach the goal, in place of ``horizon``.
    """

    last_subgoal: SubgoalRecord | None = None

    def __init__(
        self,
        world_model: WorldModel,
        high: HighLevel,
        low: Controller,
        replan_every: int | None,
        horizon: int | None,
        graph: LatentGraph | None,
        distance: StepsToGoal | None = None,
    ) -> None:
        self.world_model = world_model
        self.high = high
        self.low = low
        self.replan_every = replan_every
        self.horizon = np.inf if horizon is None else horizon
        self.graph = graph
        self.distance = distance

    def modules(self) -> Iterable[nn.Module]:
        own = () if self.distance is None else (self.distance,)
        return (*getattr(self.high, "modules", ()), *self.low.modules(), *own)

    def initial_memory(self, n: int) -> Fields:
        return {
            "subgoal": np.zeros((n, self.world_model.spec.feature_size), np.float32),
            "age": np.full(n, -1, np.int64),
            "expected": np.zeros(n, np.float32),
            "pursued": np.zeros(n, np.int64),
            "patience": np.zeros(n, np.float32),
            "astray": np.zeros(n, bool),
            "node": np.full(n, -1, np.int64),
            "detour": np.zeros(n, bool),
            **prefixed("low", self.low.initial_memory(n)),
        }

    def goal_changed(self, memory: Fields, rows: np.ndarray) -> None:
        memory["age"][rows] = -1
        low = part("low", memory)
        self.low.goal_changed(low, rows)
        memory.update(prefixed("low", low))

    def executed(self, memory: Fields, world_model: WorldModel, actions: np.ndarray) -> None:
        low = part("low", memory)
        self.low.executed(low, world_model, actions)
        memory.update(prefixed("low", low))

    def act(self, frames: Frames, memory: Fields) -> Decision:
        block = self.world_model.spec.action_block
        subgoal, age, expected = memory["subgoal"], memory["age"], memory["expected"]
        z = self.world_model.features(frames.latents())
        fresh = age < 0
        gap = self.high.steps(z, torch.from_numpy(subgoal).to(z.device)).cpu().numpy()
        reached = ~fresh & (memory["node"] != -1) & (gap <= block)
        late = memory["pursued"] >= OVERDUE * np.maximum(memory["patience"], block)
        overdue = ~fresh & ~reached & ~memory["astray"] & late
        due = fresh | reached | overdue | memory["astray"] & (age >= expected)
        if self.replan_every is not None:
            due |= ~memory["astray"] & (age >= self.replan_every)
        evaluations = self._propose(frames, z, memory, due) if due.any() else 0
        stuck = overdue & np.isfinite(gap)  # what the clock replaces is never reached, and not in the way of anything
        if stuck.any():
            self._give_up(frames, z, memory, stuck)
        low = part("low", memory)
        towards = self.world_model.unflatten(torch.from_numpy(subgoal).to(z.device))
        decision = self.low.act(frames.towards(towards, np.maximum(expected - age, block)), low)
        memory.update(prefixed("low", low))
        states = self._states(memory["node"], subgoal)
        self.last_subgoal = SubgoalRecord(
            subgoal.copy(), memory["node"].copy(), due, reached, overdue, memory["detour"].copy(), states
        )
        age += 1
        memory["pursued"] += 1
        return Decision(decision.actions, int(due.sum()), evaluations + decision.evaluations)

    def _propose(self, frames: Frames, z: torch.Tensor, memory: Fields, due: np.ndarray) -> int:
        """Replace the subgoals of the marked rows; return the world-model evaluations that it took."""
        rows = torch.from_numpy(np.flatnonzero(due)).to(z.device)
        z, goals = z[rows], self.world_model.features(frames.goal)[rows]
        left = (self.horizon - frames.elapsed[due]).astype(np.float32)
        if self.distance is not None:
            left = self.distance.steps(z, goals).clamp(min=1).cpu().numpy()
        found = self.high.propose(z, goals, left, frames.seed)
        begun = (memory["age"][due] < 0) | memory["astray"][due] | (found.node < -1)
        changed = begun | (found.node != memory["node"][due])
        new = np.flatnonzero(due)[changed]
        memory["pursued"][new], memory["patience"][new] = 0, found.steps[changed]
        memory["astray"][due] = False
        memory["subgoal"][due], memory["age"][due] = found.latents.cpu().numpy(), 0
        memory["expected"][due], memory["node"][due], memory["detour"][due] = found.steps, found.node, found.detour
        return found.evaluations

    def _give_up(self, frames: Frames, z: torch.Tensor, memory: Fields, overdue: np.ndarray) -> None:
        """Head for a random one of the nodes nearby in the marked rows, for as long as the way there should take."""
        if self.graph is None:
            return
        rows = np.flatnonzero(overdue)
        gaps = torch.cdist(z[torch.from_numpy(rows).to(z.device)], self.graph.latents)
        steps, nodes = gaps.topk(min(NEARBY, gaps.shape[1]), largest=False)
        for row, distance, node in zip(rows, steps.cpu().numpy(), nodes.cpu().numpy(), strict=True):
            # A stream of its own for each environment and step: what one does depends on no other.
            chosen = np.random.default_rng([frames.seed, int(frames.elapsed[row])]).integers(len(node))
            memory["subgoal"][row] = self.graph.latents[node[chosen]].cpu().numpy()
            memory["node"][row], memory["detour"][row] = node[chosen], False
            memory["expected"][row] = max(1.0, distance[chosen] * float(self.graph.steps_per_unit))
            memory["pursued"][row], memory["astray"][row] = 0, True

    def _states(self, node: np.ndarray, subgoal: np.ndarray) -> np.ndarray:
        """What the subgoals look like: states of their nodes, or of the nearest ones."""
        if self.graph is None:
            return np.zeros((len(node), 0))
        shown, free = node.copy(), node == -2
        if free.any():
            device = self.graph.latents.device
            shown[free] = self.graph.nearest(torch.from_numpy(subgoal[free]).to(device))[0].cpu().numpy()
        return np.where(shown[:, None] < 0, np.nan, self.graph.states.cpu().numpy()[np.maximum(shown, 0)])
