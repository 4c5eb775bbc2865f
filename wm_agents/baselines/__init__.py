"""Baselines to compare world-model agents with: Stable-Baselines3's algorithms, and others on recorded images."""

from collections.abc import Callable

from wm_agents.agents import WorldModelAgent
from wm_agents.baselines.gcbc import GCBCTrainingConfig, train_gcbc
from wm_agents.baselines.gcivl import GCIVLTrainingConfig, train_gcivl
from wm_agents.baselines.hiql import HIQLTrainingConfig, train_hiql
from wm_agents.baselines.offline import OfflineTrainingConfig, train_offline
from wm_agents.baselines.online import Point, finished, load, make, train
from wm_agents.baselines.settings import ONLINE, Settings, offline_options, settings

OFFLINE: dict[str, tuple[Callable[..., WorldModelAgent], type[OfflineTrainingConfig]]] = {
    "gcbc": (train_gcbc, GCBCTrainingConfig),
    "gcivl": (train_gcivl, GCIVLTrainingConfig),
    "hiql": (train_hiql, HIQLTrainingConfig),
}
"""Baselines that learn from recorded images: how each is trained, and its options."""

__all__ = [
    "OFFLINE",
    "ONLINE",
    "GCBCTrainingConfig",
    "GCIVLTrainingConfig",
    "HIQLTrainingConfig",
    "OfflineTrainingConfig",
    "Point",
    "Settings",
    "finished",
    "load",
    "make",
    "offline_options",
    "settings",
    "train",
    "train_gcbc",
    "train_gcivl",
    "train_hiql",
    "train_offline",
]
