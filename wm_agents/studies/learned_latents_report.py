"""Tables and figure of the study of planners in learned latent action spaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from wm_agents.evaluation.statistics import mcnemar
from wm_agents.studies.spaces import Space
from wm_agents.training.latent_actions import LatentWindows

GEOMETRY = [
    "space",
    "d",
    "effective dimension",
    "amenability",
    "forward error",
    "error H blocks ahead",
    "decoder error",
    "effect error",
    "success of the mean action, %",
]
"""Columns of the table of spaces."""
EVERY = [
    "space",
    "planner",
    "success %",
    "final distance",
    "core ms/plan",
    "sequences",
    "imagined distance",
    "reached distance",
    "gap, 1 block",
    "gap, H blocks",
    "smoothness",
    "reached smoothness",
]
"""Columns of the table of all cells."""


def markdown(results: Mapping[str, Any]) -> str:
    """Three tables: the spaces, success by space and planner, and every cell in full."""
    settings, spaces, cells = results["settings"], results["spaces"], results["cells"]
    planners = list(dict.fromkeys(cell["planner"] for cell in cells))
    by_key = {(cell["space"], cell["planner"]): cell for cell in cells}
    floors = cells[0]["floors"]
    geometry = [
        [
            space["name"],
            space["size"],
            space["effective_dimension"],
            space["amenability"],
            space["forward_error"],
            space["rollout_error"],
            space["decoder_error"],
            space["effect_error"],
            f"{100 * space['mean_action_success']:.0f}",
        ]
        for space in spaces
    ]
    success = [
        [planner, *(_success(by_key[space["name"], planner], by_key["real", planner]) for space in spaces)]
        for planner in planners
    ]
    full = [
        [
            cell["space"],
            cell["planner"],
            f"{100 * cell['success_rate']:.0f}",
            cell["final_distance"],
            cell["core_ms_per_plan"],
            f"{cell['evaluations']:.0f}",
            cell["imagined_distance"],
            cell["reached_distance"],
            cell["gap"][0],
            cell["gap"][-1],
            cell["smoothness"],
            cell["reached_smoothness"],
        ]
        for cell in cells
    ]
    quick = "**A quick run: not a result.** " if settings["quick"] else ""
    return (
        "\n\n".join(
            [
                f"# Planning in learned latent action spaces: {settings['task']}",
                f"{quick}{settings['tasks']} tasks, goals {settings['offset']} steps ahead, "
                f"budget {settings['budget']}; H = {settings['horizon']} blocks, a new plan after each. "
                f"Floors: random actions {100 * floors['random']:.0f}%, no action {100 * floors['noop']:.0f}%. "
                f"{settings['core_seconds']} s of processor time.",
                "## The spaces, on held-out windows",
                _table(GEOMETRY, geometry),
                "## Success, % [95% Wilson interval]; * differs from real actions (exact McNemar, p < 0.05)",
                _table(["planner", *(space["name"] for space in spaces)], success),
                "## Every cell",
                _table(EVERY, full),
            ]
        )
        + "\n"
    )


def plane(space: Space, windows: LatentWindows, action_size: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Inferred actions on their first two principal axes ``[B, 2]``, and the real block's heading in radians ``[B]``.

    The heading is that of the block's mean action, by its first two coordinates.
    """
    with torch.no_grad():
        actions = space.infer(windows)[:, 0]
    _, _, axes = torch.pca_lowrank(actions, q=min(actions.shape), niter=4)
    mean = windows.blocks[:, 1].unflatten(-1, (-1, action_size)).mean(dim=1)
    heading = torch.atan2(mean[:, 1], mean[:, 0])
    return ((actions - actions.mean(dim=0)) @ axes[:, :2]).cpu().numpy(), heading.cpu().numpy()


def figure(results: Mapping[str, Any], planes: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Success by space and planner, how far plans miss, and what the spaces in ``planes`` look like."""
    cells = results["cells"]
    names = [space["name"] for space in results["spaces"]]
    planners = list(dict.fromkeys(cell["planner"] for cell in cells))
    drawing = Figure(figsize=(12, 7), layout="constrained")
    parts: Any = drawing.subfigures(2, 1, height_ratios=(1.25, 1))
    top, bottom = parts
    left, right = top.subplots(1, 2, width_ratios=(1.35, 1))

    rates = np.array([[_cell(cells, name, planner)["success_rate"] for planner in planners] for name in names])
    left.imshow(100 * rates, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for row, column in np.ndindex(rates.shape):
        ink = "white" if rates[row, column] < 0.6 else "black"
        left.text(column, row, f"{100 * rates[row, column]:.0f}", ha="center", va="center", color=ink)
    left.set_xticks(range(len(planners)), planners, rotation=25, ha="right")
    left.set_yticks(range(len(names)), names)
    left.set_title("success, %")

    colours = _colours(len(names))
    for name, colour in zip(names, colours, strict=True):
        gap = np.mean([cell["gap"] for cell in cells if cell["space"] == name], axis=0)
        right.plot(np.arange(1, len(gap) + 1), gap, marker="o", markersize=3, color=colour, label=name)
    right.set(title="real minus imagined latent, mean of all planners", xlabel="blocks executed open loop", ylabel="L2")
    right.grid(alpha=0.3)
    right.legend(frameon=False, fontsize=8)

    panels = bottom.subplots(1, len(planes), squeeze=False)[0]
    for axes, (name, (points, heading)) in zip(panels, planes.items(), strict=True):
        axes.scatter(points[:, 0], points[:, 1], c=heading, cmap="hsv", s=5, vmin=-np.pi, vmax=np.pi, linewidths=0)
        axes.set(title=f"{name}: inferred actions", xticks=[], yticks=[], xlabel="principal axis 1")
    bottom.supylabel("principal axis 2\n(colour: heading of the real block)", fontsize=9)
    return drawing


def _cell(cells: Sequence[Mapping[str, Any]], space: str, planner: str) -> Mapping[str, Any]:
    return next(cell for cell in cells if cell["space"] == space and cell["planner"] == planner)


def _success(cell: Mapping[str, Any], real: Mapping[str, Any]) -> str:
    low, high = cell["ci95"]
    solved, by_real = (np.array([step is not None for step in one["steps"]]) for one in (cell, real))
    star = "*" if mcnemar(solved, by_real)[2] < 0.05 else ""
    return f"{100 * cell['success_rate']:.0f}{star} [{100 * low:.0f}, {100 * high:.0f}]"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [list(header), ["---"] * len(header), *([_text(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    listed: Any = colormaps["tab10"]
    return ["black", *listed.colors[: count - 1]]
