"""Baselines to compare world-model agents with: Stable-Baselines3's algorithms, and others on recorded images."""

from wm_agents.baselines.gcbc import GCBCTrainingConfig, train_gcbc
from wm_agents.baselines.gcivl import GCIVLTrainingConfig, train_gcivl
from wm_agents.baselines.online import Point, finished, load, make, train
from wm_agents.baselines.settings import ONLINE, Settings, settings

OFFLINE = {"gcbc": (train_gcbc, GCBCTrainingConfig), "gcivl": (train_gcivl, GCIVLTrainingConfig)}
"""Baselines that learn from recorded images: how each is trained, and its options."""

__all__ = [
    "OFFLINE",
    "ONLINE",
    "GCBCTrainingConfig",
    "GCIVLTrainingConfig",
    "Point",
    "Settings",
    "finished",
    "load",
    "make",
    "settings",
    "train",
    "train_gcbc",
    "train_gcivl",
]
