"""One HTML page that holds everything: text, numbers and pictures, and that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from wm_agents.evaluation.diagnosis.verdict import Finding
from wm_agents.training.probe import is_velocity

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem; color: #1f2733;
       background: #fff; }
h1 { font-size: 1.5rem; line-height: 1.25; margin-bottom: .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
p.about, figcaption { color: #56606e; font-size: .9rem; margin: .3rem 0; overflow-wrap: anywhere; }
ul.verdict { list-style: none; padding: 0; margin: 1rem 0; }
ul.verdict li { border-left: 5px solid; border-radius: 4px; padding: .45rem .8rem; margin: .5rem 0;
                overflow-wrap: anywhere; }
ul.verdict li.good { border-color: #2e8b57; background: #edf7f1; }
ul.verdict li.warning { border-color: #e08e0b; background: #fdf5e6; }
ul.verdict li.bad { border-color: #c0392b; background: #fbecea; }
ul.verdict li.none { border-color: #9aa3b2; background: #f3f5f8; }
figure { margin: 0; }
img { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
td { padding: .25rem .4rem; border-bottom: 1px solid #e3e7ed; vertical-align: top; }
th { padding: .25rem .4rem; text-align: left; border-bottom: 2px solid #9aa3b2; }
th:first-child { text-align: right; }
td:first-child { white-space: nowrap; font-variant-numeric: tabular-nums; text-align: right; }
"""


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes:
        title: Above it.
        figure: The picture.
        caption: What it shows, and how to read it.
        table: The numbers that it shows, below it: a row of names, and rows of cells. Empty for none.
    """

    title: str
    figure: Figure
    caption: str
    table: Sequence[Sequence[str]] = ()

    def html(self) -> str:
        """The picture as a data URI, with title, caption and table."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=160)
        data = base64.b64encode(buffer.getvalue()).decode()
        return (
            f'<h2>{escape(self.title)}</h2>\n<figure><img alt="{escape(self.title)}" '
            f'src="data:image/png;base64,{data}">\n<figcaption>{escape(self.caption)}</figcaption></figure>'
            f"{_table(self.table)}"
        )


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row has the names of the columns; nothing if there are no rows."""
    tags = ["th", *["td"] * (len(rows) - 1)]
    lines = ("".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) for tag, row in zip(tags, rows, strict=False))
    return f"\n<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>" if rows else ""


def html(numbers: dict[str, Any], findings: Sequence[Finding], pictures: Sequence[Picture]) -> str:
    """The page.

    Args:
        numbers: What :meth:`wm_agents.evaluation.Diagnosis.to_dict` holds.
        findings: The verdict.
        pictures: From top to bottom.
    """
    title = f"Diagnosis of {numbers['agent']}" + f", {numbers['env_id']}" * bool(numbers["env_id"])
    said = [
        f'<li class="{finding.kind}"><strong>{escape(finding.topic)}.</strong> {escape(finding.text)}</li>'
        for finding in findings
    ]
    said += [f'<li class="none"><strong>Not known.</strong> {escape(text)}</li>' for text in numbers["left_out"]]
    rows = [f"<tr><td>{escape(value)}</td><td>{escape(what)}</td></tr>" for value, what in key_numbers(numbers)]
    about = (
        f"{numbers['episodes']} held-out episodes of {numbers['dataset']}, seed {numbers['seed']}. World model: "
        f"{numbers['kind']}, {numbers['latent']['size']} numbers a frame, blocks of {numbers['action_block']} steps."
    )
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f'<h1>{escape(title)}</h1><p class="about">{escape(about)}</p>',
        '<ul class="verdict">',
        *said,
        "</ul>",
        f"<h2>Numbers</h2><table>{''.join(rows)}</table>",
        *(picture.html() for picture in pictures),
        "</body></html>",
    ]
    return "\n".join(lines) + "\n"


def key_numbers(numbers: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers of the table at the top, as they are printed, and what they are; only those that are known."""
    latent, ranking, truth = numbers["latent"], numbers["ranking"], numbers["over_truth"] or {}
    steps, candidates = ranking["steps"], ranking["candidates"]
    rows = [
        (
            numbers["summary"]["score"],
            ".2f",
            "score by which checkpoints of one task can be ranked: the correlation below",
        ),
        (ranking["plan_real"], ".2f", f"rank correlation of planning cost and true cost, {steps} steps (Plan-Real)"),
        (ranking["plan_real_frames"], ".2f", "the same where real frames are encoded instead of imagined"),
        (ranking["recorded_rank"], ".0%", f"of {candidates - 1} other plans cost more than the recorded one"),
        (ranking["cost_ratio"], ".3g", "largest cost of a plan, as a multiple of the smallest"),
        (numbers["summary"]["skill"], ".2f", f'skill of predictions {steps} steps ahead: 1 perfect, 0 "nothing moves"'),
        (truth.get("spearman"), ".2f", "rank correlation of latent and true distance"),
        (_mean_r2(numbers["probes"], "linear"), ".2f", "R2 of linear probes of the state, mean without velocities"),
        (_mean_r2(numbers["probes"], "mlp"), ".2f", "the same of MLP probes: what is higher here is there nonlinearly"),
        (latent["effective_dimension"], ".1f", f"effective dimension, of {latent['size']}"),
        (latent["transition_dimension"], ".1f", "effective dimension of the changes in one block"),
        (latent["std"], ".2f", "standard deviation of the latents"),
        (latent["normality"], ".3g", "distance from a Gaussian cloud (Epps-Pulley): 1 is Gaussian"),
        (latent["uniformity"], ".2f", "uniformity: 0 is one point, less is more spread"),
        (latent["straightness"], ".2f", "curvature of paths, as the cosine of successive steps: 1 is straight"),
    ]
    return [(format(value, form), what) for value, form, what in rows if value is not None]


def _mean_r2(probes: dict[str, dict[str, float | None]], kind: str) -> float | None:
    """Mean R2 of one kind of probe over the variables that vary and are no velocities; None if there are none."""
    known = [r2 for name, row in probes.items() if (r2 := row[kind]) is not None and not is_velocity(name)]
    return float(np.mean(known)) if known else None
