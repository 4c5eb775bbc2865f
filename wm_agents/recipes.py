"""The default recipe of every task, in one place: data, networks, training, agents.

``wm-agents reproduce TASK`` and the shipped checkpoints use exactly these.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from wm_agents.models import InverseDynamicsConfig, WorldModelConfig
from wm_agents.registry import did_you_mean
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """How one task's agents are made.

    Attributes:
        env_id: Gymnasium id.
        policy: Exploration policy that collects the data, and that evaluation draws its held-out episodes from.
        episodes: Recorded episodes.
        episode_steps: Environment steps of each.
        world_model: Shape of the world model.
        training: Its training.
        inverse_dynamics: Shape of GC-IDM's network.
        inverse_dynamics_training: Its training.
        options: Constructor options of the agents, by name, where they differ from the class's defaults.
        budget: Environment steps for a task with a random start and goal.
        variant: Sets a variant's data apart from the task's usual data.
    """

    env_id: str
    policy: str = "waypoint"
    episodes: int = 120
    episode_steps: int = 300
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    inverse_dynamics: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)
    inverse_dynamics_training: InverseDynamicsTrainingConfig = field(default_factory=InverseDynamicsTrainingConfig)
    options: dict[str, dict[str, Any]] = field(default_factory=lambda: {"cem-mpc": {"horizon": 16}})
    budget: int = 300
    variant: str = ""

    @property
    def task(self) -> str:
        """The task's short name, "pointmaze-umaze"."""
        return self.env_id.removeprefix("wm/").rsplit("-v", 1)[0].lower()

    @property
    def dataset(self) -> str:
        """The Minari id of its data."""
        return f"wm/{self.task}/{self.policy}{self.variant}-v0"

    def seeded(self, seed: int) -> Recipe:
        """Return the same recipe with another seed of training; the data stays."""
        return dataclasses.replace(
            self,
            training=dataclasses.replace(self.training, seed=seed),
            inverse_dynamics_training=dataclasses.replace(self.inverse_dynamics_training, seed=seed),
        )


RECIPES: dict[str, Recipe] = {
    recipe.task: recipe
    for recipe in (
        Recipe("wm/PointMaze-UMaze-v0"),
        Recipe(
            "wm/TwoRoom-v0",
            episodes=200,
            episode_steps=400,
            training=TrainingConfig(steps=2000),
            inverse_dynamics_training=InverseDynamicsTrainingConfig(steps=6000),
        ),
        Recipe(
            "wm/PointMaze-Medium-v0",
            episodes=200,
            episode_steps=400,
            training=TrainingConfig(steps=2500),
            inverse_dynamics=InverseDynamicsConfig(max_horizon=250),
            inverse_dynamics_training=InverseDynamicsTrainingConfig(steps=6000),
            budget=600,
        ),
    )
}


def recipe(task: str) -> Recipe:
    """Look a recipe up by task name or Gymnasium id.

    Raises:
        ValueError: Unknown task; the message lists the known ones.
    """
    for known in RECIPES.values():
        if task in (known.task, known.env_id):
            return known
    raise ValueError(did_you_mean("task", task, [*RECIPES, *(r.env_id for r in RECIPES.values())]))
