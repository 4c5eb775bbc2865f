"""Hierarchical planning as an agent: subgoals from a graph, from samples, or from a search over macro-actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wm_agents import planning
from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.controller import Controller
from wm_agents.agents.gc_idm import GCIDMController, check_horizon, distance_of
from wm_agents.agents.hierarchy import HierarchicalController, SubgoalRecord
from wm_agents.agents.mpc import MPC, search_controller
from wm_agents.agents.subgoals import SUPPORTS, GraphSubgoals, HighLevel, MacroSubgoals, Support, WaypointSubgoals
from wm_agents.configs import check_counts, check_flags
from wm_agents.registry import PLANNERS, did_you_mean

WAYPOINTS_NEED = (
    'high="waypoints" needs horizon=, the environment steps in which to reach a goal, or the head "steps-to-goal".'
)
UNSEARCHED = ("graph", "waypoints")  # high levels that are no planner


@dataclass(frozen=True)
class HierarchicalOptions:
    """Options of :class:`HierarchicalMPC`.

    Attributes:
        high: "graph" takes subgoals from the shortest path through a graph of recorded latents; "waypoints" samples
            routes to the goal and takes the one that is easiest to follow; a planner ("cem", "mppi") searches over
            macro-actions. Your own object with the methods of :class:`wm_agents.agents.subgoals.HighLevel` works
            but cannot be saved.
        low: "gc-idm", one forward pass per step; or a planner ("cem", "mppi"), as in :class:`MPC`.
        lookahead: Environment steps to a subgoal of the graph; a nearer goal is itself the subgoal.
        horizon: For ``high="waypoints"``: environment steps in which to reach the goal. "estimated" asks the head
            "steps-to-goal" whenever a waypoint is proposed. A number is counted down while the goal stays the same.
            "auto" is "estimated" if the agent has that head, and None otherwise; waypoints do not work with None. If at
            most one stride is left, the goal is the subgoal. A number above the waypoints' ``max_horizon`` counts as
            ``max_horizon``.
        chains: For ``high="waypoints"``: routes sampled per proposal.
        replan_every: Steps after which a subgoal is replaced even if it is neither reached nor overdue; None: never.
        support: How the search over macro-actions is kept near those of the data; see
            :class:`wm_agents.agents.subgoals.MacroSubgoals`.
        snap: Replace the subgoals of this search by the graph's nearest nodes, latents that were really visited.
        high_options: Options of the high level's planner: horizon (in macro-actions, 3), samples, iterations, ...
        low_options: Options of the low level's :class:`MPC`: horizon (in blocks), objective, samples, ...
    """

    high: str | HighLevel = "graph"
    low: str = "gc-idm"
    lookahead: int = 25
    horizon: int | Literal["auto", "estimated"] | None = "auto"
    chains: int = 64
    replan_every: int | None = 5
    support: Support = "bank"
    snap: bool = True
    high_options: dict[str, Any] = field(default_factory=dict)
    low_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("high_options", "low_options"):
            object.__setattr__(self, name, dict(getattr(self, name) or {}))
        for kind, chosen, own in (("high level", self.high, UNSEARCHED), ("low level", self.low, ("gc-idm",))):
            if isinstance(chosen, str) and chosen not in own and chosen not in PLANNERS:
                raise ValueError(did_you_mean(kind, chosen, [*own, *PLANNERS]))
        check_flags(self, ("snap",))
        check_horizon(self)
        check_counts(self, ("lookahead", "chains", *(() if self.replan_every is None else ("replan_every",))))
        if self.high == "waypoints" and self.horizon is None:
            raise ValueError(WAYPOINTS_NEED)
        if isinstance(self.high, str) and self.high != "waypoints":
            for option, default in (("horizon", ("auto", None)), ("chains", (type(self).chains,))):
                if getattr(self, option) not in default:
                    raise ValueError(
                        f'{option}={getattr(self, option)!r} is for high="waypoints", and high={self.high!r} does not '
                        "use it: leave it out."
                    )
        if self.support not in SUPPORTS:
            raise ValueError(did_you_mean("support", str(self.support), SUPPORTS))
        for option, useless in (
            ("high_options", self.high in UNSEARCHED or not isinstance(self.high, str)),
            ("low_options", self.low == "gc-idm"),
        ):
            if useless and (given := getattr(self, option)):
                raise ValueError(f"{option}={given} are a planner's: leave them out where nothing is searched.")


class HierarchicalMPC(WorldModelAgent):
    """Plans subgoals on a high level and acts towards them on a low level, for goals beyond the horizon of a planner.

    Args:
        world_model: Encodes; the low level's search predicts with it.
        env: The environment (or its id, or a VecEnv) to control; optional for ``predict``.
        heads: "graph" for ``high="graph"`` and ``snap``; "waypoints" and "gc-idm" for ``high="waypoints"``;
            "macro-actions" and "temporal-distance" for a ``high`` that searches; "gc-idm" for ``low="gc-idm"``;
            "steps-to-goal" for ``horizon="estimated"``; and those that a searching low level's options need, as in
            :class:`MPC`.
        seed: See :class:`WorldModelAgent`.
        device: See :class:`WorldModelAgent`.
        verbose: See :class:`WorldModelAgent`.
        tensorboard_log: See :class:`WorldModelAgent`.
        **options: Fields of :class:`HierarchicalOptions`.
    """

    name = "hierarchical"
    Options = HierarchicalOptions
    settings: HierarchicalOptions

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> list[tuple[str, str]]:
        low = MPC.parts({**options.get("low_options", {}), "planner": options.get("low", "gc-idm")})
        return [("planner", options.get("high", "graph")), *low, *super().parts(options)]

    def options(self) -> dict[str, Any]:
        if not isinstance(self.settings.high, str):
            raise ValueError(
                "an agent whose high level is your own object cannot be saved, because a file contains no code. Save "
                "it with a named one, and pass yours to load(..., high=...)."
            )
        return super().options()

    @property
    def last_subgoal(self) -> SubgoalRecord | None:
        """The subgoals of the last ``predict`` call."""
        assert isinstance(self.policy.controller, HierarchicalController)
        return self.policy.controller.last_subgoal

    def make_controller(self) -> Controller:
        settings = self.settings
        graph = self.heads.get("graph")
        return HierarchicalController(
            self.world_model,
            self._make_high(),
            self._make_low(),
            settings.replan_every,
            None if isinstance(settings.horizon, str) else settings.horizon,
            graph,  # type: ignore[arg-type]
            distance_of(self, settings.horizon),
        )

    def _make_high(self) -> HighLevel:
        settings = self.settings
        if not isinstance(settings.high, str):
            return settings.high
        option = f"high={settings.high!r}"
        if settings.high == "graph":
            return GraphSubgoals(self.head("graph", option), settings.lookahead)
        if settings.high == "waypoints":
            if settings.horizon == "auto" and "steps-to-goal" not in self.heads:
                raise ValueError(WAYPOINTS_NEED)
            waypoints, inverse_dynamics = (self.head(name, option) for name in ("waypoints", "gc-idm"))
            return WaypointSubgoals(waypoints, self.world_model, inverse_dynamics, settings.chains)
        return MacroSubgoals(
            self.head("macro-actions", option),
            self.head("temporal-distance", option),
            planning.make(settings.high, **{"horizon": 3, **settings.high_options}),
            settings.lookahead,
            settings.support,
            self.head("graph", "snap=True") if settings.snap else None,
        )

    def _make_low(self) -> Controller:
        if self.settings.low == "gc-idm":
            return GCIDMController(self.head("gc-idm", 'low="gc-idm"'))
        return search_controller(self, MPC.read_options({**self.settings.low_options, "planner": self.settings.low}))
