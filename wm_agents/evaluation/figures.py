"""Figures: paths and latent graphs in a maze seen from above, training curves, reliability of probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle

from wm_agents.evaluation.files import atomic_path
from wm_agents.evaluation.statistics import calibration_error, wilson_interval
from wm_agents.evaluation.video import Recording

if TYPE_CHECKING:
    from wm_agents.models import LatentGraph

WALL, SUCCESS, FAILURE, START, GOAL = "#3b4252", "#2e8b57", "#c0392b", "#2c6fbb", "#e08e0b"
EDGE = "#9aa3b2"


def maze_figure(
    env: gym.Env,
    paths: Sequence[np.ndarray],
    starts: np.ndarray,
    goals: np.ndarray,
    successes: Sequence[bool] | np.ndarray,
    *,
    title: str = "",
) -> Figure:
    """Draw a maze from above with each task's start, goal (with its success radius) and path.

    Args:
        env: A maze, for example ``gym.make("wm/PointMaze-UMaze-v0")``; only its walls are used.
        paths: For each task, simulator states ``[L, S]``.
        starts: Simulator states ``[N, S]``.
        goals: Simulator states ``[N, S]``.
        successes: bool ``[N]``, which tasks were solved (green path; red otherwise).
        title: Printed above.

    Raises:
        ValueError: The environment is not a maze, or the arguments disagree on the number of tasks.
    """
    if not len(paths) == len(starts) == len(goals) == len(successes):
        raise ValueError(
            "a figure needs one path, start, goal and outcome for each task, got "
            f"{len(paths)}, {len(starts)}, {len(goals)} and {len(successes)}."
        )
    maze, figure, axes = _drawn_maze(env, title)
    radius = float(maze.success_thresholds["moderate"])
    for path, start, goal, success in zip(paths, starts, goals, successes, strict=True):
        route, begin, end = (np.asarray(maze.achieved_goal(np.asarray(states))) for states in (path, start, goal))
        axes.plot(route[:, 0], route[:, 1], color=SUCCESS if success else FAILURE, linewidth=1.5, alpha=0.8, zorder=2)
        axes.add_patch(Circle((end[0], end[1]), radius, facecolor=GOAL, alpha=0.25, zorder=1))
        axes.plot(*begin[:2], marker="o", color=START, markersize=6, linestyle="none", zorder=3)
        axes.plot(*end[:2], marker="*", color=GOAL, markersize=11, linestyle="none", zorder=3)
    handles = [
        Line2D([], [], color=START, marker="o", linestyle="none", label="start"),
        Line2D([], [], color=GOAL, marker="*", markersize=10, linestyle="none", label="goal"),
        Line2D([], [], color=SUCCESS, label="reached"),
        Line2D([], [], color=FAILURE, label="not reached"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def graph_figure(
    env: gym.Env,
    graph: LatentGraph,
    recording: Recording | None = None,
    *,
    goal: np.ndarray | None = None,
    title: str = "",
) -> Figure:
    """Draw a latent graph in its maze, and the subgoals that an agent proposed on one task.

    Nodes are drawn at the simulator states of their frames. A subgoal is filled if the agent came within the success
    radius after proposing it, and open if it did not.

    Args:
        env: A maze; see :func:`maze_figure`.
        graph: The graph, with simulator states.
        recording: Recording of one task, from ``evaluate(..., video=...)``.
        goal: Simulator state ``[S]`` of its goal.
        title: Printed above.

    Raises:
        ValueError: The environment is not a maze, or the graph was built from data without simulator states.
    """
    maze, figure, axes = _drawn_maze(env, title)
    states = graph.states.cpu().numpy()
    if not states.shape[1]:
        raise ValueError("the graph's data has no simulator states: nobody knows where its nodes lie.")
    places = np.asarray(maze.achieved_goal(states))[:, :2]
    ends = np.stack([places[graph.sources.cpu().numpy()], places[graph.targets.cpu().numpy()]], axis=1)
    axes.add_collection(LineCollection(list(ends), colors=EDGE, linewidths=0.5, zorder=1))
    axes.scatter(places[:, 0], places[:, 1], s=6, color=EDGE, zorder=2)
    handles = [Line2D([], [], color=EDGE, marker="o", markersize=3, label="graph")]
    if recording is not None:
        route = np.asarray(maze.achieved_goal(np.stack(recording.path)))[:, :2]
        proposed, reached = proposed_subgoals(env, recording)
        spots = np.asarray(maze.achieved_goal(proposed))[:, :2] if len(proposed) else np.empty((0, 2))
        axes.plot(*route.T, color=START, linewidth=1.5, zorder=3)
        axes.plot(*route[0], marker="o", color=START, markersize=7, zorder=5)
        axes.scatter(spots[reached, 0], spots[reached, 1], s=40, color=SUCCESS, zorder=4)
        axes.scatter(spots[~reached, 0], spots[~reached, 1], s=40, facecolors="none", edgecolors=FAILURE, zorder=4)
        handles += [
            Line2D([], [], color=START, marker="o", label="path"),
            Line2D([], [], color=SUCCESS, marker="o", linestyle="none", label="subgoal, reached"),
            Line2D([], [], color=FAILURE, marker="o", fillstyle="none", linestyle="none", label="not reached"),
        ]
    if goal is not None:
        place = np.asarray(maze.achieved_goal(goal))
        star: dict[str, Any] = {"color": GOAL, "marker": "*", "markersize": 11, "linestyle": "none"}
        axes.plot(*place[:2], **star, zorder=6)
        handles.append(Line2D([], [], **star, label="goal"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def proposed_subgoals(env: gym.Env, recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Return the subgoals of a recorded task, and which of them the agent reached.

    Args:
        env: The task's environment; its test of success is used.
        recording: From ``evaluate(..., video=...)`` of a hierarchical agent.

    Returns:
        Simulator states ``[n, S]`` in the order in which they were proposed, without the goal itself, and bool ``[n]``,
        whether the moderate test of success held for them at any later step.
    """
    task: Any = env.unwrapped
    path = np.stack(recording.path)
    found, reached = [], []
    for step, state in enumerate(recording.subgoal_states):
        if np.isnan(state).any() or (step and np.array_equal(state, recording.subgoal_states[step - 1])):
            continue
        later = path[step:]
        found.append(state)
        reached.append(bool(task.successes(later, np.broadcast_to(state, later.shape))["moderate"].any()))
    return np.array(found).reshape(len(found), path.shape[1]), np.array(reached, dtype=bool)


