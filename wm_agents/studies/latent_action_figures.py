"""The eight figures of the paper on planning in latent action spaces, our numbers next to the paper's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wm_agents.studies import latent_action_paper as paper
from wm_agents.studies.latent_action_claims import Results
from wm_agents.studies.statistics import mean_interval

NAMES = {"cem": "CEM", "mppi": "MPPI", "gradient": "Gradient", "sgld": "SGLD", "diffusion": "Diffusion"}
GEOMETRY_NAMES = {"vae": "VAE", "sparse": "sparse EBM", "vq": "VQ-VAE"}
COLOURS = {"cem": "#2c6fbb", "mppi": "#e08e0b", "gradient": "#2e8b57", "sgld": "#c0392b", "diffusion": "#7d5ba6"}
GEOMETRY_COLOURS = {"vae": "#2c6fbb", "sparse": "#e08e0b", "vq": "#2e8b57"}
SHOWN = ("free", "support")
VIEWS = (("free", "centre"), ("support", "centre"), ("free", "drawn"))
PAPER: dict[str, Any] = {"color": "black", "linestyle": "none", "marker": "x", "markersize": 6, "zorder": 5}


def draw(content: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw all figures from what a run returns, or its JSON file holds: ``figure-1`` to ``figure-8``."""
    results = Results(content)
    return {
        "figure-1": _geometry(results, "amenability", "planning amenability (eq. 12)", paper.AMENABILITY),
        "figure-2": _geometry(
            results, "effective_dimension", "effective dimension (eq. 13)", paper.EFFECTIVE_DIMENSION
        ),
        "figure-3": _geometries(results),
        "figure-4": _lines(results, "latent dimension d", _dimension, "geometries averaged, h = 8"),
        "figure-5": _lines(results, "horizon h", _horizon, "VAE, d = 8"),
        "figure-6": _robustness(results),
        "figure-7": _trade_off(results),
        "figure-8": _evaluations(results),
    }


def _geometry(results: Results, metric: str, label: str, reported: Mapping[str, tuple[float, float]]) -> Figure:
    """A metric of the geometries against the dimension; crosses: the paper's first and last value."""
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for name in results.geometries:
        bands = [mean_interval(results.of_geometry(name, dim, metric)) for dim in results.dims]
        _band(axes, results.dims, bands, GEOMETRY_COLOURS[name], GEOMETRY_NAMES[name])
        axes.plot((4, 32), reported[name], **(PAPER | {"color": GEOMETRY_COLOURS[name]}))
    axes.plot([], [], **PAPER, label="paper")
    _doubling(axes, results.dims)
    axes.set(xlabel="latent dimension d", ylabel=label)
    axes.legend(frameon=False)
    return figure


def _geometries(results: Results) -> Figure:
    """Goal distance at d = h = 8, one panel a coupling and start, the paper's values as crosses."""
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    panels = figure.subplots(1, len(VIEWS), sharey=True)
    width = 0.8 / len(results.planners)
    for axes, (coupling, start) in zip(panels, VIEWS, strict=True):
        for row, name in enumerate(results.planners):
            at = np.arange(len(results.geometries)) + (row - (len(results.planners) - 1) / 2) * width
            values = [results.values(name, geometry, coupling, start=start) for geometry in results.geometries]
            means, halves = zip(*map(mean_interval, values), strict=True)
            axes.bar(at, means, width * 0.92, yerr=halves, color=COLOURS[name], label=NAMES[name], ecolor="#555555")
            axes.plot(at, paper.TABLE_1[name], **PAPER, label="paper" if row == 0 else None)
        names = [GEOMETRY_NAMES[geometry] for geometry in results.geometries]
        axes.set(title=_title(coupling, start), xticks=range(len(names)), xticklabels=names)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("goal distance, d = h = 8")
    _shared_legend(figure, panels[0])
    return figure


Curve = Callable[[Results, str, str], tuple[list[int], list[np.ndarray], dict[int, float]]]


def _dimension(results: Results, name: str, coupling: str) -> tuple[list[int], list[np.ndarray], dict[int, float]]:
    """By dimension; the paper gives ranges over geometries: their middles."""
    values = [results.values(name, None, coupling, dim=dim) for dim in results.dims]
    return results.dims, values, {dim: sum(ends) / 2 for dim, ends in paper.TABLE_2.get(name, {}).items()}


def _horizon(results: Results, name: str, coupling: str) -> tuple[list[int], list[np.ndarray], dict[int, float]]:
    """By horizon."""
    values = [results.values(name, "vae", coupling, horizon=horizon) for horizon in results.horizons]
    return results.horizons, values, paper.TABLE_3.get(name, {})


