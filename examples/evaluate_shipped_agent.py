"""Evaluate the shipped GC-IDM and CEM of a task on the same held-out goals.

Expect a table of success with 95% intervals, for random actions, no action and the two agents, and one line that
compares the agents task by task. It takes a minute or two on two CPU cores.

    python examples/evaluate_shipped_agent.py [--task pointmaze-umaze] [--tasks 20] [--budget 300]
"""

from __future__ import annotations

import argparse

from rich.console import Console

import wm_agents
from wm_agents import evaluation
from wm_agents.recipes import recipe


def main(task: str, tasks: int, budget: int | None) -> None:
    chosen = recipe(task)
    manifest = evaluation.make_manifest(
        chosen.env_id, tasks=tasks, offset=chosen.offset, budget=budget or chosen.budget, seed=0, policy=chosen.policy
    )
    results = []
    for name in ("gc-idm", "cem"):
        agent = wm_agents.load(f"{chosen.task}/{name}")
        results.append(evaluation.evaluate(agent, manifest, name=name))
    evaluation.print_report(results, Console())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pointmaze-umaze", help="see: wm-agents list agents")
    parser.add_argument("--tasks", type=int, default=20, help="number of tasks")
    parser.add_argument("--budget", type=int, help="environment steps for each; the task's usual number by default")
    arguments = parser.parse_args()
    main(arguments.task, arguments.tasks, arguments.budget)
