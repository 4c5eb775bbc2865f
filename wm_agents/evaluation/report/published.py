"""Numbers that others reported for these tasks, with their sources, to stand beside ours.

Success in percent. "Audited" numbers are an independent evaluation of released weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """One number, and which of our rows it is comparable with.

    Attributes:
        task: Our task.
        protocol: As ours are named.
        method: As the source calls it.
        success: In percent.
        source: Key of :data:`SOURCES`.
        agent: Our agent; None for the random floor or a method that we have not.
        committed: Whether the method executes 25 steps of a plan before the next.
        mode: The success test that is nearest to the source's.
    """

    task: str
    protocol: str
    method: str
    success: float
    source: str
    agent: str | None = None
    committed: bool = True
    mode: str = "moderate"


SOURCES: dict[str, str] = {
    "GC-IDM": "arXiv 2605.08732, README of its repository, 200 episodes, three seeds. 224 px, LeWorldModel of 18 M "
    "parameters trained on a GPU and a head of 1.5 M; tasks from the training data's episodes, among them some that "
    "are solved at the start. Planners execute 25 steps before they plan again, GC-IDM decides at every step. Its "
    "gradient planner is plain descent, 2 restarts, 30 steps.",
    "LeWM": "LeWorldModel, arXiv 2603.19312 v3, figure 6 and table 10 (Push-T solvers), 50 episodes. 224 px, 18 M "
    "parameters; 10,000 to 18,685 episodes of experts; tasks from the training data; CEM 300 x 30, 25 steps executed.",
    "SMWM": "arXiv 2606.20104, CSV files of its repository: mean of 5 seeds at 25/50, seed 0 at 50 steps and more; 100 "
    "held-out tasks. LeWorldModel's networks at 224 px; CEM 300 x 30, 25 steps executed.",
    "CLEAR-LeWM": "v0.5, an independent evaluation of LeWorldModel's released weights: 100 frozen tasks, those solved "
    "at the start removed, balanced over episodes, three seeds. Our tests of Push-T, Cube and Reacher follow it. CEM "
    "300 x 30, 25 steps executed.",
    "SAGE": "arXiv 2607.17973, 150 episodes, three seeds. LeWorldModel's networks at 224 px, a learned generator of "
    "subgoals and a learned prior of actions in CEM (300 x 30); the distance to the goal is told, and estimating it "
    "cost nothing. Only Push-T has our budget.",
    "2608.10145": "an independent reproduction of LeWorldModel's released weights on Push-T at longer distances.",
    "Straightening": "Temporal Straightening, arXiv 2603.12231, table 1: closed loop, Adam through the world model "
    "(a ResNet from scratch, straightened), 50 tasks with goals reachable in 25 steps, up to 20 plans.",
}
"""What is behind the numbers, and what differs from ours."""

TASK_DIFFERENCES: dict[str, str] = {
    "tworoom": "Ours is PointMaze's ball, which rolls on; theirs is a disc that moves as it is told. The audit "
    "takes only tasks with start and goal in opposite rooms.",
    "pusht": "Our actions are relative and our data is undirected play; theirs are target positions from expert "
    "demonstrations.",
    "cube-single": "Our data is OGBench's scripted oracles with noise, as theirs; our arm is drawn with capsules.",
    "reacher": "Our data is random motion; theirs is from a trained SAC policy.",
}
"""What differs in a task beyond what differs between sources."""

_TASKS = ("tworoom", "pusht", "cube-single", "reacher")


def _row(
    protocol: str,
    method: str,
    source: str,
    numbers: tuple[float | None, ...],
    agent: str | None = None,
    committed: bool = True,
    mode: str = "moderate",
) -> tuple[Published, ...]:
    """One method on :data:`_TASKS`, None where it was not reported."""
    return tuple(
        Published(task, protocol, method, number, source, agent, committed, mode)
        for task, number in zip(_TASKS, numbers, strict=True)
        if number is not None
    )


PUBLISHED: tuple[Published, ...] = (
    *_row("25/50", "GC-IDM", "GC-IDM", (100.0, 84.2, 98.7, 99.7), "gc-idm", committed=False),
    *_row("25/50", "CEM", "GC-IDM", (84.0, 82.5, 67.0, 70.3), "cem-mpc"),
    *_row("25/50", "MPPI", "GC-IDM", (65.7, 61.3, 49.3, 45.7), "mppi"),
    *_row("25/50", "iCEM", "GC-IDM", (87.5, 80.0, 70.5, 69.8), "icem"),
    *_row("25/50", "gradient (plain descent)", "GC-IDM", (30.3, 2.5, 32.0, 6.5), "gradient-sgd"),
    *_row("25/50", "CEM, audited", "CLEAR-LeWM", (84.0, 86.3, 50.3, 46.0), "cem-mpc"),
    *_row("25/50", "CEM, audited, strict", "CLEAR-LeWM", (58.3, 70.3, 26.3, 43.0), "cem-mpc", mode="strict"),
    *_row("25/50", "random, audited", "CLEAR-LeWM", (6.7, 4.0, 15.7, 4.3)),
    *_row("25/50", "random, audited, strict", "CLEAR-LeWM", (1.7, 5.0, 6.0, 5.0), mode="strict"),
    *_row("25/50", "CEM", "LeWM", (87.0, 96.0, 74.0, 86.0), "cem-mpc"),
    *_row("25/50", "PLDM, CEM", "LeWM", (97.0, 78.0, 65.0, 78.0)),
    *_row("25/50", "DINO-WM (pixels), CEM", "LeWM", (100.0, 74.0, 86.0, 79.0)),
    *_row("25/50", "gradient (Adam)", "LeWM", (None, 84.0, None, None), "gradient-adam"),
    *_row("25/50", "gradient (SGD)", "LeWM", (None, 26.0, None, None), "gradient-sgd"),
    *_row("25/50", "inverse dynamics loss, CEM", "SMWM", (100.0, 84.4, 83.0, 71.4), "cem-mpc"),
    *_row("25/50", "SIGReg, CEM", "SMWM", (92.6, 88.8, 60.0, 67.8), "cem-mpc"),
    *_row("25/50", "random", "SMWM", (30.0, 2.8, 43.0, 13.6)),
    *_row("50/100", "LeWorldModel, CEM", "2608.10145", (None, 58.0, None, None), "cem-mpc"),
    *_row("100/200", "LeWorldModel, CEM", "2608.10145", (None, 10.0, None, None), "cem-mpc"),
    *_row("100/200", "inverse dynamics loss, CEM", "SMWM", (79.0, 13.0, 86.0, 79.0), "cem-mpc"),
    *_row("100/200", "SIGReg, CEM", "SMWM", (38.0, 15.0, 67.0, 87.0), "cem-mpc"),
    *_row("25/50", "subgoals, prior, CEM", "SAGE", (None, 94.0, None, None)),
    *_row("50/100", "subgoals, prior, CEM", "SAGE", (None, 81.0, None, None)),
    *_row("100/200", "subgoals, prior, CEM", "SAGE", (None, 73.0, None, None)),
    Published("pointmaze-umaze", "25/50", "gradient (Adam)", 99.0, "Straightening", "gradient-adam", committed=False),
    Published("pointmaze-medium", "25/50", "gradient (Adam)", 99.0, "Straightening", "gradient-adam", committed=False),
)


def published_for(task: str) -> list[dict[str, Any]]:
    """Return a task's published numbers as plain dicts, in order."""
    return [asdict(entry) for entry in PUBLISHED if entry.task == task]