def _lines(results: Results, label: str, curve: Curve, note: str) -> Figure:
    """Goal distance against something, one panel a coupling."""
    figure = Figure(figsize=(8.5, 3.8), layout="constrained")
    panels = figure.subplots(1, len(SHOWN), sharey=True)
    for axes, coupling in zip(panels, SHOWN, strict=True):
        for name in results.planners:
            at, values, reported = curve(results, name, coupling)
            _band(axes, at, [mean_interval(one) for one in values], COLOURS[name], NAMES[name])
            axes.plot(list(reported), list(reported.values()), **(PAPER | {"color": COLOURS[name]}))
        for metric, style, meaning in (("idle", "--", "doing nothing"), ("unreachable", ":", "out of reach")):
            if curve is _dimension:
                levels = [results.baseline(metric, None, coupling, dim).mean() for dim in at]
            else:  # at h = 8; it hardly changes with the horizon
                levels = [results.baseline(metric, "vae", coupling).mean()] * len(at)
            axes.plot(at, levels, color="#555555", linestyle=style, linewidth=1, label=meaning)
        axes.set(title=coupling, xlabel=label)
        _doubling(axes, at)
    panels[0].plot([], [], **PAPER, label="paper")
    panels[0].set_ylabel(f"goal distance\n{note}")
    _shared_legend(figure, panels[0])
    return figure


def _robustness(results: Results) -> Figure:
    """How far runs of the same search end from their mean, over seeds and problems."""
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    panels = figure.subplots(1, len(SHOWN), sharey=True)
    for axes, coupling in zip(panels, SHOWN, strict=True):
        deviations = []
        for name in results.planners:
            distances = results.robustness(name, coupling)
            deviations.append((distances - distances.mean(axis=1, keepdims=True)).ravel())
        boxes = axes.boxplot(deviations, patch_artist=True, widths=0.6, flierprops={"markersize": 3})
        for box, median, name in zip(boxes["boxes"], boxes["medians"], results.planners, strict=True):
            box.set(facecolor=COLOURS[name], alpha=0.8)
            median.set_color("black")
        axes.set_xticks(range(1, len(results.planners) + 1), [NAMES[name] for name in results.planners], fontsize=8)
        axes.set_title(coupling)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("goal distance - its mean\nover seeds, VAE, d = h = 8")
    return figure


def _trade_off(results: Results) -> Figure:
    """Smoothness against goal distance."""
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    panels = figure.subplots(1, len(VIEWS), sharex=True, sharey=True)
    for axes, (coupling, start) in zip(panels, VIEWS, strict=True):
        for name in results.planners:
            (x, dx), (y, dy) = (
                mean_interval(results.values(name, "vae", coupling, start=start, metric=metric))
                for metric in ("smoothness", "goal_distance")
            )
            axes.errorbar(x, y, dy, dx, marker="o", color=COLOURS[name], linestyle="none", label=NAMES[name])
            axes.plot(paper.TABLE_4[name][0], paper.TABLE_1[name][0], **(PAPER | {"color": COLOURS[name]}))
        axes.set(title=_title(coupling, start), xlabel="smoothness (mean step; less is smoother)")
        axes.grid(alpha=0.3)
    panels[0].plot([], [], **PAPER, label="paper")
    panels[0].set_ylabel("goal distance, VAE, d = h = 8")
    _shared_legend(figure, panels[0])
    return figure


def _evaluations(results: Results) -> Figure:
    """World-model evaluations: the paper's, and ours with exact and with finite-difference gradients."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    cells = [results.cell(name, "vae", "free") for name in results.planners]
    bars = {
        "paper": ([paper.TABLE_4[name][1] for name in results.planners], "#888888"),
        "its constants, finite differences": ([cell["finite_differences"] for cell in cells], "#e08e0b"),
        "exact gradients": ([cell["evaluations"] for cell in cells], "#2c6fbb"),
    }
    for row, (label, (counts, colour)) in enumerate(bars.items()):
        drawn = axes.bar(np.arange(len(cells)) + (row - 1) * 0.28, counts, 0.26, label=label, color=colour)
        axes.bar_label(drawn, fontsize=6, padding=1)
    axes.set_xticks(range(len(cells)), [NAMES[name] for name in results.planners])
    axes.set(ylabel="sequences scored, d = h = 8", yscale="log", ylim=(50, 60_000))
    axes.legend(frameon=False, fontsize=8)
    return figure


def _band(axes: Axes, at: list[int], bands: list[tuple[float, float]], colour: str, label: str) -> None:
    """A line of means with its 95% intervals."""
    means, halves = (np.array(part) for part in zip(*bands, strict=True))
    axes.plot(at, means, color=colour, marker="o", markersize=4, label=label)
    axes.fill_between(at, means - halves, means + halves, color=colour, alpha=0.2, linewidth=0)


def _doubling(axes: Axes, at: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(at, [str(value) for value in at])
    axes.grid(alpha=0.3)


def _title(coupling: str, start: str) -> str:
    return coupling if start == "centre" else f"{coupling}, start drawn"


def _shared_legend(figure: Figure, axes: Axes) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=8,
        columnspacing=1.2,
        fontsize=8.5,
        frameon=False,
    )
