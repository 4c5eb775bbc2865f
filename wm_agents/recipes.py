"""The default recipe of every task, in one place: data, and the stages of training that make its agents.

``wm-agents reproduce TASK`` and the shipped checkpoints use exactly these.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from wm_agents.configs import bare_id
from wm_agents.models import (
    InverseDynamicsConfig,
    LeWMConfig,
    StepsToGoalConfig,
    TemporalDistanceConfig,
    WaypointsConfig,
)
from wm_agents.registry import did_you_mean
from wm_agents.stages import Data, Recipe, Stage
from wm_agents.training import (
    GraphConfig,
    InverseDynamicsTrainingConfig,
    PredictorTrainingConfig,
    TemporalDistanceTrainingConfig,
    TrainingConfig,
)

__all__ = ["RECIPES", "Data", "Recipe", "Stage", "recipe"]

SEARCH: dict[str, Any] = {"horizon": 10, "objective": "temporal-distance"}
PLANNERS: dict[str, dict[str, Any]] = {
    "cem": {**SEARCH, "samples": 100, "elites": 10, "iterations": 10},
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
REACHER: dict[str, dict[str, Any]] = {**WITHOUT_PRIOR, "hierarchical": {"lookahead": 30}}
ARRIVE: dict[str, Any] = {"horizon": 6, "objective": "terminal", "shrinking": True}
"""In PushT the block comes first and the agent's own place last: no distance summed over the way serves both."""
PUSHT: dict[str, dict[str, Any]] = {
    **{name: {**options, **ARRIVE} for name, options in WITHOUT_PRIOR.items()},
    # It learned most pairs with the distance hidden, and sometimes stands still before the block.
    "gc-idm": {"horizon": None, "nudge": 0.5},
    "hierarchical": {
        "high": "waypoints",
        "low": "cem",
        "low_options": {**PLANNERS["cem"], **ARRIVE, "proposals": "gc-idm"},
        "lookahead": 30,
        "replan_every": 30,
    },
}
CUBE: dict[str, dict[str, Any]] = {
    **WITHOUT_PRIOR,
    "gc-idm": {"nudge": 0.5},
    "hierarchical": {"lookahead": 25, "replan_every": 1},
}
MANIPULATION = LeWMConfig(latent_size=64, predictor_width=384, dropout=0.1)
SENSORIMOTOR = {"prediction": 1.0, "sigreg": 0.09, "inverse_dynamics": 1.0}
"""Loss weights where one object is moved by another: pairs of frames must tell the actions (arXiv 2606.20104)."""


def _maze(
    env_id: str,
    main: Data,
    contacts: Data,
    *,
    training: TrainingConfig,
    gc_idm: Stage,
    distance: TemporalDistanceConfig | None = None,
    nodes: int = 300,
    budget: int = 300,
) -> Recipe:
    """A maze: the predictor also learns from its own data, which contain collisions like those of planners."""
    stages = (
        Stage("world-model", training=training),
        Stage("predictor", data=("main", "contacts")),
        gc_idm,
        Stage("temporal-distance", distance),
        Stage("denoiser"),
        Stage("graph", training=GraphConfig(nodes=nodes)),
    )
    return Recipe(env_id, {"main": main, "contacts": contacts}, stages, MAZE, budget=budget)


