"""Planners find the minima of functions whose minima are known."""

from __future__ import annotations

import math

import pytest
import torch
from landscapes import NAMES, bowl, box, seeded, two_wells

from wm_agents.planning import make

SEARCHING = [name for name in NAMES if name != "random-shooting"]
FOLLOW_GRADIENTS = ("gradient", "sgld")
LONG = {name: {"iterations": 30} for name in ("cem", "icem", "mppi")}


@pytest.mark.parametrize("scaled", [False, True], ids=["round", "scaled"])
@pytest.mark.parametrize("name", SEARCHING)
def test_the_default_budget_reaches_the_minimum_of_a_convex_quadratic_in_ten_dimensions(name, scaled):
    for seed in range(5):
        centre = 3 * torch.rand(16, 5, 2, generator=seeded(100 + seed)) - 1.5
        order = torch.randperm(10, generator=seeded(seed))
        weights = torch.logspace(-1, 1, 10)[order].view(5, 2) if scaled else torch.ones(5, 2)
        cost = bowl(centre, weights)
        plan = make(name, horizon=5).plan(cost, batch=16, **box(2), generator=seeded(seed))
        assert plan.cost.max() < 1e-2
        torch.testing.assert_close(plan.cost, cost(plan.actions[:, None])[:, 0])


@pytest.mark.parametrize("name", SEARCHING)
def test_a_minimum_outside_the_bounds_is_met_at_the_nearest_point_on_them(name):
    centre = 8 * torch.rand(8, 5, 2, generator=seeded(200)) - 4
    nearest = centre.clamp(-2, 2)
    plan = make(name, horizon=5, **LONG.get(name, {})).plan(bowl(centre), batch=8, **box(2), generator=seeded())
    torch.testing.assert_close(plan.actions, nearest, rtol=0, atol=0.1)
    # On a slope, what a plan misses is first order in its distance.
    assert (plan.cost - bowl(centre)(nearest[:, None])[:, 0]).max() < 0.05


@pytest.mark.parametrize("name", SEARCHING)
def test_a_narrow_valley_is_followed_to_its_end(name):
    # Curvature 9 across it and 1 along it, turned against the axes.
    turn = torch.tensor([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]])
    centre = torch.tensor([0.8, -1.1])

    def cost(actions: torch.Tensor) -> torch.Tensor:
        return (((actions - centre) @ turn) * torch.tensor([3.0, 1.0])).square().sum((-1, -2))

    planner = make(name, horizon=2, **LONG.get(name, {}))
    plans = [planner.plan(cost, **box(2), generator=seeded(seed)) for seed in range(5)]
    assert max(plan.cost.item() for plan in plans) < 1e-2


@pytest.mark.parametrize("name", ["cem", "icem", "mppi"])
@pytest.mark.parametrize(("horizon", "size", "gap"), [(2, 1, 0.5), (5, 2, 2.0)])
def test_the_better_of_two_modes_is_found_in_95_of_100_seeds(name, horizon, size, gap):
    planner, cost = make(name, horizon=horizon), two_wells(gap)
    found = [planner.plan(cost, **box(size), generator=seeded(seed)).cost.item() < gap / 2 for seed in range(100)]
    assert sum(found) >= 95


@pytest.mark.parametrize("name", FOLLOW_GRADIENTS)
def test_restarts_find_the_better_mode_where_a_single_descent_is_trapped(name):
    rows = {"gradient": "restarts", "sgld": "chains"}[name]
    trap = torch.full((1, 1, 2, 1), -1.0)  # inside the worse well
    one, many = (make(name, horizon=2, **{rows: count}, spread=2.0) for count in (1, 32))
    for seed in range(5):
        alone, several = (
            planner.plan(two_wells(1.0), **box(1), init=trap, generator=seeded(seed)) for planner in (one, many)
        )
        assert alone.cost.item() == pytest.approx(1.0, abs=1e-2)
        assert several.cost.item() < 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_more_rounds_are_no_worse(name):
    centre = 3 * torch.rand(8, 3, 2, generator=seeded(3)) - 1.5
    option = "steps" if name in FOLLOW_GRADIENTS else "iterations"
    few, many = (
        make(name, horizon=3, **{option: n}).plan(bowl(centre), batch=8, **box(2), generator=seeded()).cost.mean()
        for n in (2, 40)
    )
    assert many < few


def test_random_shooting_is_the_floor_that_every_search_beats():
    centre = 3 * torch.rand(16, 5, 2, generator=seeded(5)) - 1.5
    costs = {
        name: make(name, horizon=5).plan(bowl(centre), batch=16, **box(2), generator=seeded()).cost for name in NAMES
    }
    for name in SEARCHING:
        assert (costs[name] < 0.1 * costs["random-shooting"]).all()
