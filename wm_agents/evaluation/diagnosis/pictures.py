"""The pictures of a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from wm_agents.evaluation.diagnosis.material import Material
from wm_agents.training.probe import is_angle, is_velocity

FIRST, SECOND, GUIDE = "#2c6fbb", "#e08e0b", "#9aa3b2"
COLOURED = 6
"""Variables by which the map is coloured, at most."""
WIDTH = 5.6
"""Inches: with text of 9 points, figures can be read on a phone."""


def eigenvalue_figure(latent: dict[str, Any]) -> Figure:
    """The spectrum of the latents' covariance, with the effective dimension."""
    values = np.array(latent["eigenvalues"])
    share = values / max(values.sum(), 1e-12)
    figure, axes = _panel(2.5)
    axes.bar(np.arange(1, len(share) + 1), share, color=FIRST, width=0.85)
    axes.axvline(latent["effective_dimension"], color=SECOND, linestyle="--")
    axes.annotate(
        f"effective dimension {latent['effective_dimension']:.1f}",
        (latent["effective_dimension"], share.max()),
        xytext=(5, -4),
        textcoords="offset points",
        va="top",
        color="#a06000",
    )
    axes.set(xlabel="component, by size", ylabel="share of the variance", ylim=(0, 1.08 * share.max()))
    return figure


def probe_figure(probes: dict[str, dict[str, Any]]) -> Figure:
    """R2 of the linear and of the MLP probe of each variable."""
    names, linear, mlp = zip(*((name, row["linear"], row["mlp"]) for name, row in probes.items()), strict=True)
    figure, axes = _panel(0.7 + 0.34 * len(names))
    at = np.arange(len(names))
    axes.barh(at - 0.2, linear, 0.38, color=FIRST, label="linear")
    axes.barh(at + 0.2, mlp, 0.38, color=SECOND, label="MLP")
    axes.set(yticks=at, yticklabels=[f"{n} (velocity)" if is_velocity(n) else n for n in names], xlim=(0, 1.005))
    axes.invert_yaxis()
    axes.set_xlabel("R2 on held-out episodes")
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure


def distance_figure(time: dict[str, Any], truth: dict[str, Any] | None) -> Figure:
    """Latent distance against the steps between frames and, where it is known, against the true distance."""
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    panels = figure.subplots(1, 1 if truth is None else 2, squeeze=False)[0]
    axes = panels[0]
    axes.plot(time["steps"], time["distance"], marker="o", markersize=3, color=FIRST)
    axes.axhline(1, color=GUIDE, linestyle="--", linewidth=1, label="unrelated frames")
    axes.legend(frameon=False, fontsize=8, loc="center right")
    useful = min(time["grows_until"], time["saturated_at"] or time["steps"][-1])
    _mark(axes, useful, f"{useful} steps")
    axes.set(xlabel="environment steps apart", ylabel="latent distance", ylim=(0, None))
    if truth is not None:
        panels[1].plot(truth["true"], truth["latent"], marker="o", markersize=3, color=SECOND)
        _mark(panels[1], truth["grows_until"], f"{truth['grows_until']:.3g}")
        panels[1].set(xlabel="true distance", ylim=(0, None))
    return figure


