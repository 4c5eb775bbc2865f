"""Training that goes on from round to round, while the data grow."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from wm_agents.models import Head, WorldModel
from wm_agents.training.device import own_modes
from wm_agents.training.heads import learner_of
from wm_agents.training.learner import LatentLearner, Learner
from wm_agents.training.run import take_step
from wm_agents.training.state import Progress
from wm_agents.training.world_model import TrainingConfig, WorldModelLearner, spread

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

FINAL_RATE = 0.1
"""Learning rate at the end of the planned steps, as a part of the peak."""


class ContinuedTraining:
    """Trains copies of a world model and of its heads, again and again, on data that may change between the rounds.

    Everything goes on from its present weights and with its optimizer's moments. The world model keeps its statistics
    of actions. Its latents drift while it learns, so each round encodes all frames afresh, goes on with the heads on
    the new latents, and stamps them. A head that is built and not trained, such as a graph, is built anew.

    Args:
        world_model: Where to start; it does not change.
        heads: Heads on it, by name; they do not change.
        dataset: The first data.
        training: Options of each stage by name, "world-model" and those of the heads; their ``steps`` do not count.
        seed: Of everything random.

    Attributes:
        world_model: The copy that is trained.
        heads: The copies that are trained, by name.
        steps: Gradient steps so far, of each stage.

    Raises:
        ValueError: The data do not fit the world model or the options.
    """

    def __init__(
        self,
        world_model: WorldModel,
        heads: Mapping[str, Head],
        dataset: TrajectoryDataset,
        training: Mapping[str, Any],
        seed: int = 0,
    ) -> None:
        device = world_model.action_mean.device
        self._result: tuple[WorldModel, dict[str, Head]] | None = None
        with own_modes(device):
            torch.manual_seed(seed)
            options = dataclasses.replace(training.get("world-model", TrainingConfig()), seed=seed)
            learner = WorldModelLearner(dataset, world_model.config, options, device=device)
            learner.fetches = False
            self._learners: dict[str, Learner] = {"world-model": learner}
            self._progress = {"world-model": _begin(learner)}
            self.world_model = learner.world_model
            self.world_model.load_state_dict(world_model.state_dict())
            self.heads: dict[str, Head] = {}
            for name, head in heads.items():
                kind = learner_of(name)
                options = dataclasses.replace(training.get(name, kind.Training()), seed=seed)
                made = kind(world_model, dataset, head.config, options, heads=heads, progress=False)
                self._learners[name] = made
                if _is_trained(made):
                    self._progress[name] = _begin(made)
                    made.module.load_state_dict(head.state_dict())
                    self.heads[name] = made.module

    @property
    def steps(self) -> dict[str, int]:
        """Gradient steps so far, of each stage."""
        return {name: now.step for name, now in self._progress.items()}

    def result(self) -> tuple[WorldModel, dict[str, Head]]:
        """Return the world model and the heads by name as they are now; later rounds do not change them."""
        self._result = copy.deepcopy(self.world_model), {name: copy.deepcopy(h) for name, h in self.heads.items()}
        return self._result[0], dict(self._result[1])

    def made(self, world_model: WorldModel, heads: Mapping[str, Head]) -> bool:
        """Whether these are what :meth:`result` has returned last."""
        known = self._result[1] if self._result else {}
        same = heads.keys() == known.keys() and all(heads[name] is head for name, head in known.items())
        return self._result is not None and world_model is self._result[0] and same

    def plan(self, steps: Mapping[str, int]) -> None:
        """Let learning rates fall over so many steps from now on, by stage: a cosine to a tenth."""
        for name, now in self._progress.items():
            learner = self._learners[name]
            learner.config = dataclasses.replace(learner.config, steps=now.step + max(1, steps[name]))
            learner.final_rate = FINAL_RATE  # type: ignore[misc]

    def round(self, dataset: TrajectoryDataset, steps: Mapping[str, int]) -> dict[str, float]:
        """Train the world model, then each head, for so many gradient steps, by stage.

        Returns:
            The last loss of each stage, and the spread of the latents: ``train/prediction``, ``train/latent_std``.

        Raises:
            DivergedError: A loss is not finite. The networks in training are of no use then.
        """
        metrics: dict[str, float] = {}
        with own_modes(self.world_model.action_mean.device):
            for name, learner in self._learners.items():
                learner.dataset = learner.train_data = learner.validation_data = dataset
                if isinstance(learner, LatentLearner):
                    learner.world_model = self.world_model
                    learner.heads = {read: self.heads[read] for read in learner.reads}
                    learner.latents = learner.encode(False)
                if name in self._progress:
                    metrics |= self._train(name, steps[name])
                else:
                    learner.fit(progress=False)
                    self.heads[name] = learner.result
        return metrics

    def _train(self, name: str, steps: int) -> dict[str, float]:
        learner, now = self._learners[name], self._progress[name]
        parts: dict[str, torch.Tensor] = {}
        for _ in range(steps):
            parts, _ = take_step(learner, now)
        if steps or isinstance(learner, LatentLearner):  # a head is stamped in any case
            learner.finish()
        now.module.eval()
        metrics = {f"train/{part}": float(value.detach()) for part, value in parts.items()}
        if isinstance(learner, WorldModelLearner) and parts:
            metrics["train/latent_std"] = spread(learner.z.detach())
        return metrics


def _begin(learner: Learner) -> Progress:
    """Make the learner's module and its optimizer."""
    config, module = learner.config, learner.build().to(learner.device)
    learner.module = module
    weights: list[nn.Parameter] = [weight for weight in module.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
    rng = np.random.default_rng([config.seed, learner.stream])
    return Progress(module, optimizer, rng, torch.Generator().manual_seed(config.seed))


def _is_trained(learner: Learner) -> bool:
    """Whether a learner takes gradient steps."""
    return type(learner).fit is Learner.fit
