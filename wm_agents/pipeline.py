"""From nothing to trained agents: collect, train, fit, save. Every part can be interrupted and goes on where it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from wm_agents import datasets
from wm_agents.agents import GCIDM, WorldModelAgent
from wm_agents.checkpoint import versions
from wm_agents.recipes import Recipe
from wm_agents.training import (
    fit_graph,
    train_denoiser,
    train_in_imagination,
    train_macro_actions,
    train_predictor,
    train_temporal_distance,
    train_waypoints,
    train_world_model,
)
from wm_agents.training.common import open_log

AGENT_FILE = "agent.safetensors"


def reproduce(
    recipe: Recipe, out: str | Path, *, seed: int = 0, device: str = "auto", command: str = "", progress: bool = True
) -> GCIDM:
    """Run a recipe: data, world model, heads; write ``out/agent.safetensors``, TensorBoard log and ``progress.csv``.

    Called again with the same arguments after Ctrl-C or a kill it goes on; once finished it loads what it wrote. On one
    machine, with one number of threads, the same arguments write the same file, to the byte.

    Args:
        recipe: What to make, from :func:`wm_agents.recipes.recipe`.
        out: Directory of this run.
        seed: Of training; the data's seed is always 0, so runs of several seeds share their data.
        device: "auto", "cpu", "cuda".
        command: Recorded in the checkpoint's provenance.
        progress: Show progress bars.

    Returns:
        The fitted agent; ``agent.history`` holds the training curves.
    """
    out = Path(out)
    recipe = recipe.seeded(seed)
    dataset = datasets.collect(
        recipe.env_id, policy=recipe.policy, episodes=recipe.episodes, steps=recipe.episode_steps,
        name=recipe.dataset, progress=progress,
    )  # fmt: skip
    logger = open_log(out)
    shared: dict[str, Any] = {"run_dir": out, "logger": logger, "progress": progress}
    world_model, history = train_world_model(dataset, recipe.world_model, recipe.training, device=device, **shared)
    if recipe.predictor_training is not None:
        everything = dataset
        if recipe.predictor_policy is not None:
            contacts = datasets.collect(
                recipe.env_id, policy=recipe.predictor_policy, episodes=recipe.predictor_episodes,
                steps=recipe.episode_steps, name=recipe.predictor_dataset, progress=progress,
            )  # fmt: skip
            everything = datasets.concatenate([dataset, contacts])
        world_model, curves = train_predictor(world_model, everything, recipe.predictor_training, **shared)
        history |= curves
    agent = GCIDM(world_model, device=device, verbose=int(progress), **recipe.options.get("gc-idm", {}))
    agent.stored_options = recipe.options
    agent.set_logger(logger)
    agent.fit(dataset, model=recipe.inverse_dynamics, training=recipe.inverse_dynamics_training, run_dir=out)
    agent.history |= history
    if recipe.imagination_training is not None and agent.inverse_dynamics is not None:
        network, curves = train_in_imagination(
            world_model, agent.inverse_dynamics, dataset, recipe.imagination_training, **shared
        )
        agent.use(network)
        agent.history |= curves
    if recipe.temporal_distance_training is not None:
        agent.temporal_distance, curves = train_temporal_distance(
            world_model, dataset, recipe.temporal_distance, recipe.temporal_distance_training, **shared
        )
        agent.history |= curves
    if recipe.denoiser_training is not None:
        agent.denoiser, curves = train_denoiser(
            world_model, dataset, recipe.denoiser, recipe.denoiser_training, **shared
        )
        agent.history |= curves
    if recipe.graph is not None:
        agent.graph = fit_graph(world_model, dataset, recipe.graph, progress=progress)
    if recipe.macro_actions_training is not None:
        agent.macro_actions, curves = train_macro_actions(
            world_model, dataset, recipe.macro_actions, recipe.macro_actions_training, **shared
        )
        agent.history |= curves
    if recipe.waypoints_training is not None:
        agent.waypoints, curves = train_waypoints(
            world_model, dataset, recipe.waypoints, recipe.waypoints_training, **shared
        )
        agent.history |= curves
    agent.env_id = recipe.env_id
    agent.provenance = provenance(recipe, dataset.provenance, seed, command)
    agent.provenance["measured"] = {name: points[-1][1] for name, points in agent.history.items()}
    agent.provenance["threads"] = torch.get_num_threads()
    round_weights(agent)
    agent.save(out / AGENT_FILE)
    return agent


@torch.no_grad()
def round_weights(agent: WorldModelAgent) -> None:
    """Round all weight matrices to half precision, in place: a file of half the size, for a thousandth of a weight."""
    for network in (agent.world_model, *agent.checkpoint().heads().values()):
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.copy_(weight.half())


def provenance(recipe: Recipe, data: dict[str, Any], seed: int, command: str) -> dict[str, Any]:
    """Return what made a checkpoint: recipe, data, seed, command and versions, as JSON types."""
    return {
        "recipe": dataclasses.asdict(recipe),
        "dataset": data,
        "seed": seed,
        "command": command,
        "versions": versions(),
    }