def prediction_figure(rows: Sequence[dict[str, Any]], plan: int) -> Figure:
    """Error of predictions and of "nothing moves" by the horizon."""
    figure, axes = _panel(2.5)
    steps = [row["steps"] for row in rows]
    axes.plot(steps, [row["error"] for row in rows], marker="o", markersize=3, color=FIRST, label="prediction")
    still = [row["nothing_moves"] for row in rows]
    axes.plot(steps, still, marker="o", markersize=3, color=SECOND, label='"nothing moves"')
    _mark(axes, plan, "a plan")
    axes.set(xlabel="environment steps ahead", ylabel="squared error", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def ranking_figure(pairs: Sequence[dict[str, np.ndarray]], correlations: Sequence[float]) -> Figure:
    """Planning cost against true cost of the plans of three pairs: ranked worst, as in the middle, and best."""
    order = np.argsort(correlations)
    chosen = [(order[0], "worst"), (order[len(order) // 2], "middle"), (order[-1], "best")]
    figure = Figure(figsize=(WIDTH, 2.4), layout="constrained")
    for axes, (pair, word) in zip(figure.subplots(1, 3), chosen, strict=True):
        cost, true = pairs[pair]["cost"], pairs[pair]["true"]
        axes.scatter(true, cost, s=7, color=FIRST, alpha=0.7)
        best = cost.argmin()
        axes.scatter(true[best], cost[best], s=40, facecolors="none", edgecolors=SECOND, linewidths=1.6)
        axes.set_title(f"{word}: {correlations[pair]:.2f}", fontsize=9)
        axes.set(xticks=[], yticks=[], xlabel="true cost")
    figure.axes[0].set_ylabel("planning cost")
    return figure


def map_figure(material: Material) -> Figure:
    """The latents in their two largest principal components, coloured by state or by time."""
    data, frames = material.test, material.frames(material.test, 2000)
    z = material.latents[frames] - material.latents[frames].mean(axis=0)
    flat = z @ np.linalg.svd(z, full_matrices=False)[2][:2].T
    if flat.shape[1] == 1:
        flat = np.concatenate([flat, np.zeros_like(flat)], axis=1)
    shown = {"steps since the episode began": frames - data.starts[data.episode_of(frames)]}
    states = {name: data.states[frames, index] for index, name in enumerate(data.state_names)}
    varied = {name: values for name, values in states.items() if np.ptp(values) > 0 and not is_velocity(name)}
    shown = dict(list(varied.items())[:COLOURED]) or shown
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(WIDTH, (2.7 if columns == 2 else 4) * rows), layout="constrained")
    for axes, (name, values) in zip(np.ravel(figure.subplots(rows, columns)), shown.items(), strict=False):
        turns = is_angle(name)
        colours = np.mod(values, 2 * np.pi) if turns else values
        dots = axes.scatter(*flat.T, c=colours, s=4, cmap="twilight" if turns else "viridis")
        figure.colorbar(dots, ax=axes, shrink=0.8)
        axes.set_title(name, fontsize=9)
        axes.set(xticks=[], yticks=[])
    for axes in figure.axes[: rows * columns]:
        if not axes.has_data():
            axes.set_axis_off()
    return figure


def image_rows(rows: Sequence[tuple[str, np.ndarray]], titles: Sequence[str]) -> Figure:
    """Rows of images ``[T, H, W, 3]`` with a label each, and titles above; later rows may be shorter."""
    columns = max(len(images) for _, images in rows)
    narrow = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    figure = Figure(figsize=(WIDTH, WIDTH / columns * len(rows) * 1.03 + 0.25), layout=narrow)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for (label, images), line in zip(rows, grid, strict=True):
        for axes, image in zip(line, images, strict=False):
            axes.imshow(image, interpolation="nearest")
        for axes in line:
            axes.set(xticks=[], yticks=[])
        for axes in line[len(images) :]:
            axes.set_axis_off()
        line[0].set_ylabel(label, fontsize=8)
    for axes, title in zip(grid[0], titles, strict=False):
        axes.set_title(title, fontsize=8)
    return figure


def neighbour_rows(material: Material, queries: int = 4, neighbours: int = 5) -> list[tuple[str, np.ndarray]]:
    """Frames, and those of other episodes whose latents are nearest, each of an episode of its own."""
    frames = np.sort(material.rng(9).choice(material.test.frame_indices(), queries, replace=False))
    others = material.frames(material.fit, 10_000)
    episodes, rows = material.fit.episode_of(others), []
    for frame in frames:
        order = np.argsort(np.linalg.norm(material.latents[others] - material.latents[frame], axis=1), kind="stable")
        first = order[np.sort(np.unique(episodes[order], return_index=True)[1])][:neighbours]
        rows.append(("", np.concatenate([material.test.frames_at(frame[None]), material.fit.frames_at(others[first])])))
    return rows


def _panel(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _mark(axes: Axes, at: float, text: str) -> None:
    axes.axvline(at, color=GUIDE, linestyle=":", linewidth=1.2)
    left = at > sum(axes.get_xlim()) / 2
    axes.annotate(
        text,
        (at, 0),
        xytext=(-3 if left else 3, 4),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=8,
        color="#606a78",
    )
