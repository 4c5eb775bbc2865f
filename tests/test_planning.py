from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_agents.planning import OBJECTIVES, make
from wm_agents.types import CostFn


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box(size: int, bound: float = 2.0) -> dict[str, torch.Tensor]:
    return {"low": torch.full((size,), -bound), "high": torch.full((size,), bound)}


def bowl(centre: torch.Tensor) -> CostFn:
    """Squared distance of the whole sequence to ``centre [B, H, K*A]``."""
    return lambda actions: (actions - centre[:, None]).square().sum((-1, -2))


# The cross-entropy method on functions with known minima


@pytest.mark.parametrize("seed", range(3))
def test_cem_finds_the_minimum_of_a_bowl_in_ten_dimensions(seed):
    centre = 3 * torch.rand(4, 5, 2, generator=seeded(100 + seed)) - 1.5
    plan = make("cem", horizon=5, iterations=30).plan(bowl(centre), batch=4, **box(2), generator=seeded(seed))
    torch.testing.assert_close(plan.actions, centre, rtol=0, atol=1e-2)
    torch.testing.assert_close(plan.cost, bowl(centre)(plan.actions[:, None])[:, 0])


@pytest.mark.parametrize("seed", range(3))
def test_cem_finds_the_nearest_point_on_the_bounds_when_the_minimum_lies_outside(seed):
    centre = 8 * torch.rand(4, 5, 2, generator=seeded(200 + seed)) - 4
    plan = make("cem", horizon=5, iterations=30).plan(bowl(centre), batch=4, **box(2), generator=seeded(seed))
    torch.testing.assert_close(plan.actions, centre.clamp(-2, 2), rtol=0, atol=1e-2)


def test_cem_follows_a_narrow_valley():
    scales = torch.tensor([1.0, 5.0, 0.2, 3.0])
    centre = torch.tensor([0.5, -1.0, 1.5, 0.0])
    plan = make("cem", horizon=1, iterations=40).plan(
        lambda actions: (scales * (actions - centre)).square().sum((-1, -2)), **box(4), generator=seeded()
    )
    torch.testing.assert_close(plan.actions[0, 0], centre, rtol=0, atol=2e-2)


def test_cem_mostly_finds_the_better_of_two_modes():
    def cost(actions: torch.Tensor) -> torch.Tensor:
        good, bad = (actions - 1.2).square().sum((-1, -2)), (actions + 1.2).square().sum((-1, -2)) + 1.0
        return torch.minimum(good, bad)

    planner = make("cem", horizon=2)
    found = [planner.plan(cost, **box(1), generator=seeded(seed)).cost.item() < 0.05 for seed in range(20)]
    assert sum(found) >= 18


def test_a_floor_under_the_standard_deviation_keeps_the_search_moving():
    # A far minimum and a narrow first Gaussian: without a floor the spread shrinks away before it gets there.
    centre = torch.full((1, 5, 2), 1.8)
    options = {"horizon": 5, "samples": 50, "elites": 5, "initial_std": 0.02}
    stuck = make("cem", **options).plan(bowl(centre), **box(2), generator=seeded())
    moving = make("cem", **options, min_std=0.3).plan(bowl(centre), **box(2), generator=seeded())
    assert moving.cost.item() < 0.2 * stuck.cost.item()


# Randomness, batches, warm starts, accounting


def test_every_environment_of_a_batch_gets_the_plan_that_it_would_get_alone():
    goals = 6 * torch.rand(16, 3, 4, generator=seeded(1)) - 3
    planner = make("cem", horizon=3, samples=64, elites=8)
    together = planner.plan(bowl(goals), batch=16, **box(4), generator=seeded(7))
    for row in range(16):
        alone = planner.plan(bowl(goals[row : row + 1]), **box(4), generator=seeded(7))
        torch.testing.assert_close(alone.actions[0], together.actions[row], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.cost[0], together.cost[row], rtol=1e-4, atol=1e-5)


