"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wm_agents.evaluation.report.comparison import COMMITTED, is_told
from wm_agents.evaluation.report.merging import EARLIER, rows_of
from wm_agents.evaluation.report.protocols import ANY_GOAL, title_of
from wm_agents.evaluation.report.published import SOURCES, TASK_DIFFERENCES

Content = Mapping[str, Any]


def to_markdown(content: Content) -> str:
    """Return the text of ``report.md`` for the content that ``summarise_cells`` returned."""
    replaced = any(is_earlier(row, content["tasks"][task]) for task, _, row in rows_of(content))
    lines = [
        "# Report",
        "",
        f"Regenerate it: `{content['command'] or 'wm_agents.evaluation.report.run_report(...)'}`. "
        f"{content['tasks_per_cell']} held-out tasks a cell (task set seed {content['seed']}), "
        f"{_seeds(content)}. {_versions(content['versions'])}.",
        "",
        "Success in %, at any step of the budget, with 95% Wilson intervals; over several training seeds the mean, "
        "with the interval of one set of tasks, which the seeds share. `replans` is how many environment steps a plan "
        "is followed; the papers' planners follow theirs for 25, GC-IDM decides at every step. `GC-IDM / it` counts "
        "the tasks that only GC-IDM or only this agent solved, moderate test, with the exact McNemar p-value, for each "
        "training seed. `ms/decision` is the mean over all steps, those without a plan too; `ms/plan` the median; both "
        f"for one of {_num_envs(content)} environments in a call (fewer when few tasks are left), {_threads(content)} "
        f"in each of {content['workers']} processes on {content['cores']} cores: compare them within this run. "
        "`evaluations` are blocks rolled out for a plan. Jerk is the mean square of the third difference of executed "
        "actions. ‡ marks an agent that was told how far the goal is"
        f"{', § one that was measured with an earlier file of the task' if replaced else ''}. "
        f"Planners' rollouts: {_precisions(content)}. The cells took {content['cpu_seconds']:,.0f} s of CPU.",
    ]
    lines += ["", "## At a glance", "", *_overview(content)]
    for task, part in content["tasks"].items():
        lines += ["", *_task(task, part)]
    if content["left_out"]:
        lines += ["", "## Left out", "", *(f"- {reason}" for reason in content["left_out"])]
    return "\n".join([*lines, "", *_sources(content), ""])


def _overview(content: Content) -> Iterator[str]:
    """Moderate success of everything: any goal first, agents as shipped, planners that follow plans for longer."""
    yield (
        "Moderate success in %, the best of a row in bold; † where not all training seeds of the task were measured, ‡ "
        "where the agent was told how far the goal is."
    )
    yield from ("", "Any goal: random start and goal, the environment's own step limit, nothing told.", "")
    yield from _any_goal(content)
    for longer in (False, True):
        rows = list(_overview_rows(content, longer))
        agents = list(dict.fromkeys(agent for _, _, shown, _ in rows for agent in shown))
        if rows:
            steps = f"Plans followed for {COMMITTED} environment steps, or to their end:" if longer else "As shipped:"
            yield from ("", steps, "")
            filled = ((task, name, *(shown.get(a, "") for a in agents), floor) for task, name, shown, floor in rows)
            yield from table(("task", "protocol", *agents, "random"), filled)


def _any_goal(content: Content) -> Iterator[str]:
    """Success on any goal, as shipped: of both sets of tasks, the first one with its interval."""
    found = {
        task: {name: part["protocols"].get(name, {"rows": []}) for name in ANY_GOAL}
        for task, part in content["tasks"].items()
    }
    agents = dict.fromkeys(
        row["agent"] for sets in found.values() for one in sets.values() for row in one["rows"] if row["as_shipped"]
    )
    if not agents:
        yield "Not measured."
        return
    seeds = " and ".join(str(seed) for seed in ANY_GOAL.values())
    yield f"Two sets of tasks, drawn with seeds {seeds}; the interval is that of the first."
    yield ""
    rows = []
    for task, sets in found.items():
        shown = {agent: _of_sets([_shipped_row(one, agent) for one in sets.values()]) for agent in agents}
        floors = [one["floors"]["random"]["all"]["moderate"] for one in sets.values() if "floors" in one]
        floor = " / ".join(f"{100 * one['rate']:.1f}" for one in floors) or "not measured"
        budget = next((one["budget"] for one in sets.values() if "budget" in one), "")
        rows.append((task, budget, *shown.values(), floor))
    yield from table(("task", "steps", *agents, "random"), rows)


def _shipped_row(protocol: Content, agent: str) -> Content | None:
    return next((row for row in protocol["rows"] if row["agent"] == agent and row["as_shipped"]), None)


