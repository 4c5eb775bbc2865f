"""``wm-agents quickstart``: the main job from nothing to a table, a video and a figure."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import gymnasium as gym
import torch
from rich.console import Console

from wm_agents import evaluation, pipeline
from wm_agents.agents import CEMMPC
from wm_agents.envs import MAZE_IDS
from wm_agents.recipes import Recipe, recipe
from wm_agents.training import GraphConfig, PredictorTrainingConfig, TemporalDistanceTrainingConfig


def run(
    console: Console, out: Path, task: str, *, tasks: int = 50, seed: int = 0, fast: bool = False, command: str = ""
) -> list[evaluation.EvaluationResult]:
    """Collect, train, fit, evaluate random, CEM-MPC and GC-IDM; write report, video and figures into ``out``.

    Returns:
        The results of CEM-MPC and GC-IDM, floors inside.
    """
    started = time.perf_counter()
    chosen = dataclasses.replace(recipe(task), denoiser_training=None)  # a minute that nothing below needs
    if fast:
        chosen = shortened(chosen)
    # First, so that a mistake in the tasks is found before the minutes of training.
    manifest = evaluation.make_manifest(
        chosen.env_id, tasks=tasks, offset=chosen.offset, budget=chosen.budget, seed=0, policy=chosen.policy
    )
    agent = pipeline.reproduce(chosen, out, seed=seed, command=command)
    manifest.save(out / "tasks.json")
    # A lighter search than the shipped one, so that 50 tasks take half a minute.
    search = CEMMPC(
        agent.world_model, temporal_distance=agent.temporal_distance,
        **{**chosen.options["cem-mpc"], "samples": 60, "elites": 8, "iterations": 6},
    )  # fmt: skip
    with torch.inference_mode():
        results = [
            evaluation.evaluate(search, manifest, name="cem-mpc"),
            evaluation.evaluate(agent, manifest, name="gc-idm", video=min(4, tasks)),
        ]
    evaluation.print_report(results, console)
    for result in results:
        result.save(out / f"{result.agent}.json")
    amortised = results[-1]
    evaluation.write_video(out / "gc-idm.mp4", amortised.recordings)
    evaluation.save_figure(evaluation.training_figure(agent.history), out / "training.png")
    drawn = "gc-idm.mp4 (observation and goal), training.png"
    if chosen.env_id in MAZE_IDS:
        env = gym.make(chosen.env_id, obs_type="state")
        shown = slice(0, 12)
        evaluation.save_figure(
            evaluation.maze_figure(
                env, amortised.paths[shown], manifest.starts[shown], manifest.goals[shown],
                amortised.outcomes.moderate[shown] > 0, title=f"GC-IDM on held-out tasks, {chosen.task}",
            ),
            out / "paths.png",
        )  # fmt: skip
        env.close()
        drawn += ", paths.png"
    minutes = (time.perf_counter() - started) / 60
    console.print(
        f"\nDone in {minutes:.1f} minutes. In {out}/: {drawn}, "
        f"the results as JSON, and the agent in {pipeline.AGENT_FILE}.\n"
        "Next:\n"
        f"  wm-agents evaluate {out / pipeline.AGENT_FILE} --offset 100 --budget 200   # your agent, other tasks\n"
        f"  wm-agents evaluate {chosen.task}/gc-idm --offset random                    # the shipped one\n"
        "  wm-agents quickstart --task pointmaze-medium --out runs/medium             # a larger maze\n"
        f"  python -c \"import wm_agents; wm_agents.load('{chosen.task}/gc-idm')\"     # in your own code",
        highlight=False,
        soft_wrap=True,
    )
    return results


def shortened(full: Recipe) -> Recipe:
    """Return a recipe of the same parts that runs in seconds."""
    return dataclasses.replace(
        full,
        variant="-fast",
        episodes=8,
        episode_steps=100,
        training=dataclasses.replace(full.training, steps=30, evaluate_every=10),
        inverse_dynamics_training=dataclasses.replace(full.inverse_dynamics_training, steps=100, evaluate_every=50),
        imagination_training=full.imagination_training and dataclasses.replace(full.imagination_training, steps=20),
        predictor_episodes=8,
        predictor_training=PredictorTrainingConfig(steps=20, evaluate_every=10),
        temporal_distance_training=full.temporal_distance_training and TemporalDistanceTrainingConfig(steps=20),
        graph=full.graph and GraphConfig(nodes=20, support=1),
        waypoints_training=full.waypoints_training and dataclasses.replace(full.waypoints_training, steps=20),
        budget=60,
    )
