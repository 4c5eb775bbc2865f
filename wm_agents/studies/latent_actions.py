"""The study of planners in latent action spaces, on synthetic worlds: run it, write its numbers, figures and report.

Source: "Planning in Latent Action Spaces: A Comparative Analysis of Sampling and Optimization Strategies" (2026).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from wm_agents import planning
from wm_agents.evaluation import grid as measuring
from wm_agents.evaluation.figures import save_figure
from wm_agents.evaluation.files import check_output, write_text
from wm_agents.planning import Planner
from wm_agents.registry import did_you_mean
from wm_agents.studies import latent_action_claims, latent_action_figures, latent_action_report, worlds
from wm_agents.studies.worlds import COUPLINGS, GEOMETRIES, Problems

Start = Literal["centre", "drawn"]

PLANNERS = ("cem", "mppi", "gradient", "sgld", "diffusion")
"""The paper's five, in its order; :func:`make_planner` has their constants."""

FINITE_DIFFERENCES = ("gradient", "sgld")
"""Planners for whose gradients the paper counts ``h d + 1`` evaluations each; ours are exact and count 1."""


@dataclass(frozen=True)
class Grid:
    """What is run.

    Attributes:
        seeds: Each draws its own worlds, geometries, problems and search noise; intervals are over seeds.
        problems: For each seed and dimension, each with its own world and geometry.
        dims: d.
        horizons: h.
        geometry_samples: Actions that a geometry's metrics are computed from.
    """

    seeds: Sequence[int] = tuple(range(10))
    problems: int = 8
    dims: Sequence[int] = (4, 8, 16, 32)
    horizons: Sequence[int] = (4, 8, 16)
    geometry_samples: int = 1000

    def __post_init__(self) -> None:
        if len(self.seeds) < 2:
            raise ValueError(f"intervals need at least 2 seeds, not {len(self.seeds)}.")
        if 8 not in self.dims or 8 not in self.horizons:
            raise ValueError("the paper's tables are at d = 8 and h = 8: keep 8 among dims and horizons.")


@dataclass
class Cell:
    """One planner in one setting; lists have one entry per seed, the mean over its problems.

    Attributes:
        planner: Of :data:`PLANNERS`.
        geometry: Of :data:`wm_agents.studies.worlds.GEOMETRIES`.
        dim: d.
        horizon: h.
        coupling: Of :data:`wm_agents.studies.worlds.COUPLINGS`.
        start: Where the search starts: at the "centre" of the geometry, or at a sequence "drawn" from it.
        evaluations: Sequences scored in a search; one with its gradient counts as one.
        finite_differences: The same with finite differences for gradients.
        goal_distance: Distance of the last state to the goal.
        smoothness: Mean length of a step (eq. 11).
        off_support: Mean distance of the planned actions to the nearest valid ones.
        executed: Goal distance when the world executes the nearest valid actions in place of the planned ones.
    """

    planner: str
    geometry: str
    dim: int
    horizon: int
    coupling: str
    start: Start
    evaluations: int
    finite_differences: int
    goal_distance: list[float] = field(default_factory=list)
    smoothness: list[float] = field(default_factory=list)
    off_support: list[float] = field(default_factory=list)
    executed: list[float] = field(default_factory=list)


def run(
    out: str | Path, seeds: Sequence[int] = tuple(range(10)), quick: bool = False, progress: bool = True
) -> dict[str, Any]:
    """Run the study; write ``latent-actions.json``, ``latent-actions.md`` and ``figure-1.png`` to ``figure-8.png``.

    Args:
        out: Directory for them; created if missing.
        seeds: At least 2; 10 and more give intervals worth reading.
        quick: Two dimensions, horizons and problems, and the first two seeds: a check that all works, not a result.
        progress: Show a progress bar; cells that an earlier run left in ``out/cells`` are not measured again.

    Returns:
        What the JSON file holds.

    Raises:
        ValueError: Fewer than 2 seeds.
    """
    grid = Grid(tuple(seeds)[:2], problems=2, dims=(4, 8), horizons=(4, 8)) if quick else Grid(tuple(seeds))
    out = Path(out)
    check_output(out, folder=True)
    started, used = time.perf_counter(), time.process_time()
    settings = {**asdict(grid), "quick": quick, "threads": torch.get_num_threads()}
    results: dict[str, Any] = {"settings": settings, **_measured(grid, out / "cells", progress)}
    results["claims"] = latent_action_claims.judge(results)
    results["correlations"] = latent_action_claims.correlations(results)
    results["settings"]["seconds"] = round(time.perf_counter() - started)
    results["settings"]["processor_seconds"] = round(time.process_time() - used)
    for name, figure in latent_action_figures.draw(results).items():
        save_figure(figure, out / f"{name}.png", dpi=100)
    for suffix, text in (("json", latent_action_report.as_json), ("md", latent_action_report.as_markdown)):
        write_text(out / f"latent-actions.{suffix}", text(results))
    return results


