"""examples/benchmarks/unlabelled.py: a run from start to end, and its verdicts on results that are made up."""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from wm_agents import load
from wm_agents.evaluation import Grid

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "benchmarks" / "unlabelled.py"
SEEDS, TASKS = [0, 1, 2], 100


@pytest.fixture(scope="module")
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("unlabelled", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = sys.modules["unlabelled"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_quick_run_is_resumed(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    study = script.Study(tmp_path / "out", [0], quick=True, tasks_seed=1001)
    said = script.main(study)
    assert "| 1% | " in said
    assert "| 100% | " in said
    assert (study.out / "report.md").read_text(encoding="utf-8") == said
    assert load(study.out / "video-0-0.05-inferred.safetensors").name == "gc-idm"
    monkeypatch.setattr(script, "run_cell", pytest.fail)
    assert script.main(study) == said


def write(script: ModuleType, folder: Path, rates: dict[tuple[float, str], float]) -> None:
    rng = np.random.default_rng(0)
    for seed in SEEDS:
        (folder / f"video_{seed}.json").write_text(json.dumps({"probe/position": 0.99}))
        for way, rate in rates.items():
            steps = [9 if won else None for won in rng.random(TASKS) < rate]
            found = {"outcomes": {"moderate": steps}, "floors": {"random": 0.19, "noop": 0.0}, "action_r2": 0.4}
            content = {**found, "tasks": TASKS, "seed": 7001}
            (folder / f"{script.cell_name(*way, seed)}.json").write_text(json.dumps(content))


def test_verdicts(script: ModuleType, tmp_path: Path) -> None:
    labelled, inferred = script.LABELLED, script.INFERRED
    rates = dict.fromkeys(script.ways(), 0.95)
    rates |= {(0.01, labelled): 0.8, (0.01, inferred): 0.5, (0.05, labelled): 0.6, (0.05, inferred): 0.9}
    write(script, tmp_path, rates)
    said = script.report(Grid(tmp_path), [*SEEDS, 3])
    assert said.startswith("Seeds 0, 1, 2; 100 tasks of seed 7001. Random actions and no action solve 19, 0% of them.")
    one, five, quarter = said.splitlines()[-3:]
    assert "With 1% of the labels, inferred actions hurt: -" in one
    assert "With 5% of the labels, inferred actions help: +" in five
    assert "With 25% of the labels, it is undecided" in quarter
    assert script.report(Grid(tmp_path / "none"), SEEDS) == "No seed is finished.\n"


def test_larger_shares_contain_smaller_ones(script: ModuleType) -> None:
    lengths = np.full(120, 3)
    data = script.TrajectoryDataset(
        "d-v0", "", np.zeros((480, 1)), np.zeros((480, 2)), np.zeros((480, 0)), np.arange(120) * 4, lengths,
        np.zeros(2), np.ones(2), (), {}, np.arange(120),
    )  # fmt: skip
    chosen = [set(script.labelled(data, share, 3).episode_ids.tolist()) for share in script.SHARES]
    assert [len(part) for part in chosen] == [1, 6, 30, 120]
    assert all(small <= large for small, large in pairwise(chosen))
