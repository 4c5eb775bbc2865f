"""The high level of hierarchical planning: it proposes the features that the low level heads for next."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch import nn

from wm_agents.models import InverseDynamics, LatentGraph, MacroActions, TemporalDistance, Waypoints, WorldModel
from wm_agents.models.imagined_control import imagine_control
from wm_agents.planning import Planner

Support = Literal["bounds", "bank", "density", "none"]
SUPPORTS = get_args(Support)
DENSITY_WEIGHT = 5.0  # environment steps for each squared standard deviation off the bank
FAR = 2.0  # radii of the graph's nodes beyond which a goal is unlike the data


class SupportWarning(UserWarning):
    """A goal looks unlike everything in the recorded data."""


@dataclass(frozen=True)
class Subgoals:
    """Subgoals that the high level proposes for n environments.

    Attributes:
        latents: float32 ``[n, F]``, the features to head for.
        steps: float32 ``[n]``, the expected number of environment steps to the subgoal, at least 1.
        node: int64 ``[n]``, the node of the graph; -1 if the subgoal is the goal itself, -2 if it is not a node.
        detour: bool ``[n]``, no path to the goal is known, so the subgoal leads as near to it as the graph does.
        evaluations: World-model evaluations that the search took.
    """

    latents: torch.Tensor
    steps: np.ndarray
    node: np.ndarray
    detour: np.ndarray
    evaluations: int = 0


class HighLevel(Protocol):
    """Proposes subgoals. It stores nothing about an episode. ``modules``, if it exists, lists networks that it uses."""

    def propose(self, z: torch.Tensor, goal: torch.Tensor, left: np.ndarray, seed: int) -> Subgoals:
        """Propose a subgoal on the way from ``z [n, F]`` to ``goal [n, F]``.

        Args:
            z: Features of the present.
            goal: Features of the goal.
            left: float32 ``[n]``, environment steps that are left to reach the goal, 0 and less if they have run out;
                infinite if the agent has no horizon.
            seed: Seed of everything that is sampled.
        """
        ...

    def steps(self, z: torch.Tensor, subgoal: torch.Tensor) -> torch.Tensor:
        """Environment steps ``[n]`` between near features, to tell that a subgoal is reached."""
        ...


class GraphSubgoals:
    """Subgoals are nodes on the shortest path through a latent graph.

    Args:
        graph: The graph.
        lookahead: Environment steps to the subgoal; a nearer goal is itself the subgoal.
    """

    def __init__(self, graph: LatentGraph, lookahead: int) -> None:
        self.graph = graph
        self.lookahead = lookahead
        self.modules: tuple[nn.Module, ...] = (graph,)

    def steps(self, z: torch.Tensor, subgoal: torch.Tensor) -> torch.Tensor:
        return (z - subgoal).norm(dim=1) * self.graph.steps_per_unit

    def propose(self, z: torch.Tensor, goal: torch.Tensor, left: np.ndarray, seed: int) -> Subgoals:
        last, gap = self.graph.nearest(goal)
        self._check_support(gap)
        ends = (gap * self.graph.steps_per_unit).tolist()
        gaps = torch.cdist(z, self.graph.latents)
        near = gaps <= torch.maximum(gaps.amin(dim=1, keepdim=True), self.graph.radius)
        away = torch.where(near, gaps * self.graph.steps_per_unit, torch.inf).cpu().numpy()
        ways = [self._walk(*way) for way in zip(away, last.tolist(), ends, strict=True)]
        node, steps, detour = (np.array(values) for values in zip(*ways, strict=True))
        chosen = torch.from_numpy(node).to(z.device)
        latents = torch.where(chosen.unsqueeze(1) < 0, goal, self.graph.latents[chosen.clamp(min=0)])
        return Subgoals(latents, np.maximum(steps, 1).astype(np.float32), node, detour)

    def _walk(self, away: np.ndarray, last: int, end: float) -> tuple[int, float, bool]:
        """Go ``lookahead`` steps towards node ``last``, which is ``end`` steps from the goal.

        Args:
            away: Steps to each node, infinite to all but the near ones; the way starts at the best of these.
            last: The goal's node.
            end: Steps from there to the goal.

        Returns:
            The node, -1 for the goal itself; the steps to it; whether the goal is out of reach.
        """
        left, following = self.graph.routes(last)
        detour = not np.isfinite(away + left).any()
        if detour:
            last = self.graph.nearest_reachable(int(away.argmin()), last)
            left, following = self.graph.routes(last)
        here = node = int((away + left).argmin())
        so_far = float(away[here])
        while node != last and so_far + left[here] - left[node] < self.lookahead:
            node = int(following[node])
        steps = so_far + left[here] - left[node]
        return (node, steps, detour) if node != last or detour else (-1, steps + end, False)

    def _check_support(self, gap: torch.Tensor) -> None:
        far = float(gap.max() / self.graph.radius.clamp(min=1e-6))
        if far > FAR:
            warnings.warn(
                f"a goal lies {far:.1f} times as far from the nearest recorded latent as the data's own frames do at "
                "most: it is unlike all the data, so do not rely on the subgoals.",
                SupportWarning,
                stacklevel=2,
            )


class MacroSubgoals:
    """The subgoal is the latent after the first macro-action of a plan (HWM, arXiv 2604.03208).

    A planner searches over sequences of macro-actions for the one whose waypoints come nearest to the goal, in steps
    of the temporal distance. Without restrictions, search picks macro-actions that are unlike the data, and subgoals
    that cannot be reached (arXiv 2607.12547). ``support`` keeps it near the macro-actions of the training data:

    - "bounds": inside the 2nd to 98th percentile of each coordinate (HWM);
    - "bank": within a residual of a recorded macro-action, each candidate is pulled to its nearest (Hi-LeWM);
    - "density": bounds, and a penalty on the squared distance to the nearest recorded macro-action;
    - "none": within the range of the recorded ones.

    Args:
        macro_actions: Predictor, and bank of recorded macro-actions.
        temporal_distance: Measures the distance to the goal.
        planner: Searches over H macro-actions.
        lookahead: A goal at most this many steps away is itself the subgoal.
        support: See above.
        graph: If given, the subgoal is the node of this graph that is nearest to the waypoint.
    """

    def __init__(
        self,
        macro_actions: MacroActions,
        temporal_distance: TemporalDistance,
        planner: Planner,
        lookahead: int,
        support: Support,
        graph: LatentGraph | None,
    ) -> None:
        self.macro_actions = macro_actions
        self.distance = temporal_distance
        self.planner = planner
        self.lookahead = lookahead
        self.support = support
        self.graph = graph
        self.modules: tuple[nn.Module, ...] = (macro_actions, temporal_distance, *(() if graph is None else (graph,)))

    def steps(self, z: torch.Tensor, subgoal: torch.Tensor) -> torch.Tensor:
        return self.distance(z, subgoal)

    def propose(self, z: torch.Tensor, goal: torch.Tensor, left: np.ndarray, seed: int) -> Subgoals:
        model, horizon = self.macro_actions, self.planner.horizon
        low, high = model.bounds(0.0 if self.support == "none" else 2.0)

        def cost(macros: torch.Tensor) -> torch.Tensor:
            waypoints = model.rollout(z, self._on_support(macros))
            distance = self.distance(waypoints, goal[:, None, None]).mean(-1)
            if self.support == "density":
                gap = (macros - model.bank[model.nearest(macros)]).square().sum(-1)
                distance = distance + DENSITY_WEIGHT * gap.mean(-1)
            return distance

        generator = torch.Generator(device=z.device).manual_seed(seed)
        plan = self.planner.plan(cost, batch=len(z), low=low, high=high, generator=generator)
        waypoint = model.predict(z, self._on_support(plan.actions[:, :1]).squeeze(1))
        node = np.full(len(z), -2)
        if self.graph is not None:
            nearest = self.graph.nearest(waypoint)[0]
            waypoint, node = self.graph.latents[nearest], nearest.cpu().numpy()
        final = self.distance(z, goal) <= self.lookahead
        chosen = torch.where(final.unsqueeze(1), goal, waypoint)
        steps = self.distance(z, chosen).clamp(min=1).cpu().numpy()
        return Subgoals(
            chosen,
            steps,
            np.where(final.cpu().numpy(), -1, node),
            np.zeros(len(z), bool),
            horizon * int(plan.evaluations.sum()),
        )

    def _on_support(self, macros: torch.Tensor) -> torch.Tensor:
        return self.macro_actions.near_bank(macros) if self.support == "bank" else macros


class WaypointSubgoals:
    """Samples chains of waypoints up to the goal. The subgoal is the first waypoint of the easiest chain.

    A chain is drawn from the waypoint model, one stride at a time, until the goal is at most a stride away. To measure
    how easy it is to follow, GC-IDM acts in the world model from each waypoint to the next. The error is the squared
    distance between the latent that it reaches and the next waypoint, summed over the chain. A single sample is no
    better than no subgoal (docs/agents/hierarchical.md).

    Args:
        waypoints: Draws the chains.
        world_model: Imagines the result of following a chain.
        inverse_dynamics: Follows a chain in imagination.
        chains: Chains drawn for each proposal.
    """

    def __init__(
        self, waypoints: Waypoints, world_model: WorldModel, inverse_dynamics: InverseDynamics, chains: int
    ) -> None:
        self.waypoints = waypoints
        self.world_model = world_model
        self.inverse_dynamics = inverse_dynamics
        self.chains = chains
        self.modules: tuple[nn.Module, ...] = (waypoints, inverse_dynamics)

    def steps(self, z: torch.Tensor, subgoal: torch.Tensor) -> torch.Tensor:
        """Infinite: a waypoint is the place to be after a stride, and is replaced only after a time."""
        return torch.full((len(z),), torch.inf, device=z.device)

    def propose(self, z: torch.Tensor, goal: torch.Tensor, left: np.ndarray, seed: int) -> Subgoals:
        stride = self.waypoints.config.stride
        latents, evaluations = goal.clone(), 0
        final = left <= stride
        for steps in np.unique(left[~final]).tolist():  # environments of one clock take the same number of strides
            rows = torch.from_numpy(np.flatnonzero(left == steps)).to(z.device)
            latents[rows], asked = self._easiest(z[rows], goal[rows], steps, seed)
            evaluations += len(rows) * asked
        expected = np.where(final & (left > 0), left, stride).astype(np.float32)
        return Subgoals(latents, expected, np.where(final, -1, -2), np.zeros(len(z), bool), evaluations)

    def _easiest(self, z: torch.Tensor, goal: torch.Tensor, left: float, seed: int) -> tuple[torch.Tensor, int]:
        """The first waypoints ``[n, F]`` of the easiest chains, and the evaluations for each."""
        config, generator = self.waypoints.config, torch.Generator(z.device).manual_seed(seed)
        start, goals = (latent.repeat_interleave(self.chains, dim=0) for latent in (z, goal))
        chain, errors, blocks = [start], torch.zeros(len(start), device=z.device), 0
        for steps in np.arange(min(left, config.max_horizon), 0, -config.stride).tolist():
            there = goals
            if steps > config.stride:
                # The same noise for every environment: what one does depends on no other.
                noise = torch.randn(self.chains, z.shape[1], generator=generator, device=z.device).repeat(len(z), 1)
                there = self.waypoints.sample(noise, chain[-1], goals, start.new_full((len(start),), steps))
            leg = max(1, round(min(steps, config.stride) / self.world_model.spec.action_block))
            errors += self._miss(chain[-1], there, leg)
            chain.append(there)
            blocks += leg
        best = errors.view(len(z), self.chains).argmin(dim=1)
        first = chain[1].view(len(z), self.chains, -1)
        return first[torch.arange(len(z), device=z.device), best], 2 * blocks * self.chains

    def _miss(self, z: torch.Tensor, there: torch.Tensor, blocks: int) -> torch.Tensor:
        """Squared distance ``[n]`` to ``there [n, F]`` after this many blocks of imagined GC-IDM from ``z [n, F]``."""
        model = self.world_model
        state = model.remember(model.unflatten(z)[:, None], z.new_zeros(len(z), 0, model.spec.block_size))
        steps = torch.full((len(z),), blocks * model.spec.action_block, device=z.device)
        way, _ = imagine_control(model, self.inverse_dynamics, state, there, steps, blocks)
        return (way[:, -1] - there).square().sum(dim=1)
