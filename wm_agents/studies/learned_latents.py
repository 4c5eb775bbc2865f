"""The study of planners in latent action spaces, on real latents: spaces learned from offline data, plans executed.

The questions are those that "Planning in Latent Action Spaces" (2026) leaves open: what its comparison looks like where
the latents are a trained world model's, the latent actions are inferred from its data (after arXiv 2601.05230), and a
plan counts only once it has been decoded to real actions and executed. Equation numbers are the former paper's.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console

from wm_agents import planning
from wm_agents.agents import MPC, load
from wm_agents.agents.loading import shipped
from wm_agents.datasets import TrajectoryDataset
from wm_agents.datasets import load as load_dataset
from wm_agents.evaluation import evaluate, make_manifest, save_figure
from wm_agents.evaluation.files import check_output, write_json, write_text
from wm_agents.evaluation.grid import Cell, Grid, Runner
from wm_agents.evaluation.tasks import Manifest
from wm_agents.models import LatentActionConfig, WorldModel
from wm_agents.recipes import recipe
from wm_agents.studies import learned_latents_report as report
from wm_agents.studies.spaces import Space
from wm_agents.studies.worlds import amenability, effective_dimension, smoothness
from wm_agents.training import encode_frames, train_latent_actions
from wm_agents.training.latent_actions import LatentActionTrainingConfig, LatentWindows, draw_windows

HORIZON = 8
"""Blocks per plan."""

PLANNERS: dict[str, dict[str, Any]] = {
    "cem": {"samples": 64, "elites": 8, "iterations": 5},
    "icem": {"samples": 96, "elites": 8, "iterations": 5},
    "mppi": {"samples": 64, "elites": 8, "iterations": 5},
    "gradient": {"restarts": 4, "steps": 20},
    "sgld": {"chains": 4, "steps": 20},
    "diffusion": {"samples": 16, "steps": 20},
    "diffusion-guidance": {"samples": 16, "steps": 20},
}
"""The planners and their budgets: 320 to 400 sequences a plan, or 84 with their gradients (diffusion-guidance: 336)."""

MEAN = {"planner": "random-shooting", "samples": 1, "iterations": 1}
"""A planner that does not plan: its one sequence is the first proposal, every action the space's mean. The floor of a
space: decoded, the mean of a learned space is what its data did on average from where the agent is."""

SPACES = (("vae", 4), ("vae", 10), ("sparse", 4), ("sparse", 10), ("vq", 4), ("vq", 10))
"""Regulariser and size of the learned spaces; the mazes' real blocks have 10 numbers."""


def run(
    out: str | Path,
    task: str = "pointmaze-umaze",
    tasks: int = 60,
    quick: bool = False,
    progress: bool = True,
    *,
    planners: Sequence[str] = tuple(PLANNERS),
    seed: int = 0,
) -> dict[str, Any]:
    """Run the study; write ``learned-latent-actions.json``, ``learned-latent-actions.md`` and ``learned.png``.

    Needs the task's data set (``wm-agents collect``). Took 16 minutes of one core of a busy machine.

    Args:
        out: Directory for them; created if missing.
        task: A task with shipped agents.
        tasks: Evaluation tasks, goals 50 steps ahead, budget 100.
        quick: Two spaces, a few tasks and training steps: a check that everything works, not a result.
        progress: Show progress bars.
        planners: Of :data:`PLANNERS`.
        seed: Of the task set, the training of the spaces, and the planners.

    Returns:
        What the JSON file holds.
    """
    out = Path(out)
    check_output(out, folder=True)
    started, worked = time.perf_counter(), time.process_time()
    made = recipe(task)
    world_model = load(f"{made.task}/cem").world_model
    dataset = load_dataset(made.dataset)
    manifest = make_manifest(made.env_id, tasks=4 if quick else tasks, offset=50, budget=100, seed=seed)
    training = LatentActionTrainingConfig(steps=20 if quick else 1000, seed=seed)
    latents = encode_frames(world_model, dataset, progress=progress)
    shapes = SPACES[:1] + SPACES[-1:] if quick else SPACES
    spaces = learn_spaces(world_model, dataset, shapes, training, progress)
    _, held_out = dataset.split(training.validation_fraction)
    windows = draw_windows(world_model, held_out, latents, HORIZON + 1, 2000, np.random.default_rng(seed))
    descriptions = [
        {
            **describe(space, world_model, windows),
            "mean_action_success": closed_loop(space, MEAN, world_model, manifest)["success_rate"],
        }
        for space in spaces
    ]
    starts = draw_windows(
        world_model, held_out, latents, HORIZON + 1, 4 if quick else 48, np.random.default_rng(seed + 1)
    )
    settings = _settings(made.task, manifest, training, quick) | {"open_loop_starts": len(starts.frame)}
    sources = {"checkpoint_sha256": shipped()[made.task], "dataset": dataset.provenance}
    cells = [
        Cell(
            f"{space.name}_{name}",
            {**settings, **sources, "planners": PLANNERS[name], "space": space.name},
            functools.partial(_cell, space, name, world_model, dataset, starts, manifest),
        )
        for space in spaces
        for name in planners
    ]
    found = _measured(cells, Grid(out / "cells"), progress)
    results: dict[str, Any] = {"settings": settings, "spaces": descriptions, "cells": found}
    results["settings"]["seconds"] = round(time.perf_counter() - started, 1)
    results["settings"]["core_seconds"] = round(time.process_time() - worked, 1)
    kinds = {space.name.split("-")[0]: space for space in reversed(spaces) if space.actions != "latent-decoded"}
    planes = {space.name: report.plane(space, windows) for space in reversed(kinds.values())}
    save_figure(report.figure(results, planes), out / "learned.png")
    write_json(out / "learned-latent-actions.json", results)
    write_text(out / "learned-latent-actions.md", report.markdown(results))
    return results


