"""Model-predictive control as an agent: any planner, objective, action space and source of proposals."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from wm_agents import planning
from wm_agents.agents.action_spaces import ActionSpace
from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.imagining import imagined_plan
from wm_agents.agents.memory import Memory
from wm_agents.agents.proposals import diffusion_proposals, inverse_dynamics_proposal, prior
from wm_agents.agents.search import SearchController, planner_factory
from wm_agents.checkpoint import Checkpoint
from wm_agents.configs import check_counts, check_flags
from wm_agents.models import Head, StepsToGoal
from wm_agents.planning import ObjectiveSpec
from wm_agents.registry import ACTION_SPACES, PLANNERS, did_you_mean

PROPOSALS = ("none", "gc-idm", "diffusion")
ARRIVALS = ("horizon", "estimated")
LONGEST = 1000
"""Blocks in the longest plan; memory and time grow with it."""


@dataclass(frozen=True)
class MPCOptions:
    """Options of :class:`MPC`.

    Attributes:
        planner: One of ``wm_agents.registry.PLANNERS``.
        horizon: H, actions per plan, in the action space's unit: blocks.
        receding_horizon: Actions executed before planning again.
        shrinking: Plan to arrive after ``horizon`` blocks: each plan is shorter by the blocks that were executed, and a
            full one follows the last. A terminal cost needs this if plans are replaced before their end: otherwise
            the end of the plan moves away with every new plan, and the agent may never arrive.
        arrival: In how many blocks a shrinking plan arrives. "horizon": in ``horizon`` blocks. "estimated": in as many
            as the head "steps-to-goal" says, at most ``horizon``.
        objective: What to minimise; see :func:`wm_agents.planning.make_objective`. "temporal-distance" is the learned
            distance. Your own functions work, but cannot be saved.
        actions: What is searched, one of ``wm_agents.registry.ACTION_SPACES``: "blocks" of real actions; "latent",
            learned latent actions with their own predictor; "latent-decoded", the same imagined by the world
            model; "macro", stretches of recorded actions.
        proposals: Plans from which the search starts, in addition to the last plan: "gc-idm" lets the inverse dynamics
            model act in the world model; "diffusion" samples the denoiser (for the planner "diffusion" it is the
            prior); "none" uses the last plan alone.
        precision: Precision of the imagined rollouts. "bf16" is up to 3 times faster on CPUs with AVX512-BF16 or AMX,
            especially with wide predictors and many environments, and slower on others. Costs, elites and actions
            stay in float32.
        planner_options: Options of the planner, such as samples, iterations or temperature; see its class. The agent's
            constructor takes them as keywords.
    """

    planner: str = "cem"
    horizon: int = 5
    receding_horizon: int = 1
    shrinking: bool = False
    arrival: str = "horizon"
    objective: ObjectiveSpec = "summed"
    actions: str = "blocks"
    proposals: str = "none"
    precision: str = "fp32"
    planner_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_counts(self, ("horizon", "receding_horizon"), most=LONGEST)
        check_flags(self, ("shrinking",))
        if self.receding_horizon > self.horizon:
            raise ValueError(
                f"receding_horizon must lie in 1..horizon ({self.horizon} blocks), not {self.receding_horizon}."
            )
        if self.arrival not in ARRIVALS:
            raise ValueError(did_you_mean("arrival", str(self.arrival), ARRIVALS))
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f'precision must be "fp32" or "bf16", not {self.precision!r}.')
        if self.proposals not in PROPOSALS:
            raise ValueError(did_you_mean("proposals", str(self.proposals), PROPOSALS))
        if self.actions not in ACTION_SPACES:
            raise ValueError(did_you_mean("action space", str(self.actions), ACTION_SPACES))
        if self.proposals != "none" and self.actions != "blocks":
            raise ValueError(f'proposals={self.proposals!r} are blocks: use actions="blocks", not {self.actions!r}.')


class MPC(WorldModelAgent):
    """Model-predictive control in latent space.

    You can load it by the name of its planner, as in ``wm_agents.load("pointmaze-umaze/icem")``.

    Args:
        world_model: Encodes and predicts.
        env: The environment (or its id, or a VecEnv) to control; optional for ``predict``.
        heads: "temporal-distance" for the objective of that name, "gc-idm" and "denoiser" for proposals,
            "steps-to-goal" for ``arrival``, "latent-actions" and "macro-actions" for the action spaces.
        seed: See :class:`WorldModelAgent`.
        device: See :class:`WorldModelAgent`.
        verbose: See :class:`WorldModelAgent`.
        tensorboard_log: See :class:`WorldModelAgent`.
        **options: Fields of :class:`MPCOptions`, and the planner's own options.
    """

    name = "mpc"
    Options = MPCOptions
    fixed_planner: ClassVar[str | None] = None
    settings: MPCOptions

    @classmethod
    def using(cls, planner: str) -> type[MPC]:
        """Return this class with one planner: ``CEMMPC = MPC.using("cem")``."""
        return _with_planner(cls, planner)

    @classmethod
    def read_options(cls, options: dict[str, Any]) -> MPCOptions:
        planner = options.get("planner") or cls.fixed_planner or "cem"
        if cls.fixed_planner not in (None, planner):
            raise ValueError(f"{cls.__name__} plans with {cls.fixed_planner!r}, not {planner!r}: use MPC.")
        own = {f.name for f in dataclasses.fields(MPCOptions)}
        given = {name: value for name, value in options.items() if name in own}
        searched = {**(given.pop("planner_options", None) or {}), **{n: v for n, v in options.items() if n not in own}}
        kind = PLANNERS.get(planner)
        for name in searched:
            if name in own or not planning.takes_option(kind, name):
                known = own.union(planning.option_names(kind)) - {"planner_options"}
                raise ValueError(did_you_mean(f"option of {cls.__name__} with planner {planner!r}", name, known))
        return MPCOptions(**{**given, "planner": planner, "planner_options": searched})

    @classmethod
    def options_in(cls, checkpoint: Checkpoint, given: Mapping[str, Any]) -> dict[str, Any]:
        saved = checkpoint.agent if checkpoint.agent in PLANNERS else "cem"
        planner = given.get("planner") or cls.fixed_planner or saved
        stored = checkpoint.options.get(planner, checkpoint.options.get("mpc", {}))
        return {**stored, "planner": planner}

    @classmethod
    def needed_heads(cls, settings: MPCOptions) -> tuple[str, ...]:
        spec: Any = settings.objective
        terms = [spec] if isinstance(spec, str) or callable(spec) else [*spec]
        proposals = {"gc-idm": "gc-idm", "diffusion": "denoiser"}
        found = [ACTION_SPACES.get(settings.actions).needs, proposals.get(settings.proposals)]
        found.append("temporal-distance" if "temporal-distance" in terms else None)
        found.append("steps-to-goal" if settings.shrinking and settings.arrival == "estimated" else None)
        return tuple(name for name in found if name)

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> list[tuple[str, str]]:
        objective = options.get("objective", "summed")
        terms = [objective] if isinstance(objective, str) or callable(objective) else [*objective]
        return [
            ("planner", options.get("planner", "cem")),
            ("action space", options.get("actions", "blocks")),
            *(("objective", term) for term in terms if isinstance(term, str)),
        ]

    def options(self) -> dict[str, Any]:
        spec = self.settings.objective
        if callable(spec) or (not isinstance(spec, str) and any(callable(term) for term in spec)):
            raise ValueError(
                "an agent whose objective is your own function cannot be saved, because a file contains no code. "
                "Save it with a named objective, and pass yours to load(..., objective=...)."
            )
        options = super().options()
        return {**options.pop("planner_options"), **options}

    def imagined_plan(self, state: Memory, row: int = 0) -> np.ndarray:
        """Draw what the agent expects of its present plan: pictures for people, which no agent acts on.

        Args:
            state: What the last ``predict`` returned.
            row: Of its environments, the one whose plan is drawn.

        Returns:
            uint8 ``[h, H, W, 3]``: after the action block in progress, and after each of those left in the plan.

        Raises:
            ValueError: The agent has no head "viewer" (``wm-agents fit viewer`` trains one), or no such state or row.
        """
        return imagined_plan(self, state, row)

    def make_controller(self) -> SearchController:
        self.name = self.settings.planner
        return search_controller(self, self.settings)


def search_controller(agent: WorldModelAgent, settings: MPCOptions) -> SearchController:
    """Return a search controller for these options, with the agent's world model and heads."""
    model = agent.world_model
    space_kind: type[ActionSpace] = ACTION_SPACES.get(settings.actions)
    needed = space_kind.needs
    space = space_kind(model, agent.head(needed, f"actions={settings.actions!r}") if needed else None)
    used: list[Head] = []

    def learned() -> planning.Objective:
        used.append(agent.head("temporal-distance", 'objective="temporal-distance"'))
        return planning.learned_distance(used[-1])

    objective = planning.make_objective(settings.objective, {"temporal-distance": learned})
    amortised, heads = _amortised(agent, settings)
    return SearchController(
        space,
        planner_factory(settings.planner, settings.planner_options, model.spec),
        settings.horizon,
        objective,
        settings.receding_horizon,
        settings.shrinking,
        settings.precision,
        heads=(*used, *heads),
        distance=_arrival(agent, settings),
        **amortised,
    )


