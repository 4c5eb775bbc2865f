"""Table, verdict and figure of the study of sensorimotor world models on dot worlds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from wm_agents.studies.dots import DotWorld

SHOWN = 10
"""Eigenvalues in the figure."""
COLUMNS = (
    "world",
    "objective",
    "controlled",
    "significant components",
    "effective dimension",
    "R² of controlled dots",
    "R² of the distractor",
    "latent std",
    "weight",
    "verdict",
)


def groups(results: Mapping[str, Any]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Cells by world and objective, one a seed."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in results["cells"]:
        found.setdefault((cell["world"]["name"], cell["objective"]), []).append(cell)
    return found


def markdown(results: Mapping[str, Any]) -> str:
    """The table, one row for each world, with all seeds."""
    settings = results["settings"]
    quick = "**A quick run: not a result.** " if settings["quick"] else ""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for (world, objective), cells in groups(results).items():
        controlled, distractor = zip(*(_r2(cell) for cell in cells), strict=True)
        row = [
            world,
            objective,
            str(cells[0]["controlled"]),
            ", ".join(str(cell["significant"]) for cell in cells),
            _each([cell["effective_dimension"] for cell in cells], 1),
            _each(controlled, 2),
            "-" if distractor[0] is None else _each(distractor, 2),
            _each([cell["std"] for cell in cells], 3),
            _each([cell["weight/inverse_dynamics"] for cell in cells], 1) if objective == "smwm" else "-",
            verdict(cells),
        ]
        lines.append(f"| {' | '.join(row)} |")
    return (
        f"# Sensorimotor world models on dot worlds\n\n{quick}Each cell lists its seeds. "
        f"{settings['core_seconds']} s of processor time.\n\n" + "\n".join(lines) + "\n"
    )


def verdict(cells: list[dict[str, Any]]) -> str:
    """Whether the latents of all seeds have as many significant components as actions control, in words."""
    if cells[0]["objective"] == "forward-only":
        collapsed = sum(cell["significant"] == 0 for cell in cells)
        return "collapses" if collapsed == len(cells) else f"collapses in {collapsed} of {len(cells)}"
    agree = sum(cell["significant"] == cell["controlled"] for cell in cells)
    if agree == len(cells):
        return "**agrees**"
    return f"agrees in {agree} of {len(cells)}" if agree else "does not agree"


def figure(results: Mapping[str, Any]) -> Figure:
    """Eigenvalues of the latents relative to the largest, a panel for each world, a line for each seed."""
    shown = {world: cells for (world, objective), cells in groups(results).items() if objective == "smwm"}
    drawing = Figure(figsize=(2.6 * len(shown), 4.6), layout="constrained")
    panels: Any = drawing.subplots(2, len(shown), squeeze=False, height_ratios=(1, 1.6))
    for (name, cells), frame, spectrum in zip(shown.items(), *panels, strict=True):
        world = DotWorld(**cells[0]["world"])
        frame.imshow(world.dataset(1, seed=3).frames_at(np.array([0]))[0])
        frame.set(title=name, xticks=[], yticks=[])
        numbers = np.arange(1, SHOWN + 1)
        for cell in cells:
            values = np.maximum(cell["eigenvalues"][:SHOWN], 1e-12)
            spectrum.semilogy(numbers, values / values[0], marker="o", markersize=3, label=f"seed {cell['seed']}")
        spectrum.axvline(world.controlled + 0.5, color="black", linestyle=":", linewidth=1)
        spectrum.set(ylim=(1e-5, 2), xlabel="component", title=f"{world.controlled} controlled", xticks=numbers[::3])
    panels[1][0].set_ylabel("eigenvalue, relative")
    panels[1][0].legend(frameon=False, fontsize=8)
    return drawing


def _r2(cell: Mapping[str, Any]) -> tuple[float, float | None]:
    """Worst R2 of what is controlled, of a pair the better dot, and that of the distractor."""
    world = DotWorld(**cell["world"])
    pairs = np.reshape(cell["r2"][: 2 * world.pairs], (-1, 2)).max(axis=1)
    free = cell["r2"][2 * world.pairs : 2 * world.pairs + world.free]
    return float(min([*pairs, *free])), float(cell["r2"][-1]) if world.random else None


def _each(values: Any, digits: int) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)
