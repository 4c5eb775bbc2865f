"""Training objectives: weights by name."""

from __future__ import annotations

import pytest

from wm_agents.losses import LOSSES, TRAINING_OBJECTIVES, make_losses, objective_weights, split_options

SHIPPED = {"forward-only", "lewm", "pldm", "rc-aux", "reconstruction", "smwm", "straightened"}


def test_every_objective_predicts_and_has_terms_that_exist() -> None:
    assert set(TRAINING_OBJECTIVES) >= SHIPPED
    for name in SHIPPED:
        terms = make_losses(objective_weights(name), {})
        assert {"prediction", "rollout"} & set(terms)
    assert set(objective_weights("smwm")) == {"prediction", "inverse_dynamics"}, "and nothing else"


def test_changes_replace_weights_keep_options_and_add_terms() -> None:
    assert objective_weights("smwm", {"inverse_dynamics": 5.0})["inverse_dynamics"] == 5.0
    changed = objective_weights("pldm", {"vicreg": 2.0, "sigreg": {"weight": 0.1, "directions": 8}})
    assert changed["vicreg"] == {"weight": 2.0, "covariance": 0.5}
    assert changed["sigreg"] == {"weight": 0.1, "directions": 8}
    assert objective_weights("pldm", {"vicreg": {"covariance": 1.0}})["vicreg"] == {"weight": 16.0, "covariance": 1.0}
    assert objective_weights("pldm")["vicreg"] == {"weight": 16.0, "covariance": 0.5}, "the table stays as it is"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("smmw", None, r"Unknown training objective 'smmw'\. Did you mean 'smwm'"),
        ("smwm", {"inverse_dynamics": -1.0}, "'inverse_dynamics' must be a finite number of at least 0"),
        ("smwm", {"prediction": "auto"}, "'prediction' is relative to other terms: give one a number"),
        ("smwm", {"prediction": 0.0}, "relative to other terms"),
        ("smwm", {"prediction": "automatic"}, "or \"auto\", not 'automatic'"),
    ],
)
def test_a_mistake_is_named(name, changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        objective_weights(name, changes)


def test_an_automatic_weight_is_told_from_a_number() -> None:
    weights = {"prediction": 1, "inverse_dynamics": {"weight": "auto"}}
    assert split_options(weights) == {"prediction": (1.0, {}), "inverse_dynamics": ("auto", {})}


def test_another_package_adds_an_objective(monkeypatch) -> None:
    monkeypatch.setattr(TRAINING_OBJECTIVES, "_entries", dict(TRAINING_OBJECTIVES._entries))
    TRAINING_OBJECTIVES.register("mine", {"prediction": 1.0, "vicreg": 2.0})
    assert objective_weights("mine", {"sigreg": 0.1}) == {"prediction": 1.0, "vicreg": 2.0, "sigreg": 0.1}
    assert "vicreg" in LOSSES