def _arrival(agent: WorldModelAgent, settings: MPCOptions) -> StepsToGoal | None:
    """What says in how many blocks shrinking plans arrive; None: always in the full horizon."""
    if settings.arrival == "horizon" or not settings.shrinking:
        return None
    return agent.head("steps-to-goal", 'arrival="estimated"')


def _amortised(agent: WorldModelAgent, settings: MPCOptions) -> tuple[dict[str, Any], list[Head]]:
    """A proposer of whole plans or a prior to sample from, and the head that it uses."""
    if settings.proposals == "none":
        return {}, []
    model, option = agent.world_model, f"proposals={settings.proposals!r}"
    if settings.proposals == "gc-idm":
        network = agent.head("gc-idm", option)
        return {"proposer": functools.partial(inverse_dynamics_proposal, model, network)}, [network]
    denoiser = agent.head("denoiser", option)
    if settings.planner != "diffusion":
        return {"proposer": functools.partial(diffusion_proposals, model, denoiser)}, [denoiser]
    if settings.shrinking:
        raise ValueError("the denoiser plans a fixed number of blocks: leave out shrinking=True.")
    if settings.horizon != denoiser.config.horizon:
        raise ValueError(f"the denoiser was trained for horizon={denoiser.config.horizon}, not {settings.horizon}.")
    return {"prior": functools.partial(prior, model, denoiser)}, [denoiser]


@functools.cache
def _with_planner(kind: type[MPC], planner: str) -> type[MPC]:
    PLANNERS.get(planner)
    own = {"fixed_planner": planner, "name": planner, "__doc__": kind.__doc__, "__module__": __name__}
    return type(_label(planner), (kind,), own)


def _label(planner: str) -> str:
    """The name of a planner's class: "CEMMPC", "RandomShootingMPC"."""
    return "".join(word.upper() if len(word) < 5 else word.capitalize() for word in planner.split("-")) + "MPC"


def __getattr__(name: str) -> type[MPC]:
    """Find a planner's class by its name, as pickle does."""
    for planner in PLANNERS:
        if _label(planner) == name:
            return MPC.using(planner)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
