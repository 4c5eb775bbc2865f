"""How cost and time of a search grow with its samples and its horizon."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from wm_agents.agents.mpc import MPCPolicy
from wm_agents.evaluation.bench.rates import in_turns, spread, timed
from wm_agents.types import Plan


def scaling(
    policies: Mapping[str, MPCPolicy],
    images: Mapping[str, np.ndarray],
    samples: Sequence[int],
    horizons: Sequence[int],
    rounds: int,
) -> dict[str, Any]:
    """Plan for a fixed batch of starts and goals with searches of many sizes.

    Args:
        policies: By name of the planner, which must have ``samples`` and ``elites``.
        images: Observations, ``pixels`` and ``goal_pixels``, uint8 ``[B, H, W, C]``.
        samples: At each policy's own horizon.
        horizons: At each policy's own number of samples.
        rounds: Measured in turns.

    Returns:
        By policy, "samples" or "horizon", and value: ``cost`` (the planner's own, mean over the batch), ``left`` (share
        of the squared latent distance to the goal that is left where a plan comes closest), ``evaluations``
        (sequences), ``ms`` (for one of the B, best and median).
    """
    content: dict[str, Any] = {}
    calls: dict[tuple[str, str, int], Callable[[], float]] = {}
    for name, policy in policies.items():
        for over, values in (("samples", samples), ("horizon", horizons)):
            for value in values:
                search = _Search(policy, resized(policy.planner, over, value), images)
                content.setdefault(name, {}).setdefault(over, {})[str(value)] = search.quality()
                calls[name, over, value] = timed(search.plan, search.z.device)
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

    def __init__(self, policy: MPCPolicy, planner: Any, images: Mapping[str, np.ndarray]) -> None:
        self.policy, self.planner = policy, planner
        with torch.no_grad():
            self.z = policy.encode(images["pixels"]).unsqueeze(1)
            self.goal = policy.encode(images["goal_pixels"])
        self.past = self.z.new_zeros(len(self.z), 0, policy.world_model.config.block_size)

        self.rollout = policy.imagination()

    def imagine(self, actions: torch.Tensor) -> torch.Tensor:
        return self.rollout(self.z, self.past, actions)

    def plan(self) -> Plan:
        low, high = self.policy.world_model.block_bounds()
        with torch.no_grad():
            return self.planner.plan(
                lambda actions: self.policy.objective(self.imagine(actions), self.goal, actions),
                low=low,
                high=high,
                batch=len(self.z),
                generator=torch.Generator(self.z.device).manual_seed(0),
            )

    def quality(self) -> dict[str, Any]:
        found = self.plan()
        with torch.no_grad():
            imagined = self.imagine(found.actions.unsqueeze(1)).squeeze(1)
        left = (imagined - self.goal.unsqueeze(1)).square().sum(-1).amin(1)
        start = (self.z[:, 0] - self.goal).square().sum(-1)
        return {
            "cost": float(found.cost.mean()),
            "left": float((left / start.clamp(min=1e-12)).mean()),
            "evaluations": float(found.evaluations.double().mean()),
        }