def _measured(grid: Grid, folder: Path, progress: bool) -> dict[str, Any]:
    """Measure the parts that are missing in a folder of results, and return all of them."""
    whole: dict[str, Callable[[Grid], list[dict[str, Any]]]] = {
        "geometry": run_geometries,
        "baselines": run_baselines,
        "robustness": run_robustness,
    }
    key = asdict(grid)
    jobs = [(seed, dim, horizon) for seed in grid.seeds for dim in grid.dims for horizon in grid.horizons]
    cells = [measuring.Cell(name, key, functools.partial(_rows, part, grid)) for name, part in whole.items()]
    cells += [
        measuring.Cell(
            f"seed-{seed}_dim-{dim}_horizon-{horizon}",
            {"problems": grid.problems, "seed": seed, "dim": dim, "horizon": horizon},
            functools.partial(_rows, run_planners, grid.problems, dim, horizon, seed),
        )
        for seed, dim, horizon in jobs
    ]
    stored = measuring.Grid(folder)
    failed = stored.run(cells, measuring.Runner(console=Console(stderr=True) if progress else None), "latent actions")
    if failed:
        raise RuntimeError(f"{len(failed)} cells failed: {next(iter(failed.items()))}")
    found = {cell.name: (stored.read(cell) or {})["rows"] for cell in cells}
    return {
        **{name: found[name] for name in whole},
        "cells": merge([row for cell in cells[len(whole) :] for row in found[cell.name]]),
    }


def _rows(measure: Callable[..., list[dict[str, Any]]], *arguments: Any) -> dict[str, Any]:
    return {"rows": measure(*arguments)}


def make_planner(name: str, horizon: int, spread: float) -> Planner:
    """Make one of the paper's planners with its constants (its section 2.3).

    Args:
        name: Of :data:`PLANNERS`.
        horizon: h.
        spread: Standard deviation of the geometry: CEM starts with it, since the paper does not say with what.

    Raises:
        ValueError: Unknown name.
    """
    options: dict[str, dict[str, Any]] = {
        "cem": {"samples": 200, "elites": 20, "iterations": 10, "initial_std": spread},
        "mppi": {
            "samples": 200,
            "elites": None,
            "iterations": 10,
            "initial_std": 0.8,
            "adaptive_std": False,
            "temperature": 1.0,
            "normalise": False,
        },
        "gradient": {"optimizer": "sgd", "step_size": 0.05, "steps": 100, "cosine": False, "restarts": 1},
        "sgld": {
            "step_size": 0.01,
            "noise": 0.005,
            "steps": 200,
            "preconditioned": False,
            "cosine": False,
            "chains": 1,
        },
        "diffusion": {"samples": 50, "steps": 20, "guidance": 2.0},
    }
    if name not in options:
        raise ValueError(did_you_mean("planner of the study", name, PLANNERS))
    return planning.make({"diffusion": "diffusion-guidance"}.get(name, name), horizon=horizon, **options[name])


def couplings_of(name: str) -> tuple[str, ...]:
    """Couplings that a planner is run under: without a cost's true gradient straight-through is ``support``."""
    return COUPLINGS if name in FINITE_DIFFERENCES else tuple(one for one in COUPLINGS if one != "straight-through")


Plans = dict[tuple[str, str], torch.Tensor]


def search(
    problems: Problems, name: str, horizon: int, start: Start, seed: int, geometries: Sequence[str] = GEOMETRIES
) -> tuple[Plans, int]:
    """Plan for all problems, in each geometry and coupling.

    Everything is one call, but for CEM, whose first standard deviation is the geometry's. For the other planners all
    geometries are alike when the world is free and they start at the centre, so that is searched once.

    Returns:
        Actions ``[B, h, d]`` by geometry and coupling, and the sequences scored for each.
    """
    cases = [(geometry, coupling) for geometry in geometries for coupling in couplings_of(name)]
    groups = [cases]
    if name == "cem":
        groups = [[case for case in cases if case[0] == geometry] for geometry in geometries]
    elif start == "centre":
        groups = [[case for case in cases if case[1] != "free" or case[0] == geometries[0]]]
    batch, dim = problems.start.shape
    found: Plans = {}
    for group in groups:
        generator, init = torch.Generator().manual_seed(seed), None
        if start == "drawn":
            drawn = {geometry: problems.geometries[geometry].sample(horizon, generator) for geometry, _ in group}
            init = torch.cat([drawn[geometry] for geometry, _ in group]).unsqueeze(1)
        high = torch.full((dim,), worlds.BOX)
        plan = make_planner(name, horizon, problems.geometries[group[0][0]].spread).plan(
            problems.cost(group, guidance=name == "diffusion"),
            low=-high,
            high=high,
            batch=len(group) * batch,
            init=init,
            generator=generator,
        )
        found |= zip(group, plan.actions.view(len(group), batch, horizon, dim), strict=True)
    for geometry in geometries:
        found.setdefault((geometry, "free"), found[geometries[0], "free"])
    return found, int(plan.evaluations[0])


