"""What holds for every planner: bounds, accounts, batches, seeds, warm starts, callbacks, unusable costs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from landscapes import NAMES, bowl, box, budget, seeded

from wm_agents.planning import make

# Searches that end early, at different rounds in different environments.
EARLY = {
    "cem": {"samples": 64, "elites": 8, "iterations": 30, "tolerance": 0.05},
    "icem": {"samples": 64, "elites": 8, "iterations": 30, "tolerance": 0.05},
    "mppi": {"samples": 64, "elites": 8, "iterations": 30, "tolerance": 0.01},
    "gradient": {"optimizer": "sgd", "cosine": False, "step_size": 0.02, "steps": 150, "tolerance": 1e-3},
}
SHORT = [(name, budget(name, 20, 6, elites=5)) for name in NAMES]
CASES = [
    *SHORT,
    *EARLY.items(),
    ("mppi", {"smooth": True, "smoothness": 0.1, "action_block": 2}),
    ("icem", {"action_block": 2, "colour": 2.0}),
    ("mppi", {"elites": None, "returns": "best"}),
    ("cem", {"momentum": 0.2, "returns": "best"}),
]


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)),  # B, H, K*A
    edges=st.lists(st.tuples(st.floats(-50, 50, width=32), st.floats(0, 10, width=32)), min_size=4, max_size=4),
    samples=st.integers(1, 20),
    elites=st.integers(1, 20),
    rounds=st.integers(1, 4),
    proposals=st.none() | st.tuples(st.integers(1, 6), st.floats(width=32, allow_nan=False)),
    scale=st.sampled_from([1e-3, 1.0, 1e6]),
    returns=st.sampled_from(["mean", "best"]),
    smooth=st.booleans(),
    broken=st.floats(0, 0.9),
    seed=st.integers(0, 2**20),
)
def test_no_candidate_and_no_plan_ever_leaves_the_bounds_and_every_one_is_counted(
    name, sizes, edges, samples, elites, rounds, proposals, scale, returns, smooth, broken, seed
):
    batch, horizon, size = sizes
    low = torch.tensor([edge for edge, _ in edges[:size]])
    high = low + torch.tensor([width for _, width in edges[:size]])
    slopes, dice = 10 * torch.randn(size, generator=seeded(seed + 1)), seeded(seed)
    seen = 0

    def cost(actions: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += actions.shape[0] * actions.shape[1]
        assert actions.shape[2:] == (horizon, size)
        assert ((actions >= low) & (actions <= high)).all()
        costs = (actions * slopes).sum((-1, -2))
        kinds = torch.tensor([math.nan, math.inf, -math.inf])[torch.randint(3, costs.shape, generator=dice)]
        spoilt = torch.rand(costs.shape, generator=dice) < broken
        spoilt[:, 0] = False  # something is always usable
        return torch.where(spoilt, kinds, costs)

    options = budget(name, samples, rounds, elites)
    if name in ("cem", "icem", "mppi", "predictive-sampling"):
        options["initial_std"] = scale
    if name in ("gradient", "sgld"):
        options |= {"step_size": scale, "spread": scale}
    if name in ("cem", "mppi"):
        options["returns"] = returns
    if name == "mppi":
        options["smooth"] = smooth
    init = None if proposals is None else torch.full((batch, proposals[0], horizon, size), proposals[1])
    planner = make(name, horizon=horizon, **options)
    plan = planner.plan(cost, batch=batch, low=low, high=high, init=init, generator=seeded(seed))
    assert plan.actions.shape == (batch, horizon, size)
    assert plan.elites.shape == (batch, planner.num_elites, horizon, size)
    assert torch.equal(plan.elites[:, 0], plan.actions)
    assert ((plan.elites >= low) & (plan.elites <= high)).all()
    assert plan.cost.shape == (batch,)
    assert torch.isfinite(plan.cost).all()
    assert plan.evaluations.dtype == torch.int64
    assert plan.evaluations.tolist() == [seen // batch] * batch


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_environment_of_a_batch_gets_the_plan_that_it_would_get_alone(name, options):
    goals = 3 * torch.rand(16, 3, 4, generator=seeded(1)) - 1.5
    goals[::2] *= 0.1  # near and far
    weights = torch.linspace(0.5, 4, 16).view(16, 1, 1, 1)
    planner = make(name, horizon=3, **options)
    together = planner.plan(bowl(goals, weights), batch=16, **box(4), generator=seeded(7))
    for row in range(16):
        one = slice(row, row + 1)
        alone = planner.plan(bowl(goals[one], weights[one]), **box(4), generator=seeded(7))
        torch.testing.assert_close(alone.actions[0], together.actions[row], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.elites[0], together.elites[row], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.cost[0], together.cost[row], rtol=1e-4, atol=1e-5)
        assert alone.evaluations[0] == together.evaluations[row]
    if options.get("tolerance"):
        assert len(together.evaluations.unique()) > 1  # else nothing ended early


@pytest.mark.parametrize(("name", "options"), EARLY.items())
def test_a_search_that_ends_early_costs_less_and_finds_the_same(name, options):
    goals = 2 * torch.rand(8, 3, 2, generator=seeded(2)) - 1
    early = make(name, horizon=3, **options).plan(bowl(goals), batch=8, **box(2), generator=seeded())
    full = make(name, horizon=3, **{**options, "tolerance": 0.0}).plan(
        bowl(goals), batch=8, **box(2), generator=seeded()
    )
    assert (early.evaluations < full.evaluations).all()
    assert (early.cost - full.cost).max() < 0.02


@pytest.mark.parametrize(("name", "options"), CASES)
def test_same_seed_same_plan_other_seed_other_plan(name, options):
    planner, cost = make(name, horizon=3, **options), bowl(torch.full((1, 3, 2), 0.7))
    if name == "gradient":  # one valley: every seed ends in it
        planner = make(name, horizon=3, steps=2)
    init = torch.full((1, 1, 3, 2), -1.0)
    first, again, other = (
        planner.plan(cost, **box(2), init=init, generator=seeded(seed)).actions for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_good_proposals_are_no_worse_wherever_they_stand(name):
    goals = 3 * torch.rand(8, 5, 2, generator=seeded(3)) - 1.5
    init = 4 * torch.rand(8, 6, 5, 2, generator=seeded(4)) - 2
    options = budget(name, 32, 3, elites=4)
    if name in ("cem", "mppi"):
        options["returns"] = "best"
    planner = make(name, horizon=5, **options)
    cold = planner.plan(bowl(goals), batch=8, **box(2), generator=seeded())
    for place in (0, 5):
        init[:, place] = goals + 0.05
        warm = planner.plan(bowl(goals), batch=8, **box(2), init=init, generator=seeded())
        assert (warm.cost <= bowl(goals)(init).amin(dim=1) + 1e-6).all()
        assert (warm.cost < cold.cost).all()


@pytest.mark.parametrize("name", NAMES)
def test_all_proposals_are_scored_first_even_when_they_outnumber_the_samples(name):
    init = 4 * torch.rand(2, 9, 3, 2, generator=seeded(4)) - 2
    calls: list[torch.Tensor] = []

    def cost(actions: torch.Tensor) -> torch.Tensor:
        calls.append(actions.detach())
        return actions.square().sum((-1, -2))

    make(name, horizon=3, **budget(name, 4, 2, elites=2)).plan(cost, batch=2, **box(2), init=init, generator=seeded())
    assert torch.equal(calls[0][:, :9], init)


@pytest.mark.parametrize("name", NAMES)
def test_without_proposals_the_search_starts_in_the_middle_of_the_bounds(name):
    low, high = torch.tensor([-1.0, 2.0]), torch.tensor([3.0, 4.0])
    middle = torch.tensor([1.0, 3.0]).expand(1, 1, 3, 2)
    planner = make(name, horizon=3, **budget(name, 8, 2, elites=2))
    cost = bowl(torch.zeros(1, 3, 2))
    default, given = (planner.plan(cost, low=low, high=high, init=i, generator=seeded()) for i in (None, middle))
    assert torch.equal(default.actions, given.actions)


@pytest.mark.parametrize("start", [100.0, -1e30, math.inf])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "random-shooting"])
def test_a_warm_start_outside_the_bounds_is_brought_inside(name, start):
    centre = torch.full((1, 2, 2), 0.5)
    init = torch.full((1, 1, 2, 2), start)
    plan = make(name, horizon=2).plan(bowl(centre), **box(2), init=init, generator=seeded())
    torch.testing.assert_close(plan.actions, centre, rtol=0, atol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_the_callback_gets_the_costs_of_every_iteration(name):
    heard: list[torch.Tensor] = []
    numbers: list[int] = []
    calls = 0

    def cost(actions: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return torch.where(actions[..., 0, 0] > 1, torch.nan, actions.square().sum((-1, -2)))

    def listen(number: int, costs: torch.Tensor) -> None:
        numbers.append(number)
        heard.append(costs)

    planner = make(name, horizon=2, **budget(name, 12, 5, elites=3))
    init = torch.ones(2, 1, 2, 2)
    plan = planner.plan(cost, batch=2, **box(2), init=init, generator=seeded(), on_iteration=listen)
    final = name in ("cem", "mppi")  # the mean is scored once more, after the last iteration
    assert numbers == list(range(calls - final))
    costs = torch.cat(heard, dim=1)
    assert costs.shape[1] + final == plan.evaluations[0]
    assert not costs.isnan().any()
    assert costs.isinf().any()
    if not final:
        assert torch.equal(costs.amin(dim=1), plan.cost)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_costs_that_are_all_unusable_raise_and_name_the_environments(name, value):
    def cost(actions: torch.Tensor) -> torch.Tensor:
        spoilt = torch.tensor([False, True, False, True])[:, None].expand(actions.shape[:2])
        return torch.where(spoilt, value, actions.square().sum((-1, -2)))

    with pytest.raises(ValueError, match=r"NaN or infinite for environments \[1, 3\]: check the world model's latents"):
        make(name, horizon=2, **budget(name, 8, 2)).plan(cost, batch=4, **box(2), generator=seeded())


@pytest.mark.parametrize("name", NAMES)
def test_a_round_without_usable_candidates_is_passed_over(name):
    calls = 0

    def cost(actions: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        costs = (actions - 1).square().sum((-1, -2))
        return costs * math.nan if calls == 1 else costs

    plan = make(name, horizon=1).plan(cost, **box(1), generator=seeded())
    assert plan.actions.item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_planning_works_without_gradients_and_leaves_none_behind(name):
    scale = torch.ones((), requires_grad=True)
    planner = make(name, horizon=2, **budget(name, 8, 3))
    for tracking in (False, True):
        with torch.set_grad_enabled(tracking):
            plan = planner.plan(lambda actions: scale * actions.square().sum((-1, -2)), **box(2), generator=seeded())
        assert not any(tensor.requires_grad for tensor in (plan.actions, plan.cost, plan.elites))
    assert scale.grad is None
