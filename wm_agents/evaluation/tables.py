"""Results as tables for people. Numbers are never cut: if columns do not fit, they are stacked."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from wm_agents.datasets import task_name
from wm_agents.evaluation.results import EvaluationResult, Outcomes
from wm_agents.evaluation.statistics import mcnemar, summarise

UNLIMITED = 10_000
"""A width, in characters, that no table needs."""


def print_table(table: Table, console: Console) -> None:
    """Print a table with every number in full.

    A file or a pipe gets the table as wide as it needs to be. On a terminal that is too narrow for the table, each row
    becomes a block of ``column: value`` lines.
    """
    needed = Measurement.get(console, console.options.update(max_width=UNLIMITED), table).maximum
    if needed <= console.width:
        console.print(table)
    elif console.is_terminal:
        _print_stacked(table, console)
    else:
        wide = Console(file=io.StringIO(), width=needed, color_system=None)
        wide.print(table)
        console.print(wide.file.getvalue(), end="", markup=False, highlight=False, soft_wrap=True)  # type: ignore[attr-defined]


def _print_stacked(table: Table, console: Console) -> None:
    def write(text: object, style: str = "") -> None:
        shown = Text.from_markup(text, style=style) if isinstance(text, str) else text
        console.print(shown, highlight=False, soft_wrap=True)

    if table.title:
        write(table.title, "italic")
    headers = [column.header for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        write(row[0], "bold")
        for header, value in zip(headers[1:], row[1:], strict=True):
            write(f"  {header}: {value}")
    if table.caption:
        write(table.caption, "dim")


def print_report(results: Sequence[EvaluationResult], console: Console) -> None:
    """Print one table for each set of tasks among ``results``, floors first, then paired comparisons with the best.

    Args:
        results: At least one.
        console: Where to print.

    Raises:
        ValueError: There are no results.
    """
    if not results:
        raise ValueError("there are no results to report.")
    for manifest in dict.fromkeys(result.manifest for result in results):
        group = [result for result in results if result.manifest == manifest]
        print_table(results_table(group), console)
        best = max(group, key=lambda result: result.success_rate)
        for other in (result for result in group if result is not best):
            ahead, behind, p = mcnemar(best.outcomes.moderate > 0, other.outcomes.moderate > 0)
            console.print(
                f"{best.agent} against {other.agent}, same tasks: only the former solved {ahead}, only the latter "
                f"{behind} (exact McNemar p = {p:.2g})",
                highlight=False,
                soft_wrap=True,
            )
    for result in results:
        if foreseen := _foreseen(result):
            console.print(foreseen, markup=False, highlight=False, soft_wrap=True)
        for note in result.notes:
            console.print(f"{result.agent}: {note}", markup=False, highlight=False, soft_wrap=True)


def _foreseen(result: EvaluationResult) -> str:
    """How well an agent foresaw its success; empty where it is not calibrated."""
    found = result.to_dict()["assessment"]
    if found is None:
        return ""
    if not found["known"]:
        return f"{result.agent}: could not say how likely it was to succeed: {result.assessments[0].reason}"
    auroc = f", AUROC {found['auroc']:.2f}" if found["auroc"] is not None else ""
    return (
        f"{result.agent} expected to solve {100 * found['predicted']:.1f}% of {found['known']} tasks and solved "
        f"{100 * found['solved']:.1f}%: calibration error {found['ece']:.3f}{auroc}, Brier score {found['brier']:.3f}"
    )


def results_table(results: Sequence[EvaluationResult]) -> Table:
    """Return the table of results on one manifest (the first one's), its floors as the first rows."""
    manifest = results[0].manifest
    offset = "random start and goal" if manifest.offset == "random" else f"offset {manifest.offset}"
    table = Table(
        title=f"{task_name(manifest.env_id)}: {len(manifest)} tasks, {offset}, budget {manifest.budget}",
        caption=(
            "success [95% Wilson interval] and steps to it (median): moderate test; ms: median; "
            f"evals: a plan's world-model evaluations; tasks {manifest.sha256[:12]}"
        ),
    )
    table.add_column("agent", overflow="fold")
    for column in ("success", "strict", "steps", "ms/step", "ms/plan", "evals"):
        table.add_column(column, justify="right", overflow="fold")
    for name, floor in results[0].floors.items():
        table.add_row(name, *_rates(floor), "-", "-", "-", style="dim")
    table.add_section()
    for result in results:
        timings = result.timings
        table.add_row(
            escape(result.agent),
            *_rates(result.outcomes),
            _number(summarise(timings.ms_per_step)["median"], 2),
            _number(summarise(timings.ms_per_plan)["median"], 2),
            _number(timings.evaluations / timings.plans if timings.plans else None, 0),
        )
    return table


def _rates(outcomes: Outcomes) -> tuple[str, str, str]:
    low, high = outcomes.interval()
    success = f"{100 * outcomes.success_rate():.1f}% [{100 * low:.0f}, {100 * high:.0f}]"
    steps = outcomes.moderate[outcomes.moderate > 0]
    return success, f"{100 * outcomes.success_rate('strict'):.1f}%", _number(summarise(steps)["median"], 0)


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"
