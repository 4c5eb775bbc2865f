"""Training the predictor further, on frozen latents and over many steps, so that search can rely on it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from wm_agents.configs import check_counts, check_flags
from wm_agents.models import WorldModel
from wm_agents.models.heads import evaluating
from wm_agents.training.latents import context, encode_views
from wm_agents.training.learner import LatentLearner, LearnerConfig, Loss
from wm_agents.training.state import History
from wm_agents.training.symmetry import check_symmetry, draw_views, view_actions

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class PredictorTrainingConfig(LearnerConfig):
    """How the predictor is trained further: :class:`LearnerConfig` on stretches of latents and actions.

    Attributes:
        steps: Gradient steps.
        batch_size: Rollouts per step.
        blocks: Length of the imagined rollouts, in blocks.
        square_symmetry: Learn from all eight views of the data (:mod:`wm_agents.training.symmetry`). If contacts are
            rare and everything else is learned quickly, a large predictor otherwise memorises the recorded contacts.
    """

    steps: int = 4000
    batch_size: int = 256
    blocks: int = 8
    square_symmetry: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, ("blocks",))
        check_flags(self, ("square_symmetry",))


class PredictorLearner(LatentLearner):
    """A copy of a world model whose imagining parts are trained on rollouts; the encoder does not change."""

    name = "predictor"
    Training = PredictorTrainingConfig

    def check(self) -> None:
        super().check()
        check_symmetry(self.config, self.dataset)

    def needs(self) -> tuple[int, str]:
        blocks = self.config.blocks
        steps = self.world_model.spec.action_block * (context(self.world_model) - 1 + blocks)
        return steps, f"rollouts of {blocks} blocks"

    def build(self) -> nn.Module:
        refined = copy.deepcopy(self.world_model).requires_grad_(True)
        for weight in encoder_weights(refined):
            weight.requires_grad_(False)
        return refined

    def encode(self, progress: bool) -> torch.Tensor:
        """Features ``[views, frames, F]``."""
        return encode_views(self.world_model, self.dataset, self.config.square_symmetry, progress=progress)

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        model: Any = self.module
        k, blocks = model.spec.action_block, self.config.blocks
        seen = int(rng.integers(1, context(model) + 1))  # planners start from fewer frames, too
        start = data.segments(size, k * (seen - 1 + blocks), rng)
        frames = start[:, None] + k * np.arange(seen + blocks)
        steps = start[:, None] + np.arange(k * (seen - 1 + blocks))
        view = draw_views(self.latents, size, rng)
        taken = torch.from_numpy(view_actions(data.actions[steps], view)).to(self.device)
        actions = taken.reshape(size, seen - 1 + blocks, -1)
        past, future = model.normalize(actions).split([seen - 1, blocks], dim=1)
        z = self.latents[torch.from_numpy(view)[:, None], torch.from_numpy(frames)]
        state = model.remember(model.unflatten(z[:, :seen]), past)
        imagined = model.features(model.imagine(state, future.unsqueeze(1))).squeeze(1)
        error = (imagined - z[:, seen:]).square().mean()
        return error, {self.key: error}

    def finish(self) -> None:
        self.module.requires_grad_(False)


def encoder_weights(world_model: WorldModel) -> list[nn.Parameter]:
    """The weights that a latent depends on."""
    size, weights = world_model.spec.image_size, list(world_model.parameters())
    black = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=world_model.action_mean.device)
    with evaluating(world_model):
        latents = world_model.embed(black)
    if not latents.requires_grad:
        return []
    slopes = torch.autograd.grad(latents.float().sum(), weights, allow_unused=True)
    return [weight for weight, slope in zip(weights, slopes, strict=True) if slope is not None]


def train_predictor(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    training: PredictorTrainingConfig | None = None,
    *,
    progress: bool = True,
    **options: Any,
) -> tuple[WorldModel, History]:
    """Train a world model's predictor on its own rollouts; the encoder does not change.

    Training by teacher forcing shows the predictor single steps from real latents. A planner rolls it out over many
    blocks of actions that no exploration policy would choose, and picks plans about which it is most wrong, such
    as plans through walls. So this stage minimises the error of whole rollouts, and needs data that contain what
    planners try, above all collisions (``policy="smooth-random"``, joined to the usual data by
    ``datasets.concatenate``). Latents are computed once, so it costs little, and heads on the encoder's latents stay
    valid.

    Args:
        world_model: A world model of any kind; it does not change.
        dataset: Data of the environment on which the world model was trained.
        training: Options.
        progress: Show bars.
        **options: ``run_dir``, ``logger`` and ``callback`` of :func:`wm_agents.training.run.run`.

    Returns:
        A copy of the world model with the new predictor, in evaluation mode, and the history.

    Raises:
        ValueError: The dataset does not fit the world model, its episodes are shorter than a rollout, or the actions
            are not the two that ``square_symmetry`` needs.
    """
    learner = PredictorLearner(world_model, dataset, training=training, progress=progress)
    history = learner.fit(progress=progress, **options)
    return learner.result, history
