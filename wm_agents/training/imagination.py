"""Training GC-IDM further in the world model, so that its imagined route ends at the goal."""

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
from wm_agents.training.gc_idm import InverseDynamicsTrainingConfig, given_goals, imitation
from wm_agents.training.latents import context, encode_views
from wm_agents.training.learner import LatentLearner, Loss, sized
from wm_agents.training.state import History
from wm_agents.training.symmetry import check_symmetry, draw_views, view_actions

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class ImaginationTrainingConfig(InverseDynamicsTrainingConfig):
    """How GC-IDM is trained further: :class:`InverseDynamicsTrainingConfig`, and routes in imagination.

    Attributes:
        steps: Gradient steps.
        batch_size: Imagined routes per step, and the same number of imitated pairs.
        blocks: Length of the longest route, in blocks of the world model.
    """

    steps: int = 8000
    batch_size: int = 128
    blocks: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("blocks",))


class ImaginationLearner(LatentLearner):
    """A copy of the head "gc-idm", trained on the ends of its own imagined routes.

    Imitation averages over all routes to a goal in the data, and the average of two routes around a block may run into
    it. Here, GC-IDM acts inside the world model, towards a goal that lies up to ``blocks`` blocks ahead. It is told how
    far, except if the distance is hidden. The loss is the distance between the last imagined latent and the goal's
    latent, and its gradients pass through the world model. This is gradient planning that trains a network, and any
    single route is good enough. Goals that are farther away are imitated as before, and so are goals at an unknown
    distance. There is no dropout.
    """

    name = "imagination"
    Training = ImaginationTrainingConfig
    reads = ("gc-idm",)

    def check(self) -> None:
        super().check()
        check_symmetry(self.config, self.dataset)
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

    def encode(self, progress: bool) -> torch.Tensor:
        """Features ``[views, frames, F]``."""
        self.goals = given_goals(self.world_model, self.dataset, self.config)
        return encode_views(self.world_model, self.dataset, self.config.square_symmetry, progress=progress)

    def build(self) -> nn.Module:
        self.frozen = copy.deepcopy(self.world_model).eval().requires_grad_(False)
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
        view = draw_views(latents, size, rng)
        shown_as = torch.from_numpy(view)
        seen = torch.from_numpy(pairs.frame[:, None] + np.arange(0, before + 1, k))
        acted = view_actions(self.dataset.actions[pairs.frame[:, None] + np.arange(before)], view)
        goal = latents[shown_as, torch.from_numpy(pairs.goal)]
        past = frozen.normalize(torch.from_numpy(acted).to(self.device)).view(size, before // k, frozen.spec.block_size)
        state = frozen.remember(frozen.unflatten(latents[shown_as[:, None], seen]), past)
        hidden = rng.random(size) < self.config.unknown_fraction
        steps = torch.from_numpy(np.where(hidden, 0, pairs.steps - before)).to(goal.device)
        imagined, actions = imagine_control(frozen, network, state, goal, steps, blocks)
        arrival = (imagined[:, -1] - goal).square().mean(dim=1)
        outside = actions - actions.detach().clamp(frozen.action_low, frozen.action_high)
        shown = imitation(network, latents, self.goals, self.config, data, size, rng, nearest=k * longest)
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
    """Train GC-IDM on the ends of its own imagined routes; see :class:`ImaginationLearner`.

    Args:
        world_model: Imagines the routes; it does not change.
        inverse_dynamics: A network trained by imitation; it does not change.
        dataset: The data that it was trained on.
        training: Options.
        progress: Show bars.
        **options: ``run_dir``, ``logger`` and ``callback`` of :func:`wm_agents.training.run.run`.

    Returns:
        The new network in evaluation mode, and the history.

    Raises:
        ValueError: The dataset or the network does not fit the world model, or no episode, of training or of
            validation, is as long as the longest route.
    """
    heads = {"gc-idm": inverse_dynamics}
    learner = ImaginationLearner(world_model, dataset, training=training, heads=heads, progress=progress)
    history = learner.fit(progress=progress, **options)
    return learner.result, history