def _of_sets(rows: Sequence[Content | None]) -> str:
    """Success on the two sets of tasks."""
    if not any(rows):
        return "not measured"
    first, second = (row and row["all"]["moderate"] for row in rows)
    return " / ".join(
        (rate(first) if first else "not measured", f"{100 * second['rate']:.1f}" if second else "not measured")
    )


def _overview_rows(content: Content, longer: bool) -> Iterator[tuple[str, str, dict[str, str], str]]:
    """Yield task, protocol, success by agent, and that of random actions; once more where an object must be moved."""
    for task, part in content["tasks"].items():
        for name, protocol in part["protocols"].items():
            if name in ANY_GOAL and not longer:
                continue  # they have a table of their own
            subset = protocol["subset"]
            rows = [row for row in protocol["rows"] if row["as_shipped"] != longer]
            labels = {"all": task}
            if subset and subset["tasks"] < protocol["tasks"]:
                labels["subset"] = f"{task}, {subset['label']}"
            for which, label in labels.items() if rows else ():
                rates = [100 * row[which]["moderate"]["rate"] for row in rows]
                shown = {}
                for row, success in zip(rows, rates, strict=True):
                    text = f"**{success:.1f}**" if len(rows) > 1 and success == max(rates) else f"{success:.1f}"
                    text += "†" if len(row["cells"]) < len({one["seed"] for one in part["checkpoints"]}) else ""
                    shown[row["agent"]] = text + _marks(row, protocol, part)
                floor = 100 * protocol["floors"]["random"][which]["moderate"]["rate"]
                yield label, title_of(name, protocol["budget"]), shown, f"{floor:.1f}"


def _task(task: str, part: Content) -> Iterator[str]:
    tests = "; ".join(f"{mode}: {test}" for mode, test in part["success_tests"].items())
    yield from (f"## {task}", "", f"`{part['env_id']}`. {tests}.", "")
    yield from table(
        ("training seed", "checkpoint", "sha256", "images", "world model", "GC-IDM", "data", "made by"),
        (
            (
                one["seed"],
                one["file"],
                f"`{one['sha256'][:12]}`",
                f"{one['image_size']} px",
                _count(one["parameters"]),
                _count(one["heads"].get("gc-idm", one["heads"].get("inverse_dynamics"))),
                "{episodes} x {steps} steps, {policy}".format_map(one["dataset"]),
                f"`{one['command']}`",
            )
            for one in part["checkpoints"]
        ),
    )
    for name, protocol in part["protocols"].items():
        heading = title_of(name, protocol["budget"])
        yield from ("", f"### {task}, {heading}", "", *_protocol(protocol, part))
    if part["latency"]:
        yield from ("", f"### {task}, cost of a decision", "", *_latency(part["latency"]))
    if part["published"]:
        yield from ("", f"### {task}, beside published numbers", "", *_published(task, part))


def _protocol(protocol: Content, part: Content) -> Iterator[str]:
    subset = protocol["subset"]
    moving = f"; {subset['label']} in {subset['tasks']} of them" if subset else ""
    drawn = f", drawn with seed {protocol['seed']}" if protocol.get("seed") else ""
    yield f"{protocol['tasks']} tasks{drawn}, manifest `{protocol['manifest_sha256'][:12]}`{moving}."
    yield ""
    columns = ["agent", "replans", "moderate", "strict"]
    columns += [f"{subset['label']}: moderate", "strict"] if subset else []
    columns += ["ms/decision", "ms/plan", "evaluations", "jerk", "GC-IDM / it"]
    scores = ("all", "subset") if subset else ("all",)
    rows = [
        [name, "", *(rate(floor[which][mode]) for which in scores for mode in ("moderate", "strict")), *[""] * 5]
        for name, floor in protocol["floors"].items()
    ]
    rows += [
        [
            row["agent"] + _marks(row, protocol, part),
            row["replan_steps"],
            *(rate(row[which][mode]) for which in scores for mode in ("moderate", "strict")),
            _number(row["ms_per_decision"], 2),
            _number(row["ms_per_plan"], 1) if row["evaluations_per_plan"] else "",
            _number(row["evaluations_per_plan"] or None, 0),
            _number(row["jerk"], 3),
            _against(row["against_reference"]),
        ]
        for row in protocol["rows"]
    ]
    yield from table(columns, rows)
    each = [_each(row) for row in protocol["rows"] if len(row["cells"]) > 1]
    if each:
        yield from ("", f"Moderate by training seed: {'; '.join(each)}.")


def _latency(latency: Content) -> Iterator[str]:
    plan = latency["plan"]
    size = f"{plan['samples']} samples x {plan['iterations']} iterations x {plan['horizon']} blocks"
    yield (
        f"One environment, from image to action, float32, {latency['device']}, both in turns: best time (median in "
        f"brackets). CEM as in the papers, {size}."
    )
    yield ""
    rows = (
        (count, _times(one["decision_ms"]), _times(one["plan_ms"]), f"{one['ratio']:.0f}")
        for count, one in latency["threads"].items()
    )
    yield from table(("threads", "GC-IDM decision, ms", "CEM plan, ms", "decisions in a plan"), rows)


