"""The cells of a comparison as the content of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from wm_agents.evaluation.comparison.plan import Plan
from wm_agents.evaluation.comparison.training import Candidate
from wm_agents.evaluation.statistics import interquartile_mean, mcnemar, runs_interval, stratified_interval
from wm_agents.evaluation.tasks import Manifest

Content = dict[str, Any]
Measured = Mapping[str, list[list[tuple[Candidate, Mapping[str, Any]]]]]
"""Agent -> for each seed, its models from first to last, each with the cell of its evaluation."""


def summarise_comparison(
    plan: Plan,
    measured: Mapping[str, Measured],
    manifests: Mapping[str, Manifest],
    settings: Mapping[str, Any],
    left_out: Sequence[str],
) -> Content:
    """Return what ``report.json`` holds, as JSON types.

    Args:
        plan: What was compared.
        measured: By protocol.
        manifests: By protocol.
        settings: Of the run: command, versions, and so on.
        left_out: What failed, in words.
    """
    protocols = {name: _protocol(manifests[name], found) for name, found in measured.items()}
    return {
        **settings,
        "plan": {**asdict(plan), "agents": list(plan.agents)},
        "contestants": [asdict(plan.contestant(name)) for name in plan.agents],
        "protocols": protocols,
        "overall": _overall(plan, protocols),
        "left_out": list(left_out),
    }


def _protocol(manifest: Manifest, measured: Measured) -> Content:
    rows = [_row(agent, seeds) for agent, seeds in measured.items() if seeds]
    solved = {agent: [_solved(models[-1][1]) for models in seeds] for agent, seeds in measured.items() if seeds}
    floors: Mapping[str, Any] = next((seeds[0][-1][1]["floors"] for seeds in measured.values() if seeds), {})
    return {
        "offset": manifest.offset,
        "budget": manifest.budget,
        "tasks": len(manifest),
        "manifest_sha256": manifest.sha256,
        "floors": dict(floors),
        "rows": rows,
        "pairs": [
            _pair(first, second, solved)
            for place, first in enumerate(solved)
            for second in list(solved)[place + 1 :]
        ],
    }  # fmt: skip


def _row(agent: str, seeds: Sequence[Sequence[tuple[Candidate, Mapping[str, Any]]]]) -> Content:
    """An agent's last models, and the way there: means over seeds."""
    last = np.stack([_solved(models[-1][1]) for models in seeds])
    points = [
        {
            "steps": float(np.mean([candidate.steps for candidate, _ in models])),
            "seconds": float(np.mean([candidate.seconds for candidate, _ in models])),
            "rate": float(np.mean([cell["success_rate"] for _, cell in models])),
            "ms": float(np.mean([cell["ms_per_step"]["mean"] for _, cell in models])),
        }
        for models in zip(*seeds, strict=True)
    ]
    return {
        "agent": agent,
        "seeds": [models[-1][0].seed for models in seeds],
        "each": [float(rate) for rate in last.mean(axis=1)],
        "ci95": list(runs_interval(last)),
        "strict": float(np.mean([models[-1][1]["strict"]["success_rate"] for models in seeds])),
        "points": points,
        **points[-1],
    }


def _pair(first: str, second: str, solved: Mapping[str, Sequence[np.ndarray]]) -> Content:
    """Two agents on the same tasks, seed by seed."""
    tests = [mcnemar(one, other) for one, other in zip(solved[first], solved[second], strict=False)]
    found = [{"only_first": ahead, "only_second": behind, "p": p} for ahead, behind, p in tests]
    return {"first": first, "second": second, "seeds": found}


def _overall(plan: Plan, protocols: Mapping[str, Content]) -> Content:
    """Interquartile means over seeds and kinds of tasks, where there are several seeds."""
    found = {}
    for agent in plan.agents if plan.seeds > 1 else ():
        rows = [row for part in protocols.values() for row in part["rows"] if row["agent"] == agent]
        if len(rows) == len(protocols) and all(len(row["each"]) == plan.seeds for row in rows):
            scores = np.array([row["each"] for row in rows]).T
            found[agent] = {"iqm": interquartile_mean(scores), "ci95": list(stratified_interval(scores))}
    return found


def _solved(cell: Mapping[str, Any]) -> np.ndarray:
    return np.array([step is not None for step in cell["outcomes"]["moderate"]])
