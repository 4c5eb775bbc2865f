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


class ContinuedTraining:
    """Trains copies of a world model and of its heads, in rounds, on data that may change between the rounds.

    A round goes on from the present weights and with the optimizers' moments, or begins with fresh ones. Networks that
    go on learning while their data grow can end up worse than fresh ones on the same data (arXiv 1910.08475,
    2205.07802), so that is for data of which the first part is gone. Either way, each round
    has a whole schedule of the learning rate, encodes all frames anew, trains the heads on the new latents, and stamps
    them. A head that is built and not trained, such as a graph, is always built anew.

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
        self.seed = seed
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
                    made.result.load_state_dict(head.state_dict())
                    self.heads[name] = made.result
        self.steps = dict.fromkeys(self._progress, 0)

    def result(self) -> tuple[WorldModel, dict[str, Head]]:
        """Return the world model and the heads by name as they are now; later rounds do not change them."""
        self._result = copy.deepcopy(self.world_model), {name: copy.deepcopy(h) for name, h in self.heads.items()}
        return self._result[0], dict(self._result[1])

    def made(self, world_model: WorldModel, heads: Mapping[str, Head]) -> bool:
        """Whether these are what :meth:`result` has returned last."""
        known = self._result[1] if self._result else {}
        same = heads.keys() == known.keys() and all(heads[name] is head for name, head in known.items())
        return self._result is not None and world_model is self._result[0] and same

    def round(self, dataset: TrajectoryDataset, steps: Mapping[str, int], fresh: bool = False) -> dict[str, float]:
        """Train the world model, then each head, for so many gradient steps, by stage.

        Args:
            dataset: What to learn from.
            steps: Gradient steps of each stage; with 0, it stays as it is.
            fresh: Begin with fresh weights. The statistics of actions are then those of the data; otherwise they stay.

        Returns:
            The last loss of each stage, and the spread of the latents: ``train/prediction``, ``train/latent_std``.

        Raises:
            DivergedError: A loss is not finite. The networks in training are of no use then.
        """
        metrics: dict[str, float] = {}
        with own_modes(self.world_model.action_mean.device):
            torch.manual_seed(self.seed + sum(self.steps.values()))
            for name, learner in self._learners.items():
                learner.dataset = learner.train_data = learner.validation_data = dataset
                if isinstance(learner, LatentLearner):
                    learner.world_model = self.world_model
                    learner.heads = {read: self.heads[read] for read in learner.reads}
                    learner.latents = learner.encode(False)
                if name in self._progress:
                    if fresh and steps[name]:
                        self._renew(name)
                    metrics |= self._train(name, steps[name])
                else:
                    learner.fit(progress=False)
                    self.heads[name] = learner.result
        return metrics

    def _renew(self, name: str) -> None:
        learner = self._learners[name]
        self._progress[name] = _begin(learner)
        if isinstance(learner, WorldModelLearner):
            self.world_model = learner.world_model
        else:
            self.heads[name] = learner.result

    def _train(self, name: str, steps: int) -> dict[str, float]:
        learner, now = self._learners[name], self._progress[name]
        parts: dict[str, torch.Tensor] = {}
        learner.config = dataclasses.replace(learner.config, steps=max(1, steps))
        now.step = 0
        for _ in range(steps):
            parts, _ = take_step(learner, now)
        self.steps[name] += steps
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
