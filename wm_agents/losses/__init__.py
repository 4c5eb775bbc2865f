"""Loss terms of world-model training, one file each, found by name; objectives are sums of them with names."""

from wm_agents.losses.base import AUTO, LearnedLossTerm, LossTerm, LossWeights, make_losses, split_options
from wm_agents.losses.objectives import objective_weights
from wm_agents.registry import LOSSES, TRAINING_OBJECTIVES
from wm_agents.types import LatentBatch

__all__ = [
    "AUTO",
    "LOSSES",
    "TRAINING_OBJECTIVES",
    "LatentBatch",
    "LearnedLossTerm",
    "LossTerm",
    "LossWeights",
    "make_losses",
    "objective_weights",
    "split_options",
]
