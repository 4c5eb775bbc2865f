"""Assessment: how likely an agent is to reach a goal, from numbers that tell how hard and how familiar the task is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from wm_agents.configs import check_counts, check_texts
from wm_agents.models.heads.base import Head

THUMBNAIL = 8
"""Height and width of the pictures that tell whether an image is of the task at all."""
NOISE = 4.0
"""Levels of grey, of 255, that a pixel of a thumbnail may differ by for no reason."""
FEATURES = (
    "log of estimated steps over steps allowed",
    "log of estimated steps",
    "log of the squared latent distance",
    "log novelty of the start",
    "log novelty of the goal",
    "no way in the graph",
    "start is goal",
    "probability that the goal is beyond any episode",
    "square of the first",
)
"""What the logistic regression reads."""


@dataclass(frozen=True)
class AssessmentConfig:
    """Size of an assessment, and whom it is about.

    Attributes:
        latent_size: F of the world model.
        references: R, recorded frames whose features are kept to tell what is new.
        pictures: P, frames that are kept as thumbnails to tell what is of another kind.
        agents: Names of the agents that were measured; their coefficients have this order.
        options: Each agent's options when it was measured, as JSON.
        limit: The environment's step limit: how long an agent has unless something else is asked.
    """

    latent_size: int = 32
    references: int = 1
    pictures: int = 1
    agents: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    limit: int = 300

    def __post_init__(self) -> None:
        check_counts(self, ("latent_size", "references", "pictures", "limit"))
        check_texts(self, ("agents", "options"))
        if len(self.agents) != len(self.options):
            raise ValueError("an assessment needs the options of each of its agents.")


class AssessmentHead(Head):
    """Coefficients of a logistic regression for each agent, and recorded frames to compare new ones with.

    Nothing in it is trained by gradient steps: ``wm_agents.evaluation.calibrate`` fits it on closed-loop runs on
    development tasks.

    Attributes:
        latents: float32 ``[R, F]``, features of recorded frames.
        pictures: uint8 ``[P, 192]``, 8 x 8 thumbnails of recorded frames and of development tasks.
        scale: float32, how far a recorded frame usually is from the nearest reference; novelty is counted in it.
        farthest: float32 ``[2]``, on frames that are not among the references, the largest novelty, and the largest
            distance to a picture.
        weights: float32 ``[A, K + 1]``, of :data:`FEATURES` for each agent; the last one is the constant.
        pace: float32 ``[A, 2]``, constant and slope of the log of the steps that solved tasks took over the log of
            those estimated.
        longest: float32 ``[A]``, the most estimated steps among the tasks that the agent solved.
    """

    latents: torch.Tensor
    pictures: torch.Tensor
    scale: torch.Tensor
    farthest: torch.Tensor
    weights: torch.Tensor
    pace: torch.Tensor
    longest: torch.Tensor

    name = "assessment"
    Config = AssessmentConfig
    learner = None

    def __init__(self, config: AssessmentConfig) -> None:
        super().__init__(config)
        count, agents = len(FEATURES), len(config.agents)
        self.register_buffer("latents", torch.zeros(config.references, config.latent_size))
        self.register_buffer("pictures", torch.zeros(config.pictures, 3 * THUMBNAIL**2, dtype=torch.uint8))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("farthest", torch.ones(2))
        self.register_buffer("weights", torch.zeros(agents, count + 1))
        self.register_buffer("pace", torch.zeros(agents, 2))
        self.register_buffer("longest", torch.zeros(agents))

    def novelty(self, features: torch.Tensor) -> torch.Tensor:
        """How far ``features [N, F]`` are from the nearest recorded ones, ``[N]``; 1 is usual."""
        return torch.cdist(features, self.latents).amin(dim=1) / self.scale

    def strangeness(self, images: torch.Tensor) -> torch.Tensor:
        """How far images uint8 ``[N, H, W, 3]`` are from the nearest picture, ``[N]``.

        Each pixel of a thumbnail counts in standard deviations over the pictures, so what never changes in a task,
        such as its background, tells images of other tasks.
        """
        pictures = self.pictures.float()
        weight = 1 / (pictures.std(dim=0, correction=0) + NOISE)
        return torch.cdist(thumbnails(images) * weight, pictures * weight).amin(dim=1)

    def probability(self, agent: int, features: np.ndarray) -> np.ndarray:
        """Probability of success, float64 ``[N]``, of agent number ``agent`` for ``features [N, K]``."""
        weights = self.weights[agent].double().cpu().numpy()
        with np.errstate(invalid="ignore"):  # of images so far off that nothing is said of them
            logits = features @ weights[:-1] + weights[-1]
        return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))


def thumbnails(images: torch.Tensor) -> torch.Tensor:
    """Frames uint8 ``[N, H, W, 3]`` as thumbnails, whole numbers in float32 ``[N, 192]``."""
    small = torch.nn.functional.adaptive_avg_pool2d(images.permute(0, 3, 1, 2).float(), THUMBNAIL)
    return small.round().flatten(1)
