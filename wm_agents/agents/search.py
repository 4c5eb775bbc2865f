"""Model-predictive control: plan in the latent space, execute the first blocks, and plan again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from wm_agents import planning
from wm_agents.agents.action_spaces import ActionSpace
from wm_agents.agents.controller import Controller, Decision, Frames, action_vectors
from wm_agents.agents.memory import Fields, part, prefixed
from wm_agents.agents.proposals import Prior, Proposer
from wm_agents.models import State, StepsToGoal, WorldModel
from wm_agents.planning import Objective, Planner
from wm_agents.registry import DISCRETE_PLANNERS
from wm_agents.types import LatentSpec, Plan


@dataclass
class SearchController(Controller):
    """Plans actions in an action space, executes the first few, and plans again.

    Memory: ``plan [N, E, H, d]``, the planner's elites, of which the first is the plan; ``step [N]``, environment steps
    since it was made (-1: none yet); ``length [N]``, its number of actions when it was made; ``block [N, K*A]``, the
    normalised block that is being executed; and the world model's state. Frames are encoded between blocks only.

    Attributes:
        space: What is searched.
        make_planner: ``make_planner(horizon=H, **options)`` gives a planner for H actions.
        horizon: H of a full plan.
        objective: What is minimised.
        receding_horizon: Actions executed before planning again.
        shrinking: Plan to arrive after ``horizon`` actions; see :class:`wm_agents.agents.mpc.MPCOptions`.
        precision: "fp32" or "bf16", of imagined rollouts.
        proposer: Gives plans from which the search starts, in addition to the last plan.
        prior: The prior from which the planner "diffusion" samples.
        heads: Networks that objective, proposer and prior use.
        distance: Says in how many actions a shrinking plan is to arrive, up to ``horizon``, in place of ``horizon``.
    """

    space: ActionSpace
    make_planner: Callable[..., Planner]
    horizon: int
    objective: Objective
    receding_horizon: int = 1
    shrinking: bool = False
    precision: str = "fp32"
    proposer: Proposer | None = None
    prior: Prior | None = None
    heads: tuple[nn.Module, ...] = ()
    distance: StepsToGoal | None = None

    def __post_init__(self) -> None:
        self.num_elites: int = getattr(self.make_planner(horizon=self.horizon), "num_elites", 1)

    def modules(self) -> Iterable[nn.Module]:
        return (*self.space.modules(), *self.heads, *(() if self.distance is None else (self.distance,)))

    def initial_memory(self, n: int) -> Fields:
        model = self.space.world_model
        state = {name: values.cpu().numpy() for name, values in model.initial(n).items()}
        return {
            "plan": np.zeros((n, self.num_elites, self.horizon, self.space.size), np.float32),
            "step": np.full(n, -1, np.int64),
            "length": np.zeros(n, np.int64),
            "block": np.zeros((n, model.spec.block_size), np.float32),
            **prefixed("model", state),
        }

    def goal_changed(self, memory: Fields, rows: np.ndarray) -> None:
        for name, values in self.initial_memory(len(rows)).items():
            memory[name][rows] = values

    def act(self, frames: Frames, memory: Fields) -> Decision:
        spec = frames.world_model.spec
        plan, step, length = memory["plan"], memory["step"], memory["length"]
        fresh = step < 0
        boundary = fresh | (step % spec.action_block == 0)
        due = fresh | (step == spec.action_block * np.minimum(self.receding_horizon, length))
        if boundary.any():
            self._observe(frames, memory, boundary)
        if self.shrinking:
            length -= self.receding_horizon * due
            fresh |= length <= 0  # that plan has arrived: nothing of it is left to start from
        if fresh.any():
            length[fresh] = self._full(frames, fresh)
        evaluations = 0
        # Environments with as much left to plan are planned for in one call, usually all of them.
        for horizon in sorted(set(length[due].tolist())):
            rows = np.flatnonzero(due & (length == horizon))
            start = self._shifted(plan[rows])[:, :, :horizon]
            start[fresh[rows]] = 0
            found, cost = self._plan(frames, memory, rows, torch.from_numpy(start))
            plan[rows, :, :horizon] = found.elites.cpu().numpy()
            evaluations += cost
        step[due] = 0
        if boundary.any():
            rows = np.flatnonzero(boundary)
            state, device = self._state(memory, rows, frames.goal.device), frames.goal.device
            now = torch.from_numpy(plan[rows, 0, step[rows] // spec.action_block]).to(device)
            blocks = self.space.blocks(state, now).clamp(*frames.world_model.block_bounds())
            memory["block"][rows] = blocks.cpu().numpy()
        blocks = frames.world_model.denormalize(torch.from_numpy(memory["block"]).to(frames.goal.device))
        blocks = blocks.view(len(frames), spec.action_block, spec.action_size).cpu()
        actions = blocks.numpy()[np.arange(len(frames)), step % spec.action_block]
        step += 1
        return Decision(actions, int(due.sum()), evaluations)

    def executed(self, memory: Fields, world_model: WorldModel, actions: np.ndarray) -> None:
        spec = world_model.spec
        taken = torch.from_numpy(action_vectors(actions, spec.choices)).to(world_model.action_mean.device)
        blocks = memory["block"].reshape(len(actions), spec.action_block, spec.action_size)
        rows = np.arange(len(actions))
        blocks[rows, (memory["step"] - 1) % spec.action_block] = world_model.normalize(taken).cpu().numpy()
        memory["block"][:] = blocks.reshape(memory["block"].shape)

    def imagined(self, memory: Fields, row: int) -> torch.Tensor:
        """Latents ``[h, *shape]`` after the block in progress, and after each that the plan of a row has left."""
        device = self.space.world_model.action_mean.device
        first = max(0, int(memory["step"][row]) - 1) // self.space.world_model.spec.action_block
        left = torch.from_numpy(memory["plan"][row, 0, first : memory["length"][row]]).to(device)
        return self.space.imagine(self._state(memory, np.array([row]), device), left[None, None])[0, 0]

    def _full(self, frames: Frames, rows: np.ndarray) -> np.ndarray | int:
        """For how many actions the marked rows begin to plan: one number, or int64 ``[n]``."""
        if self.distance is None:
            return self.horizon
        model, goals = frames.world_model, frames.goal[torch.from_numpy(rows).to(frames.goal.device)]
        steps = self.distance.steps(model.features(frames.latents(rows)), model.features(goals))
        return (steps / model.spec.action_block).ceil().clamp(1, self.horizon).long().cpu().numpy()

    def _observe(self, frames: Frames, memory: Fields, rows: np.ndarray) -> None:
        """Pass the new frames, and the blocks that led to them, to the world model."""
        device = frames.goal.device
        state = self._state(memory, rows, device)
        block = torch.from_numpy(memory["block"][rows]).to(device)
        new = frames.world_model.observe(state, frames.latents(rows), block)
        for name, values in new.items():
            memory[f"model.{name}"][rows] = values.cpu().numpy()

    def _state(self, memory: Fields, rows: np.ndarray, device: torch.device) -> State:
        return {name: torch.from_numpy(values[rows]).to(device) for name, values in part("model", memory).items()}

    def _shifted(self, plans: np.ndarray) -> np.ndarray:
        """Warm start: drop the executed actions, repeat the last one."""
        keep = plans[:, :, self.receding_horizon :]
        last = keep[:, :, -1:] if keep.shape[2] else np.zeros_like(plans[:, :, :1])
        return np.concatenate([keep, np.repeat(last, self.receding_horizon, axis=2)], axis=2)

    def _plan(self, frames: Frames, memory: Fields, rows: np.ndarray, start: torch.Tensor) -> tuple[Plan, int]:
        """Plan for some rows, from sequences ``start [n, E, H, d]``; return the plan and its evaluations."""
        device = frames.goal.device
        horizon = start.shape[2]
        state, goal = self._state(memory, rows, device), frames.goal[torch.from_numpy(rows).to(device)]
        low, high = self.space.bounds()
        # One fixed stream per plan: the same noise for every environment and every replan, so that a decision depends
        # on the observation, the memory and the seed alone, whatever N is and whatever came before.
        generator = torch.Generator(device=device).manual_seed(frames.seed)
        init, evaluations = start.to(device), 0
        if self.proposer is not None:
            proposals, evaluations = self.proposer(state, goal, horizon, generator)
            init = torch.cat([proposals, init], dim=1)
        extra = {} if self.prior is None else {"denoise": self.prior(state, goal)}
        planner = self.make_planner(horizon=horizon, **extra)
        cost = self.cost(state, goal)
        plan = planner.plan(cost, batch=len(rows), low=low, high=high, init=init, generator=generator)
        expected = (len(rows), self.num_elites, horizon, self.space.size)
        if tuple(plan.elites.shape) != expected:
            raise ValueError(
                f"the planner's elites are {tuple(plan.elites.shape)}, expected {expected}: Plan.elites holds the plan "
                "first, and as many sequences as the planner's num_elites says."
            )
        return plan, len(rows) * evaluations + horizon * int(plan.evaluations.sum())

    def cost(self, state: State, goal: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """The objective of the imagined results, in this controller's precision and with the present weights."""
        if self.precision == "fp32":
            return lambda actions: self.objective(self.space.imagine(state, actions), goal, actions)
        space = self.space.imagined_by(in_bf16(self.space.world_model))

        def cost(actions: torch.Tensor) -> torch.Tensor:
            with torch.autocast(actions.device.type, dtype=torch.bfloat16):
                predicted = space.imagine(state, actions)
            return self.objective(predicted.float(), goal, actions)

        return cost


def in_bf16(world_model: WorldModel) -> Any:
    """A copy that imagines under bf16 autocast, with the same results, up to twice as fast.

    Autocast casts frozen weights in every call. Here, the linear layers that imagine store them in bf16; the encoder
    is shared.
    """
    model = copy.deepcopy(world_model, {id(world_model.encoder): world_model.encoder})
    for name, child in model.named_children():
        for layer in child.modules() if name != "encoder" else ():
            if isinstance(layer, nn.Linear):
                layer.bfloat16()
    return model


def planner_factory(name: str, options: dict[str, Any], spec: LatentSpec) -> Callable[..., Planner]:
    """Return ``make(horizon=H, **extra)`` for a planner, which is told steps and choices of a block if it takes them.

    Raises:
        ValueError: There is no planner of that name for the world model's kind of actions.
    """
    table = DISCRETE_PLANNERS if spec.choices else planning.PLANNERS
    known = planning.option_names(table.get(name))
    told = {"action_block": spec.action_block, "choices": spec.choices}
    told = {option: value for option, value in told.items() if option in known}

    def make(**given: Any) -> Planner:
        return planning.make(name, table=table, **{**told, **options, **given})

    return make
