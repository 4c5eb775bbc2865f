"""World-model agents for Stable-Baselines3: learn latent dynamics from images without rewards, and reach goal images.

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
from wm_agents.envs import wrap  # noqa: E402

if TYPE_CHECKING:
    from wm_agents import (  # noqa: F401  # noqa: F401
        agents,
        checkpoint,
        datasets,
        evaluation,
        losses,
        models,
        planning,
        recipes,
        registry,
        training,
    )
    from wm_agents.agents import GCIDM, MPC, HierarchicalMPC, list_checkpoints, load
    from wm_agents.models import WorldModel
    from wm_agents.pretrained import from_pretrained
    from wm_agents.solving import solve
    from wm_agents.training import train_head, train_predictor, train_world_model

__all__ = [
    "GCIDM",
    "MPC",
    "HierarchicalMPC",
    "WorldModel",
    "__version__",
    "datasets",
    "envs",
    "evaluation",
    "from_pretrained",
    "list_checkpoints",
    "load",
    "planning",
    "recipes",
    "registry",
    "solve",
    "train_head",
    "train_predictor",
    "train_world_model",
    "wrap",
]
_MODULES = ("agents", "checkpoint", "datasets", "evaluation", "losses", "models", "planning", "recipes", "registry")
_FUNCTIONS = {"from_pretrained": "wm_agents.pretrained", "solve": "wm_agents.solving"}


def __getattr__(name: str) -> Any:
    if name in (*_MODULES, "training"):
        return importlib.import_module(f"wm_agents.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    # Other classes and functions, by their own name: MPC, CEMMPC, LeWMConfig, TrainingConfig, train_denoiser, ...
    for module in ("models", "training", "agents") if not name.startswith("_") else ():
        found = importlib.import_module(f"wm_agents.{module}")
        if name in found.__all__:
            return getattr(found, name)
    raise AttributeError(f"module 'wm_agents' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES, "training"})