def test_same_seed_same_plan_other_seed_other_plan():
    planner, cost = make("cem", horizon=3, iterations=3), bowl(torch.full((1, 3, 2), 0.7))
    first, again, other = (planner.plan(cost, **box(2), generator=seeded(seed)).actions for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_a_good_warm_start_is_no_worse(seed):
    goals = 3 * torch.rand(8, 5, 2, generator=seeded(seed)) - 1.5
    planner = make("cem", horizon=5, samples=32, elites=4, iterations=3)
    cold = planner.plan(bowl(goals), batch=8, **box(2), generator=seeded(seed))
    warm = planner.plan(bowl(goals), batch=8, **box(2), init=goals + 0.05, generator=seeded(seed))
    assert (warm.cost < cold.cost).all()
    given_away = planner.plan(bowl(goals), batch=8, **box(2), init=torch.zeros(8, 5, 2), generator=seeded(seed))
    torch.testing.assert_close(given_away.actions, cold.actions)  # the default start is the middle of the bounds


@pytest.mark.parametrize("start", [100.0, -1e30, math.inf])
def test_a_warm_start_outside_the_bounds_is_brought_inside(start):
    centre = torch.full((1, 2, 2), 0.5)
    init = torch.full((1, 2, 2), start)
    plan = make("cem", horizon=2, iterations=30).plan(bowl(centre), **box(2), init=init, generator=seeded())
    torch.testing.assert_close(plan.actions, centre, rtol=0, atol=1e-2)


def test_the_first_candidate_is_the_mean_and_evaluations_are_counted_exactly():
    calls: list[torch.Tensor] = []

    def cost(actions: torch.Tensor) -> torch.Tensor:
        calls.append(actions)
        return actions.square().sum((-1, -2))

    init = torch.full((3, 4, 2), 0.5)
    plan = make("cem", horizon=4, samples=20, elites=5, iterations=6).plan(
        cost, batch=3, **box(2), init=init, generator=seeded()
    )
    assert plan.evaluations == 6 * 20 + 1
    assert sum(actions.shape[0] * actions.shape[1] for actions in calls) == 3 * plan.evaluations
    assert {tuple(actions.shape[2:]) for actions in calls} == {(4, 2)}
    assert torch.equal(calls[0][:, 0], init)
    best = calls[0].gather(1, cost(calls[0]).topk(5, largest=False).indices[:, :, None, None].expand(-1, -1, 4, 2))
    torch.testing.assert_close(calls[1][:, 0], best.mean(dim=1))  # the refit: the mean of the elites
    assert torch.equal(calls[6][:, 0], plan.actions)  # the costs of the last call are of what is returned


# Bounds and unusable costs

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))  # B, H, K*A


@settings(max_examples=60, deadline=None)
@given(
    sizes=SIZES,
    edges=st.lists(st.tuples(st.floats(-50, 50, width=32), st.floats(0, 10, width=32)), min_size=4, max_size=4),
    zero_width=st.booleans(),
    samples=st.integers(1, 40),
    elites=st.integers(1, 40),
    iterations=st.integers(1, 4),
    start=st.none() | st.floats(width=32, allow_nan=False) | st.sampled_from([math.inf, -math.inf]),
    std=st.sampled_from([1e-3, 1.0, 1e6]),
    min_std=st.sampled_from([0.0, 2.0]),
    broken=st.floats(0, 0.9),
    seed=st.integers(0, 2**20),
)
def test_no_plan_and_no_candidate_ever_leaves_the_bounds(
    sizes, edges, zero_width, samples, elites, iterations, start, std, min_std, broken, seed
):
    elites = min(elites, samples)
    batch, horizon, size = sizes
    low = torch.tensor([edge for edge, _ in edges[:size]])
    high = low if zero_width else low + torch.tensor([width for _, width in edges[:size]])
    noise, slopes = seeded(seed), 10 * torch.randn(size, generator=seeded(seed + 1))

    def cost(actions: torch.Tensor) -> torch.Tensor:
        assert (actions >= low).all()
        assert (actions <= high).all()
        costs = (actions * slopes).sum((-1, -2))
        kinds = torch.tensor([math.nan, math.inf, -math.inf])[torch.randint(3, costs.shape, generator=noise)]
        costs = torch.where(torch.rand(costs.shape, generator=noise) < broken, kinds, costs)
        costs[:, 0] = actions[:, 0].sum((-1, -2))  # something is always usable
        return costs

    init = None if start is None else torch.full((batch, horizon, size), start)
    planner = make(
        "cem", horizon=horizon, samples=samples, elites=elites, iterations=iterations, initial_std=std, min_std=min_std
    )
    plan = planner.plan(cost, batch=batch, low=low, high=high, init=init, generator=seeded(seed))
    assert plan.actions.shape == (batch, horizon, size)
    assert plan.cost.shape == (batch,)
    assert (plan.actions >= low).all()
    assert (plan.actions <= high).all()
    assert torch.isfinite(plan.cost).all()


def test_a_mean_of_elites_on_the_bound_does_not_round_past_it():
    for value in (0.1, 0.7, 1 / 3, 1.1):  # 30 times float32(0.1), divided by 30, need not be float32(0.1)
        bound = torch.tensor([value])
        for elites in (3, 7, 30, 100):
            plan = make("cem", horizon=2, elites=elites, iterations=3).plan(
                lambda actions: -actions.sum((-1, -2)), low=-bound, high=bound, generator=seeded()
            )
            assert plan.actions.max() <= bound.item()


