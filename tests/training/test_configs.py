"""Every configuration refuses what is out of range, and says which field it is."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from wm_agents import models, training

CONFIGS = [getattr(module, name) for module in (models, training) for name in module.__all__ if name.endswith("Config")]
FIELDS = [(kind, field.name) for kind in CONFIGS for field in dataclasses.fields(kind)]
BAD_COUNTS = (-1, 2.5, 20.0, math.nan, True, "3", None, [1])
BAD_NUMBERS = (-1.0, math.nan, math.inf, True, "0.1", None, [1.0], 1j)


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=[f"{kind.__name__}.{name}" for kind, name in FIELDS])
def test_values_of_another_kind_are_refused_and_named(kind: Any, name: str) -> None:
    usual = getattr(kind(), name)
    if name == "loss_weights":
        bad: tuple[Any, ...] = ({}, "sigreg", {"sigreg": -1.0}, {"sigreg": math.nan})
    elif isinstance(usual, bool):
        bad = (1, "yes", None)
    elif isinstance(usual, int):
        bad = BAD_COUNTS
    elif isinstance(usual, float):
        bad = BAD_NUMBERS
    else:
        bad = ("16-mixed", "", 3, None)
    for value in bad:
        with pytest.raises(ValueError, match=r"loss term" if name == "loss_weights" else name):
            kind(**{name: value})


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=[f"{kind.__name__}.{name}" for kind, name in FIELDS])
def test_numbers_of_numpy_are_taken_and_stored_as_json(kind: Any, name: str) -> None:
    usual = getattr(kind(), name)
    if isinstance(usual, int | float) and not isinstance(usual, bool):
        given = np.int64(usual) if isinstance(usual, int) else np.float64(usual)
        config = kind(**{name: given})
        assert type(getattr(config, name)) is type(usual)
        assert json.loads(json.dumps(dataclasses.asdict(config)))[name] == usual


def test_what_goes_beyond_a_single_number() -> None:
    for refused in (
        lambda: training.TrainingConfig(batch_size=1),
        lambda: training.TrainingConfig(frames=1),
        lambda: training.LearnerConfig(learning_rate=0.0),
        lambda: training.LearnerConfig(evaluate_every=0),
        lambda: training.LearnerConfig(validation_fraction=0.0),
        lambda: training.GraphConfig(nodes=1),
        lambda: models.WaypointsConfig(max_horizon=30),
        lambda: models.MacroActionsConfig(shortest=5, longest=4),
        lambda: models.MacroActionsConfig(encoder="mlp"),
    ):
        with pytest.raises(ValueError, match=r"Config|stretch"):
            refused()
    with pytest.raises(ValueError, match=r"Unknown precision 'bf61'\. Did you mean 'bf16'"):
        training.TrainingConfig(precision="bf61")  # type: ignore[arg-type]
