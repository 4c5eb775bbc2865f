"""Tasks in which an object has to move: elsewhere, arriving with the agent alone, or not moving, may be enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator

from wm_agents.evaluation.tasks import Manifest


@dataclass(frozen=True)
class Moves:
    """A rule: one of the objects is farther than ``distance`` from where the goal has it.

    Attributes:
        label: In words.
        objects: Names of the coordinates of each object in the state.
        distance: In the state's units.
    """

    label: str
    objects: tuple[tuple[str, ...], ...]
    distance: float


RULES: dict[str, Moves] = {
    "wm/PushT-v0": Moves("block must move 20 px", (("block_x", "block_y"),), 20.0),
    "wm/Cube-Single-v0": Moves("cube must move 4 cm", (("cube0_x", "cube0_y", "cube0_z"),), 0.04),
    "wm/Cube-Double-v0": Moves(
        "a cube must move 4 cm", tuple((f"cube{i}_x", f"cube{i}_y", f"cube{i}_z") for i in (0, 1)), 0.04
    ),
}
"""By environment. The distances are those within which the environments' moderate tests place an object."""


def must_move(manifest: Manifest) -> np.ndarray | None:
    """Return in which tasks an object has to move, bool ``[N]``; None where the environment has no rule."""
    rule = RULES.get(manifest.env_id)
    if rule is None:
        return None
    entry: Any = gym.spec(manifest.env_id).entry_point
    task: Any = load_env_creator(entry) if isinstance(entry, str) else entry
    names = list(task.state_names)
    apart = manifest.goals - manifest.starts
    columns = [[names.index(name) for name in names_of_one] for names_of_one in rule.objects]
    return np.max([np.linalg.norm(apart[:, chosen], axis=1) for chosen in columns], axis=0) > rule.distance
