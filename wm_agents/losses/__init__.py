"""Loss terms of world-model training, one file each, found by name."""

from wm_agents.losses.base import LatentBatch, LearnedLossTerm, LossTerm
from wm_agents.registry import Registry

LOSSES = Registry(
    "loss term",
    {
        "prediction": "wm_agents.losses.prediction:Prediction",
        "sigreg": "wm_agents.losses.sigreg:SIGReg",
        "vicreg": "wm_agents.losses.vicreg:VICReg",
        "inverse_dynamics": "wm_agents.losses.inverse_dynamics:InverseDynamicsLoss",
        "reconstruction": "wm_agents.losses.reconstruction:Reconstruction",
    },
)

__all__ = ["LOSSES", "LatentBatch", "LearnedLossTerm", "LossTerm"]
