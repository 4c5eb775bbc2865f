"""The benchmark as a table and as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

COLOURS = ("#2c6fbb", "#e08e0b", "#2e8b57", "#c0392b", "#7d5ba6", "#3b4252", "#0f8b8d", "#a2678a", "#8a8d00")


def print_bench(content: Mapping[str, Any], console: Console) -> None:
    """Print what :func:`wm_agents.bench.bench_planners` returned: a row for each planner, then the rates."""
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
    table.add_column("planner", no_wrap=True)
    for column in ("success", *(f"ms, {count}" for count in settings["envs"]), "evals", "change"):
        table.add_column(column, justify="right", no_wrap=True)
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
    console.print(table)
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
        console.print(line, highlight=False)


def bench_figure(content: Mapping[str, Any]) -> Figure:
    """Draw success against time, time against environments, and how CEM, iCEM and MPPI scale."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    grid = figure.subplots(2, 3)
    colours = dict(zip(content["settings"]["planners"], COLOURS, strict=False))
    _trade_off(grid[0, 0], content, colours)
    _environments(grid[1, 0], content, colours)
    for column, (over, label) in enumerate((("samples", "samples"), ("horizon", "horizon, blocks")), start=1):
        for row, (metric, name) in enumerate(
            (("left", "share of the squared distance left"), ("ms", "ms a plan, each of 16 environments"))
        ):
            axes = grid[row, column]
            for planner, curves in content["scaling"].items():
                points = curves[over]
                values = [point[metric]["best"] if metric == "ms" else point[metric] for point in points.values()]
                axes.plot([int(value) for value in points], values, marker="o", color=colours[planner], label=planner)
            axes.set(xlabel=label, ylabel=name, xscale="log" if over == "samples" else "linear")
            axes.set_yscale("log" if metric == "ms" else "linear")
            axes.grid(alpha=0.3)
            if content["scaling"]:
                axes.legend(frameon=False)
    settings = content["settings"]
    figure.suptitle(f"{settings['env_id']}, {settings['tasks']} tasks, offset {settings['offset']}")
    return figure


def _trade_off(axes: Axes, content: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    count = str(content["settings"]["envs"][0])
    for name, row in content["success"].items():
        ms, rate = content["timing"][name][count]["best"], row["success_rate"]
        bars = [[max(0.0, rate - row["ci95"][0])], [max(0.0, row["ci95"][1] - rate)]]
        axes.errorbar(ms, rate, yerr=bars, marker="o", color=colours[name], capsize=3)
        axes.annotate(name, (ms, rate), xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel=f"ms a plan, {count} environment(s)", ylabel="success", ylim=(-0.03, 1.06))
    axes.margins(x=0.25)
    axes.grid(alpha=0.3)


def _environments(axes: Axes, content: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    for name, curve in content["timing"].items():
        counts = [int(count) for count in curve]
        axes.plot(counts, [ms["best"] for ms in curve.values()], marker="o", color=colours[name], label=name)
    axes.set(xscale="log", yscale="log", xlabel="environments in a call", ylabel="ms a plan, each environment")
    axes.set_xticks(content["settings"]["envs"], [str(count) for count in content["settings"]["envs"]])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=7)
