"""The benchmark as a table and as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator
from rich.console import Console
from rich.table import Table

from wm_agents.evaluation.tables import print_table

COLOURS = ("#2c6fbb", "#e08e0b", "#2e8b57", "#c0392b", "#7d5ba6", "#3b4252", "#0f8b8d", "#a2678a", "#8a8d00")


def print_bench(content: Mapping[str, Any], console: Console) -> None:
    """Print what :func:`wm_agents.evaluation.bench.bench_planners` returned: one row per planner, then the rates."""
    settings, success, timing = content["settings"], content["success"], content["timing"]
    offset = "random start and goal" if settings["offset"] == "random" else f"offset {settings['offset']}"
    table = Table(
        title=f"{settings['env_id']}: {settings['tasks']} tasks, {offset}, budget {settings['budget']}",
        caption=(
            "success [95% Wilson interval]; ms: a plan, for each environment, when so many share a call (best of "
            f"{settings['rounds']}, {content['threads']} threads); evals: a plan's world-model evaluations; "
            "change: mean |a(t) - a(t-1)| of executed actions"
        ),
    )
    table.add_column("planner", overflow="fold")
    for column in ("success", *(f"ms, {count}" for count in settings["envs"]), "evals", "change"):
        table.add_column(column, justify="right", overflow="fold")
    for name in sorted(success, key=lambda name: -success[name]["success_rate"]):
        row = success[name]
        low, high = row["ci95"]
        table.add_row(
            name,
            f"{100 * row['success_rate']:.1f}% [{100 * low:.0f}, {100 * high:.0f}]",
            *(f"{timing[name][str(count)]['best']:.1f}" for count in settings["envs"]),
            "-" if row["evaluations_per_plan"] is None else f"{row['evaluations_per_plan']:,.0f}",
            f"{row['action_change']:.3f}",
        )
    print_table(table, console)
    plan, batch = content["rates"]["plan"], content["rates"]["batch"]
    spent = ", ".join(f"{kind} {100 * share:.0f}%" for kind, share in plan["time_shares"].items())
    for line in (
        f"CEM {plan['samples']} x {plan['iterations']} x {plan['horizon']}, {plan['predictor']} predictor: "
        f"{plan['ms']['best']:.0f} ms, {plan['gflops']:.0f} GFLOP/s, {100 * plan['share']:.0f}% of the "
        f"{plan['product_gflops']:.0f} of plain matrix products ({plan['threads']} threads)",
        f"time goes to {spent}",
        f"{batch['envs']} environments in one call: {100 * batch['ratio']:.0f}% of {batch['envs']} single calls "
        f"({batch['predictor']} predictor)",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def bench_figure(content: Mapping[str, Any]) -> Figure:
    """Draw success against time, time against environments, and how CEM, iCEM and MPPI scale."""
    settings = content["settings"]
    figure = Figure(figsize=(14, 8), layout="constrained")
    grid = figure.subplots(2, 3)
    colours = dict(zip(settings["planners"], COLOURS, strict=False))
    _trade_off(grid[0, 0], content, colours)
    _environments(grid[1, 0], content, colours)
    labels = {"left": "share of the squared latent distance left", "ms": "ms per plan, 16 environments in a call"}
    for column, (over, label) in enumerate((("samples", "samples"), ("horizon", "horizon, blocks")), start=1):
        for row, metric in enumerate(labels):
            axes = grid[row, column]
            for planner, curves in content["scaling"].items():
                points = {int(value): point[metric] for value, point in curves[over].items()}
                values = [point["best"] if metric == "ms" else point for point in points.values()]
                axes.plot(list(points), values, marker="o", color=colours[planner])
            axes.set(xlabel=label, ylabel=labels[metric], xscale="log", ylim=(0, None))
            _number(axes, settings["samples" if over == "samples" else "horizons"])
    handles = [Line2D([], [], color=colours[name], marker="o", label=name) for name in settings["planners"]]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(9, len(handles)), frameon=False)
    figure.suptitle(f"{settings['env_id']}, {settings['tasks']} tasks, offset {settings['offset']}")
    return figure


def _trade_off(axes: Axes, content: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    count = str(content["settings"]["envs"][0])
    for name, row in content["success"].items():
        ms, rate = content["timing"][name][count]["best"], row["success_rate"]
        bars = [[max(0.0, rate - row["ci95"][0])], [max(0.0, row["ci95"][1] - rate)]]
        axes.errorbar(ms, rate, yerr=bars, marker="o", color=colours[name], capsize=3)
    axes.set(xscale="log", xlabel=f"ms per plan, {count} in a call", ylabel="success", ylim=(-0.03, 1.05))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.margins(x=0.2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _environments(axes: Axes, content: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    for name, curve in content["timing"].items():
        counts = [int(count) for count in curve]
        axes.plot(counts, [ms["best"] for ms in curve.values()], marker="o", color=colours[name])
    axes.set(xscale="log", yscale="log", xlabel="environments in a call", ylabel="ms per plan and environment")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    _number(axes, content["settings"]["envs"])


def _number(axes: Axes, ticks: Sequence[int]) -> None:
    """Mark the values that were measured on the horizontal axis."""
    axes.set_xticks(list(ticks), [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
