"""The default recipe of every task, in one place: data, networks, training, agents.

``wm-agents reproduce TASK`` and the shipped checkpoints use exactly these.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from wm_agents.models import (
    DenoiserConfig,
    InverseDynamicsConfig,
    MacroActionsConfig,
    TemporalDistanceConfig,
    WaypointsConfig,
    WorldModelConfig,
)
from wm_agents.registry import did_you_mean
from wm_agents.training import (
    DenoiserTrainingConfig,
    GraphConfig,
    ImaginationTrainingConfig,
    InverseDynamicsTrainingConfig,
    MacroActionsTrainingConfig,
    PredictorTrainingConfig,
    TemporalDistanceTrainingConfig,
    TrainingConfig,
    WaypointsTrainingConfig,
)

SEARCH: dict[str, Any] = {"horizon": 10, "objective": "temporal-distance"}
PLANNERS: dict[str, dict[str, Any]] = {
    "cem-mpc": {**SEARCH, "samples": 100, "elites": 10, "iterations": 10},
    "icem": {**SEARCH, "samples": 150, "elites": 22, "iterations": 10},
    "mppi": {**SEARCH, "samples": 100, "elites": 20, "iterations": 10},
    "random-shooting": {**SEARCH, "samples": 100, "iterations": 10},
    "predictive-sampling": {**SEARCH, "samples": 50, "iterations": 20},
    "gradient": {**SEARCH, "restarts": 4, "steps": 100},
    "sgld": {**SEARCH, "chains": 2, "steps": 200},
    "diffusion": {**SEARCH, "horizon": 8, "proposals": "diffusion", "samples": 16, "steps": 10, "spread": 0.5},
    "diffusion-guidance": {**SEARCH, "samples": 20, "steps": 20},
}
"""The shipped planners of the mazes: about the compute of 1,000 candidate sequences a plan for each, where a gradient
step on a sequence counts as two to three. Diffusion with its prior needs less."""

WITHOUT_PRIOR = {name: options for name, options in PLANNERS.items() if name != "diffusion"}
"""For tasks whose checkpoint holds no denoiser: diffusion then starts from noise alone."""
MAZE: dict[str, dict[str, Any]] = {**PLANNERS, "hierarchical": {"lookahead": 15}}
REACHER: dict[str, dict[str, Any]] = {**WITHOUT_PRIOR, "gc-idm": {"horizon": 25, "countdown": True}}
ARRIVE: dict[str, Any] = {"horizon": 6, "objective": "terminal", "shrinking": True}
"""In PushT the block comes first and the agent's own place last: no distance summed over the way serves both."""
PUSHT: dict[str, dict[str, Any]] = {
    **{name: {**options, **ARRIVE} for name, options in WITHOUT_PRIOR.items()},
    "gc-idm": {"horizon": 25, "countdown": True},
    "hierarchical": {
        "high": "waypoints",
        "horizon": 25,
        "low": "cem",
        "low_options": {**PLANNERS["cem-mpc"], **ARRIVE, "proposals": "gc-idm"},
        "lookahead": 30,
        "replan_every": 30,
    },
}
CUBE: dict[str, dict[str, Any]] = {
    **WITHOUT_PRIOR,
    "gc-idm": {"horizon": 25, "countdown": True},
    "hierarchical": {"lookahead": 25, "replan_every": 1},
}
MANIPULATION = WorldModelConfig(latent_size=64, predictor_width=384, dropout=0.1)
SENSORIMOTOR = {"prediction": 1.0, "sigreg": 0.09, "inverse_dynamics": 1.0}
"""Loss weights where one object is moved by another: pairs of frames must tell the actions (arXiv 2606.20104)."""


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
        inverse_dynamics_training: Its training, by imitation.
        imagination_training: Its further training through the world model; None leaves it out.
        predictor_policy: Exploration policy of more data that the predictor is trained further on, beside the task's;
            None where the task's own data shows what planners try.
        predictor_episodes: Its episodes, of ``episode_steps``.
        predictor_training: The further training of the predictor; None leaves it out.
        temporal_distance: Shape of the temporal-distance head.
        temporal_distance_training: Its training; None leaves the head out.
        denoiser: Shape of the denoiser.
        denoiser_training: Its training; None leaves the head out.
        graph: Of latents, for hierarchical agents; None leaves it out.
        macro_actions: Shape of the macro-action head.
        macro_actions_training: Its training; None leaves the head out.
        waypoints: Shape of the waypoint model.
        waypoints_training: Its training; None leaves the head out.
        options: Constructor options of the agents, by name, where they differ from the class's defaults.
        offset: What the quickstart asks of the agent: a goal so many steps away, or "random" starts and goals.
        budget: Environment steps that it has for that.
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
    imagination_training: ImaginationTrainingConfig | None = None
    predictor_policy: str | None = "smooth-random"
    predictor_episodes: int = 120
    predictor_training: PredictorTrainingConfig | None = field(default_factory=PredictorTrainingConfig)
    temporal_distance: TemporalDistanceConfig = field(default_factory=TemporalDistanceConfig)
    temporal_distance_training: TemporalDistanceTrainingConfig | None = field(
        default_factory=TemporalDistanceTrainingConfig
    )
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    denoiser_training: DenoiserTrainingConfig | None = field(default_factory=DenoiserTrainingConfig)
    graph: GraphConfig | None = None
    macro_actions: MacroActionsConfig = field(default_factory=MacroActionsConfig)
    macro_actions_training: MacroActionsTrainingConfig | None = None
    waypoints: WaypointsConfig = field(default_factory=WaypointsConfig)
    waypoints_training: WaypointsTrainingConfig | None = None
    options: dict[str, dict[str, Any]] = field(default_factory=lambda: PLANNERS)
    offset: int | Literal["random"] = "random"
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

    @property
    def predictor_dataset(self) -> str:
        """The Minari id of the predictor's further data."""
        return f"wm/{self.task}/{self.predictor_policy}{self.variant}-v0"

    def seeded(self, seed: int) -> Recipe:
        """Return the same recipe with another seed of training; the data stays."""
        names = ("training", "inverse_dynamics_training", "imagination_training", "predictor_training",
                 "temporal_distance_training", "denoiser_training", "macro_actions_training",
                 "waypoints_training")  # fmt: skip
        trainings: dict[str, Any] = {name: getattr(self, name) for name in names}
        seeded = {name: dataclasses.replace(t, seed=seed) for name, t in trainings.items() if t is not None}
        return dataclasses.replace(self, **seeded)


