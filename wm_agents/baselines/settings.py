"""The settings of the baselines for every task, in one place and with their source.

Those that learn online have values of rl-baselines3-zoo (github.com/DLR-RM/rl-baselines3-zoo, ``hyperparams/``) where
it has a task of that kind. It has none for mazes, and no goal-reaching PPO: those values are ours, and were not
searched for. Those that learn offline have OGBench's values, the defaults of their options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from wm_agents.configs import check_counts
from wm_agents.datasets import task_name
from wm_agents.registry import did_you_mean


@dataclass(frozen=True)
class Settings:
    """How a baseline is trained.

    Attributes:
        algorithm: Class in Stable-Baselines3 or sb3-contrib.
        obs_type: What it sees: "state" or "pixels".
        options: Arguments of the class.
        source: Where these values are from.
        hindsight: Relabel goals with hindsight experience replay: 4 goals for each transition, from its future.
        noise: Standard deviation of Gaussian noise on actions, as a part of their range from the middle.
        n_envs: Environments that are stepped together.
    """

    algorithm: str
    obs_type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    hindsight: bool = False
    noise: float = 0.0
    n_envs: int = 1

    def __post_init__(self) -> None:
        check_counts(self, ("n_envs",))

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON types."""
        return asdict(self)


REACH = {
    "learning_rate": 1e-3,
    "gamma": 0.95,
    "batch_size": 256,
    "buffer_size": 1_000_000,
    "learning_starts": 1000,
    "policy_kwargs": {"net_arch": [64, 64]},
}
"""FetchReach-v1 in sac.yml and tqc.yml, without their normalisation: states here are of size one already."""

MANIPULATION = {
    "learning_rate": 1e-3,
    "gamma": 0.95,
    "tau": 0.05,
    "batch_size": 2048,
    "buffer_size": 1_000_000,
    "learning_starts": 1000,
    "policy_kwargs": {"net_arch": [512, 512, 512]},
}
"""FetchPush-v1 in tqc.yml: an arm moves an object."""

MAZE = {**REACH, "gamma": 0.99, "policy_kwargs": {"net_arch": [256, 256]}}
"""REACH with a longer discount and larger networks, because episodes last 300 steps and more."""

OURS = "ours, not searched for"
HINDSIGHT: dict[str, tuple[Mapping[str, Any], str]] = {
    "reacher": (REACH, "rl-baselines3-zoo, sac.yml, FetchReach-v1"),
    "pusht": (MANIPULATION, "rl-baselines3-zoo, tqc.yml, FetchPush-v1"),
    "cube-single": (MANIPULATION, "rl-baselines3-zoo, tqc.yml, FetchPush-v1"),
    "cube-double": (MANIPULATION, "rl-baselines3-zoo, tqc.yml, FetchPush-v1"),
}
"""Task -> options of algorithms with hindsight, and their source; other tasks have :data:`MAZE`."""

PIXEL_SAC = {
    "learning_rate": 7.3e-4,
    "batch_size": 256,
    "buffer_size": 300_000,
    "learning_starts": 1000,
    "tau": 0.02,
    "train_freq": 8,
    "gradient_steps": 10,
}
"""CarRacing-v0 in sac.yml, without its autoencoder and its state-dependent exploration. SB3's CNN learns from images
that are not augmented, which makes this a weak baseline."""

PPO = {"n_steps": 256, "batch_size": 256, "gamma": 0.99, "gae_lambda": 0.95, "n_epochs": 10}
ONLINE = ("sac-her", "td3-her", "tqc-her", "ppo", "sac-pixels", "ppo-pixels")
"""Names of the baselines that learn online."""


def settings(name: str, env_id: str) -> Settings:
    """Return the settings of a baseline on a task.

    Args:
        name: One of :data:`ONLINE`.
        env_id: Gymnasium id.

    Raises:
        ValueError: There is no such baseline.
    """
    if name not in ONLINE:
        raise ValueError(did_you_mean("baseline", name, ONLINE))
    options, source = HINDSIGHT.get(task_name(env_id), (MAZE, OURS))
    hindsight = Settings("SAC", "state", options, source, hindsight=True)
    return {
        "sac-her": hindsight,
        "td3-her": replace(hindsight, algorithm="TD3", noise=0.1, source=f"{source}; noise: arXiv 1802.09477"),
        "tqc-her": replace(hindsight, algorithm="TQC"),
        "ppo": Settings("PPO", "state", PPO, OURS, n_envs=8),
        "sac-pixels": Settings("SAC", "pixels", PIXEL_SAC, "rl-baselines3-zoo, sac.yml, CarRacing-v0"),
        "ppo-pixels": Settings("PPO", "pixels", PPO, OURS, n_envs=8),
    }[name]


SUBGOALS = {"cube-single": 10, "cube-double": 10}
"""Task -> steps to HIQL's subgoals, where they are not 25 (OGBench, ``impls/hyperparameters.sh``)."""


def offline_options(name: str, env_id: str) -> dict[str, Any]:
    """Return the options of a baseline that learns offline in which a task differs from the others."""
    task = task_name(env_id)
    return {"subgoal_steps": SUBGOALS[task]} if name == "hiql" and task in SUBGOALS else {}
