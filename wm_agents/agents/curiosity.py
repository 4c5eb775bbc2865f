"""Curiosity: going where an ensemble of predictors disagrees, and goals at the edge of what has been seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from wm_agents.agents.action_spaces import Blocks
from wm_agents.agents.policy import KEYS, NOISE, WorldModelPolicy
from wm_agents.agents.search import SearchController, planner_factory
from wm_agents.models import Disagreement, State, WorldModel
from wm_agents.models.heads import evaluating
from wm_agents.models.modes import prediction_modes

HORIZON = 4
"""Blocks of a curious plan: short, because imagined latents soon leave what the world model has learned."""
SEARCH: dict[str, Any] = {"samples": 64, "elites": 8, "iterations": 1}
"""The best of some sequences. Further rounds of search only drive actions to their bounds."""
SMOOTH: dict[str, Any] = {"colour": 2.0}
"""Red noise: candidates that keep their direction go far, others tremble on the spot."""
CANDIDATES, NEIGHBOURS, RARE = 256, 5, 0.1
"""Frames among which a rare one is chosen, the neighbours by which its rarity is measured, and the share to choose."""


class CuriousController(SearchController):
    """Plans with an objective of the latents before each action, where others see those after it."""

    def cost(self, state: State, goal: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        now = self.space.world_model.latent(state)[:, None, None]

        def cost(actions: torch.Tensor) -> torch.Tensor:
            later = self.space.imagine(state, actions)[:, :, :-1]
            before = torch.cat([now.expand(-1, actions.shape[1], *now.shape[2:]), later], dim=2)
            return self.objective(before, goal, actions)

        return cost


def curious_policy(
    world_model: WorldModel,
    ensemble: Disagreement,
    action_space: spaces.Space[Any],
    rng: np.random.Generator,
    noise: float = NOISE,
) -> WorldModelPolicy:
    """Return a policy that pursues no goal: it plans for the largest disagreement of an ensemble, summed over the plan.

    Args:
        world_model: Imagines.
        ensemble: Was trained on the world model's latents.
        action_space: Of the environment.
        rng: Source of exploration noise.
        noise: See :attr:`WorldModelPolicy.noise`.
    """

    def objective(before: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return -ensemble.disagreement(world_model.features(before), actions).sum(-1)

    spec = world_model.spec
    planner = planner_factory("cem", SEARCH, spec) if spec.choices else planner_factory("icem", SEARCH | SMOOTH, spec)
    controller = CuriousController(Blocks(world_model), planner, HORIZON, objective, heads=(ensemble,))
    image = spaces.Box(0, 255, (spec.image_size, spec.image_size, 3), np.uint8)
    policy = WorldModelPolicy(spaces.Dict({key: image for key in KEYS}), action_space, world_model, controller, rng=rng)
    policy.noise = noise
    return policy


def rare_frame(world_model: WorldModel, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one of the tenth of the frames that have the fewest others near them.

    How rare a frame is, is measured by the distance of its latent to the fifth nearest one, an estimate of its density
    (as for the reward of APT, arXiv 2103.04551).

    Args:
        world_model: Encodes.
        frames: uint8 ``[N, H, W, 3]``, a sample of what has been seen.
        rng: Draws.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    device = world_model.action_mean.device
    with prediction_modes(device), evaluating(world_model):
        z = world_model.features(world_model.encode(torch.from_numpy(frames).to(device)))
        distances = torch.cdist(z, z).sort(dim=1).values[:, min(NEIGHBOURS, len(frames) - 1)].cpu().numpy()
    rarest = np.argsort(distances, kind="stable")[-max(1, round(RARE * len(frames))) :]
    return frames[rng.choice(rarest)]
