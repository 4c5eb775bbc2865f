"""Hierarchical planning: a high level proposes subgoals, a low level heads for them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from wm_agents import planning
from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.control import AmortisedControl, LowLevel, SearchControl
from wm_agents.agents.mpc import MPC
from wm_agents.agents.policy import Memory, WorldModelPolicy
from wm_agents.agents.subgoals import SUPPORTS, GraphSubgoals, HighLevel, MacroSubgoals, Support, WaypointSubgoals
from wm_agents.checkpoint import Checkpoint
from wm_agents.models import (
    Denoiser,
    InverseDynamics,
    LatentGraph,
    MacroActions,
    TemporalDistance,
    Waypoints,
    WorldModel,
)
from wm_agents.registry import did_you_mean
from wm_agents.types import DecisionRecord

UNSEARCHED = ("graph", "waypoints")  # high levels that are no planner
OVERDUE = 2.0  # times the steps that a subgoal should take


@dataclass(frozen=True)
class SubgoalRecord:
    """The subgoals of the last ``predict`` call, one entry an environment.

    Attributes:
        latents: float32 ``[N, D]``.
        node: int64 ``[N]``, the node of the graph that it is; -1 for the goal itself, -2 for no node.
        new: bool ``[N]``, proposed in this call.
        reached: bool ``[N]``, the subgoal before this one was reached; False unless ``new``.
        overdue: bool ``[N]``, the subgoal before this one took too long; False unless ``new``.
        detour: bool ``[N]``, no way to the goal is known: the subgoal leads as near to it as the graph does.
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


