"""Training for a named objective: every one learns, says what it lacks, and goes on as if it had not been stopped."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_runs import SHORT, TINY, learn

from wm_agents import train_world_model
from wm_agents.losses import TRAINING_OBJECTIVES, objective_weights
from wm_agents.models.patch import PatchConfig
from wm_agents.models.rssm import RSSMConfig
from wm_agents.training import CollapseWarning, UntrainedWarning
from wm_agents.training.balance import HIGHEST, LOWEST, Balance
from wm_agents.training.probe import effective_dimension, linear_probe_r2

pytest_plugins = ["trained"]


@pytest.mark.filterwarnings("ignore:latents have collapsed")
@pytest.mark.parametrize("name", list(TRAINING_OBJECTIVES))
def test_every_objective_trains(small_dataset: Any, name: str) -> None:
    model, history = learn(small_dataset, objective=name)
    for term in objective_weights(name):
        assert np.isfinite([value for _, value in history[f"validation/{term}"]]).all()
    parts = {name for name, _ in model.named_children()}
    assert parts == {"encoder", "projector", "predictor"}, "networks of terms are dropped"


@pytest.mark.filterwarnings("ignore:latents have collapsed")
@pytest.mark.parametrize("shape", [PatchConfig(predictor_width=32, predictor_depth=1), RSSMConfig(recurrent_size=32)])
def test_objectives_train_other_kinds(small_dataset: Any, shape: Any) -> None:
    for name in ("smwm", "rc-aux"):
        short = dataclasses.replace(SHORT, steps=2, evaluate_every=2)
        _, history = learn(small_dataset, shape, short, objective=name)
        assert np.isfinite(history["validation/loss"][-1][1])


def test_the_objective_of_the_default_is_lewm_bit_for_bit(small_dataset: Any) -> None:
    default, _ = learn(small_dataset)
    named, _ = learn(small_dataset, objective="lewm")
    assert all(torch.equal(value, named.state_dict()[name]) for name, value in default.state_dict().items())


@pytest.mark.filterwarnings("ignore:latents have collapsed")
@pytest.mark.parametrize("shape", [None, PatchConfig(predictor_width=32, predictor_depth=1)])
def test_variable_length_of_one_block_is_prediction_and_more_blocks_are_another_loss(
    small_dataset: Any, shape: Any
) -> None:
    def trained(**weights: Any) -> Any:
        return learn(small_dataset, shape, dataclasses.replace(SHORT, loss_weights={**weights, "sigreg": 0.09}))

    model, history = trained(prediction=1.0)
    one, same = trained(variable_length={"weight": 1.0, "longest": 1})
    for (_, value), (_, expected) in zip(
        same["validation/variable_length"], history["validation/prediction"], strict=True
    ):
        assert value == pytest.approx(expected, rel=1e-2)  # the same but for rounding, which AdamW enlarges
    far, _ = trained(variable_length={"weight": 1.0, "curriculum": False})
    apart = [
        sum(float((value - other.state_dict()[name]).abs().sum()) for name, value in model.state_dict().items())
        for other in (one, far)
    ]
    assert apart[0] < 0.1 * apart[1]


def test_variable_length_needs_windows_as_long_as_its_horizon(small_dataset: Any) -> None:
    far = dataclasses.replace(SHORT, loss_weights={"variable_length": {"weight": 1.0, "longest": 9}})
    with pytest.raises(ValueError, match="'variable_length' needs windows of 10 frames"):
        learn(small_dataset, training=far)


def test_the_horizon_grows_in_training_and_goes_on_where_it_was_stopped(small_dataset: Any, tmp_path: Path) -> None:
    seen: list[float] = []

    def note(learner: Any, step: int) -> bool:
        seen.append(learner.progress)
        return step < 5 or len(seen) > 5

    options: dict[str, Any] = {"objective": "variable-length", "callback": note}
    whole, _ = learn(small_dataset, objective="variable-length")
    learn(small_dataset, run_dir=tmp_path, **options)
    resumed, _ = learn(small_dataset, run_dir=tmp_path, **options)
    assert seen == [step / SHORT.steps for step in range(SHORT.steps)]
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.filterwarnings("ignore:latents have collapsed")
def test_automatic_weights_go_on_where_they_were_stopped(small_dataset: Any, tmp_path: Path) -> None:
    whole, curves = learn(small_dataset, objective="smwm")
    options: dict[str, Any] = {"objective": "smwm", "run_dir": tmp_path}
    learn(small_dataset, callback=lambda _, step: step < 5, **options)
    resumed, continued = learn(small_dataset, **options)
    assert continued == curves
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
    weights = [value for _, value in curves["weight/inverse_dynamics"]]
    assert len(set(weights)) == len(weights), "the weight moves"


def test_an_automatic_weight_makes_gradients_equally_large() -> None:
    balance = Balance({"prediction": 2.0, "sigreg": 1.0, "inverse_dynamics": "auto"})
    z = torch.tensor([[1.0], [-1.0]]).expand(2, 4).reshape(1, 2, 4) / 2**0.5  # of unit variance
    z.requires_grad_()
    values = {"prediction": (3 * z).sum(), "sigreg": z.sum(), "inverse_dynamics": (0.5 * z).sum()}
    balance.update(values, z)
    assert balance.weights()["inverse_dynamics"] == pytest.approx((2 * 3 + 1) / 0.5)
    assert balance({name: torch.ones(()) for name in values}).item() == pytest.approx(2 + 1 + 14)
    balance.update({**values, "inverse_dynamics": (5 * z).sum()}, z)
    assert balance.weights()["inverse_dynamics"] == pytest.approx((14 * 1.4) ** 0.5), "the mean of the logarithms"
    small = Balance(balance.given)
    shrunk = (0.1 * z.detach()).requires_grad_()
    small.update(
        {"prediction": (0.3 * shrunk).sum(), "sigreg": 0 * z.sum(), "inverse_dynamics": (5 * shrunk).sum()}, shrunk
    )
    assert small.weights()["inverse_dynamics"] == pytest.approx(2 * 0.3 / 5 / 0.01), "as for latents of unit variance"
    for _ in range(2000):
        balance.update({**values, "inverse_dynamics": 0 * z.sum()}, z)
    assert balance.weights()["inverse_dynamics"] == pytest.approx(HIGHEST)
    assert LOWEST < HIGHEST
    (restored := Balance(balance.given)).load_state_dict(balance.state_dict())
    assert restored.weights() == balance.weights()


def test_the_effective_dimension_counts_directions() -> None:
    z = torch.randn(4000, 1, 5, generator=torch.Generator().manual_seed(0))
    assert effective_dimension(z) == pytest.approx(5, abs=0.1)
    assert effective_dimension(z * torch.tensor([1.0, 1.0, 0, 0, 0])) == pytest.approx(2, abs=0.05)
    assert effective_dimension(torch.ones(9, 1, 5)) == 0
    assert effective_dimension(z[..., :1]) == pytest.approx(1)


@pytest.mark.filterwarnings("ignore:latents have collapsed")
def test_parts_that_no_term_trains_are_named(small_dataset: Any) -> None:
    for weights, idle in (
        ({"sigreg": 1.0}, "predictor"),
        ({"inverse_dynamics": 1.0, "prediction": 0.0}, "predictor"),
        ({"reconstruction": 1.0}, "predictor"),
    ):
        with pytest.warns(UntrainedWarning, match=f"trains the world model's {idle}, so it stays random"):
            learn(small_dataset, training=dataclasses.replace(SHORT, loss_weights=weights))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UntrainedWarning)
        for name in TRAINING_OBJECTIVES:
            learn(small_dataset, training=dataclasses.replace(SHORT, steps=1, evaluate_every=1), objective=name)
        for shape in (PatchConfig(predictor_width=32, predictor_depth=1), RSSMConfig(recurrent_size=32)):
            learn(small_dataset, shape)


def test_forward_only_says_that_it_collapsed(small_dataset: Any) -> None:
    training = dataclasses.replace(SHORT, steps=60, batch_size=16, evaluate_every=60, learning_rate=3e-3)
    with pytest.warns(CollapseWarning, match="collapsed"):
        learn(small_dataset, training=training, objective="forward-only")


@pytest.mark.parametrize(
    ("objective", "changes", "message"),
    [
        ("smmw", {}, r"Unknown training objective 'smmw'\. Did you mean 'smwm'"),
        ("straightened", {"frames": 2}, r"'straightening' needs windows of 3 frames, not 2: set frames=3"),
        ("rc-aux", {"frames": 2}, r"'reachability' needs windows of 3 frames"),
        ("smwm", {"loss_weights": {"inverse_dynamics": -1}}, "at least 0"),
    ],
)
def test_what_an_objective_lacks_is_named(small_dataset: Any, objective: str, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learn(small_dataset, training=dataclasses.replace(SHORT, **changes), objective=objective)


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("pldm", {"vicreg": {"covariance": 1.0}}),  # an option, and no weight
        ("lewm", {"inverse_dynamics": "auto"}),  # relative to the terms of the objective
        ("smwm", {"inverse_dynamics": 5.0}),
        ("smwm", {"prediction": 0.0, "sigreg": 1.0}),
    ],
)
def test_weights_change_single_terms_of_an_objective(small_dataset: Any, objective: str, changes: Any) -> None:
    changed = dataclasses.replace(SHORT, loss_weights=changes)
    trained, history = learn(small_dataset, training=changed, objective=objective)
    whole = dataclasses.replace(SHORT, loss_weights=objective_weights(objective, changes))
    spelled, _ = learn(small_dataset, training=whole)
    assert all(torch.equal(value, spelled.state_dict()[name]) for name, value in trained.state_dict().items())
    kept = {name for name, given in objective_weights(objective, changes).items() if given != 0}
    assert {name.partition("/")[2] for name in history if name.startswith("train/")} == kept


def test_changes_alone_are_no_objective(small_dataset: Any) -> None:
    for changes in ({"vicreg": {"covariance": 1.0}}, {"inverse_dynamics": "auto"}):
        with pytest.raises(ValueError, match="loss term"):
            learn(small_dataset, training=dataclasses.replace(SHORT, loss_weights=changes))


def test_what_a_term_of_weight_0_would_need_is_not_asked_for(small_dataset: Any) -> None:
    short = dataclasses.replace(SHORT, frames=2, loss_weights={"straightening": 0})
    _, history = learn(small_dataset, training=short, objective="straightened")
    assert "train/straightening" not in history
    still = dataclasses.replace(small_dataset, actions=np.zeros_like(small_dataset.actions))
    learn(still, training=dataclasses.replace(SHORT, loss_weights={"inverse_dynamics": 0}), objective="pldm")


def test_actions_that_never_change_are_refused(small_dataset: Any) -> None:
    ends = small_dataset.starts + small_dataset.lengths
    held = np.full_like(small_dataset.actions, 0.5)
    held[ends] = 0
    still = dataclasses.replace(small_dataset, actions=held)
    for name in ("smwm", "pldm"):
        with pytest.raises(ValueError, match=r"'inverse_dynamics' learns from actions, and those of .* never change"):
            train_world_model(still, TINY, SHORT, objective=name, progress=False)


def test_dimension_and_probe_of_many_features_are_those_of_the_covariance() -> None:
    """More features than rows take another way to the same numbers: as wide ones padded by zeros show."""
    z = torch.randn(12, 5, generator=torch.Generator().manual_seed(0)).double()
    wide = torch.cat([z, torch.zeros(12, 40)], dim=1)
    assert effective_dimension(wide) == pytest.approx(effective_dimension(z))
    states = np.random.default_rng(0).normal(size=(12, 2)) + z[:, :2].numpy()
    for part in (slice(0, 12), slice(0, 6)):
        narrow = linear_probe_r2(z, states, z[part], states[part])
        np.testing.assert_allclose(linear_probe_r2(wide, states, wide[part], states[part]), narrow, rtol=1e-6)