def _drawn_maze(env: gym.Env, title: str) -> tuple[Any, Figure, Axes]:
    """Return the maze, and a figure of its walls seen from above."""
    maze: Any = env.unwrapped
    if not hasattr(maze, "walls"):
        raise ValueError(
            f"maze_figure and graph_figure draw between walls, and {type(maze).__name__} has none: show what agents do "
            "with evaluate(..., video=4) and write_video."
        )
    walls, cell = np.asarray(maze.walls()), float(maze.cell_size)
    low, high = walls.min(axis=0), walls.max(axis=0)  # up to the middle of the outer walls, as the environment's images
    width, height = high - low
    scale = 6 / max(width, height)
    figure = Figure(figsize=(width * scale, height * scale + 0.7), layout="constrained")
    axes = figure.subplots()
    corners = walls - cell / 2
    axes.add_collection(PatchCollection([Rectangle(xy, cell, cell) for xy in corners], facecolor=WALL, edgecolor=WALL))
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", xticks=[], yticks=[], title=title)
    return maze, figure, axes


def training_figure(history: Mapping[str, Sequence[tuple[int, float]]], *, title: str = "") -> Figure:
    """Draw training curves, one panel for each quantity.

    Args:
        history: Curves by name, each ``(step, value)`` pairs. Names that differ only before the last ``/``, as
            ``train/prediction`` and ``validation/prediction``, share a panel. Values that are not finite are left out.
        title: Printed above.

    Raises:
        ValueError: There is nothing to draw.
    """
    panels: dict[str, dict[str, np.ndarray]] = {}
    for name, points in history.items():
        finite = [(step, value) for step, value in points if math.isfinite(value)]
        if finite:
            group, _, quantity = name.rpartition("/")
            panels.setdefault(quantity, {})[group] = np.array(finite, dtype=np.float64)
    if not panels:
        raise ValueError("there are no finite values to draw: train for at least one logging interval first.")
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4 * columns, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (quantity, curves) in zip(grid, panels.items(), strict=False):
        for group, curve in curves.items():
            marker = "o" if len(curve) < 3 else None
            axes.plot(curve[:, 0], curve[:, 1], label=group or None, marker=marker, linewidth=1.5)
        axes.set(title=quantity.replace("_", " "), xlabel="step")
        axes.grid(alpha=0.3)
        if any(curves):
            axes.legend(frameon=False)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if title:
        figure.suptitle(title)
    return figure


