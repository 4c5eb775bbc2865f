"""The verdicts of examples/benchmarks/objectives.py, on results that are made up."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from wm_agents.evaluation import Grid

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "benchmarks"
SEEDS, TASKS = [0, 1, 2], 100


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    found = importlib.util.spec_from_file_location("objective_claims", FOLDER / "objective_claims.py")
    assert found is not None
    assert found.loader is not None
    module = sys.modules["objective_claims"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def latents(std: float, straightness: float) -> dict[str, Any]:
    latent = {
        "std": std,
        "effective_dimension": 5.0 + std,
        "straightness": straightness,
        "uniformity": -2.0,
        "normality": 1 + straightness,
    }
    return {"latent": latent, "summary": {"score": None}, "prediction": [{"error": 1.0, "nothing_moves": 2.0}]}


def write(folder: Path, name: str, rates: dict[str, float], std: float = 1.0, straightness: float = 0.2) -> None:
    rng = np.random.default_rng(sum(map(ord, name)))
    for seed in SEEDS:
        training = {"cpu_seconds": 60.0, "probe/position": 0.9}
        found = {"training": training, "latents": latents(std, straightness + 0.01 * seed)}
        for agent, rate in rates.items():
            steps = [9 if won else None for won in rng.random(TASKS) < rate]
            found[agent] = {"outcomes": {"moderate": steps}, "floors": {"random": 0.27, "noop": 0.18}}
        for part, content in found.items():
            (folder / f"maze_{name}_{part}_{seed}.json").write_text(json.dumps(content))


def results(claims: ModuleType, folder: Path, *names: str) -> Any:
    return claims.Results(Grid(folder), "maze", list(names), SEEDS, ["gradient", "gc-idm"])


def test_claims_that_hold_are_said_to(claims: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "lewm", {"gradient": 0.5, "gc-idm": 0.95})
    write(tmp_path, "forward-only", {"gradient": 0.2, "gc-idm": 0.3}, std=0.01)
    write(tmp_path, "straightened", {"gradient": 0.9, "gc-idm": 0.95}, straightness=0.7)
    write(tmp_path, "lewm-reconstruction-6", {"gradient": 0.2, "gc-idm": 0.95})
    write(tmp_path, "lewm-sigreg-0.01", {"gradient": 0.5, "gc-idm": 0.95})
    write(tmp_path, "smwm", {"gradient": 0.99, "gc-idm": 0.99})
    write(tmp_path, "smwm-inverse_dynamics-1", {"gradient": 0.6, "gc-idm": 0.5})
    names = ("lewm", "forward-only", "straightened", "lewm-reconstruction-6", "lewm-sigreg-0.01")
    found = results(claims, tmp_path, *names, "smwm", "smwm-inverse_dynamics-1")
    said = claims.report(found)
    assert "Random actions and no action solve 27, 18%" in said
    a, b, c, d = said.splitlines()[-4:]
    assert "Prediction alone collapses in 3 of 3 runs" in a
    assert a.count("against smwm-inverse_dynamics-1: not 5 points below it") == 2
    assert "forward-only loses" in b
    assert "rank correlation of its success" in b
    assert "Curvature falls in all runs (straightness 0.21 to 0.71)" in c
    assert "Planning by gradients gains (+4" in c
    assert "lewm-reconstruction-6, gradient loses (-" in d
    assert "lewm-reconstruction-6, gc-idm loses" not in d
    assert "add --sweep" not in said


def test_what_is_missing_or_undecided_is_said(claims: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "lewm", {"gradient": 0.5, "gc-idm": 0.9})
    write(tmp_path, "straightened", {"gradient": 0.52, "gc-idm": 0.9}, straightness=0.1)
    said = claims.report(results(claims, tmp_path, "lewm", "straightened", "smwm"))
    assert "Collapse of forward-only: not measured" in said
    assert "smwm with its automatic weight: not measured" in said
    assert "Curvature does not fall in all runs" in said
    assert "Planning by gradients is undecided" in said
    assert said.count("add --sweep") == 3
    assert "| smwm |" not in said
    empty = claims.report(results(claims, tmp_path / "empty", "lewm"))
    assert "Straightening: not measured" in empty


def test_p_values_are_corrected_for_all_cells(claims: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, "lewm", {"gradient": 0.5, "gc-idm": 0.9})
    write(tmp_path, "smwm", {"gradient": 0.57, "gc-idm": 0.9})
    found = results(claims, tmp_path, "lewm", "smwm")
    alone = claims.difference(found, "smwm", "gradient")
    tested = claims.differences(found)
    assert set(tested) == {("smwm", "gradient"), ("smwm", "gc-idm")}
    assert tested["smwm", "gradient"].p == pytest.approx(min(1.0, 2 * alone.p)) or alone.p > 0.5
    assert alone.runs == 3
