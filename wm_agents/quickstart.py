"""``wm-agents quickstart``: the whole pipeline, from nothing to a table, a video and figures."""

from __future__ import annotations

import time
from pathlib import Path

import gymnasium as gym
import torch
from rich.console import Console

from wm_agents import evaluation, pipeline
from wm_agents.agents import MPC, WorldModelAgent
from wm_agents.envs import MAZE_IDS
from wm_agents.recipes import recipe


def run(
    console: Console, out: Path, task: str, *, tasks: int = 50, seed: int = 0, fast: bool = False, command: str = ""
) -> list[evaluation.EvaluationResult]:
    """Collect, train, fit, evaluate random, CEM and GC-IDM; write report, video and figures into ``out``.

    Returns:
        The results of CEM and GC-IDM, floors inside.
    """
    started = time.perf_counter()
    chosen = recipe(task)
    if "denoiser" in [stage.name for stage in chosen.stages]:
        chosen = chosen.without("denoiser")  # a minute that nothing below needs
    if fast:
        chosen = chosen.shortened()
    # First, so that a mistake in the tasks is found before the minutes of training.
    manifest = evaluation.make_manifest(
        chosen.env_id, tasks=tasks, offset=chosen.offset, budget=chosen.budget, seed=0, policy=chosen.policy
    )
    agent = pipeline.reproduce(chosen, out, seed=seed, command=command)
    manifest.save(out / "tasks.json")
    # A lighter search than the shipped one, so that 50 tasks take half a minute.
    lighter = {**chosen.options["cem"], "samples": 60, "elites": 8, "iterations": 6}
    search = MPC(agent.world_model, heads=agent.heads, planner="cem", **lighter)
    with torch.inference_mode():
        results = [
            evaluation.evaluate(search, manifest, name="cem"),
            evaluation.evaluate(agent, manifest, name="gc-idm", video=min(4, tasks)),
        ]
    for result in results:
        result.save(out / f"{result.agent}.json")
    drawn = draw(agent, manifest, results[-1], out)
    evaluation.print_report(results, console)
    minutes = (time.perf_counter() - started) / 60
    console.print(
        f"\nDone in {minutes:.1f} minutes. In {out}/: {', '.join(drawn)}, "
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


def draw(
    agent: WorldModelAgent, manifest: evaluation.Manifest, result: evaluation.EvaluationResult, out: Path
) -> list[str]:
    """Write the video of some tasks, the training curves and, of a maze, the paths taken; return what was written."""
    evaluation.write_video(out / "gc-idm.mp4", result.recordings)
    evaluation.save_figure(evaluation.training_figure(agent.history), out / "training.png")
    drawn = ["gc-idm.mp4 (observation and goal)", "training.png"]
    if manifest.env_id in MAZE_IDS:
        env = gym.make(manifest.env_id, obs_type="state")
        shown = slice(0, 12)
        figure = evaluation.maze_figure(
            env,
            result.paths[shown],
            manifest.starts[shown],
            manifest.goals[shown],
            result.outcomes.moderate[shown] > 0,
            title=f"GC-IDM on held-out tasks, {manifest.env_id}",
        )
        evaluation.save_figure(figure, out / "paths.png")
        env.close()
        drawn.append("paths.png")
    return drawn
