"""The default recipe of every task, in one place: data, and the stages of training that make its agents.

``wm-agents reproduce TASK`` and the shipped checkpoints use exactly these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wm_agents.configs import check_counts, task_name
from wm_agents.models import (
    InverseDynamicsConfig,
    LeWMConfig,
    StepsToGoalConfig,
    TemporalDistanceConfig,
    WaypointsConfig,
)
from wm_agents.registry import did_you_mean
from wm_agents.training import (
    GraphConfig,
    InverseDynamicsTrainingConfig,
    PredictorTrainingConfig,
    TemporalDistanceTrainingConfig,
    TrainingConfig,
    learner_of,
)

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
    # It learned most pairs with the distance hidden, and now and then stands still before the block.
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
    "hierarchical": {"lookahead": 25, "replan_every": 1},
}
MANIPULATION = LeWMConfig(latent_size=64, predictor_width=384, dropout=0.1)
SENSORIMOTOR = {"prediction": 1.0, "sigreg": 0.09, "inverse_dynamics": 1.0}
"""Loss weights where one object is moved by another: pairs of frames must tell the actions (arXiv 2606.20104)."""


@dataclass(frozen=True)
class Data:
    """Recorded episodes.

    Attributes:
        policy: Exploration policy that collects them.
        episodes: Number of episodes.
        steps: Environment steps of each.
        seed: Of what is drawn; other seeds give more data of the same kind.
    """

    policy: str = "waypoint"
    episodes: int = 120
    steps: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self, ("episodes", "steps"))
        check_counts(self, ("seed",), least=0)


@dataclass(frozen=True)
class Stage:
    """One training.

    Attributes:
        name: "world-model", "predictor", "imagination", or a head's name in ``wm_agents.registry.HEADS``.
        model: Configuration of the network; None is the default, or a network that is trained further.
        training: Options of the training; None are the learner's defaults.
        data: Names of the recipe's data that it learns from, joined.

    Raises:
        ValueError: There is no such stage.
    """

    name: str
    model: Any = None
    training: Any = None
    data: tuple[str, ...] = ("main",)

    def __post_init__(self) -> None:
        if self.training is None:
            object.__setattr__(self, "training", learner_of(self.name).Training())


@dataclass(frozen=True)
class Recipe:
    """How the agents of one task are made.

    Attributes:
        env_id: Gymnasium id.
        data: The recorded data, by name. Evaluation draws its held-out episodes from the policy of "main".
        stages: The trainings in their order; each name at most once. Heads of other packages are possible.
        options: Constructor options of the agents, by name, where they differ from the class's defaults.
        offset: Goals of the quickstart: this many steps away, or "random" starts and goals.
        budget: Environment steps allowed for them.
        variant: Name of a variant, which keeps its data apart from the task's usual data.

    Raises:
        ValueError: A stage names data that do not exist, or is listed twice.
    """

    env_id: str
    data: Mapping[str, Data] = field(default_factory=lambda: {"main": Data()})
    stages: tuple[Stage, ...] = (Stage("world-model"), Stage("gc-idm"))
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    offset: int | Literal["random"] = "random"
    budget: int = 300
    variant: str = ""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        for stage in self.stages:
            if names.count(stage.name) > 1:
                raise ValueError(f"the stage {stage.name!r} stands twice in the recipe: it would overwrite its state.")
            for name in stage.data:
                if name not in self.data:
                    raise ValueError(did_you_mean(f"data of the stage {stage.name!r}", name, self.data))

    @property
    def task(self) -> str:
        """The task's short name, "pointmaze-umaze"."""
        return task_name(self.env_id)

    @property
    def policy(self) -> str:
        """Exploration policy of the task's usual data."""
        return self.data["main"].policy

    @property
    def dataset(self) -> str:
        """The Minari id of the task's usual data."""
        return self.dataset_of("main")

    def dataset_of(self, name: str) -> str:
        """The Minari id of the data of that name."""
        part = self.data[name]
        more = f"-{part.seed}" if part.seed else ""
        return f"wm/{self.task}/{part.policy}{self.variant}{more}-v0"

    def stage(self, name: str) -> Stage:
        """Look a stage up by name.

        Raises:
            ValueError: The recipe has no such stage.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ValueError(did_you_mean("stage of the recipe", name, [stage.name for stage in self.stages]))

    def without(self, *names: str) -> Recipe:
        """Return the recipe without some of its stages."""
        dropped = {self.stage(name).name for name in names}
        return dataclasses.replace(self, stages=tuple(stage for stage in self.stages if stage.name not in dropped))

    def seeded(self, seed: int) -> Recipe:
        """Return the recipe with another seed of every training; the data stay."""
        return self._with_training(lambda training: dataclasses.replace(training, seed=seed))

    def shortened(self) -> Recipe:
        """Return a recipe of the same parts that runs in seconds."""
        short = self._with_training(lambda training: training.shortened())
        data = {name: dataclasses.replace(part, episodes=8, steps=100) for name, part in self.data.items()}
        return dataclasses.replace(short, data=data, variant=f"{self.variant}-fast", budget=60)

    def _with_training(self, change: Callable[[Any], Any]) -> Recipe:
        stages = tuple(dataclasses.replace(stage, training=change(stage.training)) for stage in self.stages)
        return dataclasses.replace(self, stages=stages)


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
            {"main": Data("play", 4000, 150), "arrange": Data("arrange", 4000, 300)},
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
                    InverseDynamicsConfig(width=448, max_horizon=200, embedding=128, dropout=0.0),
                    InverseDynamicsTrainingConfig(
                        steps=20_000,
                        unknown_fraction=0.7,
                        hidden_past=0.4,
                        discount=0.998,
                        square_symmetry=True,
                        commanded=0.7,
                        redraw=0.5,
                    ),
                    data=("main", "arrange"),
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
            {"main": Data("oracle-play", 1500, 200), "arrange": Data("oracle-arrange", 2000, 300)},
            (
                Stage(
                    "world-model",
                    MANIPULATION,
                    TrainingConfig(steps=8000, batch_size=128, frames=2, loss_weights=SENSORIMOTOR),
                ),
                Stage("predictor", training=PredictorTrainingConfig(steps=2000, batch_size=128, blocks=5)),
                Stage(
                    "gc-idm",
                    InverseDynamicsConfig(width=384, max_horizon=100, embedding=128),
                    InverseDynamicsTrainingConfig(steps=15_000, unknown_fraction=0.5, hidden_past=0.4),
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
        if task in (known.task, known.env_id):
            return known
    raise ValueError(did_you_mean("task", task, [*RECIPES, *(r.env_id for r in RECIPES.values())]))
