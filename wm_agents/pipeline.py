"""From nothing to trained agents: collect, train every stage, save. Everything can be interrupted and resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wm_agents import datasets
from wm_agents.agents import WorldModelAgent, load
from wm_agents.checkpoint import Checkpoint, save_checkpoint, versions
from wm_agents.datasets import TrajectoryDataset
from wm_agents.models import Head, WorldModel
from wm_agents.recipes import Recipe, Stage
from wm_agents.training import LatentLearner, Learner, find_device, learner_of
from wm_agents.training.display import open_log

AGENT_FILE = "agent.safetensors"


def reproduce(
    recipe: Recipe,
    out: str | Path,
    *,
    data: Mapping[str, TrajectoryDataset] | None = None,
    seed: int = 0,
    device: str = "auto",
    command: str = "",
    progress: bool = True,
) -> WorldModelAgent:
    """Run a recipe: data, then every stage; write ``out/agent.safetensors``, TensorBoard log and ``progress.csv``.

    The same call continues after Ctrl-C or a kill, and loads the result if it is complete. On one
    machine, with one number of threads, the same arguments write the same file, to the byte.

    Args:
        recipe: What to make, from :func:`wm_agents.recipes.recipe`.
        out: Directory of this run.
        data: Recorded data of yours, by the names that the stages use; by default they are collected.
        seed: Seed of every training. The data's seeds are the recipe's, so runs with different seeds share their data.
        device: "auto", "cpu", "cuda".
        command: Recorded in the checkpoint's provenance.
        progress: Show progress bars.

    Returns:
        The agent, which is GC-IDM if the recipe makes one; ``agent.history`` has the training curves.

    Raises:
        ValueError: There is no such device, or a stage does not fit its data or those before it.
    """
    out, where = Path(out), find_device(device)
    recipe = recipe.seeded(seed)
    data = collect(recipe, progress=progress) if data is None else dict(data)
    if missing := recipe.data.keys() - data.keys():
        raise ValueError(f"the recipe learns from {sorted(recipe.data)}; data has no {sorted(missing)}.")
    logger = open_log(out)
    world_model: WorldModel | None = None
    heads: dict[str, Head] = {}
    history: dict[str, list[tuple[int, float]]] = {}
    joined: dict[tuple[str, ...], TrajectoryDataset] = {(name,): part for name, part in data.items()}
    for stage in recipe.stages:
        if stage.data not in joined:  # joined once, so that frames are encoded once for all heads
            joined[stage.data] = datasets.concatenate([data[name] for name in stage.data])
        dataset = joined[stage.data]
        learner = make_learner(stage, dataset, world_model, heads, where, progress=progress)
        history |= learner.fit(run_dir=out, logger=logger, progress=progress)
        if isinstance(learner.result, WorldModel):
            world_model = learner.result
        else:
            heads[learner.result.name] = learner.result
    assert world_model is not None
    made = provenance(recipe, data["main"].provenance, seed, command)
    made["measured"] = {name: points[-1][1] for name, points in history.items()}
    made["threads"] = torch.get_num_threads()
    round_weights(world_model, *heads.values())
    name = "gc-idm" if "gc-idm" in heads else "cem"
    options = {agent: dict(given) for agent, given in recipe.options.items()}
    save_checkpoint(Checkpoint(world_model, name, options, recipe.env_id, made, heads), out / AGENT_FILE)
    agent = load(out / AGENT_FILE, device=where)
    agent.history = history
    return agent


def collect(recipe: Recipe, *, progress: bool = True) -> dict[str, TrajectoryDataset]:
    """Collect the data of a recipe, by name; data that exist are loaded."""
    return {
        name: datasets.collect(
            recipe.env_id,
            policy=part.policy,
            episodes=part.episodes,
            steps=part.steps,
            seed=part.seed,
            name=recipe.dataset_of(name),
            progress=progress,
        )
        for name, part in recipe.data.items()
    }


def make_learner(
    stage: Stage,
    dataset: TrajectoryDataset,
    world_model: WorldModel | None,
    heads: Mapping[str, Head],
    device: torch.device,
    *,
    progress: bool = True,
) -> Learner:
    """Make the learner of a stage.

    Raises:
        ValueError: The stage learns on a world model, and there is none yet, or the parts do not fit.
    """
    kind = learner_of(stage.name)
    if not issubclass(kind, LatentLearner):
        return kind(dataset, stage.model, stage.training, device=device)
    if world_model is None:
        raise ValueError(f"the stage {stage.name!r} learns on a world model: put a stage before it that trains one.")
    return kind(world_model, dataset, stage.model, stage.training, heads=heads, progress=progress)


@torch.no_grad()
def round_weights(*networks: torch.nn.Module) -> None:
    """Round all weight matrices to half precision, in place: a file of half the size, for a thousandth of a weight.

    The weights of an encoder that come from elsewhere stay, because the file does not contain them.
    """
    for network in networks:
        outside = getattr(getattr(network, "encoder", None), "identity", None) is not None
        for name, weight in network.named_parameters():
            if weight.ndim > 1 and not (outside and name.startswith("encoder.")):
                weight.copy_(weight.half())


def provenance(recipe: Recipe, data: dict[str, Any], seed: int, command: str) -> dict[str, Any]:
    """Return how a checkpoint was made: recipe, data, seed, command and versions, as JSON types."""
    return {
        "recipe": dataclasses.asdict(recipe),
        "dataset": data,
        "seed": seed,
        "command": command,
        "versions": versions(),
    }
