"""The subcommand that compares ways to learn: compare."""

from __future__ import annotations

from pathlib import Path

import tyro

from wm_agents.cli.common import app, command_line, console, full_id


@app.command
def compare(
    env_id: tyro.conf.Positional[str],
    agents: tuple[str, ...] = ("gc-idm", "cem", "sac-her", "gcbc"),
    seeds: int = 1,
    steps: int = 20_000,
    data_steps: int | None = None,
    tasks: int = 100,
    quick: bool = False,
    out: Path | None = None,
    num_envs: int = 16,
    device: str = "auto",
) -> None:
    """Train world-model agents, SB3's algorithms and behaviour cloning on a task, and compare them on the same goals.

    Args:
        env_id: Gymnasium id or task name.
        agents: Agents of this library (gc-idm, cem, hierarchical, ...), gcbc, gcivl and hiql (cloning and offline
            reinforcement learning from the same images), and SB3's sac-her, td3-her, tqc-her, ppo, sac-pixels and
            ppo-pixels.
        seeds: Number of training seeds.
        steps: Environment steps of SB3's algorithms.
        data_steps: Environment steps that are recorded for the others; by default those of the task's recipe.
        tasks: Held-out tasks, each with near goals and with any goal.
        quick: Only see how everything works, with a few episodes of data; this is not a result.
        out: Directory for report.md, report.json and figures; by default runs/compare-TASK. The same command continues
            an interrupted run, and says which trainings it reuses.
        num_envs: Environments that share a call in evaluations.
        device: auto, cpu or cuda.
    """
    from wm_agents import evaluation

    content = evaluation.compare(
        full_id(env_id),
        agents,
        seeds=seeds,
        steps=steps,
        data_steps=data_steps,
        tasks=tasks,
        quick=quick,
        out=out,
        num_envs=num_envs,
        device=device,
        command=command_line(),
        console=console,
    )
    console.print(f"wrote {content['folder']}/report.md, report.json and figures", highlight=False, soft_wrap=True)
