"""The report of ``objectives.py``: a table, tests against "lewm", and a verdict on each claim of the literature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from wm_agents.evaluation import Grid
from wm_agents.evaluation.statistics import holm, paired_runs, runs_interval
from wm_agents.training.world_model import COLLAPSE_STD

REFERENCE = "lewm"
POINTS = 0.05
"""A difference of success below this, 5 points, counts as none."""
LEVEL = 0.05
"""Of tests, after Holm's correction."""


def _error_ahead(latents: dict[str, Any]) -> float:
    """Error of the farthest imagined latents, as a share of that of "nothing moves"."""
    last: dict[str, float] = latents["prediction"][-1]
    return last["error"] / max(last["nothing_moves"], 1e-12)


COLUMNS: dict[str, tuple[str, Callable[[dict[str, Any]], float | None]]] = {
    "std": ("latents", lambda found: found["latent"]["std"]),
    "dimension": ("latents", lambda found: found["latent"]["effective_dimension"]),
    "straightness": ("latents", lambda found: found["latent"]["straightness"]),
    "uniformity": ("latents", lambda found: found["latent"]["uniformity"]),
    "normality": ("latents", lambda found: found["latent"]["normality"]),
    "error ahead": ("latents", _error_ahead),
    "plan rank": ("latents", lambda found: found["summary"]["score"]),
    "position R2": ("training", lambda found: found.get("probe/position")),
    "CPU s": ("training", lambda found: found["cpu_seconds"]),
}
"""Column -> the cell that it comes from, and how it is read there."""


@dataclass
class Results:
    """The finished cells of a comparison.

    Attributes:
        grid: Holds them.
        task: Name of the task.
        names: Objectives, in their order.
        seeds: Of training.
        agents: Names of the agents.
    """

    grid: Grid
    task: str
    names: list[str]
    seeds: list[int]
    agents: list[str]

    def cell(self, name: str, part: str, seed: int) -> dict[str, Any] | None:
        """The result of one cell; None if it is not there yet."""
        return self.grid.stored(f"{self.task}_{name}_{part}_{seed}")

    def numbers(self, name: str, column: str) -> np.ndarray:
        """One number for each seed that is finished."""
        part, read = COLUMNS[column]
        cells = [self.cell(name, part, seed) for seed in self.seeds]
        values = [read(cell) for cell in cells if cell is not None]
        return np.array([value for value in values if value is not None], dtype=np.float64)

    def solved(self, name: str, agent: str, *others: str) -> np.ndarray:
        """Bool ``[runs, tasks]``, of the seeds that are finished for this objective and for the others."""
        done = [seed for seed in self.seeds if all(self.cell(one, agent, seed) for one in (name, *others))]
        cells = [self.cell(name, agent, seed) or {} for seed in done]
        return np.array([[step is not None for step in cell["outcomes"]["moderate"]] for cell in cells], dtype=bool)

    def floors(self) -> str:
        """Success of random actions and of none, in percent."""
        for name in self.names:
            for agent in self.agents:
                for seed in self.seeds:
                    if cell := self.cell(name, agent, seed):
                        return ", ".join(f"{100 * cell['floors'][floor]:.0f}" for floor in ("random", "noop"))
        return "not measured"


@dataclass(frozen=True)
class Difference:
    """Success of an objective minus that of another, for one agent.

    Attributes:
        value: In [-1, 1].
        interval: 95%.
        p: Two-sided.
        runs: Seeds of training in it.
    """

    value: float
    interval: tuple[float, float]
    p: float
    runs: int

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:+.0f} [{100 * low:+.0f}, {100 * high:+.0f}] points, p = {self.p:.3f}"


def difference(results: Results, name: str, agent: str, reference: str = REFERENCE) -> Difference | None:
    """Compare two objectives on the seeds and tasks that both have; None without any."""
    first, second = results.solved(reference, agent, name), results.solved(name, agent, reference)
    return Difference(*paired_runs(first, second), len(first)) if first.size and name != reference else None


def differences(results: Results) -> dict[tuple[str, str], Difference]:
    """Every objective and agent against "lewm", with p-values that Holm's method has corrected together."""
    pairs = {(name, agent): difference(results, name, agent) for name in results.names for agent in results.agents}
    found = {key: value for key, value in pairs.items() if value is not None}
    corrected = holm(value.p for value in found.values())
    return {
        key: Difference(value.value, value.interval, p, value.runs)
        for (key, value), p in zip(found.items(), corrected, strict=True)
    }


def report(results: Results) -> str:
    """The whole report, as Markdown."""
    tests = differences(results)
    return "\n\n".join([table(results), tests_table(results, tests), "\n".join(claims(results, tests))]) + "\n"


def table(results: Results) -> str:
    """Means over seeds. Success in percent with its 95% interval; other numbers with the range of the seeds."""
    head = ["objective", "seeds", *results.agents, *COLUMNS]
    lines = [
        f"Random actions and no action solve {results.floors()}% of the tasks.",
        "",
        _row(head),
        "|---" * len(head) + "|",
    ]
    for name in results.names:
        seeds = [seed for seed in results.seeds if results.cell(name, "training", seed)]
        if not seeds:
            continue
        row = [name, ", ".join(map(str, seeds))]
        for agent in results.agents:
            solved = results.solved(name, agent)
            if not solved.size:
                row.append("")
                continue
            low, high = runs_interval(solved)
            row.append(f"{100 * solved.mean():.0f} [{100 * low:.0f}, {100 * high:.0f}]")
        for column in COLUMNS:
            values = results.numbers(name, column)
            spread = f" ({values.min():.3g} to {values.max():.3g})" if len(values) > 1 else ""
            row.append(f"{values.mean():.3g}{spread}" if len(values) else "")
        lines.append(_row(row))
    return "\n".join(lines)


