"""What shipped agents see on the way to the goal: one row of images per agent, with the goal image on the right.

Expect ``film-strip.png`` with one solved task per agent, the longest of those tried. A minute on two CPU cores.

    python examples/film_strip.py [AGENT ...] [--out film-strip.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

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
    figure = Figure(figsize=(1.3 * (images + 1), 1.45 * len(agents)), layout="constrained")
    for row, name in zip(figure.subplots(len(agents), images + 1, squeeze=False), agents, strict=True):
        recording = longest_solved(name, tasks, offset)
        steps = np.linspace(0, recording.success_step or 0, images).round().astype(int).tolist()
        for axes, step in zip(row, steps, strict=False):
            axes.imshow(recording.frames[step])
            axes.set_title(f"step {step}", fontsize=8)
        row[-1].imshow(recording.goal)
        row[-1].set_title("goal", fontsize=8, color="#2e8b57")
        row[0].set_ylabel(name, fontsize=8)
        for axes in row:
            axes.set(xticks=[], yticks=[])
    evaluation.save_figure(figure, out, dpi=90)
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
