"""Training the predictor further, on frozen latents and over many steps: what makes search trustworthy."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import nn

from wm_agents.models import WorldModel
from wm_agents.training.heads import HeadTrainingConfig, History, Loss, check_dataset_fits, encode_frames, fit_head
from wm_agents.training.symmetry import VIEWS, view_actions

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class PredictorTrainingConfig(HeadTrainingConfig):
    """How the predictor is trained further: :class:`HeadTrainingConfig` on stretches of latents and actions.

    Attributes:
        blocks: Length of the imagined rollouts, in blocks.
        square_symmetry: Learn from all eight views of the data (:mod:`wm_agents.training.symmetry`): where contacts
            are rare and the rest is soon learned, a large predictor would otherwise learn the recorded ones by heart.
    """

    steps: int = 4000
    batch_size: int = 256
    blocks: int = 8
    square_symmetry: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks < 1:
            raise ValueError(f"blocks must be at least 1, not {self.blocks}.")


def train_predictor(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    training: PredictorTrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    progress: bool = True,
) -> tuple[WorldModel, History]:
    """Train a world model's predictor on its own rollouts; the encoder stays.

    Training by teacher forcing shows the predictor single steps from real latents. A planner rolls it out over many
    blocks of actions that no exploration policy would choose, and picks whatever it is most wrong about: plans through
    walls. So this stage minimises the error of whole rollouts, and wants data that includes what planners try,
    collisions above all (``policy="smooth-random"``, joined to the usual data by ``datasets.concatenate``). Latents
    are computed once, so it costs little, and networks fitted on the encoder's latents stay valid.

    Args:
        world_model: Trained; it is not changed.
        dataset: Of the environment that the world model knows.
        training: Options.
        run_dir: Where to keep the resumable state; see :func:`wm_agents.train_world_model`.
        logger: SB3 logger.
        progress: Show bars.

    Returns:
        A copy of the world model with the new predictor, in evaluation mode, and the history.

    Raises:
        ValueError: The dataset does not fit the world model, its episodes are shorter than a rollout, or the actions
            are not the two that ``square_symmetry`` needs.
    """
    training = training or PredictorTrainingConfig()
    check_dataset_fits(world_model, dataset)
    if training.square_symmetry and dataset.actions.shape[1] != 2:
        raise ValueError(
            f"square_symmetry needs two actions, motions along the image's axes; {dataset.name} has "
            f"{dataset.actions.shape[1]}: leave it out."
        )
    views = VIEWS if training.square_symmetry else 1
    latents = torch.stack([encode_frames(world_model, dataset, view=view, progress=progress) for view in range(views)])
    refined = copy.deepcopy(world_model).eval().requires_grad_(False)
    k, history, blocks = refined.config.action_block, refined.config.history, training.blocks

    def loss_of(predictor: nn.Module) -> Loss:
        refined.predictor = predictor.requires_grad_(True)

        def loss(data: TrajectoryDataset, size: int, rng: np.random.Generator) -> torch.Tensor:
            context = int(rng.integers(1, history + 1))  # planners start from fewer frames, too
            start = data.segments(size, k * (context - 1 + blocks), rng)
            frames = start[:, None] + k * np.arange(context + blocks)
            steps = start[:, None] + np.arange(k * (context - 1 + blocks))
            view = rng.integers(views, size=size)
            taken = data.actions[steps] if views == 1 else view_actions(data.actions[steps], view)
            actions = torch.from_numpy(taken).to(latents.device).reshape(size, context - 1 + blocks, -1)
            past, future = refined.normalize(actions).split([context - 1, blocks], dim=1)
            z = latents[torch.from_numpy(view)[:, None], torch.from_numpy(frames)]
            imagined = refined.rollout(z[:, :context], past, future.unsqueeze(1)).squeeze(1)
            return (imagined - z[:, context:]).square().mean()

        return loss

    _, curves = fit_head(
        "predictor", lambda: copy.deepcopy(world_model.predictor), loss_of, world_model, dataset, latents[0], training,
        {"world_model": dataclasses.asdict(world_model.config)}, run_dir=run_dir, logger=logger, progress=progress,
    )  # fmt: skip
    return refined.eval().requires_grad_(False), curves