def measure(problems: Problems, actions: torch.Tensor, geometry: str, coupling: str) -> dict[str, torch.Tensor]:
    """Metrics of :class:`Cell`, each ``[B]``, of plans ``[B, h, d]``."""
    actions = actions.unsqueeze(1)
    valid = problems.geometries[geometry].project(actions)
    states = problems.world.rollout(problems.start, worlds.execute(actions, valid, coupling))
    found = {
        "goal_distance": worlds.goal_distance(states, problems.goal),
        "smoothness": worlds.smoothness(problems.start, states),
        "off_support": worlds.off_support(actions, valid),
        "executed": worlds.goal_distance(problems.world.rollout(problems.start, valid), problems.goal),
    }
    return {metric: value.squeeze(1) for metric, value in found.items()}


def run_planners(problems: int, dim: int, horizon: int, seed: int) -> list[dict[str, Any]]:
    """Search with every planner in every setting of one seed; at d = h = 8 from both starts.

    Returns:
        For every setting the fields of :class:`Cell`, each metric with one entry, the mean over the problems.
    """
    drawn = Problems.draw(problems, dim, seed)
    starts: tuple[Start, ...] = ("centre", "drawn") if dim == horizon == 8 else ("centre",)
    rows = []
    for name, start in product(PLANNERS, starts):
        plans, evaluations = search(drawn, name, horizon, start, seed)
        gradients = evaluations - 1 if name in FINITE_DIFFERENCES else 0
        for (geometry, coupling), actions in plans.items():
            cell = Cell(
                name, geometry, dim, horizon, coupling, start, evaluations, evaluations + gradients * horizon * dim
            )
            for metric, values in measure(drawn, actions, geometry, coupling).items():
                getattr(cell, metric).append(values.mean().item())
            rows.append(asdict(cell))
    return rows


def merge(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the rows of several seeds: one row per setting, whose metrics have one entry per seed."""
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    metrics = [name for name, value in asdict(Cell("", "", 0, 0, "", "centre", 0, 0)).items() if value == []]
    for row in rows:
        key = tuple(row[name] for name in ("planner", "geometry", "dim", "horizon", "coupling", "start"))
        if key not in cells:
            cells[key] = {**row, **{metric: list(row[metric]) for metric in metrics}}
        else:
            for metric in metrics:
                cells[key][metric] += row[metric]
    return list(cells.values())


def run_geometries(grid: Grid) -> list[dict[str, Any]]:
    """Amenability and effective dimension of every geometry and dimension, one entry a seed."""
    found = []
    for geometry, dim in product(GEOMETRIES, grid.dims):
        row: dict[str, Any] = {"geometry": geometry, "dim": dim, "amenability": [], "effective_dimension": []}
        for seed in grid.seeds:
            drawn = Problems.draw(grid.problems, dim, seed).geometries[geometry]
            samples = drawn.sample(grid.geometry_samples, torch.Generator().manual_seed(seed))
            row["amenability"].append(worlds.amenability(samples).mean().item())
            row["effective_dimension"].append(worlds.effective_dimension(samples).mean().item())
        found.append(row)
    return found


def run_baselines(grid: Grid) -> list[dict[str, Any]]:
    """Goal distance at h = 8 of doing nothing (the centre of the geometry), and the part that no plan can remove.

    A goal's coordinates beyond 1 lie outside the tanh's range. One entry a seed.
    """
    found = []
    for geometry, dim, coupling in product(GEOMETRIES, grid.dims, ("free", "support")):
        row: dict[str, Any] = {"geometry": geometry, "dim": dim, "coupling": coupling, "idle": [], "unreachable": []}
        for seed in grid.seeds:
            problems = Problems.draw(grid.problems, dim, seed)
            idle = measure(problems, torch.zeros(grid.problems, 8, dim), geometry, coupling)["goal_distance"]
            beyond = (problems.goal - problems.goal.clamp(-1, 1)).norm(dim=-1)
            row["idle"].append(idle.mean().item())
            row["unreachable"].append(beyond.mean().item())
        found.append(row)
    return found


def run_robustness(grid: Grid) -> list[dict[str, Any]]:
    """Goal distances of the first seed's VAE problems at d = h = 8, searched again with the noise of every seed.

    Each search starts from another drawn sequence.

    Returns:
        For every planner and coupling ``goal_distance``, ``[problems][seeds]``.
    """
    problems = Problems.draw(grid.problems, 8, grid.seeds[0])
    found = []
    for name in PLANNERS:
        plans = [search(problems, name, 8, "drawn", seed, ["vae"])[0] for seed in grid.seeds]
        for coupling in couplings_of(name):
            distances = [measure(problems, plan["vae", coupling], "vae", coupling)["goal_distance"] for plan in plans]
            found.append(
                {"planner": name, "coupling": coupling, "goal_distance": torch.stack(distances, dim=1).tolist()}
            )
    return found
