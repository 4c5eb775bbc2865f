"""The dot worlds, what counts as a significant component, and the study as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wm_agents.studies import sensorimotor, sensorimotor_report
from wm_agents.studies.dots import REACH, SIZE, WORLDS, DotWorld, render, touching
from wm_agents.training import TrainingConfig


@pytest.mark.parametrize("world", WORLDS, ids=[world.name for world in WORLDS])
def test_a_world_moves_as_its_actions_and_chance_say(world: DotWorld) -> None:
    positions, actions = world.draw(500, np.random.default_rng(0))
    assert positions.shape == (500, 2, world.dots, 2)
    assert actions.shape == (500, world.controlled)
    assert positions.min() >= 2
    assert positions.max() <= SIZE - 3
    assert not touching(positions).any()
    moved, taken = positions[:, 1] - positions[:, 0], actions.reshape(500, -1, 2)
    assert (np.abs(moved) <= REACH).all()
    assert set(np.unique(moved[..., 0])) == set(range(-REACH, REACH + 1))
    for pair in range(world.pairs):
        assert (moved[:, 2 * pair] == moved[:, 2 * pair + 1]).all()
        assert (moved[:, 2 * pair] == taken[:, pair]).all()
    for dot in range(world.free):
        assert (moved[:, 2 * world.pairs + dot] == taken[:, world.pairs + dot]).all()
    if world.random:
        apart = [np.corrcoef(moved[:, -1, 0], column)[0, 1] for column in actions.T]
        assert np.abs(apart).max() < 0.2


def test_the_worlds_have_the_papers_degrees_of_freedom() -> None:
    assert [world.controlled for world in WORLDS] == [2, 4, 2, 2, 6]


def test_frames_show_dots_of_13_pixels_where_they_are() -> None:
    frames = render(np.array([[[10, 40], [30, 20]]]))
    assert frames.shape == (1, SIZE, SIZE, 3)
    assert (frames[0] != 255).any(axis=-1).sum() == 26
    assert frames[0, 40, 10].tolist() == [255, 0, 0]
    assert frames[0, 20, 32].tolist() == [0, 220, 0]
    assert frames[0, 22, 32].tolist() == [255, 255, 255], "round, not square"


def test_a_dataset_is_drawn_from_its_seed_and_rendered_when_read() -> None:
    world = WORLDS[-1]
    data, again, other = world.dataset(20, 0), world.dataset(20, 0), world.dataset(20, 1)
    assert data.frames == 40
    window = data.windows(8, 2, 1, np.random.default_rng(0))
    assert window.pixels.shape == (8, 2, SIZE, SIZE, 3)
    assert (render(window.states.astype(int).reshape(8, 2, -1, 2)) == window.pixels).all()
    assert (data.actions == again.actions).all()
    assert (data.states != other.states).any()


@pytest.mark.parametrize(
    ("eigenvalues", "count"),
    [
        ([5.0, 4.0, 0.1, 0.09, 0.05], 2),
        ([5.0, 4.0, 3.0, 2.0, 1.5, 1.0, 0.1, 0.05], 6),
        ([1.0, 1e-5, 1e-9, 1e-20], 1),
        ([1.0, 0.83, 0.75, 0.70, 0.58, 0.52, 0.061, 0.035, 0.025, 0.0016], 6),  # 0.0016 counts as 0.01
        ([3.0, 2.0, 1.0, 1e-6, 0.0], 3),  # what follows the floor is no knee
    ],
)
def test_significant_components_end_at_the_largest_drop(eigenvalues: list[float], count: int) -> None:
    assert sensorimotor.significant(eigenvalues) == count


def test_the_verdict_counts_seeds() -> None:
    def cell(significant: int, objective: str = "smwm") -> dict[str, Any]:
        return {"objective": objective, "significant": significant, "controlled": 2}

    assert sensorimotor_report.verdict([cell(2), cell(2)]) == "**agrees**"
    assert sensorimotor_report.verdict([cell(2), cell(3)]) == "agrees in 1 of 2"
    assert sensorimotor_report.verdict([cell(3), cell(3)]) == "does not agree"
    assert sensorimotor_report.verdict([cell(0, "forward-only")]) == "collapses"
    assert sensorimotor_report.verdict([cell(1, "forward-only"), cell(0, "forward-only")]) == "collapses in 1 of 2"


def test_the_page_has_the_table_of_the_stored_numbers() -> None:
    root = Path(__file__).resolve().parents[2]
    stored = root / "examples" / "benchmarks" / "results" / "studies" / "sensorimotor.json"
    written = sensorimotor_report.markdown(json.loads(stored.read_text(encoding="utf-8")))
    table = written[written.index("| world") :]
    assert table in (root / "docs" / "studies" / "sensorimotor.md").read_text(encoding="utf-8")


def test_a_collapsed_latent_has_no_significant_component() -> None:
    training = TrainingConfig(steps=60, batch_size=32, frames=2, evaluate_every=60, loss_weights={"prediction": 1.0})
    found = sensorimotor.measure(WORLDS[0], "forward-only", training, 200)
    assert found["std"] < 0.1
    assert found["significant"] == 0


def test_the_study_writes_everything_and_measures_nothing_twice(tmp_path: Any) -> None:
    results = sensorimotor.run(tmp_path, quick=True, progress=False, workers=0)
    assert json.loads((tmp_path / "sensorimotor.json").read_text()) == json.loads(json.dumps(results))
    assert len(results["cells"]) == 6
    assert (tmp_path / "sensorimotor.png").stat().st_size > 10_000
    table = (tmp_path / "sensorimotor.md").read_text()
    assert "not a result" in table
    assert table.count("\n| ") == 7
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    sensorimotor.run(tmp_path, quick=True, progress=False, workers=0)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
