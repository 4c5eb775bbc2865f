"""The report of a comparison as Markdown: tables, paired tests, and what they say in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wm_agents.evaluation.comparison.figures import AXES, title
from wm_agents.evaluation.report.markdown import rate, table

Content = Mapping[str, Any]


def to_markdown(content: Content) -> str:
    """Return the text of ``report.md`` for what ``summarise_comparison`` returned."""
    plan = content["plan"]
    lines = [f"# Comparison on {plan['env_id']}", ""]
    if plan["quick"]:
        lines += ["**A quick run with shortened trainings: it shows that everything works, and is no result.**", ""]
    lines += [
        f"Made by `{content['command'] or 'wm_agents.evaluation.compare(...)'}` with "
        f"{', '.join(f'{name} {version}' for name, version in content['versions'].items())}; {plan['tasks']} held-out "
        f"tasks of each kind, {plan['seeds']} training seed{'s' if plan['seeds'] > 1 else ''}.",
        "",
        *_words(content),
        "",
        "## What each agent was given",
        "",
        *table(("agent", "learns by", "sees", "reward", "settings"), _given(content)),
    ]
    for name, part in content["protocols"].items():
        lines += ["", f"## {title(name, part)}", "", *_protocol(part, plan)]
    if content["overall"]:
        lines += ["", "## Over all tasks", "", *_overall(content)]
    lines += ["", "## Success against cost", "", *(f"![success against {AXES[name]}]({name}.png)" for name in AXES)]
    if content["left_out"]:
        lines += ["", "## Left out", "", *(f"- {reason}" for reason in content["left_out"])]
    return "\n".join([*lines, "", "## How to read it", "", *_reading(content), ""])


def _given(content: Content) -> Iterator[Sequence[str]]:
    for one in content["contestants"]:
        yield one["name"], one["family"], one["sees"], "yes" if one["reward"] else "no", one["source"]


def _protocol(part: Content, plan: Content) -> Iterator[str]:
    rows: list[Sequence[str]] = [
        (name, f"{100 * floor:.1f}", "", "", "", "", "")
        for name, floor in (("random actions", part["floors"]["random"]), ("no action", part["floors"]["noop"]))
    ]
    for row in part["rows"]:
        score = {"rate": row["rate"], "ci95": row["ci95"]}
        strict = f"{100 * row['strict']:.1f}"
        each = " / ".join(f"{100 * one:.0f}" for one in row["each"]) if plan["seeds"] > 1 else ""
        cost = f"{row['steps']:,.0f}", f"{row['seconds']:,.0f}", f"{row['ms']:.2f}"
        rows.append((row["agent"], rate(score), strict, each, *cost))
    columns = ("agent", "success, %", "strict, %", "each seed", "environment steps", "training, s", "ms/decision")
    yield from table(columns, rows)
    best = _best(part["rows"])
    others = [row["agent"] for row in part["rows"] if row is not best]
    if others:
        yield ""
        yield f"{best['agent']} and the others on the same tasks, exact McNemar test for each seed:"
        yield ""
        yield from (f"- {_against(part, best['agent'], other)}" for other in others)


def _against(part: Content, first: str, second: str) -> str:
    each = (
        f"only it solved {ahead}, only {second} {behind}, p = {p:.2g}"
        for ahead, behind, p in _tests(part, first, second)
    )
    return f"{second}: {'; '.join(each)}"


def _tests(part: Content, first: str, second: str) -> list[tuple[int, int, float]]:
    """For each seed, tasks that only the first and only the second agent solved, and the p-value."""
    for pair in part["pairs"]:
        if {pair["first"], pair["second"]} == {first, second}:
            sides = ("only_first", "only_second") if pair["first"] == first else ("only_second", "only_first")
            return [(one[sides[0]], one[sides[1]], one["p"]) for one in pair["seeds"]]
    return []


def _words(content: Content) -> Iterator[str]:
    """What the numbers say, a sentence or two for each kind of tasks."""
    families = {one["name"]: one["family"] for one in content["contestants"]}
    for name, part in content["protocols"].items():
        online = [row for row in part["rows"] if families[row["agent"]] == "online RL"]
        offline = [row for row in part["rows"] if row not in online]
        if not online or not offline:
            best = _best(part["rows"])
            most = "" if len(part["rows"]) == 1 else ", the most of these agents"
            floor = f"Random actions solve {part['floors']['random']:.1%}."
            yield f"{title(name, part)}: {best['agent']} solves {_cost(best)}{most}. {floor}"
            continue
        own, rival = _best(offline), _best(online)
        first, second = (own, rival) if own["rate"] >= rival["rate"] else (rival, own)
        yield (
            f"{title(name, part)}: the best agent without reward and interaction is {own['agent']}, the best one of "
            f"online reinforcement learning is {rival['agent']}. {first['agent']} solves {_cost(first)}; "
            f"{second['agent']} {_cost(second)}. {_verdict(part, first['agent'], second['agent'])} "
            f"Random actions solve {part['floors']['random']:.1%}."
        )


def _verdict(part: Content, first: str, second: str) -> str:
    tests = _tests(part, first, second)
    if all(ahead > behind and p < 0.05 for ahead, behind, p in tests):
        return f"{first} is ahead in {'this seed' if len(tests) == 1 else 'every seed'} (exact McNemar, p < 0.05)."
    return "These tasks do not tell the two apart (exact McNemar, p < 0.05 was asked for in every seed)."


def _cost(row: Content) -> str:
    return (
        f"{row['rate']:.1%} after {row['steps']:,.0f} environment steps and {row['seconds']:,.0f} s, at "
        f"{row['ms']:.2f} ms per decision"
    )


def _overall(content: Content) -> Iterator[str]:
    yield "Interquartile mean of success over seeds and kinds of tasks, with its stratified bootstrap interval:"
    yield ""
    rows = ((agent, rate({"rate": one["iqm"], "ci95": one["ci95"]})) for agent, one in content["overall"].items())
    yield from table(("agent", "interquartile mean, %"), rows)


def _reading(content: Content) -> Iterator[str]:
    several = content["plan"]["seeds"] > 1
    bootstrap = "a bootstrap over seeds and tasks, or Wilson's for the tasks where all or none were solved"
    interval = bootstrap if several else "Wilson's for the tasks of this one seed"
    yield f"- Success is the moderate test's, at any step of the budget; intervals are 95%, {interval}."
    yield (
        "- Environment steps count recorded data. All agents that learn offline share these data, and the world-model "
        "agents of a seed share one file: their seconds are those of the whole recipe, with parts that only some use."
    )
    recorded = "with recording the data" if content["recorded"] else "without recording the data, which were there"
    yield f"- Seconds are wall time on {content['device']}, {content['threads']} torch threads, {recorded}."
    yield f"- A decision is one of {content['num_envs']} that are asked for in one call; fewer when few tasks are left."
    yield "- Settings that are called ours were not searched for. On pixels, SB3's CNN is a weak baseline."


def _best(rows: Sequence[Content]) -> Content:
    return max(rows, key=lambda row: row["rate"])
