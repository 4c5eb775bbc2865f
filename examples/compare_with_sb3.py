"""World model or reinforcement learning? GC-IDM, CEM, SAC with hindsight, and behaviour cloning on the same goals.

Expect what is trained and what is reused, then for near goals and for any goal each agent's success with its cost.
Tables, paired tests and figures are in runs/compare-reacher. It takes hours on two CPU cores, minutes with --fast.

    python examples/compare_with_sb3.py [--task reacher] [--steps 20000] [--fast]
"""

from __future__ import annotations

import argparse

from rich.console import Console

from wm_agents import evaluation
from wm_agents.recipes import recipe


def main(task: str, agents: list[str], seeds: int, steps: int, fast: bool) -> None:
    content = evaluation.compare(recipe(task).env_id, agents, seeds=seeds, steps=steps, quick=fast, console=Console())
    for protocol, part in content["protocols"].items():
        print(f"\n{protocol}: random actions solve {part['floors']['random']:.0%}")
        for row in part["rows"]:
            low, high = row["ci95"]
            print(
                f"  {row['agent']}: {row['rate']:.0%} [{low:.0%}, {high:.0%}], {row['steps']:,.0f} environment steps, "
                f"{row['seconds']:,.0f} s of training, {row['ms']:.1f} ms a decision"
            )
    print(f"\nwrote {content['folder']}/report.md")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="reacher", help="a task with a recipe")
    parser.add_argument("--agents", nargs="+", default=["gc-idm", "cem", "sac-her", "gcbc"], help="what to compare")
    parser.add_argument("--seeds", type=int, default=1, help="training seeds")
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps of SB3's algorithms")
    parser.add_argument("--fast", action="store_true", help="only see how everything works")
    arguments = parser.parse_args()
    main(arguments.task, arguments.agents, arguments.seeds, arguments.steps, arguments.fast)
