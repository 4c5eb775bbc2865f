"""The report of the study of planners in latent action spaces: Markdown tables with the paper's, and compact JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from wm_agents.studies import latent_action_paper as paper
from wm_agents.studies.latent_action_claims import Results
from wm_agents.studies.latent_action_figures import GEOMETRY_NAMES, NAMES
from wm_agents.studies.statistics import mean_interval


def as_json(content: Mapping[str, Any]) -> str:
    """JSON of a run: four significant digits, one row per line."""
    rows = []
    for key, value in content.items():
        body = _rounded(value)
        if isinstance(body, list):
            lines = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in body)
            rows.append(f'"{key}": [\n{lines}\n]')
        else:
            rows.append(f'"{key}": {json.dumps(body)}')
    return "{\n" + ",\n".join(rows) + "\n}\n"


def as_markdown(content: Mapping[str, Any]) -> str:
    """The tables of a run, with the paper's numbers next to ours."""
    results, settings = Results(content), content["settings"]
    quick = "**A quick run: not a result.** " if settings["quick"] else ""
    parts = [
        "# Planning in latent action spaces: synthetic worlds",
        f"{quick}{len(settings['seeds'])} seeds x {settings['problems']} problems a setting; means, 95% t intervals "
        f"over seeds. {settings['seconds']} s, of them {settings['processor_seconds']} s of processor time.",
        "## Claims",
        _claims(content["claims"], results.couplings),
        "## Rank correlation with the paper",
        _correlations(content["correlations"]),
        "## Table 1: goal distance, d = h = 8",
        _table_1(results),
        "## Table 2: goal distance by dimension, least and most of the geometries' means, h = 8",
        _table_2(results),
        "## Table 3: goal distance by horizon, VAE, d = 8",
        _table_3(results),
        "## Table 4: smoothness and sequences scored, VAE, d = h = 8",
        _table_4(results),
        "## Lowest mean goal distance, in how many of all settings",
        _wins(results),
        "## Leaving the support: d = h = 8",
        _off_support(results),
        "## Where the search starts: goal distance, d = h = 8",
        _starts(results),
        "## Amenability and effective dimension",
        _geometry(results),
        "## Figures",
        *(f"![Figure {number}](figure-{number}.png)" for number in range(1, 9)),
    ]
    return "\n\n".join(parts) + "\n"


def _claims(claims: Sequence[Mapping[str, Any]], couplings: Sequence[str]) -> str:
    rows = []
    for claim in claims:
        verdicts = claim["verdicts"]
        cells = [_verdict(verdicts.get(coupling) or verdicts["any"]) for coupling in couplings]
        rows.append([claim["text"], claim["source"], claim["paper"], *cells])
    return _table(["claim", "where", "its own numbers", *couplings], rows)


def _verdict(verdict: Mapping[str, Any]) -> str:
    name = f"**{verdict['verdict']}**" if verdict["verdict"] == "agrees" else verdict["verdict"]
    return f"{name} ({verdict['holds']}/{verdict['of']})"


def _correlations(found: Mapping[str, Mapping[str, float]]) -> str:
    labels = {
        "cells": "table 1, all 15 cells",
        "planners": "table 1, five planners, geometries averaged",
        "within": "table 1, five planners within a geometry, mean of three",
        "smoothness": "table 4, smoothness, five planners",
    }
    rows = [[label, *(f"{value:+.2f}" for value in found[key].values())] for key, label in labels.items()]
    return _table(["Spearman", *found["cells"]], rows)


def _table_1(results: Results) -> str:
    rows = [
        [
            GEOMETRY_NAMES[geometry],
            NAMES[name],
            f"{paper.TABLE_1[name][column]:.3f}",
            *(_mean(results.values(name, geometry, coupling)) for coupling in results.couplings),
        ]
        for column, geometry in enumerate(results.geometries)
        for name in results.planners
    ]
    for label, metric in (("doing nothing", "idle"), ("out of reach", "unreachable")):
        for geometry in results.geometries:
            cells = [_mean(results.baseline(metric, geometry, coupling)) for coupling in results.couplings]
            rows.append([GEOMETRY_NAMES[geometry], label, "", *cells])
    return _table(["geometry", "planner", "paper", *results.couplings], rows)


