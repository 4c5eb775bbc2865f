"""Loss terms of world-model training, one file each, found by name."""

from wm_agents.losses.base import LearnedLossTerm, LossTerm, LossWeights, make_losses, split_options
from wm_agents.registry import LOSSES
from wm_agents.types import LatentBatch

__all__ = ["LOSSES", "LatentBatch", "LearnedLossTerm", "LossTerm", "LossWeights", "make_losses", "split_options"]
