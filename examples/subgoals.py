"""A hierarchical agent in action: the graph of recorded latents in its maze, and the subgoals on the way to one goal.

Expect ``subgoals.png``, a video ``subgoals.mp4`` with the current subgoal between observation and goal, and a line that
says how many subgoals were reached. Half a minute on two CPU cores.

    python examples/subgoals.py [--task pointmaze-large] [--out subgoals]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import wm_agents
from wm_agents import evaluation
from wm_agents.recipes import RECIPES


def main(task: str, out: Path, tasks: int, budget: int | None) -> None:
    agent: Any = wm_agents.load(f"{task}/hierarchical")
    chosen = RECIPES[task]
    budget = budget or chosen.budget
    manifest = evaluation.make_manifest(chosen.env_id, tasks=tasks, offset="random", budget=budget)
    result = evaluation.evaluate(agent, manifest, video=tasks, name=f"{task}/hierarchical")
    evaluation.write_video(out.with_suffix(".mp4"), result.recordings)

    longest = max(result.recordings, key=lambda recording: len(recording.path))
    env = gym.make(chosen.env_id)
    figure = evaluation.graph_figure(env, agent.heads["graph"], longest, goal=manifest.goals[longest.task])
    evaluation.save_figure(figure, out.with_suffix(".png"), dpi=90)

    reached = np.concatenate([evaluation.proposed_subgoals(env, recording)[1] for recording in result.recordings])
    print(f"{result.success_rate:.0%} of {tasks} goals; {reached.mean():.0%} of {len(reached)} subgoals were reached")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pointmaze-large", help="a maze with a shipped agent")
    parser.add_argument("--out", type=Path, default=Path("subgoals"), help="name of both files, without its ending")
    parser.add_argument("--tasks", type=int, default=8, help="number of tasks")
    parser.add_argument("--budget", type=int, help="environment steps for each; the task's usual number by default")
    arguments = parser.parse_args()
    main(arguments.task, arguments.out, arguments.tasks, arguments.budget)