def _published(task: str, part: Content) -> Iterator[str]:
    first = part["checkpoints"][0]
    yield (
        f"Ours: {first['image_size']} px, world model of {_count(first['parameters'])} parameters, "
        f"{first['dataset']['episodes']} episodes of {first['dataset']['steps']} steps ({first['dataset']['policy']}). "
        f"{TASK_DIFFERENCES.get(task, '')} What differs between sources is at the end of this page."
    )
    yield ""
    rows = []
    for entry in part["published"]:
        protocol = part["protocols"].get(entry["protocol"])
        if protocol is None:
            continue
        ours = _ours(entry, protocol)
        rows.append((entry["source"], entry["protocol"], entry["method"], f"{entry['success']:.1f}", *ours))
    yield from table(("source", "protocol", "method", "published", "ours, same control", "ours, as shipped"), rows)


def _ours(entry: Content, protocol: Content) -> tuple[str, str]:
    """Our success beside a published one: with plans followed for as long (empty if not measured), and as shipped."""
    if entry["agent"] is None:
        return (rate(protocol["floors"]["random"]["all"][entry["mode"]]) if "random" in entry["method"] else "", "")
    rows = [row for row in protocol["rows"] if row["agent"] == entry["agent"]]
    shipped = next((row for row in rows if row["as_shipped"]), None)
    committed = next((row for row in rows if row["replan_steps"] == COMMITTED), None)
    chosen = (committed if entry["committed"] else shipped, shipped)
    same, ours = (rate(row["all"][entry["mode"]]) if row else "" for row in chosen)
    return same, ours


def _sources(content: Content) -> Iterator[str]:
    used = {entry["source"] for part in content["tasks"].values() for entry in part["published"]}
    if used:
        yield from ("## Sources of published numbers", "")
        yield from (f"- **{name}**: {text}" for name, text in SOURCES.items() if name in used)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(str(value).replace('|', '/') for value in row)} |"


def rate(score: Content) -> str:
    """Return a rate with its interval, in %."""
    low, high = (100 * bound for bound in score["ci95"])
    return f"{100 * score['rate']:.1f} [{low:.0f}, {high:.0f}]"


def _times(one: Content) -> str:
    return f"{one['best']:.2f} ({one['median']:.2f})"


def _each(row: Content) -> str:
    rates = ", ".join(f"{100 * one['rate']:.1f}" for one in row["all"]["moderate"]["each"])
    return f"{row['agent']} ({row['replan_steps']}) {rates}"


def is_earlier(row: Content, part: Content) -> bool:
    """The row was measured with a checkpoint that has been replaced since. The oldest cells do not say with which."""
    replaced = {one["sha256"] for one in part["checkpoints"] if one["file"] == EARLIER}
    return any(cell.get("checkpoint_sha256") in {*replaced, None} for cell in row["cells"]) if replaced else False


def _marks(row: Content, protocol: Content, part: Content) -> str:
    told = "‡" if is_told(row["options"], protocol["offset"]) else ""
    return told + ("§" if is_earlier(row, part) else "")


def _against(found: Content | None) -> str:
    if not found:
        return ""
    return "; ".join(f"{one['only_reference']} / {one['only_this']}, p {one['p']:.2g}" for one in found["moderate"])


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:,.{decimals}f}"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:.2f} M"


def _versions(found: Content) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _seeds(content: Content) -> str:
    seeds = sorted({one["seed"] for part in content["tasks"].values() for one in part["checkpoints"]})
    return f"training seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}, 0 as shipped"


def _num_envs(content: Content) -> str:
    """How many environments shared a call when the cells were measured."""
    return " or ".join(map(str, sorted({row["num_envs"] for row in _rows(content)})))


def _threads(content: Content) -> str:
    """Torch's threads, and the devices, that the cells were measured with."""
    each = ((row["threads"], row["device"]) for row in _rows(content))
    found = {f"{threads} torch thread{'s' if threads > 1 else ''} on {device}" for threads, device in each}
    return ", ".join(sorted(found))


def _rows(content: Content) -> Iterator[Content]:
    for part in content["tasks"].values():
        for protocol in part["protocols"].values():
            yield from protocol["rows"]


def _precisions(content: Content) -> str:
    """Which agents' rollouts are in which precision."""
    found: dict[str, dict[str, None]] = {}
    for row in _rows(content):
        if "precision" in row["options"]:
            found.setdefault(row["options"]["precision"], {})[row["agent"]] = None
    return "; ".join(f"{precision} for {', '.join(names)}" for precision, names in found.items()) or "none"
