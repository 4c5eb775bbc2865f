"""Macro-actions: their encoder, their predictor, their training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from wm_agents.models import MacroActions, MacroActionsConfig
from wm_agents.training import MacroActionsTrainingConfig, train_macro_actions

pytest_plugins = ["trained"]
SMALL = MacroActionsConfig(latent_size=5, block_size=4, macro_size=3, shortest=2, longest=4, width=32, bank_size=16)


def made(config: MacroActionsConfig = SMALL) -> MacroActions:
    torch.manual_seed(0)
    return MacroActions(config).eval()


def test_what_lies_beyond_a_stretch_is_not_looked_at() -> None:
    model, blocks, lengths = made(), torch.randn(6, 4, 4), torch.tensor([2, 3, 4, 2, 3, 4])
    changed = blocks.clone()
    for row, length in enumerate(lengths):
        changed[row, length:] = 99.0
    torch.testing.assert_close(model.encode(changed, lengths), model.encode(blocks, lengths))
    assert not torch.allclose(model.encode(blocks, torch.full((6,), 2)), model.encode(blocks, torch.full((6,), 4)))
    swapped = blocks.flip(1)
    assert not torch.allclose(model.encode(swapped, torch.full((6,), 4)), model.encode(blocks, torch.full((6,), 4)))


def test_a_rollout_is_predictions_one_after_the_other() -> None:
    model, z, macros = made(), torch.randn(2, 5), torch.randn(2, 7, 3, 3)
    waypoints = model.rollout(z, macros)
    assert waypoints.shape == (2, 7, 3, 5)
    expected = z[1]
    for step in range(3):
        expected = model.predict(expected, macros[1, 4, step])
        torch.testing.assert_close(waypoints[1, 4, step], expected)


def test_bounds_are_percentiles_of_the_bank() -> None:
    model = made()
    model.bank.copy_(torch.linspace(0, 15, 16).unsqueeze(1).expand(-1, 3))
    low, high = model.bounds(10.0)
    torch.testing.assert_close(low, torch.full((3,), 1.5))
    torch.testing.assert_close(high, torch.full((3,), 13.5))
    assert model.bounds(0.0)[1].tolist() == [15, 15, 15]


@pytest.mark.parametrize(
    "config",
    [
        MacroActionsConfig(macro_size=4, shortest=1, longest=4, width=64, bank_size=200),
        MacroActionsConfig(encoder="mlp", macro_size=4, shortest=3, longest=3, width=64, bank_size=200),
    ],
    ids=["transformer", "mlp"],
)
def test_training_learns_where_macro_actions_lead(
    config: MacroActionsConfig, trained: Any, small_dataset: Any, tmp_path: Path
) -> None:
    training = MacroActionsTrainingConfig(steps=150, batch_size=64, evaluate_every=50)
    model, history = train_macro_actions(
        trained.world_model, small_dataset, config, training, run_dir=tmp_path, progress=False
    )
    curve = [value for _, value in history["validation/macro_actions"]]
    _, start = train_macro_actions(
        trained.world_model, small_dataset, config, MacroActionsTrainingConfig(steps=1, batch_size=64), progress=False
    )
    assert curve[-1] < 0.9 * start["validation/macro_actions"][0][1]
    assert not model.training
    assert (model.config.latent_size, model.config.block_size) == (32, 10)
    assert abs(float(model.bank.mean())) < 0.3, "coordinates are normalised"
    assert 0.6 < float(model.bank.std()) < 1.5
    assert len(model.bank.unique(dim=0)) > 150
    again, _ = train_macro_actions(
        trained.world_model, small_dataset, config, training, run_dir=tmp_path, progress=False
    )
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], msg="a finished run is loaded, not repeated")


def test_bad_input_is_refused(trained: Any, small_dataset: Any) -> None:
    for options, message in (
        ({"encoder": "gru"}, "Unknown macro-action encoder"),
        ({"encoder": "mlp"}, 'use encoder="transformer"'),
        ({"shortest": 5, "longest": 4}, "shorter than the shortest"),
        ({"macro_size": 0}, "macro_size must be a whole number of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            MacroActionsConfig(**options)
    with pytest.raises(ValueError, match="segments must be a whole number of at least 1"):
        MacroActionsTrainingConfig(segments=0)
    with pytest.raises(
        ValueError,
        match=r"2 stretches of 30 blocks, 300 actions, but the longest episode of .* for training has 100",
    ):
        train_macro_actions(trained.world_model, small_dataset, MacroActionsConfig(longest=30), progress=False)
    model = made()
    with pytest.raises(ValueError, match="pad them to 4 blocks"):
        model.encode(torch.randn(2, 3, 4), torch.tensor([2, 2]))
    with pytest.raises(ValueError, match="must have 2 to 4 blocks"):
        model.encode(torch.randn(2, 4, 4), torch.tensor([1, 2]))