def _table_2(results: Results) -> str:
    rows = []
    for name in results.planners:
        for dim in results.dims:
            reported = paper.TABLE_2.get(name, {}).get(dim)
            cells = []
            for coupling in results.couplings:
                means = [results.values(name, geometry, coupling, dim=dim).mean() for geometry in results.geometries]
                cells.append(f"{min(means):.2f} to {max(means):.2f}")
            rows.append([NAMES[name], str(dim), f"{reported[0]:g} to {reported[1]:g}" if reported else "", *cells])
    return _table(["planner", "d", "paper", *results.couplings], rows)


def _table_3(results: Results) -> str:
    rows = []
    for name in results.planners:
        for horizon in results.horizons:
            reported = paper.TABLE_3.get(name, {}).get(horizon)
            cells = [_mean(results.values(name, "vae", coupling, horizon=horizon)) for coupling in results.couplings]
            rows.append([NAMES[name], str(horizon), f"{reported:.3f}" if reported else "", *cells])
    return _table(["planner", "h", "paper", *results.couplings], rows)


def _table_4(results: Results) -> str:
    rows = []
    for name in results.planners:
        smooth, samples = paper.TABLE_4[name]
        cell = results.cell(name, "vae", "free")
        cells = [_mean(results.values(name, "vae", coupling, metric="smoothness")) for coupling in results.couplings]
        counts = [str(samples), str(cell["finite_differences"]), str(cell["evaluations"])]
        rows.append([NAMES[name], f"{smooth:.2f}", *cells, *counts])
    counts = ["scored, paper", "finite differences", "exact gradients"]
    return _table(["planner", "smoothness, paper", *results.couplings, *counts], rows)


def _wins(results: Results) -> str:
    """Settings are every geometry, dimension and horizon of the grid."""
    settings = list(product(results.geometries, results.dims, results.horizons))
    rows = {name: [NAMES[name]] for name in results.planners}
    for coupling in results.couplings:
        means = np.array(
            [
                [results.values(name, geometry, coupling, dim=dim, horizon=horizon).mean() for name in results.planners]
                for geometry, dim, horizon in settings
            ]
        )
        for name, wins in zip(results.planners, np.bincount(means.argmin(1), minlength=means.shape[1]), strict=True):
            rows[name].append(str(wins))
    return _table([f"of {len(settings)}", *results.couplings], rows.values())


def _off_support(results: Results) -> str:
    rows = []
    for geometry in results.geometries:
        for name in results.planners:
            row = [GEOMETRY_NAMES[geometry], NAMES[name]]
            for coupling in ("free", "penalty"):
                row.append(_mean(results.values(name, geometry, coupling, metric="off_support")))
                row.append(_mean(results.values(name, geometry, coupling, metric="executed")))
            rows.append([*row, _mean(results.values(name, geometry, "support"))])
    head = [
        "free: distance to support",
        "free, then projected",
        "penalty: distance to support",
        "penalty, then projected",
    ]
    return _table(["geometry", "planner", *head, "support: planned so"], rows)


def _starts(results: Results) -> str:
    rows = [
        [
            GEOMETRY_NAMES[geometry],
            NAMES[name],
            *(
                _mean(results.values(name, geometry, coupling, start=start))
                for coupling in ("free", "support")
                for start in ("centre", "drawn")
            ),
        ]
        for geometry in results.geometries
        for name in results.planners
    ]
    head = [f"{coupling}, {start}" for coupling in ("free", "support") for start in ("centre", "drawn")]
    return _table(["geometry", "planner", *head], rows)


def _geometry(results: Results) -> str:
    rows = []
    for metric, reported in (("amenability", paper.AMENABILITY), ("effective_dimension", paper.EFFECTIVE_DIMENSION)):
        for geometry in results.geometries:
            cells = [_mean(results.of_geometry(geometry, dim, metric)) for dim in results.dims]
            low, high = reported[geometry]
            rows.append([metric.replace("_", " "), GEOMETRY_NAMES[geometry], f"{low:g} to {high:g}", *cells])
    return _table(["metric", "geometry", "paper, d = 4 to 32", *(f"d = {dim}" for dim in results.dims)], rows)


def _mean(values: np.ndarray) -> str:
    mean, half = mean_interval(values)
    return f"{mean:.2f} ± {half:.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