def _settings(task: str, manifest: Manifest, training: LatentActionTrainingConfig, quick: bool) -> dict[str, Any]:
    return {
        "task": task,
        "tasks": len(manifest),
        "offset": manifest.offset,
        "budget": manifest.budget,
        "seed": manifest.seed,
        "manifest_sha256": manifest.sha256,
        "horizon": HORIZON,
        "planners": PLANNERS,
        "training": asdict(training),
        "quick": quick,
        "threads": torch.get_num_threads(),
    }


def _measured(cells: Sequence[Cell], grid: Grid, progress: bool) -> list[dict[str, Any]]:
    """Measure the cells that are missing and return all results."""
    failed = grid.run(cells, Runner(console=Console(stderr=True) if progress else None), "planning")
    if failed:
        raise RuntimeError(f"{len(failed)} cells failed: {next(iter(failed.items()))}")
    return [{name: value for name, value in (grid.read(cell) or {}).items() if name != "key"} for cell in cells]


def _cell(
    space: Space,
    name: str,
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    starts: LatentWindows,
    manifest: Manifest,
) -> dict[str, Any]:
    """Measure one planner in one space."""
    options = {"planner": name, **PLANNERS[name]}
    return {
        "space": space.name,
        "planner": name,
        **open_loop(space, options, world_model, dataset, starts, manifest.seed),
        **closed_loop(space, options, world_model, manifest, manifest.seed),
    }


def learn_spaces(
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    shapes: Sequence[tuple[str, int]],
    training: LatentActionTrainingConfig,
    progress: bool = True,
) -> list[Space]:
    """Train a latent action space of every shape; real blocks come first, the first space decoded third."""
    spaces = [Space("blocks")]
    for regulariser, size in shapes:
        config = LatentActionConfig(regulariser=regulariser, size=size)  # type: ignore[arg-type]
        network, _ = train_latent_actions(world_model, dataset, config, training, progress=progress)
        spaces.append(Space("latent", network))
        if len(spaces) == 2:
            spaces.append(Space("latent-decoded", network))
    return spaces


@torch.no_grad()
def describe(space: Space, world_model: WorldModel, windows: LatentWindows) -> dict[str, Any]:
    """Measure a space on held-out windows: geometry, and how well it predicts and is decoded.

    Args:
        space: Real or learned.
        world_model: Predicts what decoded blocks do.
        windows: Of H+1 blocks; the first two latents are the history.

    Returns:
        ``amenability`` (eq. 12) and ``effective_dimension`` (eq. 13) of inferred actions as planners see them;
        ``forward_error``, the mean squared error of the next latent's coordinates given the inferred action;
        ``rollout_error``, the L2 error of the latent H blocks ahead; ``decoder_error``, the mean squared error of the
        decoded normalised block (about 1 if it were blind); ``effect_error``, as ``forward_error``, of the **real**
        world model given the decoded block, clipped as it is when executed; for VQ, the ``codes`` in use.
    """
    searched, actions = space.of(world_model), space.infer(windows)
    state = world_model.remember(world_model.unflatten(windows.z[:, :2]), windows.blocks[:, :1])
    imagined = world_model.features(searched.imagine(state, actions.unsqueeze(1))).squeeze(1)
    block = searched.blocks(state, actions[:, 0])
    low, high = world_model.block_bounds()
    effect = world_model.features(world_model.imagine(state, block.clamp(low, high)[:, None, None]))[:, 0, 0]
    samples = actions[:, 0].unsqueeze(0)
    return {
        "name": space.name,
        "size": searched.size,
        "amenability": float(amenability(samples)),
        "effective_dimension": float(effective_dimension(samples)),
        "forward_error": float((imagined[:, 0] - windows.z[:, 2]).square().mean()),
        "rollout_error": float((imagined[:, -1] - windows.z[:, -1]).norm(dim=-1).mean()),
        "decoder_error": float((block - windows.blocks[:, 1]).square().mean()),
        "effect_error": float((effect - windows.z[:, 2]).square().mean()),
        "codes": len(samples[0].unique(dim=0)) if space.name.startswith("vq") else None,
    }


