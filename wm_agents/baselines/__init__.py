"""Baselines to compare world-model agents with: Stable-Baselines3's algorithms, and behaviour cloning from pixels."""

from wm_agents.baselines.gcbc import GCBCTrainingConfig, train_gcbc
from wm_agents.baselines.online import Point, finished, load, make, train
from wm_agents.baselines.settings import ONLINE, Settings, settings

__all__ = [
    "ONLINE",
    "GCBCTrainingConfig",
    "Point",
    "Settings",
    "finished",
    "load",
    "make",
    "settings",
    "train",
    "train_gcbc",
]
