"""Trajectories without rewards: collected in parallel, stored as Minari datasets, and read through a memory map."""

from __future__ import annotations

if __name__ != "wm_agents.datasets":
    raise ImportError(
        f"This folder is the package 'wm_agents.datasets', not {__name__!r}. Install the project (pip install -e .) "
        "and use `import wm_agents.datasets`; Hugging Face's `datasets` is found from outside this checkout."
    )

from wm_agents.configs import task_name
from wm_agents.datasets.collect import collect, default_name
from wm_agents.datasets.dataset import TrajectoryDataset
from wm_agents.datasets.episodes import episode_seed, rollout_states
from wm_agents.datasets.from_episodes import from_episodes
from wm_agents.datasets.hub import list_remote, pull, push
from wm_agents.datasets.importing import IMPORT_FORMATS, import_dataset
from wm_agents.datasets.loading import ActionsOutsideWarning, list_datasets, load
from wm_agents.datasets.mixing import concatenate
from wm_agents.datasets.policies import Policy, default_policy
from wm_agents.datasets.replay import ReplayBuffer
from wm_agents.registry import POLICIES

__all__ = [
    "IMPORT_FORMATS",
    "POLICIES",
    "ActionsOutsideWarning",
    "Policy",
    "ReplayBuffer",
    "TrajectoryDataset",
    "collect",
    "concatenate",
    "default_name",
    "default_policy",
    "episode_seed",
    "from_episodes",
    "import_dataset",
    "list_datasets",
    "list_remote",
    "load",
    "pull",
    "push",
    "rollout_states",
    "task_name",
]