RECIPES: dict[str, Recipe] = {
    recipe.task: recipe
    for recipe in (
        _maze(
            "wm/PointMaze-UMaze-v0",
            Data(),
            Data("smooth-random"),
            training=TrainingConfig(),
            gc_idm=Stage("gc-idm"),
        ),
        _maze(
            "wm/TwoRoom-v0",
            Data(episodes=200, steps=400),
            Data("smooth-random", 200, 400),
            training=TrainingConfig(steps=2000),
            gc_idm=Stage("gc-idm", training=InverseDynamicsTrainingConfig(steps=6000)),
        ),
        _maze(
            "wm/PointMaze-Medium-v0",
            Data(episodes=200, steps=400),
            Data("smooth-random", 200, 400),
            training=TrainingConfig(steps=2500),
            gc_idm=Stage("gc-idm", InverseDynamicsConfig(max_horizon=250), InverseDynamicsTrainingConfig(steps=6000)),
            distance=TemporalDistanceConfig(max_steps=250),
            budget=600,
        ),
        _maze(
            "wm/PointMaze-Large-v0",
            Data(episodes=300, steps=500),
            Data("smooth-random", 200, 500),
            training=TrainingConfig(steps=3500),
            gc_idm=Stage("gc-idm", InverseDynamicsConfig(max_horizon=250), InverseDynamicsTrainingConfig(steps=8000)),
            distance=TemporalDistanceConfig(max_steps=400),
            nodes=500,
            budget=1000,
        ),
        Recipe(
            "wm/Reacher-v0",
            {"main": Data("piecewise-random", 500, 200), "reach": Data("reach", 3000, 200)},
            (
                Stage("world-model", training=TrainingConfig(steps=2500)),
                Stage("predictor", training=PredictorTrainingConfig(steps=2000)),
                Stage(
                    "gc-idm",
                    InverseDynamicsConfig(width=384, max_horizon=150, embedding=128),
                    InverseDynamicsTrainingConfig(steps=10_000, unknown_fraction=0.7, hidden_past=0.4, discount=0.995),
                    data=("main", "reach"),
                ),
                Stage("temporal-distance", training=TemporalDistanceTrainingConfig(steps=2000)),
                Stage("steps-to-goal", StepsToGoalConfig(max_steps=180), data=("main", "reach")),
                Stage("graph", training=GraphConfig(nodes=2000), data=("main", "reach")),
            ),
            REACHER,
            offset=25,
            budget=50,
        ),
        Recipe(
            "wm/PushT-v0",
            {"main": Data("play", 4000, 150), "arrange": Data("arrange", 6000, 300)},
            (
                Stage(
                    "world-model",
                    dataclasses.replace(MANIPULATION, dropout=0.0, predictor_width=768),
                    TrainingConfig(
                        steps=8000, batch_size=128, frames=2, loss_weights={**SENSORIMOTOR, "reconstruction": 1.0}
                    ),
                ),
                Stage(
                    "predictor",
                    training=PredictorTrainingConfig(steps=24_000, batch_size=128, blocks=5, square_symmetry=True),
                ),
                Stage(
                    "gc-idm",
                    InverseDynamicsConfig(width=512, max_horizon=200, embedding=128, dropout=0.0),
                    InverseDynamicsTrainingConfig(
                        steps=20_000,
                        unknown_fraction=0.7,
                        hidden_past=0.4,
                        discount=0.998,
                        square_symmetry=True,
                        commanded=0.7,
                        redraw=0.5,
                    ),
                    data=("arrange",),
                ),
                Stage("steps-to-goal", StepsToGoalConfig(max_steps=200), data=("main", "arrange")),
                Stage("graph", training=GraphConfig(nodes=2000, support=2)),
                Stage("waypoints", WaypointsConfig(max_horizon=200), data=("main", "arrange")),
            ),
            PUSHT,
            offset=25,
            budget=50,
        ),
        Recipe(
            "wm/Cube-Single-v0",
            {"main": Data("oracle-play", 1500, 200), "arrange": Data("oracle-arrange", 4000, 300)},
            (
                Stage(
                    "world-model",
                    MANIPULATION,
                    TrainingConfig(steps=8000, batch_size=128, frames=2, loss_weights=SENSORIMOTOR),
                ),
                Stage("predictor", training=PredictorTrainingConfig(steps=2000, batch_size=128, blocks=5)),
                Stage(
                    "gc-idm",
                    InverseDynamicsConfig(width=512, max_horizon=100, embedding=128),
                    InverseDynamicsTrainingConfig(steps=20_000, unknown_fraction=0.5, hidden_past=0.4),
                    data=("main", "arrange"),
                ),
                Stage(
                    "temporal-distance",
                    TemporalDistanceConfig(max_steps=100),
                    TemporalDistanceTrainingConfig(steps=3000, imagined_blocks=5),
                ),
                Stage("steps-to-goal"),
                Stage("graph", training=GraphConfig(nodes=2000, support=2)),
            ),
            CUBE,
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
        if bare_id(task) in (known.task, known.env_id):
            return known
    raise ValueError(did_you_mean("task", task, [*RECIPES, *(r.env_id for r in RECIPES.values())]))
