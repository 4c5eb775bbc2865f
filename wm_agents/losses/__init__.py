"""Loss terms of world-model training, one file each, found by name."""

from wm_agents.losses.base import LatentBatch, LossTerm
from wm_agents.registry import Registry

LOSSES = Registry(
    "loss term",
    {
        "prediction": "wm_agents.losses.prediction:Prediction",
        "sigreg": "wm_agents.losses.sigreg:SIGReg",
    },
)

__all__ = ["LOSSES", "LatentBatch", "LossTerm"]
