"""Training GC-IDM further through the world model: where the way that it takes should end."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.logger import Logger

from wm_agents.models import InverseDynamics, WorldModel
from wm_agents.models.imagined_control import imagine_control
from wm_agents.training.heads import History, Loss, check_dataset_fits, encode_frames, fit_head
from wm_agents.training.inverse_dynamics import InverseDynamicsTrainingConfig, imitation

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class ImaginationTrainingConfig(InverseDynamicsTrainingConfig):
    """How GC-IDM is trained further: :class:`InverseDynamicsTrainingConfig`, and ways in imagination.

    Attributes:
        blocks: Length of the longest way, in blocks of the world model.
    """

    steps: int = 8000
    batch_size: int = 128
    unknown_fraction: float = 0.5
    blocks: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks < 1:
            raise ValueError(f"blocks must be at least 1, not {self.blocks}.")


def train_in_imagination(
    world_model: WorldModel,
    inverse_dynamics: InverseDynamics,
    dataset: TrajectoryDataset,
    training: ImaginationTrainingConfig | None = None,
    *,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    progress: bool = True,
) -> tuple[InverseDynamics, History]:
    """Train GC-IDM on where its own imagined ways end.

    Imitation averages over all ways that the data show from here to there, and an average of two ways around a block
    may run into it. Here GC-IDM acts inside the world model, towards a goal at a known distance of up to ``blocks``
    blocks, and what is minimised is the distance of its arrival to the goal's latent, through the world model's
    gradients: gradient planning, amortised. Any one way will do. Goals that are farther, or at an unknown distance,
    are imitated as before. There is no dropout.

    Args:
        world_model: Imagines; its weights stay.
        inverse_dynamics: Trained by imitation; it is not changed.
        dataset: That it was trained on.
        training: Options.
        run_dir: Where to keep the resumable state; see :func:`wm_agents.train_world_model`.
        logger: SB3 logger.
        progress: Show bars.

    Returns:
        The new network in evaluation mode, and the history.

    Raises:
        ValueError: The dataset or the network does not fit the world model, or no episode, of training or of
            validation, is as long as the longest way.
    """
    training = training or ImaginationTrainingConfig()
    check_dataset_fits(world_model, dataset)
    frozen = copy.deepcopy(world_model).eval().requires_grad_(False)
    k, history = frozen.config.action_block, frozen.config.history
    sizes, of = frozen.config, inverse_dynamics.config
    if (of.latent_size, of.action_size) != (sizes.latent_size, sizes.action_size):
        raise ValueError(
            f"the inverse dynamics model reads {of.latent_size} numbers and acts with {of.action_size}, the world "
            f"model has {sizes.latent_size} and {sizes.action_size}: fit one on this world model "
            "(train_inverse_dynamics)."
        )
    longest = k * (history - 1 + training.blocks)
    for part in dataset.split(training.validation_fraction):
        part.hindsight(1, longest, np.random.default_rng(0), longest - k + 1)
    latents = encode_frames(frozen, dataset, progress=progress)
    recorded = torch.from_numpy(np.asarray(dataset.actions)).to(latents.device)
    config = dataclasses.replace(of, dropout=0.0)
    first = torch.nn.utils.parameters_to_vector(inverse_dynamics.parameters()).detach()

    def make() -> InverseDynamics:
        network = InverseDynamics(config)
        network.load_state_dict(inverse_dynamics.state_dict())
        return network

    def loss_of(network: InverseDynamics) -> Loss:
        def loss(data: TrajectoryDataset, size: int, rng: np.random.Generator) -> torch.Tensor:
            blocks = int(rng.integers(1, training.blocks, endpoint=True))
            before = k * int(rng.integers(history))  # steps of the past that are known; at an episode's start none are
            pairs = data.hindsight(size, before + k * blocks, rng, before + k * (blocks - 1) + 1)
            seen = torch.from_numpy(pairs.frame[:, None] + np.arange(0, before + 1, k))
            acted = torch.from_numpy(pairs.frame[:, None] + np.arange(before))
            goal = latents[torch.from_numpy(pairs.goal)]
            past = frozen.normalize(recorded[acted]).view(size, before // k, frozen.config.block_size)
            steps = torch.from_numpy(pairs.steps - before).to(goal.device)
            imagined, actions = imagine_control(frozen, network, latents[seen], past, goal, steps, blocks)
            arrival = (imagined[:, -1] - goal).square().mean(dim=1)
            outside = actions - actions.detach().clamp(frozen.action_low, frozen.action_high)
            shown = imitation(network, latents, training, data, size, rng, nearest=k * training.blocks)
            return arrival.mean() + outside.square().mean() + shown

        return loss

    return fit_head(
        "gc-idm-imagination", make, loss_of, world_model, dataset, latents, training,
        {"model": dataclasses.asdict(config), "weights": float(first.double().square().sum())},
        run_dir=run_dir, logger=logger, progress=progress,
    )  # fmt: skip
