"""What a recipe is made of: recorded data, and the stages of training that make the agents of a task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from wm_agents.configs import check_counts, task_name
from wm_agents.registry import did_you_mean
from wm_agents.training import learner_of


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
