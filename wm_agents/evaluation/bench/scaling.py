"""How the cost and the time of a search depend on its samples and its horizon."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from wm_agents.agents import MPC
from wm_agents.agents.search import SearchController
from wm_agents.evaluation.bench.rates import in_turns, spread, timed
from wm_agents.types import Plan


def scaling(
    agents: Mapping[str, MPC],
    images: Mapping[str, np.ndarray],
    samples: Sequence[int],
    horizons: Sequence[int],
    rounds: int,
) -> dict[str, Any]:
    """Plan for a fixed batch of starts and goals with searches of many sizes.

    Args:
        agents: By name of the planner, which must have ``samples`` and ``elites``.
        images: Observations, ``pixels`` and ``goal_pixels``, uint8 ``[B, H, W, C]``.
        samples: Numbers of samples to try, at each agent's own horizon.
        horizons: Horizons to try, at each agent's own number of samples.
        rounds: Rounds of measurement, in turns.

    Returns:
        By agent, "samples" or "horizon", and value: ``cost`` (the planner's own, mean over the batch), ``left`` (share
        of the squared latent distance to the goal that is left where a plan comes closest), ``evaluations``
        (sequences), ``ms`` (for one of the B, best and median).
    """
    content: dict[str, Any] = {}
    calls: dict[tuple[str, str, int], Callable[[], float]] = {}
    for name, agent in agents.items():
        controller = agent.policy.controller
        assert isinstance(controller, SearchController)
        planner = controller.make_planner(horizon=controller.horizon)
        for over, values in (("samples", samples), ("horizon", horizons)):
            for value in values:
                search = _Search(agent, resized(planner, over, value), images)
                content.setdefault(name, {}).setdefault(over, {})[str(value)] = search.quality()
                calls[name, over, value] = timed(search.plan, agent.device)
    for (name, over, value), times in in_turns(calls, rounds).items():
        content[name][over][str(value)]["ms"] = spread([ms / len(images["pixels"]) for ms in times])
    return content


def resized(planner: Any, over: str, value: int) -> Any:
    """The planner with another "horizon" or number of "samples", and the same share of elites."""
    if over == "horizon":
        return dataclasses.replace(planner, horizon=value)
    elites = planner.elites
    if elites is not None:
        elites = max(1, round(elites * value / planner.samples))
    return dataclasses.replace(planner, samples=value, elites=elites)


class _Search:
    """Plans from single frames to goals."""

    def __init__(self, agent: MPC, planner: Any, images: Mapping[str, np.ndarray]) -> None:
        controller, model = agent.policy.controller, agent.world_model
        assert isinstance(controller, SearchController)
        self.model, self.space, self.planner = model, controller.space, planner
        with torch.no_grad():
            self.z, self.goal = (
                model.encode(torch.from_numpy(images[key]).to(agent.device)) for key in ("pixels", "goal_pixels")
            )
            self.state = model.remember(self.z.unsqueeze(1), self.z.new_zeros(len(self.z), 0, model.spec.block_size))
        self.cost = controller.cost(self.state, self.goal)

    def plan(self) -> Plan:
        low, high = self.space.bounds()
        with torch.no_grad():
            return self.planner.plan(
                self.cost,
                low=low,
                high=high,
                batch=len(self.z),
                generator=torch.Generator(self.z.device).manual_seed(0),
            )

    def quality(self) -> dict[str, Any]:
        found = self.plan()
        with torch.no_grad():
            imagined = self.space.imagine(self.state, found.actions.unsqueeze(1)).squeeze(1)
        goal = self.model.features(self.goal)
        left = (self.model.features(imagined) - goal.unsqueeze(1)).square().sum(-1).amin(1)
        start = (self.model.features(self.z) - goal).square().sum(-1)
        return {
            "cost": float(found.cost.mean()),
            "left": float((left / start.clamp(min=1e-12)).mean()),
            "evaluations": float(found.evaluations.double().mean()),
        }
