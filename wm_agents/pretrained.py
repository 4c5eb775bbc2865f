"""``wm_agents.from_pretrained``: world models that others have published, from a folder or from Hugging Face."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wm_agents.configs import build_config
from wm_agents.downloads import download
from wm_agents.models import ActionStatistics, PublicLeWM, PublicLeWMConfig
from wm_agents.models.modes import limited, prediction_modes
from wm_agents.tensorfile import CheckpointError

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

REVISIONS = {
    "quentinll/lewm-cube": "b0747c5002e86d2ce8f3cd8178004b97524c587d",
    "quentinll/lewm-pusht": "22b330c28c27ead4bfd1888615af1340e3fe9052",
    "quentinll/lewm-reacher": "62adae4b71dc474ddf8f794c476ebfe737a743ca",
    "quentinll/lewm-tworooms": "77adaae0bc31deab21c93740d1f8bb947cd0bdec",
}
"""Repositories of LeWorldModel's authors on Hugging Face -> the commit that is read (as in CLEAR-LeWM v0.5)."""
CONFIG, WEIGHTS = "config.json", "weights.pt"

FIELDS = {
    "encoder.image_size": "image_size",
    "encoder.patch_size": "patch_size",
    "encoder.num_hidden_layers": "encoder_depth",
    "encoder.num_attention_heads": "encoder_heads",
    "predictor.num_frames": "history",
    "predictor.hidden_dim": "latent_size",
    "predictor.depth": "predictor_depth",
    "predictor.heads": "predictor_heads",
    "predictor.dropout": "dropout",
}
"""Entries of a published configuration -> fields of :class:`wm_agents.models.PublicLeWMConfig`."""
FIXED = {
    "encoder.size": "tiny",
    "predictor.dim_head": 64,
    "predictor.mlp_dim": 2048,
    "predictor.emb_dropout": 0,
    "action_encoder.smoothed_dim": 10,
    "action_encoder.mlp_scale": 4,
    "projector.hidden_dim": 2048,
    "pred_proj.hidden_dim": 2048,
}
"""Entries that can have one value only."""


def from_pretrained(source: str | Path, dataset: str | TrajectoryDataset, *, revision: str | None = None) -> PublicLeWM:
    """Load a published LeWorldModel (arXiv 2603.19312); nothing in its files is executed.

    Args:
        source: A folder with ``config.json`` and ``weights.pt``, or a repository on Hugging Face that has these,
            ``"quentinll/lewm-pusht"``.
        dataset: Data with the actions that the model was trained on, or their name: the files hold no statistics of
            actions. They need not be the images' size.
        revision: Commit of the repository; it is known for those in :data:`REVISIONS`.

    Returns:
        The world model, on the CPU and in evaluation mode, for agents (``MPC(world_model)``) and for heads.

    Raises:
        CheckpointError: A file is missing, is no plain file of tensors, or holds other tensors than it should.
        ValueError: A repository without a revision, or a dataset with other actions.
        ConnectionError: The files cannot be downloaded.
        ImportError: huggingface_hub is needed and not installed.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(str(source), revision)
    from wm_agents.datasets import TrajectoryDataset, load

    if isinstance(dataset, str):
        dataset = load(dataset)
    if not isinstance(dataset, TrajectoryDataset):
        raise ValueError(f"the second argument must be a dataset or its name, not {type(dataset).__name__}.")
    config = _read_config(folder / CONFIG, dataset)
    tensors = _read_weights(folder / WEIGHTS)
    mean, std = dataset.action_mean_std()
    weights = sum(value.numel() for value in tensors.values())
    try:
        with prediction_modes(), limited(max(5 * 10**7, 4 * weights), 100 * (len(tensors) + 100)):
            model = PublicLeWM(config, ActionStatistics(dataset.action_low, dataset.action_high, mean, std))
        model.load_public(tensors)
    except (ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit its {CONFIG}: {error}.") from error
    return model.eval().requires_grad_(False)


def _download(name: str, revision: str | None) -> Path:
    """The folder of a repository's files, in Hugging Face's cache."""
    if name.count("/") != 1 or name.startswith(("/", ".")):
        raise CheckpointError(f"there is no folder {name}: give one that has {CONFIG} and {WEIGHTS}.")
    return download(name, (CONFIG, WEIGHTS), revision, REVISIONS)


def _read_config(path: Path, dataset: TrajectoryDataset) -> PublicLeWMConfig:
    """The shape that a published configuration describes. Names of classes in it are not read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = {
            f"{part}.{name}": value
            for part, values in content.items()
            if isinstance(values, dict)
            for name, value in values.items()
        }
        for name, only in FIXED.items():
            if entries.get(name, only) != only:
                raise ValueError(f"{name} is {entries[name]}, and only {only} is known")
        block, actions = entries["action_encoder.input_dim"], dataset.actions.shape[1]
        fields = {field: entries[name] for name, field in FIELDS.items() if name in entries}
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no {path}: it says how large the networks are.") from error
    except (AttributeError, KeyError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no configuration of a published LeWorldModel ({error}).") from error
    if not isinstance(block, int) or block % actions:
        raise ValueError(
            f"{path} has blocks of {block} numbers, and the actions of {dataset.name} have {actions}: give a dataset "
            "with the actions that the model was trained on."
        )
    sizes = {"action_size": actions, "action_block": block // actions, "choices": dataset.choices}
    try:
        return build_config(PublicLeWMConfig, {**fields, **sizes})
    except ValueError as error:
        raise CheckpointError(f"{path} is no configuration of a published LeWorldModel ({error}).") from error


def _read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a file that torch wrote, read without executing what else a pickle may hold."""
    if not path.is_file():
        raise CheckpointError(f"there is no {path}: {CONFIG} and {WEIGHTS} belong together.")
    damaged = f"{path} is damaged, or no zip file as torch.save writes it; nothing in it was executed. Get it again."
    if not zipfile.is_zipfile(path):
        raise CheckpointError(damaged)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, which could run code when it is opened, and was not opened: "
            "get the published file."
        ) from error
    except (EOFError, KeyError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(damaged) from error
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise CheckpointError(f"{path} holds no tensors by name: get the published file.")
    return content