def test_unusable_candidates_do_not_count_as_elites():
    # Only the half space above 0.5 is usable, most of the first candidates are not: fewer than `elites` remain.
    def cost(actions: torch.Tensor) -> torch.Tensor:
        first = actions[..., 0, 0]
        return torch.where(first > 0.5, (first - 0.6).square(), torch.tensor(math.nan))

    planner = make("cem", horizon=1, samples=20, elites=15, iterations=1, initial_std=0.5)
    plan = planner.plan(cost, **box(1), generator=seeded(1))
    assert 0.5 < plan.actions.item() <= 2
    assert math.isfinite(plan.cost.item())


def test_an_iteration_without_usable_candidates_is_passed_over():
    calls = 0

    def cost(actions: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return torch.full(actions.shape[:2], math.nan) if calls == 1 else (actions - 1).square().sum((-1, -2))

    plan = make("cem", horizon=1).plan(cost, **box(1), generator=seeded())
    assert plan.actions.item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_costs_that_are_all_unusable_raise_and_name_the_environments(value):
    def cost(actions: torch.Tensor) -> torch.Tensor:
        costs = actions.square().sum((-1, -2))
        costs[[1, 3]] = value
        return costs

    with pytest.raises(ValueError, match=r"NaN or infinite for environments \[1, 3\]: check the world model's latents"):
        make("cem", horizon=2).plan(cost, batch=4, **box(2), generator=seeded())


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0.0, 1.0], [1.0, 0.5], "bounds are crossed: every low must be at most its high"),
        ([0.0, -math.inf], [1.0, 1.0], "bounds must be finite"),
        ([0.0, 0.0], [1.0, math.nan], "bounds must be finite"),
    ],
)
def test_bad_bounds_are_refused(low, high, message):
    with pytest.raises(ValueError, match=message):
        make("cem", horizon=1).plan(lambda a: a.sum((-1, -2)), low=torch.tensor(low), high=torch.tensor(high))


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (torch.zeros(3, 2), r"init has shape \(3, 2\), the plan \(1, 3, 2\): pass \[B, H, K\*A\] or None"),
        (torch.full((1, 3, 2), math.nan), "init holds NaN: pass an earlier plan, or None"),
    ],
)
def test_bad_warm_starts_are_refused(init, message):
    with pytest.raises(ValueError, match=message):
        make("cem", horizon=3).plan(lambda a: a.sum((-1, -2)), **box(2), init=init)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon must be at least 1, not 0"),
        ({"samples": 0}, "samples must be at least 1, not 0"),
        ({"elites": 0}, "elites must be at least 1, not 0"),
        ({"iterations": -1}, "iterations must be at least 1, not -1"),
        ({"samples": 10, "elites": 11}, r"elites \(11\) must not exceed samples \(10\)"),
        ({"initial_std": 0.0}, r"initial_std \(0\.0\) must be positive"),
        ({"initial_std": math.nan}, r"initial_std \(nan\) must be positive"),
        ({"min_std": -0.1}, r"min_std \(-0\.1\) at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make("cem", **{"horizon": 2, **options})


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"Unknown planner 'cemm'\. Did you mean 'cem'\?"):
        make("cemm", horizon=2)
    with pytest.raises(
        ValueError, match=r"Unknown objective 'sumed'\. Did you mean 'summed'\? Known: summed, terminal\."
    ):
        OBJECTIVES.get("sumed")
    with pytest.raises(TypeError, match="sample"):
        make("cem", horizon=2, sample=3)


# Objectives

PREDICTED = torch.tensor([[[[0.0, 0.0], [1.0, 2.0]], [[3.0, 0.0], [1.0, 1.0]]]])  # B 1, S 2, H 2, D 2
GOAL = torch.tensor([[1.0, 1.0]])


@pytest.mark.parametrize(("name", "expected"), [("terminal", [1.0, 0.0]), ("summed", [(2 + 1) / 2, (5 + 0) / 2])])
def test_objectives_by_hand(name, expected):
    assert OBJECTIVES.get(name)(PREDICTED, GOAL).tolist() == [expected]


@pytest.mark.parametrize("name", ["terminal", "summed"])
def test_objectives_give_each_environment_its_own_goal(name):
    objective = OBJECTIVES.get(name)
    predicted = torch.randn(3, 4, 5, 6, generator=seeded())
    goal = torch.randn(3, 6, generator=seeded(1))
    costs = objective(predicted, goal)
    assert costs.shape == (3, 4)
    for row in range(3):
        torch.testing.assert_close(costs[row], objective(predicted[row : row + 1], goal[row : row + 1])[0])
    at_goal = objective(goal[:, None, None].expand(-1, 4, 5, -1), goal)
    assert torch.equal(at_goal, torch.zeros(3, 4))
