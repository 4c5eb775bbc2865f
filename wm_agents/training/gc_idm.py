"""Training the goal-conditioned inverse dynamics model on frozen latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from wm_agents.configs import check_flags, check_numbers
from wm_agents.models import InverseDynamics, InverseDynamicsConfig, WorldModel
from wm_agents.training.checks import actions_change
from wm_agents.training.commanded import CommandedGoals
from wm_agents.training.heads import train_head
from wm_agents.training.latents import encode_views
from wm_agents.training.learner import HeadLearner, LearnerConfig, Loss
from wm_agents.training.redrawing import Redrawing
from wm_agents.training.state import History
from wm_agents.training.symmetry import check_symmetry, draw_views, view_actions, view_pixels

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


@dataclass(frozen=True)
class InverseDynamicsTrainingConfig(LearnerConfig):
    """How GC-IDM is trained: :class:`LearnerConfig` on hindsight pairs.

    Attributes:
        unknown_fraction: Fraction of pairs whose distance is hidden from the network.
        hidden_past: Fraction of pairs whose change since ``lag`` steps ago is hidden, as if nothing moved. A network
            that always sees how it just moved copies that motion instead of looking at the goal.
        square_symmetry: Learn from all eight views of the data (:mod:`wm_agents.training.symmetry`).
        commanded: Fraction of the pairs, among those in episodes that were sent to a goal, whose goal is that one and
            not a later frame (:mod:`wm_agents.training.commanded`). For data of tasks of this library.
        redraw: Weight of a second lesson for the embedding, the place and the looks of the largest object
            (:mod:`wm_agents.training.redrawing`). For cameras that do not move.
        discount: Weight per step of distance if the distance is hidden: near goals show the direct way to far ones.
    """

    unknown_fraction: float = 0.5
    hidden_past: float = 0.0
    square_symmetry: bool = False
    commanded: float = 0.0
    redraw: float = 0.0
    discount: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, ("unknown_fraction", "hidden_past", "commanded"), 0, 1)
        check_flags(self, ("square_symmetry",))
        check_numbers(self, ("redraw",))
        check_numbers(self, ("discount",), 0, 1, above=True)


class InverseDynamicsLearner(HeadLearner):
    """Learns actions from hindsight goals: frame ``i``, a later frame of its episode, the action taken at ``i``.

    The action error is no measure of control (the paper's R2 is 0.2 at 100% success: many actions lead to a far
    goal), so the last weights are kept, not those of the lowest validation error.
    """

    head = InverseDynamics
    Training = InverseDynamicsTrainingConfig

    def check(self) -> None:
        """Raise ``ValueError`` if data or options do not fit, or nothing can be learnt from the actions."""
        super().check()
        check_symmetry(self.config, self.dataset)
        if not actions_change(self.dataset):
            raise ValueError(f"gc-idm learns from actions, and those of {self.dataset.name} never change.")
        if self.config.redraw and not self.model.embedding:
            raise ValueError(
                "redraw teaches the embedding, and there is none: set InverseDynamicsConfig(embedding=128)."
            )

    def build(self) -> nn.Module:
        network = super().build()
        if not self.config.redraw:
            return network
        frames = self.train_data.frame_indices()
        some = self.dataset.frames_at(frames[:: max(1, len(frames) // 500)])
        return nn.ModuleDict({"network": network, "redrawing": Redrawing(self.model.embedding, some)})

    @property
    def result(self) -> InverseDynamics:
        network = self.module["network"] if isinstance(self.module, nn.ModuleDict) else self.module
        assert isinstance(network, InverseDynamics)
        return network

    def encode(self, progress: bool) -> torch.Tensor:
        """Features ``[views, frames, F]``."""
        self.goals = given_goals(self.world_model, self.dataset, self.config)
        return encode_views(self.world_model, self.dataset, self.config.square_symmetry, progress=progress)

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        value = imitation(self.result, self.latents, self.goals, self.config, data, size, rng)
        parts = {self.key: value}
        if isinstance(self.module, nn.ModuleDict) and self.module.training:
            parts["redraw"] = self._redraw(data, size // 2, rng)
            value = value + self.config.redraw * parts["redraw"]
        return value, parts

    def _redraw(self, data: TrajectoryDataset, size: int, rng: np.random.Generator) -> torch.Tensor:
        frames = data.hindsight(size, 1, rng).frame
        view = draw_views(self.latents, size, rng)
        pixels = data.frames_at(frames)
        for shown in np.unique(view):
            pixels[view == shown] = view_pixels(pixels[view == shown], shown)
        embedded = self.result.embed(self.latents[torch.from_numpy(view), torch.from_numpy(frames)])
        return self.module.get_submodule("redrawing")(embedded, torch.from_numpy(pixels).to(self.device))


def given_goals(
    world_model: WorldModel, dataset: TrajectoryDataset, training: InverseDynamicsTrainingConfig
) -> CommandedGoals | None:
    """Return the goals that the data were sent to, if the training asks for them."""
    return CommandedGoals(world_model, dataset, training.square_symmetry) if training.commanded else None


def imitation(
    network: Any,
    latents: torch.Tensor,
    goals: CommandedGoals | None,
    training: Any,
    data: TrajectoryDataset,
    size: int,
    rng: np.random.Generator,
    nearest: int = 0,
) -> torch.Tensor:
    """Return the weighted error of ``size`` recorded actions, towards hindsight goals; see :func:`action_errors`.

    Args:
        network: The :class:`InverseDynamics` that acts.
        latents: ``[views, frames, F]``, of the dataset's frames.
        goals: Those that the data were sent to, if some of the pairs shall have them.
        training: An :class:`InverseDynamicsTrainingConfig`.
        data: The split to draw from.
        size: Number of pairs.
        rng: Source of randomness.
        nearest: Goals at a known distance of up to this many steps do not count.
    """
    config = network.config
    pairs = data.hindsight(size, config.max_horizon, rng)
    before = frames_before(data, pairs.frame, config.lag, rng)
    if training.hidden_past:
        before = np.where(rng.random(size) < training.hidden_past, pairs.frame, before)
    hidden = rng.random(size) < training.unknown_fraction
    view = draw_views(latents, size, rng)
    seen = torch.from_numpy(view)
    goal, steps = latents[seen, torch.from_numpy(pairs.goal)], pairs.steps
    if goals is not None:
        chosen, row, left = goals.draw(data, pairs, training.commanded, rng)
        goal[torch.from_numpy(chosen)] = goals.latents[torch.from_numpy(view[chosen]), torch.from_numpy(row)]
        steps = steps.copy()
        steps[chosen] = left
    weights = np.where(hidden, training.discount ** steps.astype(np.float64), steps > nearest)
    if hidden.any():
        weights[hidden] /= weights[hidden].mean()
    predicted = network(
        latents[seen, torch.from_numpy(pairs.frame)],
        latents[seen, torch.from_numpy(before)],
        goal,
        torch.from_numpy(np.where(hidden, 0, steps)).to(latents.device),
    )
    actions = view_actions(pairs.actions[:, None], view)[:, 0]
    errors = action_errors(predicted, torch.from_numpy(actions).to(latents.device), config.choices)
    return (errors * torch.from_numpy(weights.astype(np.float32)).to(latents.device)).mean()


def action_errors(predicted: torch.Tensor, actions: torch.Tensor, choices: tuple[int, ...]) -> torch.Tensor:
    """Squared errors ``[B]`` of actions ``[B, A]``; of discrete ones the cross-entropy, summed over ``choices``."""
    if not choices:
        return (predicted - actions).square().mean(dim=1)
    groups = zip(predicted.split(choices, dim=1), actions.split(choices, dim=1), strict=True)
    return torch.stack([F.cross_entropy(*group, reduction="none") for group in groups]).sum(dim=0)


def frames_before(data: TrajectoryDataset, frames: np.ndarray, lag: int, rng: np.random.Generator) -> np.ndarray:
    """The frames ``lag`` steps before ``frames [B]``, as far as their episodes go back.

    Frames near an episode's start have a shorter past, and so has any agent's first step: both are shown often.
    """
    first = data.starts[data.episode_of(frames)]
    size = len(frames)
    lags = np.where(rng.random(size) < 0.1, rng.integers(0, lag + 1, size), lag)
    return np.maximum(frames - lags, first)


def train_inverse_dynamics(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: InverseDynamicsConfig | None = None,
    training: InverseDynamicsTrainingConfig | None = None,
    **options: Any,
) -> tuple[InverseDynamics, History]:
    """Train GC-IDM by imitation; arguments, results and errors are those of :func:`train_head`."""
    return train_head("gc-idm", world_model, dataset, model, training, **options)
