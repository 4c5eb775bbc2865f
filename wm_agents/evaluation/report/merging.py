"""A report that is already there and a new one as one: what was not measured anew stays."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wm_agents.evaluation.report.comparison import AGENTS
from wm_agents.evaluation.report.protocols import PROTOCOLS
from wm_agents.evaluation.statistics import wilson_interval
from wm_agents.recipes import RECIPES

EARLIER = "earlier file"
"""What the report calls a checkpoint that has been replaced, while some rows are still those of it."""
UNMEASURED = "not measured yet"

Content = dict[str, Any]


def read_report(out: Path, tasks_per_cell: int) -> Content | None:
    """Return the content of the report in a folder; None if there is none.

    Raises:
        ValueError: It is damaged, or its cells have another number of tasks.
    """
    path = out / "report.json"
    if not path.exists():
        return None
    try:
        content: Content = json.loads(path.read_text(encoding="utf-8"))
        count = content["tasks_per_cell"]
        rows_of(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a report ({error}): remove it, or give another out.") from error
    if count != tasks_per_cell:
        raise ValueError(
            f"{out} holds a report with {count} tasks per cell, not {tasks_per_cell}: give another out, or ask for "
            f"{count} tasks per cell."
        )
    return content


def merge(before: Content, now: Content) -> Content:
    """Return one report of two, in the order of the tasks, protocols and agents that the library has.

    What ``now`` has measured replaces the same in ``before``: a row of the same agent, training seed by training seed.
    A row that was measured with a checkpoint that has since been replaced stays, and so does what is known of that
    checkpoint. Rows on other tasks than those that ``now`` has for the protocol go, and ``left_out`` says so.
    """
    names = _ordered([*before["tasks"], *now["tasks"]], RECIPES)
    lost: list[str] = []
    tasks = {}
    for name in names:
        old, new = (content["tasks"].get(name) for content in (before, now))
        tasks[name] = _task(name, old, new, lost) if old and new else old or new
    commands = [*before["command"].split("; "), now["command"]]
    content = {**before, **now, "tasks": tasks, "command": "; ".join(filter(None, dict.fromkeys(commands)))}
    content["left_out"] = [*_still(before["left_out"], content), *now["left_out"], *lost]
    content["left_out"] = list(dict.fromkeys(content["left_out"]))
    known = [cell for *_, row in rows_of(before) for cell in row["cells"]]
    spent = sum(cell["cpu_seconds"] for *_, row in rows_of(now) for cell in row["cells"] if cell not in known)
    return {**content, "cpu_seconds": round(before["cpu_seconds"] + spent, 1)}


def rows_of(content: Mapping[str, Any]) -> list[tuple[str, str, Content]]:
    """Every row, with its task and protocol."""
    return [
        (task, name, row)
        for task, part in content["tasks"].items()
        for name, protocol in part["protocols"].items()
        for row in protocol["rows"]
    ]


def _task(name: str, before: Content, now: Content, lost: list[str]) -> Content:
    protocols = {}
    for protocol in _ordered([*before["protocols"], *now["protocols"]], PROTOCOLS):
        old, new = (part["protocols"].get(protocol) for part in (before, now))
        protocols[protocol] = _protocol(f"{name} {protocol}", old, new, lost) if old and new else old or new
    used = {cell.get("checkpoint_sha256") for one in protocols.values() for row in one["rows"] for cell in row["cells"]}
    files, seeds = ({one[key] for one in now["checkpoints"]} for key in ("sha256", "seed"))
    kept = [one for one in before["checkpoints"] if one["seed"] not in seeds]
    earlier = [  # the oldest cells do not say with which file they were measured
        {**one, "file": EARLIER}
        for one in before["checkpoints"]
        if one["seed"] in seeds and one["sha256"] not in files and used & {one["sha256"], None}
    ]
    checkpoints = sorted([*now["checkpoints"], *kept], key=lambda one: int(one["seed"])) + earlier
    latency = now["latency"] or before["latency"]
    return {**before, **now, "checkpoints": checkpoints, "protocols": protocols, "latency": latency}


def _protocol(name: str, before: Content, now: Content, lost: list[str]) -> Content:
    if before["manifest_sha256"] != now["manifest_sha256"]:
        lost.append(f"{name}: {len(before['rows'])} rows of an earlier report were measured on other tasks")
        return now
    rows = {_which(row): row for row in before["rows"]}
    for row in now["rows"]:
        old = rows.get(_which(row))
        if old is not None and any(row["options"].get(name, value) != value for name, value in old["options"].items()):
            seeds = {cell["training_seed"] for cell in old["cells"]} - {cell["training_seed"] for cell in row["cells"]}
            lost += [f"{name} {row['agent']}, seed {seed}: measured with other options" for seed in sorted(seeds)]
            old = None
        rows[_which(row)] = row if old is None else _row(old, row, now)
    found = sorted(rows.values(), key=lambda row: (_rank(row["agent"], AGENTS), row["agent"], row["replan_steps"]))
    return {**before, **now, "rows": found}


def _which(row: Content) -> tuple[str, int, bool]:
    return row["agent"], row["replan_steps"], row["as_shipped"]


def _row(before: Content, now: Content, protocol: Content) -> Content:
    """The row of an agent over the training seeds of both."""
    counts = {"all": protocol["tasks"], "subset": (protocol["subset"] or {}).get("tasks", 0)}
    scores = {
        which: {mode: _scores(before[which][mode], score, count) for mode, score in now[which].items()}
        for which, count in counts.items()
        if which in now and which in before
    }
    old, new = (row["against_reference"] or {} for row in (before, now))
    tests = {mode: _by_seed(old.get(mode, []), new.get(mode, []), "seed") for mode in {**old, **new}}
    cells = _by_seed(before["cells"], now["cells"], "training_seed")
    return {**now, **scores, "cells": cells, "against_reference": tests or None}


def _scores(before: Content, now: Content, count: int) -> Content:
    each = _by_seed(before.get("each", []), now["each"], "seed")
    mean = statistics.mean(one["rate"] for one in each)
    return {"rate": mean, "ci95": list(wilson_interval(round(mean * count), count)), "each": each}


def _by_seed(before: Sequence[Content], now: Sequence[Content], name: str) -> list[Content]:
    found = {one[name]: one for one in (*before, *now)}
    return [found[seed] for seed in sorted(found)]


def _still(reasons: Iterable[str], content: Content) -> list[str]:
    """Reasons of an earlier report without those that no longer hold."""
    measured = set()
    for task, protocol, row in rows_of(content):
        measured |= {f"{task}_{protocol.replace('/', '-')}_{row['agent']}_every", f"{task} {row['agent']}, seed"}
    return [
        reason
        for reason in reasons
        if not reason.endswith(UNMEASURED) and not any(reason.startswith(name) for name in measured)
    ]


def _ordered(names: Iterable[str], known: Mapping[str, Any] | Sequence[str]) -> list[str]:
    return sorted(dict.fromkeys(names), key=lambda name: _rank(name, known))


def _rank(name: str, known: Mapping[str, Any] | Sequence[str]) -> int:
    """Position among the known names; others come last, in the order that they have."""
    names = list(known)
    return names.index(name) if name in names else len(names)