def film_strip(recordings: Sequence[Recording], *, labels: Sequence[str] = (), images: int = 6) -> Figure:
    """Draw a row of images for each recorded task: on the way, and the goal at the right.

    Args:
        recordings: At least one, from :func:`wm_agents.evaluation.evaluate`. Tasks are shown up to their success.
        labels: Of the rows; by default the task and how it ended.
        images: Before the goal's, at most: a task that took fewer steps has fewer.

    Raises:
        ValueError: There is nothing to draw, or there is not one label a row.
    """
    if not recordings:
        raise ValueError("there is nothing to draw: evaluate with video=1 or more to record tasks.")
    ended = ("not reached", "reached")
    named = labels or [f"task {recording.task}: {ended[bool(recording.success_step)]}" for recording in recordings]
    figure = Figure(figsize=(1.3 * (images + 1), 1.5 * len(recordings)), layout="constrained")
    grid = figure.subplots(len(recordings), images + 1, squeeze=False)
    for row, recording, label in zip(grid, recordings, named, strict=True):
        last = recording.success_step or len(recording.frames) - 1
        steps = np.unique(np.linspace(0, last, images).round().astype(int)).tolist()
        for axes, step in zip(row, steps, strict=False):
            axes.imshow(recording.frames[step])
            axes.set_title(f"step {step}", fontsize=8)
        row[-1].imshow(recording.goal)
        row[-1].set_title("goal", fontsize=8, color="#2e8b57")
        row[0].set_ylabel(label, fontsize=7)
        for place, axes in enumerate(row):
            axes.set(xticks=[], yticks=[])
            axes.set_visible(place < len(steps) or place == images)
    return figure


def reliability_figure(predicted: np.ndarray, solved: np.ndarray, *, bins: int = 10, title: str = "") -> Figure:
    """Draw how often tasks were solved against how likely that was said to be, in bins of equal mass.

    Args:
        predicted: Probabilities ``[N]``.
        solved: bool ``[N]``.
        bins: At most N are used; bars are 95% Wilson intervals.
        title: Printed above.

    Raises:
        ValueError: No rows, arrays of different length, or numbers that are no probabilities.
    """
    error = calibration_error(predicted, solved, bins)
    figure = Figure(figsize=(4.2, 4.6), layout="constrained")
    axes, counts = figure.subplots(2, height_ratios=(4, 1), sharex=True)
    axes.plot([0, 1], [0, 1], color=WALL, linestyle="--", linewidth=1)
    order = np.argsort(predicted, kind="stable")
    for part in np.array_split(order, min(bins, len(order))):
        rate = float(solved[part].mean())
        low, high = wilson_interval(int(solved[part].sum()), len(part))
        bar = [[max(0.0, rate - low)], [max(0.0, high - rate)]]
        axes.errorbar(float(predicted[part].mean()), rate, yerr=bar, color=START, marker="o", capsize=2)
    axes.set(ylabel="solved", ylim=(-0.02, 1.02), title=title)
    axes.text(0.03, 0.95, f"calibration error {error:.3f}", transform=axes.transAxes)
    counts.hist(predicted, bins=np.linspace(0, 1, 21), color=START)
    counts.set(xlabel="probability of success", ylabel="tasks", xlim=(-0.02, 1.02))
    return figure


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 150) -> None:
    """Write a figure atomically, in the format of the path's suffix (``.png``, ``.svg``, ``.pdf``).

    Raises:
        ValueError: The suffix is not a format that matplotlib writes.
    """
    formats = figure.canvas.get_supported_filetypes()
    suffix = Path(path).suffix.lstrip(".").lower()
    if suffix not in formats:
        raise ValueError(f"cannot write a figure as {Path(path).name!r}: use one of .{', .'.join(sorted(formats))}.")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
