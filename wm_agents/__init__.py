"""World-model agents for Stable-Baselines3: learn latent dynamics from reward-free pixels, reach goal images.

Importing the package registers the ``wm/*`` environments with Gymnasium. The public names are loaded on first use, so
that worker processes which only step environments do not import torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_agents.version import __version__

# A checkout keeps envs/ and datasets/ beside this folder; only an installation puts them inside the package.
_FOLDER = Path(__file__).resolve().parent
_ENVS = importlib.util.find_spec("wm_agents.envs")
if _ENVS is None or _FOLDER.parent not in Path(str(_ENVS.origin)).resolve().parents:
    raise ImportError(
        f"{_FOLDER} belongs to a checkout of wm-agents that is not installed. Run `pip install -e .` in "
        f"{_FOLDER.parent}, or start Python in another folder to use the version that is installed."
    )

from wm_agents import envs  # noqa: E402

if TYPE_CHECKING:
    from wm_agents import agents, checkpoint, datasets, evaluation, losses, models, planning, recipes, training
    from wm_agents.agents import GCIDM, MPC, HierarchicalMPC, list_checkpoints, load
    from wm_agents.models import WorldModel
    from wm_agents.training import train_head, train_predictor, train_world_model

_PUBLIC = {
    "GCIDM": "agents",
    "HierarchicalMPC": "agents",
    "MPC": "agents",
    "WorldModel": "models",
    "list_checkpoints": "agents",
    "load": "agents",
    "train_head": "training",
    "train_predictor": "training",
    "train_world_model": "training",
}
"""The public names, and the modules that they come from."""

_MODULES = ("agents", "checkpoint", "datasets", "evaluation", "losses", "models", "planning", "recipes", "training")

__all__ = ["__version__", "envs", *_PUBLIC, *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"wm_agents.{_PUBLIC[name]}"), name)
    if name in _MODULES or name == "registry":
        return importlib.import_module(f"wm_agents.{name}")
    if name.startswith("_"):
        raise AttributeError(f"module 'wm_agents' has no attribute {name!r}")
    # Every other public class and function, by its own name: CEMMPC, LeWMConfig, TrainingConfig, train_denoiser, ...
    for module in ("agents", "models", "training"):
        found = importlib.import_module(f"wm_agents.{module}")
        if name in found.__all__:
            return getattr(found, name)
    raise AttributeError(f"module 'wm_agents' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC, *_MODULES])
