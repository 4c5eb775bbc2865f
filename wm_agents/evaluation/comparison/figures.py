"""Three figures: success against environment steps, against the time of training, and against that of a decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from wm_agents.evaluation.report.figures import COLOURS
from wm_agents.evaluation.report.protocols import title_of

AXES = {
    "steps": "environment steps, recorded data included",
    "seconds": "seconds of recording and training",
    "ms": "ms per decision",
}
"""What success is drawn against, by the name of the figure."""
MARKERS = {"world model": "o", "cloning": "s", "offline RL": "D", "online RL": "^"}


def title(name: str, part: Mapping[str, Any]) -> str:
    """Return the name of a kind of tasks in words."""
    known = title_of(name, part["budget"])
    return known.capitalize() if known != name else f"Goals {part['offset']} steps away, {part['budget']} steps"


def success_against(axis: str, content: Mapping[str, Any]) -> Figure:
    """Draw a panel for each kind of tasks; agents that learn online have a line through the models on their way.

    Args:
        axis: A name in :data:`AXES`.
        content: What ``summarise_comparison`` returned.
    """
    protocols, families = content["protocols"], {one["name"]: one["family"] for one in content["contestants"]}
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(families)}
    figure = Figure(figsize=(max(5.0, 4.4 * len(protocols)), 4.2), layout="constrained")
    panels = figure.subplots(1, len(protocols), squeeze=False, sharey=True)[0]
    for axes, (name, part) in zip(panels, protocols.items(), strict=True):
        for row in part["rows"]:
            points = row["points"] if axis != "ms" else row["points"][-1:]
            look: dict[str, Any] = {"color": colours[row["agent"]], "marker": MARKERS[families[row["agent"]]]}
            axes.plot([point[axis] for point in points], [point["rate"] for point in points], **look)
            low, high = row["ci95"]
            error = [[max(0.0, row["rate"] - low)], [max(0.0, high - row["rate"])]]
            axes.errorbar(row[axis], row["rate"], yerr=error, capsize=3, **look)
        for floor, style in (("random", "--"), ("noop", ":")):
            axes.axhline(part["floors"][floor], color="black", linestyle=style, linewidth=1)
        axes.set(xscale="log", ylim=(-0.03, 1.03), xlabel=AXES[axis], title=title(name, part))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("success (moderate test)")
    handles = [
        Line2D([], [], color=colours[name], marker=MARKERS[family], label=name) for name, family in families.items()
    ]
    handles.append(Line2D([], [], color="black", linestyle="--", label="random actions"))
    handles.append(Line2D([], [], color="black", linestyle=":", label="no action"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure
