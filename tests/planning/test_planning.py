"""Making planners, and what planning answers to bad input."""

from __future__ import annotations

import math

import pytest
import torch
from landscapes import NAMES, box, budget, seeded

from wm_agents.planning import PLANNERS, make


def total(actions: torch.Tensor) -> torch.Tensor:
    return actions.sum((-1, -2))


@pytest.mark.parametrize("name", NAMES)
def test_planners_say_their_horizon_and_how_many_sequences_they_hand_on(name):
    planner = make(name, horizon=4)
    assert planner.horizon == 4
    assert planner.num_elites >= 1
    assert planner == make(name, horizon=4)  # frozen dataclasses: options compare, and cannot change
    with pytest.raises(AttributeError):
        planner.horizon = 5


def test_every_planner_is_documented_by_its_paper():
    for name in NAMES:
        assert "arXiv" in PLANNERS.get(name).__doc__ or "et al." in PLANNERS.get(name).__doc__


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"Unknown planner 'cemm'\. Did you mean 'i?cem'\?"):
        make("cemm", horizon=2)
    with pytest.raises(ValueError, match=r"Unknown option of planner 'cem' 'sample'\. Did you mean 'samples'\?"):
        make("cem", horizon=2, sample=3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0.0, 1.0], [1.0, 0.5], "bounds are crossed: every low must be at most its high"),
        ([0.0, -math.inf], [1.0, 1.0], "bounds must be finite"),
        ([0.0, 0.0], [1.0, math.nan], "bounds must be finite"),
        ([0.0, 0.0], [1.0], r"bounds have shapes \(2,\) and \(1,\): pass two vectors \[K\*A\] of one size"),
        ([[0.0]], [[1.0]], r"bounds have shapes \(1, 1\)"),
    ],
)
def test_bad_bounds_are_refused(name, low, high, message):
    with pytest.raises(ValueError, match=message):
        make(name, horizon=1).plan(total, low=torch.tensor(low), high=torch.tensor(high))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("init", "message"),
    [
        (torch.zeros(1, 3, 2), r"init has shape \[1, 3, 2\], expected \[1, M, 3, 2\] with M at least 1, or None"),
        (torch.zeros(2, 1, 3, 2), r"init has shape \[2, 1, 3, 2\], expected \[1, M, 3, 2\]"),
        (torch.zeros(1, 1, 2, 2), r"expected \[1, M, 3, 2\]"),
        (torch.zeros(1, 0, 3, 2), "with M at least 1"),
        (torch.full((1, 1, 3, 2), math.nan), "init holds NaN: pass an earlier plan, or None"),
    ],
)
def test_bad_proposals_are_refused(name, init, message):
    with pytest.raises(ValueError, match=message):
        make(name, horizon=3).plan(total, **box(2), init=init)


@pytest.mark.parametrize("name", NAMES)
def test_costs_of_the_wrong_shape_or_device_are_refused(name):
    planner = make(name, horizon=3, **budget(name, 5, 2))
    with pytest.raises(
        ValueError, match=r"returned shape \(2,\) for candidates \(2, 5, 3, 2\): .* = \(2, 5\) is needed"
    ):
        planner.plan(lambda actions: total(actions).sum(1), batch=2, **box(2))
    with pytest.raises(ValueError, match="the cost returned a tensor on meta, the candidates are on cpu"):
        planner.plan(lambda actions: total(actions).to("meta"), **box(2))


COUNTS = {
    "cem": ("samples", "elites", "iterations"),
    "icem": ("samples", "elites", "iterations", "action_block", "decay"),
    "mppi": ("samples", "elites", "iterations", "action_block"),
    "random-shooting": ("samples", "iterations"),
    "predictive-sampling": ("samples", "iterations"),
    "gradient": ("steps", "restarts"),
    "sgld": ("steps", "chains"),
}
NOT_NEGATIVE = {
    "cem": ("min_std", "tolerance"),
    "icem": ("colour", "tolerance"),
    "mppi": ("min_std", "smoothness", "tolerance"),
    "gradient": ("spread", "tolerance"),
    "sgld": ("noise", "spread"),
}
ABOVE_ZERO = {
    "cem": ("initial_std",),
    "icem": ("initial_std",),
    "mppi": ("temperature", "initial_std", "max_std"),
    "predictive-sampling": ("initial_std", "final_std"),
    "gradient": ("step_size",),
    "sgld": ("step_size",),
}


def expand(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(name, option) for name, options in table.items() for option in options]


@pytest.mark.parametrize(("name", "option"), [*expand(COUNTS), *[(name, "horizon") for name in NAMES]])
def test_counts_must_be_at_least_one(name, option):
    for value in (0, -3, math.nan):
        with pytest.raises(ValueError, match=rf"{option} must be a .* at least 1.*, not {value}"):
            make(name, **{"horizon": 2, option: value})


@pytest.mark.parametrize(("name", "option"), expand(NOT_NEGATIVE))
def test_amounts_must_not_be_negative(name, option):
    for value in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"{option} must be a finite number, at least 0, not {value}"):
            make(name, **{"horizon": 2, option: value})


@pytest.mark.parametrize(("name", "option"), expand(ABOVE_ZERO))
def test_scales_must_be_above_zero(name, option):
    for value in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"{option} must be a finite number, above 0, not {value}"):
            make(name, **{"horizon": 2, option: value})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        *[
            (name, {"samples": 10, "elites": 11}, r"elites \(11\) must not exceed samples \(10\)")
            for name in ("cem", "icem", "mppi")
        ],
        ("cem", {"momentum": 1.0}, "momentum must be less than 1"),
        ("icem", {"momentum": -0.1}, "momentum must be a finite number, at least 0 and at most 1, not -0.1"),
        ("icem", {"keep": 1.0}, "keep must be less than 1"),
        ("mppi", {"min_std": 3.0}, r"min_std \(3.0\) must not exceed max_std \(2.0\)"),
        ("cem", {"returns": "median"}, 'returns must be "mean" or "best", not \'median\''),
        ("mppi", {"returns": "median"}, 'returns must be "mean" or "best", not \'median\''),
        ("gradient", {"optimizer": "lbfgs"}, 'optimizer must be "adam" or "sgd", not \'lbfgs\''),
    ],
)
def test_other_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make(name, horizon=2, **options)


def test_candidates_without_a_usable_cost_do_not_count_as_elites():
    # Only the half space above 0.5 is usable, most of the first candidates are not: fewer than `elites` remain.
    def cost(actions: torch.Tensor) -> torch.Tensor:
        first = actions[..., 0, 0]
        return torch.where(first > 0.5, (first - 0.6).square(), torch.nan)

    for name in ("cem", "icem", "mppi"):
        planner = make(name, horizon=1, samples=20, elites=15, iterations=1, initial_std=0.5)
        plan = planner.plan(cost, **box(1), generator=seeded(1))
        assert 0.5 < plan.actions.item() <= 2
        assert math.isfinite(plan.cost.item())


def test_a_mean_of_elites_on_the_bound_does_not_round_past_it():
    for value in (0.1, 0.7, 1 / 3, 1.1):  # 30 times float32(0.1), divided by 30, need not be float32(0.1)
        bound = torch.tensor([value])
        for name in ("cem", "mppi"):
            for elites in (3, 7, 30, 100):
                planner = make(name, horizon=2, elites=elites, iterations=3)
                plan = planner.plan(lambda actions: -total(actions), low=-bound, high=bound, generator=seeded())
                assert plan.actions.max() <= bound.item()
