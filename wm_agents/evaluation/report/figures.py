"""The report as figures: success with intervals and floors, and success against the time of a decision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wm_agents.evaluation.report.protocols import ANY_GOAL, title_of

COLOURS = ("#2e8b57", "#2c6fbb", "#e08e0b", "#7d5ba6", "#c0392b", "#a2678a", "#0f8b8d", "#3b4252", "#8a8d00")
MARKERS = "os^Dv"

Content = Mapping[str, Any]


def success_figure(content: Content) -> Figure:
    """Draw a row of panels for each task, one for each protocol: bars with 95% intervals, the floors as lines.

    An agent's bars share a tick. Hatched bars follow a plan for longer than the agent as shipped.
    """
    tasks, protocols, colours = content["tasks"], _protocols(content), _colours(content)
    figure = Figure(figsize=(max(6.0, 1 + 4.2 * len(protocols)), 0.9 + 2.6 * len(tasks)), layout="constrained")
    grid = figure.subplots(len(tasks), len(protocols), squeeze=False)
    for panels, (task, part) in zip(grid, tasks.items(), strict=True):
        measured = [name for name in protocols if name in part["protocols"]]
        for axes, name in zip(panels, measured, strict=False):
            axes.set(ylim=(0, 1.05), title=f"{task}, {title_of(name, part['protocols'][name]['budget'])}")
            _bars(axes, part["protocols"][name], colours)
        for axes in panels[len(measured) :]:
            axes.set_axis_off()
    handles = [
        Line2D([], [], color="black", linestyle="--", label="random actions"),
        Line2D([], [], color="black", linestyle=":", label="no action"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(
        "success (moderate test) with 95% intervals; titles: steps to the goal / steps allowed\n"
        "hatched bars: plans followed for longer",
        fontsize="medium",
    )
    return figure


def latency_figure(content: Content) -> Figure:
    """Draw a panel for each task: success against ms for a decision; hollow where plans are followed for longer."""
    tasks, protocols, colours = content["tasks"], _protocols(content), _colours(content)
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(max(6.0, 4.6 * columns), 1.2 + 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, (task, part) in zip(panels, tasks.items(), strict=False):
        for name, protocol in part["protocols"].items():
            marker = MARKERS[protocols.index(name) % len(MARKERS)]
            for row in protocol["rows"]:
                face = colours[row["agent"]] if row["as_shipped"] else "none"
                point = row["ms_per_decision"], row["all"]["moderate"]["rate"]
                axes.plot(*point, marker=marker, color=colours[row["agent"]], markerfacecolor=face, linestyle="none")
        axes.set(xscale="log", ylim=(-0.03, 1.03), title=task, xlabel="ms per decision", ylabel="success (moderate)")
        axes.tick_params(labelbottom=True)
        axes.grid(alpha=0.3)
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    handles = [
        Line2D([], [], color=colour, marker="o", linestyle="none", label=name) for name, colour in colours.items()
    ]
    handles += [
        Line2D([], [], color="grey", marker=MARKERS[i % len(MARKERS)], linestyle="none", label=name)
        for i, name in enumerate(protocols)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(
        f"{content['num_envs']} environments in a call; hollow markers: plans followed for longer", fontsize="medium"
    )
    return figure


def _bars(axes: Axes, protocol: Content, colours: Mapping[str, str]) -> None:
    agents = {row["agent"] for row in protocol["rows"]}
    measured = {tick: agent for tick, agent in enumerate(colours) if agent in agents}  # no tick where no bar: not 0
    for tick, agent in measured.items():
        rows = [row for row in protocol["rows"] if row["agent"] == agent]
        width = 0.8 / len(rows)
        for place, row in enumerate(rows):
            score, longer = row["all"]["moderate"], not row["as_shipped"]
            error = [[max(0.0, score["rate"] - score["ci95"][0])], [max(0.0, score["ci95"][1] - score["rate"])]]
            axes.bar(
                tick + (place - (len(rows) - 1) / 2) * width,
                score["rate"],
                width,
                yerr=error,
                capsize=2,
                color=colours[agent],
                alpha=0.55 if longer else 1.0,
                hatch="//" if longer else None,
                edgecolor="white",
            )
    for name, style in (("random", "--"), ("noop", ":")):
        axes.axhline(protocol["floors"][name]["all"]["moderate"]["rate"], color="black", linestyle=style, linewidth=1)
    axes.set_xticks(list(measured), list(measured.values()), rotation=40, ha="right", fontsize=8)
    middle, spread = (min(measured) + max(measured)) / 2, max(measured) - min(measured)
    axes.set_xlim(middle - max(spread, 3) / 2 - 0.6, middle + max(spread, 3) / 2 + 0.6)


def _protocols(content: Content) -> list[str]:
    """Names of the protocols: any goal first, then near goals before far ones."""
    names = dict.fromkeys(name for part in content["tasks"].values() for name in part["protocols"])
    return sorted(names, key=lambda name: (name not in ANY_GOAL, [int(n) for n in re.findall(r"\d+", name)], name))


def _colours(content: Content) -> dict[str, str]:
    names = dict.fromkeys(
        row["agent"]
        for part in content["tasks"].values()
        for protocol in part["protocols"].values()
        for row in protocol["rows"]
    )
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