RECIPES: dict[str, Recipe] = {
    recipe.task: recipe
    for recipe in (
        Recipe("wm/PointMaze-UMaze-v0", graph=GraphConfig(), options=MAZE),
        Recipe(
            "wm/TwoRoom-v0",
            episodes=200,
            episode_steps=400,
            predictor_episodes=200,
            training=TrainingConfig(steps=2000),
            inverse_dynamics_training=InverseDynamicsTrainingConfig(steps=6000),
            graph=GraphConfig(),
            options=MAZE,
        ),
        Recipe(
            "wm/PointMaze-Medium-v0",
            episodes=200,
            episode_steps=400,
            predictor_episodes=200,
            training=TrainingConfig(steps=2500),
            inverse_dynamics=InverseDynamicsConfig(max_horizon=250),
            temporal_distance=TemporalDistanceConfig(max_steps=250),
            inverse_dynamics_training=InverseDynamicsTrainingConfig(steps=6000),
            graph=GraphConfig(),
            options=MAZE,
            budget=600,
        ),
        Recipe(
            "wm/PointMaze-Large-v0",
            episodes=300,
            episode_steps=500,
            predictor_episodes=200,
            training=TrainingConfig(steps=3500),
            inverse_dynamics=InverseDynamicsConfig(max_horizon=250),
            temporal_distance=TemporalDistanceConfig(max_steps=400),
            inverse_dynamics_training=InverseDynamicsTrainingConfig(steps=8000),
            graph=GraphConfig(nodes=500),
            options=MAZE,
            budget=1000,
        ),
        Recipe(
            "wm/Reacher-v0",
            policy="piecewise-random",
            episodes=500,
            episode_steps=200,
            training=TrainingConfig(steps=2500),
            inverse_dynamics=InverseDynamicsConfig(width=384, max_horizon=50),
            inverse_dynamics_training=InverseDynamicsTrainingConfig(steps=8000, unknown_fraction=0.3),
            predictor_policy=None,
            predictor_training=PredictorTrainingConfig(steps=2000),
            temporal_distance_training=TemporalDistanceTrainingConfig(steps=2000),
            denoiser_training=None,
            options=REACHER,
            offset=25,
            budget=50,
        ),
        Recipe(
            "wm/PushT-v0",
            policy="play",
            episodes=4000,
            episode_steps=150,
            world_model=dataclasses.replace(MANIPULATION, dropout=0.0, predictor_width=768),
            training=TrainingConfig(
                steps=8000, batch_size=128, frames=2, loss_weights={**SENSORIMOTOR, "reconstruction": 1.0}
            ),
            inverse_dynamics=InverseDynamicsConfig(width=320, max_horizon=75),
            inverse_dynamics_training=InverseDynamicsTrainingConfig(steps=15_000, unknown_fraction=0.3),
            imagination_training=ImaginationTrainingConfig(),
            predictor_policy=None,
            predictor_training=PredictorTrainingConfig(steps=24_000, batch_size=128, blocks=5, square_symmetry=True),
            temporal_distance_training=None,
            denoiser_training=None,
            graph=GraphConfig(nodes=2000, support=2),
            waypoints_training=WaypointsTrainingConfig(),
            options=PUSHT,
            offset=25,
            budget=50,
        ),
        Recipe(
            "wm/Cube-Single-v0",
            policy="oracle-play",
            episodes=1500,
            episode_steps=200,
            world_model=MANIPULATION,
            training=TrainingConfig(steps=8000, batch_size=128, frames=2, loss_weights=SENSORIMOTOR),
            inverse_dynamics=InverseDynamicsConfig(width=320, max_horizon=75),
            inverse_dynamics_training=InverseDynamicsTrainingConfig(steps=10_000, unknown_fraction=0.3),
            predictor_policy=None,
            predictor_training=PredictorTrainingConfig(steps=2000, batch_size=128, blocks=5),
            temporal_distance=TemporalDistanceConfig(max_steps=100),
            temporal_distance_training=TemporalDistanceTrainingConfig(steps=3000, imagined_blocks=5),
            denoiser_training=None,
            graph=GraphConfig(nodes=2000, support=2),
            options=CUBE,
            offset=25,
            budget=50,
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
