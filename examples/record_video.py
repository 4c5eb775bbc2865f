"""Record a video of a shipped agent: its image next to the goal image. The border turns green on success.

Expect ``agent.mp4`` (or any ``.mp4`` or ``.gif`` you name) with four tasks, after a few seconds.

    python examples/record_video.py [--agent tworoom/gc-idm] [--out agent.mp4]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import wm_agents
from wm_agents import evaluation
from wm_agents.recipes import recipe


def main(name: str, out: Path, tasks: int, budget: int | None) -> None:
    agent = wm_agents.load(name)
    chosen = recipe(agent.env_id)
    manifest = evaluation.make_manifest(
        agent.env_id, tasks=tasks, offset=chosen.offset, budget=budget or chosen.budget, seed=1, policy=chosen.policy
    )
    result = evaluation.evaluate(agent, manifest, video=tasks, name=name)
    evaluation.write_video(out, result.recordings)
    print(f"{name} reached {result.success_rate:.0%} of {tasks} goals; wrote {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", default="pointmaze-medium/gc-idm", help="see: wm-agents list agents")
    parser.add_argument("--out", type=Path, default=Path("agent.mp4"), help=".mp4 or .gif")
    parser.add_argument("--tasks", type=int, default=4, help="number of tasks")
    parser.add_argument("--budget", type=int, help="environment steps for each; the task's usual number by default")
    arguments = parser.parse_args()
    main(arguments.agent, arguments.out, arguments.tasks, arguments.budget)
