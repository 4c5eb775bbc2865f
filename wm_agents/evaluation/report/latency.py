"""What one decision costs: GC-IDM against a CEM plan of the paper's size, in turns, for a single environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import torch

from wm_agents.evaluation.bench.rates import in_turns, spread, timed
from wm_agents.evaluation.report.comparison import Source
from wm_agents.recipes import RECIPES

PAPER = {"samples": 300, "elites": 30, "iterations": 30, "horizon": 5, "receding_horizon": 1, "objective": "summed"}
"""CEM of LeWorldModel (arXiv 2603.19312) and GC-IDM (2605.08732): 9,000 sequences of 5 blocks a plan."""

PATIENCE = 3.0
"""Seconds; one round takes a quarter of a second on an idle core."""
DECISIONS = 20
"""GC-IDM decisions in one of its turns, whose time is divided by it."""


def cost_of_a_decision(
    source: Source, device: str = "auto", *, threads: Sequence[int] = (1,), rounds: int = 5
) -> dict[str, Any]:
    """Time both for one environment, from image to action.

    Args:
        source: Checkpoint with an inverse dynamics model.
        device: "auto", "cpu" or "cuda".
        threads: Numbers of torch threads to measure with.
        rounds: Measured in turns, after warm-up; 1 where that took more than :data:`PATIENCE`, since threads that
            wait for each other crawl on a machine with other work.

    Returns:
        ``device``, and by number of threads ``decision_ms`` and ``plan_ms`` (each best and median; float32) and
        ``ratio`` of the bests.
    """
    env = gym.make(RECIPES[source.task].env_id)
    observation, _ = env.reset(seed=0)
    env.close()
    amortised, search = source.open("gc-idm", device), source.open("cem-mpc", device, precision="fp32", **PAPER)
    _, state = amortised.predict(observation)

    def decide() -> None:
        for _ in range(DECISIONS):
            amortised.predict(observation, state)

    calls: dict[str, Callable[[], float]] = {
        "decision": timed(decide, amortised.device),
        "plan": timed(lambda: search.predict(observation), search.device),
    }
    content: dict[str, Any] = {"device": str(amortised.device), "plan": dict(PAPER), "threads": {}}
    before = torch.get_num_threads()
    try:
        for count in dict.fromkeys(threads):
            torch.set_num_threads(count)
            began = time.perf_counter()
            in_turns(calls, 0)
            times = in_turns(calls, rounds if time.perf_counter() - began < PATIENCE else 1)
            decision, plan = spread([ms / DECISIONS for ms in times["decision"]]), spread(times["plan"])
            ratio = plan["best"] / decision["best"]
            content["threads"][str(count)] = {"decision_ms": decision, "plan_ms": plan, "ratio": ratio}
    finally:
        torch.set_num_threads(before)
    return content
