"""Files of Stable-Baselines3 and sb3-contrib, which are pickles: they are only opened for those who trust them."""

from __future__ import annotations

import importlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from wm_agents.registry import did_you_mean

PACKAGES: dict[str, tuple[str, ...]] = {
    "stable_baselines3": ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3"),
    "sb3_contrib": ("ARS", "CrossQ", "MaskablePPO", "QRDQN", "RecurrentPPO", "TQC", "TRPO"),
}
"""Algorithms whose files can be opened, by package."""

MODULES = {
    "stable_baselines3.dqn": "DQN",
    "stable_baselines3.sac": "SAC",
    "stable_baselines3.td3": "TD3",  # DDPG too, which acts alike
    "sb3_contrib.ars": "ARS",
    "sb3_contrib.common.maskable": "MaskablePPO",
    "sb3_contrib.common.recurrent": "RecurrentPPO",
    "sb3_contrib.crossq": "CrossQ",
    "sb3_contrib.qrdqn": "QRDQN",
    "sb3_contrib.tqc": "TQC",
}
"""Where an algorithm's policies are defined. PPO, A2C and TRPO share theirs."""

SHARED = {"clip_range": "PPO", "cg_max_steps": "TRPO", "n_steps": "A2C"}
"""A setting that tells the algorithms with shared policies apart, the most telling first."""

REFUSED = (
    "{path} is a pickle of Stable-Baselines3's: opening it runs whatever code its maker put there. If you trust the "
    "file, say so with trust=True (--trust on the command line)."
)


def is_sb3_file(path: str | Path) -> bool:
    """Tell whether a file is a model of Stable-Baselines3 or sb3-contrib; nothing in it is executed."""
    try:
        with zipfile.ZipFile(_with_suffix(path)) as archive:
            return {"data", "policy.pth"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def load_sb3(
    path: str | Path,
    *,
    trust: bool = False,
    algorithm: str | type[BaseAlgorithm] | None = None,
    vec_normalize: str | Path | VecNormalize | None = None,
    device: torch.device | str = "auto",
) -> BaseAlgorithm:
    """Open a ``.zip`` file of Stable-Baselines3 or sb3-contrib, ready for :func:`wm_agents.evaluation.evaluate`.

    No environment is needed, even for a model that was trained with hindsight replay. Its replay buffer has room for
    one transition: the model is for acting, not for training on.

    Args:
        path: The file that ``model.save`` wrote; as there, ".zip" may be left out.
        trust: These files are pickles: they run code when they are opened. True says that you trust their maker.
        algorithm: ``"SAC"``, ``"RecurrentPPO"``, ..., or a class of your own; by default the file's settings tell.
        vec_normalize: The file that ``VecNormalize.save`` wrote, for a model that was trained on normalised
            observations; a pickle too. Or the ``VecNormalize`` itself.
        device: "auto", "cpu", "cuda".

    Raises:
        ValueError: The file is not trusted, is no model of these packages, or is damaged; or an unknown algorithm.
        ImportError: The file needs sb3-contrib, which is not installed.
    """
    path = _with_suffix(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}: give the path of a .zip file that model.save() wrote.")
    if not is_sb3_file(path):
        raise ValueError(f"{path} is no model of Stable-Baselines3: those are .zip files that model.save() wrote.")
    if not trust:
        raise ValueError(REFUSED.format(path=path))
    data = _settings(path)
    kind: Any = algorithm
    if not (isinstance(algorithm, type) and issubclass(algorithm, BaseAlgorithm)):
        kind = _class(algorithm or algorithm_of(data, path))
    # Hindsight replay wants an environment, and a buffer of the old size its memory: neither is needed for acting.
    acting: dict[str, Any] = {
        "replay_buffer_class": None,
        "replay_buffer_kwargs": {},
        "buffer_size": 1,
        "optimize_memory_usage": False,
    }
    changed = acting if "replay_buffer_class" in data else {}
    try:
        model = kind.load(path, device=device, **changed)
    except Exception as error:  # a pickle can fail in any way
        raise ValueError(f"{path} cannot be opened as {kind.__name__}: {_line(error)}.") from error
    if vec_normalize is not None:
        known = vec_normalize if isinstance(vec_normalize, VecNormalize) else _statistics(Path(vec_normalize))
        model._vec_normalize_env = known
    return model


def _with_suffix(path: str | Path) -> Path:
    """The path, or the one with ".zip" where only that is a file."""
    plain, zipped = Path(path), Path(f"{path}.zip")
    return zipped if zipped.is_file() and not plain.is_file() else plain


def algorithm_of(data: Mapping[str, Any], path: Path) -> str:
    """Return the algorithm's name, as the settings in a file tell it; nothing is executed.

    Raises:
        ValueError: They do not tell.
    """
    policy = data.get("policy_class")
    module = str(policy.get("__module__", "")) if isinstance(policy, Mapping) else ""
    for start, name in MODULES.items():
        if module.startswith(f"{start}."):
            return name
    if module == "stable_baselines3.common.policies":
        for setting, name in SHARED.items():
            if setting in data:
                return name
    raise ValueError(f"{path} does not tell which algorithm it is of: name it, algorithm='PPO' (--algorithm PPO).")


def _class(name: Any) -> Any:
    for package, names in PACKAGES.items():
        if name in names:
            try:
                return getattr(importlib.import_module(package), name)
            except ImportError as error:
                raise ImportError(f"{name} needs sb3-contrib: pip install 'wm-agents[baselines]'.") from error
    raise ValueError(did_you_mean("algorithm", str(name), [name for names in PACKAGES.values() for name in names]))


def _settings(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({_line(error)}): get it again.") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} is damaged (its settings are no table): get it again.")
    return data


def _statistics(path: Path) -> VecNormalize:
    try:
        with path.open("rb") as file:
            found = pickle.load(file)
    except Exception as error:  # a pickle can fail in any way
        raise ValueError(f"{path} cannot be opened as the statistics of VecNormalize: {_line(error)}.") from error
    if not isinstance(found, VecNormalize):
        raise ValueError(f"{path} holds a {type(found).__name__}: give the file that VecNormalize.save() wrote.")
    found.training = False
    return found


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
