"""What shipped agents see on the way to the goal: one row of images per agent, with the goal image on the right.

Expect ``film-strip.png`` with one solved task per agent, the longest of those tried. A minute on two CPU cores.

    python examples/film_strip.py [AGENT ...] [--out film-strip.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import wm_agents
from wm_agents import evaluation

AGENTS = ("reacher/gc-idm", "pusht/icem", "cube-single/gc-idm")


def longest_solved(name: str, tasks: int, offset: int) -> evaluation.Recording:
    agent: Any = wm_agents.load(name)
    manifest = evaluation.make_manifest(agent.env_id, tasks=tasks, offset=offset, budget=2 * offset)
    result = evaluation.evaluate(agent, manifest, video=tasks, name=name)
    solved = [recording for recording in result.recordings if recording.success_step]
    if not solved:
        raise SystemExit(f"{name} solved none of {tasks} tasks: try more of them with --tasks.")
    return max(solved, key=lambda recording: recording.success_step or 0)


def main(agents: list[str], out: Path, tasks: int, offset: int, images: int) -> None:
    recordings = [longest_solved(name, tasks, offset) for name in agents]
    evaluation.save_figure(evaluation.film_strip(recordings, labels=agents, images=images), out, dpi=90)
    print(f"wrote {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agents", nargs="*", default=AGENTS, metavar="AGENT", help='shipped agents, "TASK/AGENT"')
    parser.add_argument("--out", type=Path, default=Path("film-strip.png"), help="where the picture is written")
    parser.add_argument("--tasks", type=int, default=12, help="held-out tasks tried per agent")
    parser.add_argument("--offset", type=int, default=25, help="environment steps from start to goal")
    parser.add_argument("--images", type=int, default=6, help="images before the goal's")
    arguments = parser.parse_args()
    main(list(arguments.agents), arguments.out, arguments.tasks, arguments.offset, arguments.images)
