"""Training GC-IDM further through the world model: where the way that it takes should end."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from wm_agents.configs import check_counts
from wm_agents.models import InverseDynamics, WorldModel
from wm_agents.models.imagined_control import imagine_control
from wm_agents.training.gc_idm import InverseDynamicsTrainingConfig, imitation
from wm_agents.training.latents import context
from wm_agents.training.learner import LatentLearner, Loss, sized
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class ImaginationTrainingConfig(InverseDynamicsTrainingConfig):
    """How GC-IDM is trained further: :class:`InverseDynamicsTrainingConfig`, and ways in imagination.

    Attributes:
        steps: Gradient steps.
        batch_size: Ways per step, and as many imitated pairs.
        blocks: Length of the longest way, in blocks of the world model.
    """

    steps: int = 8000
    batch_size: int = 128
    blocks: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("blocks",))


class ImaginationLearner(LatentLearner):
    """A copy of the head "gc-idm" in training on where its own imagined ways end.

    Imitation averages over all ways that the data show from here to there, and an average of two ways around a block
    may run into it. Here GC-IDM acts inside the world model, towards a goal at a known distance of up to ``blocks``
    blocks, and what is minimised is the distance of its arrival to the goal's latent, through the world model's
    gradients: gradient planning, amortised. Any one way will do. Goals that are farther, or at an unknown distance,
    are imitated as before. There is no dropout.
    """

    name = "imagination"
    Training = ImaginationTrainingConfig
    reads = ("gc-idm",)

    def check(self) -> None:
        super().check()
        if self.world_model.spec.choices:
            raise ValueError("imagination follows gradients through actions: leave it out where they are discrete.")
        config = self.heads["gc-idm"].config
        if sized(config, self.world_model) != config:
            raise ValueError(
                f"the gc-idm head acts with {config.action_size} numbers, the world model has "
                f"{self.world_model.spec.action_size}: fit one on this world model."
            )

    def needs(self) -> tuple[int, str]:
        k, blocks = self.world_model.spec.action_block, self.config.blocks
        return k * (context(self.world_model) - 2 + blocks) + 1, f"ways of {blocks} blocks"

    def build(self) -> nn.Module:
        self.frozen = copy.deepcopy(self.world_model).eval().requires_grad_(False)
        self.recorded = torch.from_numpy(np.asarray(self.dataset.actions)).to(self.device)
        given = self.heads["gc-idm"]
        network = InverseDynamics(dataclasses.replace(given.config, dropout=0.0))
        network.load_state_dict(given.state_dict())
        return network

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        frozen, latents, network = self.frozen, self.latents, self.module
        assert isinstance(network, InverseDynamics)
        k, longest = frozen.spec.action_block, self.config.blocks
        blocks = int(rng.integers(1, longest, endpoint=True))
        before = k * int(rng.integers(context(frozen)))  # steps of the past that are known; at an episode's start none
        pairs = data.hindsight(size, before + k * blocks, rng, before + k * (blocks - 1) + 1)
        seen = torch.from_numpy(pairs.frame[:, None] + np.arange(0, before + 1, k))
        acted = torch.from_numpy(pairs.frame[:, None] + np.arange(before))
        goal = latents[torch.from_numpy(pairs.goal)]
        past = frozen.normalize(self.recorded[acted]).view(size, before // k, frozen.spec.block_size)
        state = frozen.remember(frozen.unflatten(latents[seen]), past)
        steps = torch.from_numpy(pairs.steps - before).to(goal.device)
        imagined, actions = imagine_control(frozen, network, state, goal, steps, blocks)
        arrival = (imagined[:, -1] - goal).square().mean(dim=1)
        outside = actions - actions.detach().clamp(frozen.action_low, frozen.action_high)
        shown = imitation(network, latents, self.config, data, size, rng, nearest=k * longest)
        value = arrival.mean() + outside.square().mean() + shown
        return value, {self.key: value}

    def finish(self) -> None:
        assert isinstance(self.module, InverseDynamics)
        self.module.stamp(self.world_model)


def train_in_imagination(
    world_model: WorldModel,
    inverse_dynamics: InverseDynamics,
    dataset: TrajectoryDataset,
    training: ImaginationTrainingConfig | None = None,
    *,
    progress: bool = True,
    **options: Any,
) -> tuple[InverseDynamics, History]:
    """Train GC-IDM on where its own imagined ways end; see :class:`ImaginationLearner`.

    Args:
        world_model: Imagines; it is not changed.
        inverse_dynamics: Trained by imitation; it is not changed.
        dataset: That it was trained on.
        training: Options.
        progress: Show bars.
        **options: ``run_dir``, ``logger`` and ``callback`` of :func:`wm_agents.training.run.run`.

    Returns:
        The new network in evaluation mode, and the history.

    Raises:
        ValueError: The dataset or the network does not fit the world model, or no episode, of training or of
            validation, is as long as the longest way.
    """
    heads = {"gc-idm": inverse_dynamics}
    learner = ImaginationLearner(world_model, dataset, training=training, heads=heads, progress=progress)
    history = learner.fit(progress=progress, **options)
    return learner.result, history
