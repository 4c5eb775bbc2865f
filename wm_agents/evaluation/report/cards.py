"""Model cards: what each shipped checkpoint is, what made it, and what it reaches, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wm_agents.agents.loading import shipped as shipped_files
from wm_agents.evaluation.report.markdown import is_earlier, rate, table
from wm_agents.evaluation.report.protocols import title_of

Content = Mapping[str, Any]
SHOWN = ("gc-idm", "cem-mpc", "cem-mpc+gc-idm")


def to_cards(content: Content) -> str:
    """Return one card a task, for the content of ``report.json``; tasks without a shipped checkpoint have none.

    Cards of files that the package has replaced since they were measured say so.
    """
    cards = {
        task: one for task, part in content["tasks"].items() for one in part["checkpoints"] if one["file"] == "shipped"
    }
    now = shipped_files()
    replaced = [task for task, one in cards.items() if now.get(task) != one["sha256"]]
    lines = [
        "# Model cards",
        "",
        "What ships inside the package: for each task one file with a world model, the networks fitted on it, and the "
        "options of the agents that use them. Success is that of the file itself, on held-out tasks, moderate test, "
        f"with 95% intervals; measured by `{content['command'] or 'wm_agents.evaluation.report.run_report(...)'}`. "
        "[The report](report.md) has all agents, the strict test and other training seeds.",
    ]
    if replaced:
        lines += [
            "",
            f"Cards of earlier files, measured with version {content['versions']['wm-agents']}: {', '.join(replaced)}. "
            "The package now has other files for these tasks, and the numbers below are not theirs.",
        ]
    for task, one in cards.items():
        lines += ["", *_card(task, content["tasks"][task], one, task in replaced)]
    return "\n".join([*lines, ""])


def _card(task: str, part: Content, shipped: Content, replaced: bool) -> Iterator[str]:
    data, size = shipped["dataset"], shipped["image_size"]
    heads = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in shipped["heads"].items())
    made = ", ".join(f"{name} {version}" for name, version in (shipped["versions"] or {}).items())
    yield from (f"## {task}", "", f'`wm_agents.load("{task}/gc-idm")` · `{part["env_id"]}`', "")
    if replaced:
        yield from ("**An earlier file.** `load` now reads another one, which this card does not describe.", "")
    yield from table(
        ("", ""),
        (
            ("file", f"{shipped['bytes'] / 1e6:.2f} MB, sha256 `{shipped['sha256']}`"),
            ("world model", f"{shipped['parameters']:,} parameters, {size} px to {shipped['latent_size']} numbers"),
            ("fitted on it", f"{heads} (parameters)"),
            (
                "data",
                f"{data['episodes']} episodes of {data['steps']} steps of {data['env_id']}, policy "
                f"{data['policy']}, seed {data['seed']}, sha256 `{data['sha256']}`",
            ),
            ("made by", f"`{shipped['command']}`, training seed {shipped['seed']}, torch threads {shipped['threads']}"),
            ("versions", made),
            ("success tests", "; ".join(f"{mode}: {test}" for mode, test in part["success_tests"].items())),
            ("options", "; ".join(f"{name}: `{_options(options)}`" for name, options in shipped["options"].items())),
        ),
    )
    yield ""
    yield from table(("goal, steps away / allowed", *SHOWN, "random actions"), _success(part, shipped["seed"]))


def _success(part: Content, seed: int) -> Iterator[list[str]]:
    for name, protocol in part["protocols"].items():
        cells = [title_of(name, protocol["budget"])]
        for agent in SHOWN:
            rows = [row for row in protocol["rows"] if row["agent"] == agent and row["as_shipped"]]
            rows = [row for row in rows if not is_earlier(row, part)]
            each = rows[0]["all"]["moderate"]["each"] if rows else []
            cells.append(next((rate(one) for one in each if one["seed"] == seed), ""))
        yield [*cells, rate(protocol["floors"]["random"]["all"]["moderate"])]


def _options(options: Content) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
