"""Training a head by its name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.logger import Logger

from wm_agents.models import Head, WorldModel
from wm_agents.registry import HEADS, LEARNERS, did_you_mean
from wm_agents.training.learner import Callback, LatentLearner
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


def learner_of(name: str) -> Any:
    """Return the learner class of a stage: "world-model", "predictor", "imagination", or a head's name.

    Raises:
        ValueError: Unknown name.
    """
    if name in LEARNERS:
        return LEARNERS.get(name)
    if name not in HEADS:
        raise ValueError(did_you_mean("stage of training", name, [*LEARNERS, *HEADS]))
    learner = HEADS.get(name).learner
    if learner is None:
        raise ValueError(f"the head {name!r} is not trained on data: wm-agents calibrate AGENT makes it.")
    if not isinstance(learner, str):
        return learner
    module, _, attribute = learner.partition(":")
    return getattr(importlib.import_module(module), attribute)


def train_head(
    name: str,
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    model: Any = None,
    training: Any = None,
    *,
    heads: Mapping[str, Head] | None = None,
    run_dir: str | Path | None = None,
    logger: Logger | None = None,
    callback: Callback | None = None,
    progress: bool = True,
) -> tuple[Any, History]:
    """Train one head on the frozen latents of a world model.

    Args:
        name: One of ``wm_agents.registry.HEADS``, or a stage that trains on latents: "predictor", "imagination".
        world_model: Its latents are read; its weights do not change.
        dataset: The data that the world model was trained on, or other data of the same environment.
        model: Shape of the network, an instance of the head's ``Config``; sizes of latents and actions are taken from
            the world model.
        training: Options, an instance of the learner's ``Training``.
        heads: Other heads on the same world model, for learners that read them.
        run_dir: Where to keep the resumable state; see :func:`wm_agents.training.run.run`.
        logger: SB3 logger.
        callback: Called with the learner and the step after every update; returning False stops the training.
        progress: Show bars.

    Returns:
        The head in evaluation mode (or whatever the stage makes), and the history ``name -> [(step, value), ...]``.

    Raises:
        ValueError: Unknown name, or a dataset that does not fit the world model or the options.
    """
    kind = learner_of(name)
    if not issubclass(kind, LatentLearner):
        raise ValueError(f"{name!r} is not trained on the latents of a world model: use train_world_model for that.")
    learner = kind(world_model, dataset, model, training, heads=heads, progress=progress)
    history = learner.fit(run_dir=run_dir, logger=logger, callback=callback, progress=progress)
    return learner.result, history