@torch.no_grad()
def open_loop(
    space: Space,
    options: dict[str, Any],
    world_model: WorldModel,
    dataset: TrajectoryDataset,
    starts: LatentWindows,
    seed: int = 0,
) -> dict[str, Any]:
    """Plan once from every start to the latent H blocks later, execute the whole plan, compare with what was imagined.

    Args:
        space: Real or learned.
        options: The planner's name and its own options.
        world_model: Encodes what is reached.
        dataset: Holds the simulator's states of the starts.
        starts: Windows of H+1 blocks; the plan starts at their second latent.
        seed: Of the planner.

    Returns:
        ``imagined_distance`` and ``reached_distance``, L2, of the last imagined and the last real latent to the goal;
        ``gap [H]``, L2 between imagined and real latents after each block; ``smoothness`` (eq. 11) of imagined and
        ``reached_smoothness`` of real latents;
        ``evaluations``, sequences scored for each plan; ``core_ms_per_plan``, processor time, all starts planned for
        together.
    """
    z, goal = starts.z[:, :2], starts.z[:, -1]
    searched, state = space.of(world_model), world_model.remember(world_model.unflatten(z), starts.blocks[:, :1])
    own = {name: value for name, value in options.items() if name != "planner"}
    planner = planning.make(options["planner"], horizon=HORIZON, **own)
    summed, target = planning.make_objective("summed"), world_model.unflatten(goal)
    low, high = searched.bounds()
    began = time.process_time()
    plan = planner.plan(
        lambda actions: summed(searched.imagine(state, actions), target, actions),
        low=low,
        high=high,
        batch=len(z),
        generator=torch.Generator(device=z.device).manual_seed(seed),
    )
    core_ms = 1000 * (time.process_time() - began) / len(z)
    imagined = world_model.features(searched.imagine(state, plan.actions.unsqueeze(1))).squeeze(1)
    seen = torch.cat([z, imagined], dim=1)
    none = starts.blocks.new_zeros(len(z), 1, world_model.spec.block_size)  # what decodes does not look at past blocks
    states = [world_model.remember(world_model.unflatten(seen[:, h : h + 2]), none) for h in range(HORIZON)]
    blocks = torch.stack([searched.blocks(at, plan.actions[:, h]) for h, at in enumerate(states)], dim=1)
    k = world_model.spec.action_block
    actions = world_model.denormalize(blocks).unflatten(-1, (k, -1)).cpu().numpy()
    frame = starts.frame + k
    images = replay(dataset.env_id, dataset.states[frame], dataset.states[frame + k * HORIZON], actions)
    reached = world_model.features(world_model.encode(torch.from_numpy(images).to(z.device)))
    return {
        "imagined_distance": float((imagined[:, -1] - goal).norm(dim=-1).mean()),
        "reached_distance": float((reached[:, -1] - goal).norm(dim=-1).mean()),
        "gap": (imagined - reached).norm(dim=-1).mean(dim=0).tolist(),
        "smoothness": float(smoothness(z[:, -1], imagined.unsqueeze(1)).mean()),
        "reached_smoothness": float(smoothness(z[:, -1], reached.unsqueeze(1)).mean()),
        "evaluations": float(plan.evaluations.double().mean()),
        "core_ms_per_plan": core_ms,
    }


def replay(env_id: str, states: np.ndarray, goals: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Execute primitive actions ``[B, H, K, A]`` from ``states [B, S]``; return the images ``[B, H, H, W, C]``."""
    env = gym.make(env_id, obs_type="state", disable_env_checker=True)
    try:
        images = []
        for state, goal, sequence in zip(states, goals, actions, strict=True):
            env.reset(seed=0, options={"state": state.copy(), "goal_state": goal.copy()})
            for block in sequence:
                for action in block:
                    info = env.step(action.astype(env.action_space.dtype))[-1]
                images.append(env.unwrapped.render_state(info["state"]))  # type: ignore[attr-defined]
    finally:
        env.close()
    return np.stack(images).reshape(*actions.shape[:2], *images[0].shape)


def closed_loop(
    space: Space, options: dict[str, Any], world_model: WorldModel, manifest: Manifest, seed: int = 0
) -> dict[str, Any]:
    """Control the environment with :class:`wm_agents.MPC`, which makes a new plan after every block.

    Returns:
        ``success_rate`` with its Wilson interval ``ci95``, ``strict``, the ``floors``, ``steps`` to success of every
        task (None where it failed), and ``final_distance`` (mean over tasks, in the environment's units).
    """
    heads = [] if space.head is None else [space.head]
    agent = MPC(world_model, heads=heads, actions=space.actions, horizon=HORIZON, seed=seed, **options)
    result = evaluate(agent, manifest, progress=False, seed=seed)
    content = result.to_dict()
    env: Any = gym.make(manifest.env_id, obs_type="state", disable_env_checker=True).unwrapped
    ends = np.stack([env.achieved_goal(path[-1]) for path in result.paths])
    goals = np.stack([env.achieved_goal(goal) for goal in manifest.goals])
    env.close()
    return {
        "success_rate": content["success_rate"],
        "ci95": content["ci95"],
        "strict": content["strict"]["success_rate"],
        "floors": content["floors"],
        "steps": content["outcomes"]["moderate"],
        "final_distance": float(np.linalg.norm(ends - goals, axis=-1).mean()),
    }
