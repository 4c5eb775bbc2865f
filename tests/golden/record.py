"""Record what shipped agents do on fixed observations: ``python tests/golden/record.py [TASK/AGENT ...]``.

Without names, all agents are recorded.

Writes ``observations.npz`` (frames of one short episode per task) and ``decisions.npz`` (actions, and costs of plans).
Run it only to accept a change of behaviour on purpose: published numbers were measured with agents that act like this.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import wm_agents
from wm_agents.planning import PLANNERS

HERE = Path(__file__).resolve().parent
STEPS = 20


@contextmanager
def plan_costs() -> Iterator[list[np.ndarray]]:
    """Collect the cost ``[n]`` of every plan that any planner makes meanwhile."""
    kinds = [PLANNERS.get(name) for name in PLANNERS]
    originals = {kind: kind.__dict__["plan"] for kind in kinds if "plan" in kind.__dict__}
    costs: list[np.ndarray] = []

    def recorded(original: Any) -> Any:
        def plan(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(self, *args, **kwargs)
            costs.append(found.cost.cpu().numpy().astype(np.float32))
            return found

        return plan

    for kind, original in originals.items():
        kind.plan = recorded(original)
    try:
        yield costs
    finally:
        for kind, original in originals.items():
            kind.plan = original


def decide(name: str, frames: np.ndarray, goal: np.ndarray, agent: Any = None) -> dict[str, np.ndarray]:
    """Let one agent act on the episode alone, and beside its reverse.

    Args:
        name: Shipped agent.
        frames: uint8 ``[STEPS, H, W, 3]``.
        goal: uint8 ``[H, W, 3]``.
        agent: Used in place of the shipped one.

    Returns:
        ``single [STEPS, A]``, ``batch [STEPS, 2, A]``, and ``single_costs``, ``batch_costs`` of all plans, in order.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[str, np.ndarray] = {}
    try:
        for kind in ("single", "batch"):
            acting = agent or wm_agents.load(name)
            state, actions = None, []
            with plan_costs() as costs:
                for step in range(STEPS):
                    pixels, goals = frames[step], goal
                    if kind == "batch":
                        pixels, goals = np.stack([pixels, frames[-1 - step]]), np.stack([goal, frames[0]])
                    observation = {"pixels": pixels, "goal_pixels": goals}
                    action, state = acting.predict(observation, state, deterministic=True)
                    actions.append(action)
            found[kind] = np.stack(actions)
            found[f"{kind}_costs"] = np.concatenate(costs) if costs else np.zeros(0, np.float32)
    finally:
        torch.set_num_threads(threads)
    return found


def observe(env_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames of an episode of smooth random actions, and its goal image."""
    env = gym.make(env_id)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    frames, action = [observation["pixels"]], env.action_space.sample()
    while len(frames) < STEPS:
        if len(frames) % 5 == 0:
            action = env.action_space.sample()
        frames.append(env.step(action)[0]["pixels"])
    env.close()
    return np.stack(frames), observation["goal_pixels"]


def main() -> None:
    names = [name for name in wm_agents.list_checkpoints() if not sys.argv[1:] or name in sys.argv[1:]]
    path = HERE / "observations.npz"
    if not path.exists():
        pictures = {}
        for task in sorted({name.split("/")[0] for name in names}):
            env_id = wm_agents.load(f"{task}/gc-idm").env_id
            pictures[f"{task}/frames"], pictures[f"{task}/goal"] = observe(env_id)
        np.savez_compressed(path, **pictures)
    pictures = dict(np.load(path))
    stored = HERE / "decisions.npz"
    decisions = dict(np.load(stored)) if sys.argv[1:] else {}
    for name in names:
        task = name.split("/")[0]
        for key, value in decide(name, pictures[f"{task}/frames"], pictures[f"{task}/goal"]).items():
            decisions[f"{name}/{key}"] = value
        print(name, flush=True)
    np.savez_compressed(stored, **decisions)


if __name__ == "__main__":
    main()