def tests_table(results: Results, tests: dict[tuple[str, str], Difference]) -> str:
    """Differences to "lewm" in points, with 95% intervals and corrected p-values."""
    lines = [f"Success minus that of {REFERENCE} (95%; p after Holm's correction for {len(tests)} tests)", ""]
    lines += [_row(["objective", *results.agents]), "|---" * (1 + len(results.agents)) + "|"]
    for name in results.names:
        row = [str(tests.get((name, agent), "")) for agent in results.agents]
        if any(row):
            lines.append(_row([name, *row]))
    return "\n".join(lines)


def claims(results: Results, tests: dict[tuple[str, str], Difference]) -> list[str]:
    """A sentence or two on each claim."""
    return [
        f"a. {collapse(results)} {automatic(results)}",
        f"b. {regulariser(results, tests)}",
        f"c. {straightening(results, tests)}",
        f"d. {reconstruction(results, tests)}",
    ]


def collapse(results: Results) -> str:
    """Does prediction alone collapse?"""
    values = results.numbers("forward-only", "std")
    if not len(values):
        return "Collapse of forward-only: not measured."
    lost = int((values < COLLAPSE_STD).sum())
    return (
        f"Prediction alone collapses in {lost} of {len(values)} runs (latent std {values.mean():.3g}; below "
        f"{COLLAPSE_STD} counts)."
    )


def automatic(results: Results) -> str:
    """Is "smwm" with its automatic weight within 5 points of the best fixed weight, or else of "lewm"?"""
    fixed = [name for name in results.names if name.startswith("smwm-inverse_dynamics-")]
    said = []
    for agent in results.agents:
        scored = [(results.solved(name, agent).mean(), name) for name in fixed if results.solved(name, agent).size]
        best = max(scored)[1] if scored else REFERENCE
        found = difference(results, "smwm", agent, best)
        if found is not None:
            said.append(f"{agent} {found} against {best}: {_near(found)}")
    missing = "" if fixed else " No fixed weights were measured: add --sweep inverse_dynamics 0.1 1 5 30."
    return f"smwm with its automatic weight: {'; '.join(said) or 'not measured'}.{missing}"


def regulariser(results: Results, tests: dict[tuple[str, str], Difference]) -> str:
    """Does GC-IDM need a regulariser, and does its success go with its strength?"""
    weaker = [name for name in results.names if name == "forward-only" or name.startswith("lewm-sigreg-")]
    found = {name: tests[name, "gc-idm"] for name in weaker if (name, "gc-idm") in tests}
    said = [f"{name} {_verdict(one)} ({one})" for name, one in found.items()]
    text = f"GC-IDM with another weight of SIGReg, or none: {'; '.join(said) or 'not measured'}."
    rows = [
        (results.solved(name, "gc-idm").mean(), results.numbers(name, "normality"), results.numbers(name, "dimension"))
        for name in results.names
        if results.solved(name, "gc-idm").size and len(results.numbers(name, "normality"))
    ]
    if len(rows) > 3:
        success, normal, size = (np.array([np.mean(value) for value in column]) for column in zip(*rows, strict=True))
        text += (
            f" Over {len(rows)} objectives, the rank correlation of its success is {_rank(success, normal)} with the "
            f"distance from a Gaussian and {_rank(success, size)} with the effective dimension."
        )
    swept = any(name.startswith("lewm-sigreg-") for name in results.names)
    return text if swept else f"{text} No other weights were measured: add --sweep sigreg 0 0.01 0.09 0.5."


def straightening(results: Results, tests: dict[tuple[str, str], Difference]) -> str:
    """Does straightening lower the curvature, and does planning by gradients gain?"""
    straight, usual = (results.numbers(name, "straightness") for name in ("straightened", REFERENCE))
    found = tests.get(("straightened", "gradient"))
    if not (len(straight) and len(usual)):
        return "Straightening: not measured."
    falls = "falls in all runs" if straight.min() > usual.max() else "does not fall in all runs"
    text = f"Curvature {falls} (straightness {usual.mean():.2f} to {straight.mean():.2f})."
    return text if found is None else f"{text} Planning by gradients {_verdict(found)} ({found})."


def reconstruction(results: Results, tests: dict[tuple[str, str], Difference]) -> str:
    """Does reconstruction hurt?"""
    said = [
        f"{name}, {agent} {_verdict(found)} ({found})"
        for (name, agent), found in tests.items()
        if "reconstruction" in name
    ]
    missing = (
        ""
        if any(name.startswith("lewm-rec") for name in results.names)
        else (" Reconstruction beside SIGReg was not measured: add --sweep reconstruction 0 1 6.")
    )
    return f"With reconstruction: {'; '.join(said) or 'not measured'}.{missing}"


def _verdict(found: Difference) -> str:
    if found.p < LEVEL:
        return "gains" if found.value > 0 else "loses"
    low, high = found.interval
    return "neither gains nor loses 5 points" if low > -POINTS and high < POINTS else "is undecided"


def _near(found: Difference) -> str:
    low, high = found.interval
    if low > -POINTS:
        return "not 5 points below it"
    return "more than 5 points below it" if high < -POINTS else "undecided whether within 5 points"


def _rank(one: np.ndarray, other: np.ndarray) -> str:
    return f"{spearmanr(one, other).statistic:+.2f}" if np.ptp(one) and np.ptp(other) else "undefined"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
