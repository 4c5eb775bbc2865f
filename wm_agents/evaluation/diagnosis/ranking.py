"""Does the planning cost rank plans as the truth does? Random plans are replayed in the environment to find out.

The rank correlation of the two is the Plan-Real correlation (DA-LeWM, arXiv 2608.18746).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from wm_agents import planning
from wm_agents.agents.search import SearchController
from wm_agents.envs.goal_env import GoalEnv
from wm_agents.evaluation.diagnosis.material import Material
from wm_agents.evaluation.diagnosis.statistics import rank_correlation
from wm_agents.models.heads import evaluating
from wm_agents.training.device import own_modes

HORIZON = 5
"""Blocks of a plan of agents that do not search."""
OF_DISTANCE = ("terminal", "summed", "discounted", "doubling")
"""Objectives of squared distances, which can be told true distances as well."""
FILMED = 16
"""Plans of each pair whose frames are rendered and encoded, for a cost without prediction."""


def rank_plans(material: Material, pairs: int, candidates: int) -> tuple[dict[str, Any], list[dict[str, np.ndarray]]]:
    """Compare costs of plans with the truth.

    Half of the candidates are drawn as CEM draws its first ones, from the normal distribution of actions; the others
    are stretches of recorded actions, the one that led from the start to the goal among them.

    Args:
        material: The episodes; its task replays the plans, if there is one.
        pairs: Starts and goals.
        candidates: Plans for each.

    Returns:
        The numbers, and for each pair the arrays ``cost`` and ``true [candidates]``; ``true`` only with a task.
    """
    name, objective, truth, horizon = search_of(material.agent)
    starts, blocks = material.starts(pairs, horizon, 7)
    found = []
    with own_modes(material.model.action_mean.device), torch.no_grad(), evaluating(material.model):
        for pair, start in enumerate(starts):
            found.append(_rank(material, int(start), blocks, candidates, pair, objective, truth))
    known = [row for row in found if "true" in row]
    correlations = [agreement(row["cost"], row["true"]) for row in known]
    few = [agreement(row["cost"][:FILMED], row["true"][:FILMED]) for row in known]
    seen = [agreement(row["seen"], row["true"][:FILMED]) for row in known]
    ratios = [row["cost"].max() / max(row["cost"].min(), 1e-12) for row in found]
    return {
        "objective": name,
        "pairs": pairs,
        "candidates": candidates,
        "steps": blocks * material.block,
        "cost_ratio": float(np.median(ratios)),
        "recorded_rank": float(np.mean([(row["cost"][1:] > row["cost"][0]).mean() for row in found])),
        "plan_real": _mean(correlations),
        "plan_real_filmed": _mean(few),
        "plan_real_frames": _mean(seen),
        "undefined": sum(value is None for value in correlations),
        "better_than_chosen": _mean([_better(row) for row in known]),
    }, found


def search_of(agent: Any) -> tuple[str, planning.Objective, planning.Objective, int]:
    """An agent's objective: its name, itself, the same for true distances ``[B, S, H, 1]``, and its blocks ahead."""
    controller = agent.policy.controller
    if not isinstance(controller, SearchController):
        return "summed", planning.make_objective("summed"), planning.make_objective("summed"), HORIZON
    spec = agent.settings.objective
    known = isinstance(spec, str) and spec in OF_DISTANCE
    name = spec if isinstance(spec, str) else "the agent's own"
    return name, controller.objective, planning.make_objective(spec if known else "summed"), controller.horizon


def _rank(
    material: Material,
    start: int,
    blocks: int,
    candidates: int,
    pair: int,
    objective: planning.Objective,
    truth: planning.Objective,
) -> dict[str, np.ndarray]:
    """Costs of one pair's plans, true costs where there is a task, and costs by the frames of the first few."""
    model, data, k = material.model, material.test, material.block
    device, goal = model.action_mean.device, start + blocks * k
    plans = _plans(material, start, blocks, candidates, pair)
    normal = torch.from_numpy(plans).to(device)

    state, target = material.state(start), material.latent([goal])
    row = {"cost": objective(model.imagine(state, normal[None]), target, normal[None])[0].cpu().numpy()}
    if material.task is None:
        return row
    actions = model.denormalize(normal).reshape(candidates, blocks * k, -1).cpu().numpy()
    states = np.stack([replay(material.task, data.states[start], data.states[goal], plan, k) for plan in actions])
    reached, wanted = material.task.achieved_goal(states), material.task.achieved_goal(data.states[goal])
    apart = torch.from_numpy(np.asarray(material.task.goal_distance(reached, wanted), np.float32))[None, ..., None]
    row["true"] = truth(apart, torch.zeros(1, 1), normal[None].cpu())[0].numpy()
    few = states[:FILMED]
    size = model.spec.image_size
    film = np.stack([[material.task.render_state(moment, size) for moment in path] for path in few])
    frames = model.encode(torch.from_numpy(film).to(device))
    row["seen"] = objective(frames[None], target, normal[None, :FILMED])[0].cpu().numpy()
    return row


def replay(task: GoalEnv, state: np.ndarray, goal: np.ndarray, actions: np.ndarray, block: int) -> np.ndarray:
    """Set the task to ``state`` and take ``actions [L, A]``; return the states ``[L / block, S]`` after each block."""
    task.reset(seed=0, options={"state": state, "goal_state": goal})
    states = []
    for step, action in enumerate(actions, start=1):
        task.step(action)
        if step % block == 0:
            states.append(task.get_state())
    return np.stack(states)


def _plans(material: Material, start: int, blocks: int, candidates: int, pair: int) -> np.ndarray:
    """Normalised blocks ``[candidates, blocks, K*A]``, float32: the recorded plan, then others, drawn and recorded."""
    model, data, rng = material.model, material.test, material.rng(8, pair)
    steps = blocks * material.block
    elsewhere = data.segments(candidates - 1, steps, rng)
    index = np.append(start, elsewhere)[:, None] + np.arange(steps)
    taken = torch.from_numpy(data.actions[index].reshape(candidates, blocks, -1)).to(model.action_mean.device)
    plans = model.normalize(taken)
    if not model.spec.choices:
        low, high = model.block_bounds()
        noise = torch.from_numpy(rng.normal(size=plans.shape).astype(np.float32)).to(plans)
        plans[2::2] = noise[2::2].clamp(low, high)  # of the filmed ones, half are
    return plans.cpu().numpy()


def agreement(cost: np.ndarray, true: np.ndarray) -> float | None:
    """Rank correlation of costs with true ones: None if all plans are equally good, 0 if all cost the same."""
    if not np.ptp(true):
        return None
    return rank_correlation(cost, true) or 0.0


def _better(row: dict[str, np.ndarray]) -> float | None:
    """Share of the plans that are truly better than the one with the lowest cost; None if all are equally good."""
    true = row["true"]
    return float((true < true[row["cost"].argmin()]).mean()) if np.ptp(true) else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