class HierarchicalPolicy(WorldModelPolicy):
    """Proposes subgoals now and then, and lets the low level act towards them.

    A new subgoal is due at the start, when the goal changes, when the subgoal is reached, after ``replan_every`` steps,
    and when it is overdue.

    Memory: the subgoals ``[N, D]`` and the goals that they lead to ``[N, D]``; steps since they were proposed (-1: none
    yet), steps that they should take, their nodes, whether they are detours, and steps since the goal was given, each
    ``[N]``; then the low level's.
    """

    last_subgoal: SubgoalRecord | None = None

    def __init__(
        self, observation_space: spaces.Dict, action_space: spaces.Box, world_model: WorldModel, high: HighLevel,
        low: LowLevel, replan_every: int | None, horizon: int | None, graph: LatentGraph | None, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(observation_space, action_space, world_model, seed)
        self.high = high
        self.low = low
        self.replan_every = replan_every
        self.horizon = np.inf if horizon is None else horizon
        self.graph = graph

    def blank(self, n: int) -> Memory:
        latents = np.zeros((n, self.world_model.config.latent_size), np.float32)
        none = np.full(n, -1, np.int64)
        own = (latents, latents.copy(), none, np.zeros(n, np.float32), none.copy(), np.zeros(n, bool))
        return *own, np.zeros(n, np.int64), *self.low.blank(n)

    def decide(
        self, pixels: np.ndarray, goal: torch.Tensor, memory: Memory
    ) -> tuple[np.ndarray, Memory, DecisionRecord]:
        subgoal, leads_to, age, expected, node, detour, elapsed, *rest = memory
        block = self.world_model.config.action_block
        started = time.perf_counter()
        z = self.encode(pixels)
        encoded = time.perf_counter()
        goals = goal.cpu().numpy()
        fresh = (age < 0) | (leads_to != goals).any(axis=1)
        gap = self.high.steps(z, torch.from_numpy(subgoal).to(z.device)).cpu().numpy()
        reached = ~fresh & (node != -1) & (gap <= block)
        overdue = ~fresh & ~reached & (age >= OVERDUE * np.maximum(expected, block))
        due = fresh | reached | overdue
        if self.replan_every is not None:
            due |= age >= self.replan_every
        evaluations = 0
        elapsed[fresh] = 0
        if due.any():
            rows = torch.from_numpy(np.flatnonzero(due)).to(z.device)
            left = (self.horizon - elapsed[due]).astype(np.float32)
            found = self.high.propose(z[rows], goal[rows], left, self.seed)
            subgoal[due], leads_to[due], age[due] = found.latents.cpu().numpy(), goals[due], 0
            expected[due], node[due], detour[due] = found.steps, found.node, found.detour
            evaluations = found.evaluations
        proposed = time.perf_counter()
        actions, low, cost = self.low.act(
            pixels, z, torch.from_numpy(subgoal).to(z.device), np.maximum(expected - age, block), tuple(rest), self.seed
        )
        self.last_subgoal = SubgoalRecord(
            subgoal.copy(), node.copy(), due, reached, overdue, detour.copy(), self._states(node, subgoal)
        )
        record = DecisionRecord(
            1000 * (encoded - started) + cost.encode_ms, 1000 * (proposed - encoded) + cost.plan_ms,
            int(due.sum()), evaluations + cost.evaluations,
        )  # fmt: skip
        return actions, (subgoal, leads_to, age + 1, expected, node, detour, elapsed + 1, *low), record

    def _states(self, node: np.ndarray, subgoal: np.ndarray) -> np.ndarray:
        """What the subgoals look like: states of their nodes, or of the nearest ones."""
        if self.graph is None:
            return np.zeros((len(node), 0))
        shown, free = node.copy(), node == -2
        if free.any():
            shown[free] = self.graph.nearest(torch.from_numpy(subgoal[free]).to(self.device))[0].cpu().numpy()
        return np.where(shown[:, None] < 0, np.nan, self.graph.states.cpu().numpy()[np.maximum(shown, 0)])


class HierarchicalMPC(WorldModelAgent):
    """Plans subgoals on a high level and acts towards them on a low one; for goals beyond a flat planner's horizon.

    Args:
        world_model: Encodes; the low level's search predicts with it.
        env: The environment (or its id, or a VecEnv) to control; optional for ``predict``.
        high: "graph" takes subgoals from the shortest way through a graph of recorded latents; "waypoints" samples
            ways to the goal and takes the one that is easiest to follow; a planner of
            :data:`wm_agents.planning.PLANNERS` ("cem", "mppi") searches over macro-actions. An object of your own with
            the methods of :class:`wm_agents.agents.subgoals.HighLevel` works, but cannot be saved.
        low: "gc-idm", one forward pass a step; or a planner ("cem", "mppi"), as in :class:`MPC`.
        lookahead: Environment steps to a subgoal of the graph; a goal that is nearer is the subgoal itself.
        horizon: For ``high="waypoints"``: environment steps in which a goal is to be reached, counted down while the
            goal stays. With at most a waypoint's stride left, the goal is the subgoal itself; more steps than the
            waypoints were trained for (their ``max_horizon``) count as that many.
        chains: For ``high="waypoints"``: ways that are sampled for a proposal.
        replan_every: Steps after which a subgoal is replaced even if it is neither reached nor overdue; None: never.
        support: How the search over macro-actions is kept near those of the data; see
            :class:`wm_agents.agents.subgoals.MacroSubgoals`.
        snap: Replace the subgoals of that search by the graph's nearest nodes, latents that were really visited.
        high_options: Options of the high level's planner: horizon (in macro-actions, 3), samples, iterations, ...
        low_options: Options of the low level's :class:`MPC`: horizon (in blocks), objective, samples, ...
        graph: For ``high="graph"`` and ``snap``; see :func:`wm_agents.training.fit_graph`.
        macro_actions: For a ``high`` that searches; see :func:`wm_agents.training.train_macro_actions`.
        waypoints: For ``high="waypoints"``; see :func:`wm_agents.training.train_waypoints`.
        inverse_dynamics: For ``low="gc-idm"``, for ``high="waypoints"``, and for a ``low`` with ``proposals="gc-idm"``.
        temporal_distance: For a ``high`` that searches, and for a ``low`` with ``objective="temporal-distance"``.
        denoiser: For a ``low`` that plans with ``proposals="diffusion"``.
        policy: Ignored; SB3 passes it.
        seed: Of the search; given, it also seeds Python, NumPy and torch, as in SB3. None is 0 for the agent alone.
        device: "auto", "cpu", "cuda".
        verbose: 0 silent, 1 informative.
        tensorboard_log: Directory of the TensorBoard log.

    Raises:
        ValueError: An option is unknown or out of range, needs a network that was not given, or a network was made on
            another world model.
    """

    name = "hierarchical"

    def __init__(
        self, world_model: WorldModel, env: Any = None, *, high: str | HighLevel = "graph", low: str = "gc-idm",
        lookahead: int = 25, horizon: int | None = None, chains: int = 64, replan_every: int | None = 5,
        support: Support = "bank", snap: bool = True, high_options: dict[str, Any] | None = None,
        low_options: dict[str, Any] | None = None, graph: LatentGraph | None = None,
        macro_actions: MacroActions | None = None, waypoints: Waypoints | None = None,
        inverse_dynamics: InverseDynamics | None = None, temporal_distance: TemporalDistance | None = None,
        denoiser: Denoiser | None = None, policy: Any = None, seed: int | None = None,
        device: torch.device | str = "auto", verbose: int = 0, tensorboard_log: str | None = None,
        _init_setup_model: bool = True,
    ) -> None:  # fmt: skip
        for kind, chosen, own in (("high level", high, UNSEARCHED), ("low level", low, ("gc-idm",))):
            if isinstance(chosen, str) and chosen not in (*own, *planning.PLANNERS):
                raise ValueError(did_you_mean(kind, chosen, [*own, *planning.PLANNERS]))
        for option, value in (("lookahead", lookahead), ("horizon", horizon), ("replan_every", replan_every)):
            if value is not None and value < 1:
                raise ValueError(f"{option} must be at least 1 environment step, not {value}.")
        if chains < 1:
            raise ValueError(f"chains must be at least 1 way to the goal, not {chains}.")
        if high == "waypoints" and horizon is None:
            raise ValueError('high="waypoints" needs horizon=, the environment steps in which to reach a goal.')
        if support not in SUPPORTS:
            raise ValueError(did_you_mean("support", support, SUPPORTS))
        for option, given, useless in (
            ("high_options", high_options, high in UNSEARCHED or not isinstance(high, str)),
            ("low_options", low_options, low == "gc-idm"),
        ):
            if given and useless:
                raise ValueError(f"{option}={given} are a planner's: leave them out where nothing is searched.")
        self.high = high
        self.low = low
        self.lookahead = lookahead
        self.horizon = horizon
        self.chains = chains
        self.replan_every = replan_every
        self.support = support
        self.snap = snap
        self.high_options = high_options or {}
        self.low_options = low_options or {}
        self.graph = graph
        self.macro_actions = macro_actions
        self.waypoints = waypoints
        self.inverse_dynamics = inverse_dynamics
        self.temporal_distance = temporal_distance
        self.denoiser = denoiser
        super().__init__(world_model, env, seed, device, verbose, tensorboard_log, _init_setup_model)

    @classmethod
    def parts(cls, checkpoint: Checkpoint) -> dict[str, Any]:
        return checkpoint.heads()

    def options(self) -> dict[str, Any]:
        if not isinstance(self.high, str):
            raise ValueError(
                "an agent whose high level is an object of your own cannot be saved: a file holds no code. Save it "
                "with a named one, and pass yours to load(..., high=...)."
            )
        names = ("high", "low", "lookahead", "horizon", "chains", "replan_every", "support", "snap", "high_options",
                 "low_options", "seed")  # fmt: skip
        return {name: getattr(self, name) for name in names}

    @property
    def last_subgoal(self) -> SubgoalRecord | None:
        """The subgoals of the last ``predict`` call."""
        assert isinstance(self.policy, HierarchicalPolicy)
        return self.policy.last_subgoal

    def make_policy(self) -> WorldModelPolicy:
        high, low = self._make_high(), self._make_low()
        return HierarchicalPolicy(
            self.observation_space, self.action_space, self.world_model,  # type: ignore[arg-type]
            high, low, self.replan_every, self.horizon, self.graph, self.seed or 0,
        )  # fmt: skip

    def _make_high(self) -> HighLevel:
        if not isinstance(self.high, str):
            return self.high
        option = f"high={self.high!r}"
        if self.high == "graph":
            return GraphSubgoals(self.head("graph", option), self.lookahead)
        if self.high == "waypoints":
            waypoints, inverse_dynamics = (self.head(name, option) for name in ("waypoints", "inverse_dynamics"))
            return WaypointSubgoals(waypoints, self.world_model, inverse_dynamics, self.chains)
        return MacroSubgoals(
            self.head("macro_actions", option),
            self.head("temporal_distance", option),
            planning.make(self.high, **{"horizon": 3, **self.high_options}),
            self.lookahead, self.support, self.head("graph", "snap=True") if self.snap else None,
        )  # fmt: skip

    def _make_low(self) -> LowLevel:
        if self.low == "gc-idm":
            return AmortisedControl(self.head("inverse_dynamics", 'low="gc-idm"'))
        flat = MPC(
            self.world_model, planner=self.low, inverse_dynamics=self.inverse_dynamics, device=self.device,
            temporal_distance=self.temporal_distance, denoiser=self.denoiser, **self.low_options,
        )  # fmt: skip
        return SearchControl(flat.policy)
