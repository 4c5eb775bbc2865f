"""Each planner does what its paper says: updates by hand, noise, elites, restarts."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from landscapes import bowl, box, seeded

from wm_agents.planning import make
from wm_agents.planning.noise import coloured, to_blocks, to_steps
from wm_agents.types import CostFn


def recorded(cost: CostFn) -> tuple[CostFn, list[torch.Tensor]]:
    """The cost, and the candidates that it will have seen."""
    calls: list[torch.Tensor] = []

    def record(actions: torch.Tensor) -> torch.Tensor:
        calls.append(actions.detach().clone())
        return cost(actions)

    return record, calls


def cheapest(actions: torch.Tensor, cost: CostFn, count: int) -> torch.Tensor:
    order = cost(actions).topk(count, largest=False).indices
    return actions.gather(1, order[:, :, None, None].expand(-1, -1, *actions.shape[2:]))


# Coloured noise


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 25])
def test_coloured_noise_has_unit_variance_at_every_step(steps, exponent):
    noise = coloured(20_000, steps, 2, exponent=exponent, generator=seeded())
    assert noise.shape == (20_000, steps, 2)
    torch.testing.assert_close(noise.var(dim=0), torch.ones(steps, 2), rtol=0, atol=0.05)
    torch.testing.assert_close(noise.mean(dim=0), torch.zeros(steps, 2), rtol=0, atol=0.03)
    across = (noise[..., 0] * noise[..., 1]).mean(dim=0)
    torch.testing.assert_close(across, torch.zeros(steps), rtol=0, atol=0.03)  # entries are independent


def test_power_falls_with_frequency_by_the_exponent():
    for exponent in (0.0, 1.0, 2.0):
        noise = coloured(4000, 64, 1, exponent=exponent, generator=seeded())
        power = torch.fft.rfft(noise[..., 0], dim=1).abs().square().mean(dim=0)[1:-1]
        slope = (power[20] / power[2]).log() / torch.tensor(21 / 3).log()
        assert slope.item() == pytest.approx(-exponent, abs=0.1)


def test_primitive_steps_of_a_plan_run_in_the_order_in_which_they_are_executed():
    plan = torch.arange(2 * 3 * 4).view(2, 3, 4)  # two plans, H 3, K 2, A 2
    steps = to_steps(plan, 2)
    assert steps[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    assert torch.equal(to_blocks(steps, 2), plan)
    with pytest.raises(ValueError, match=r"action_block \(3\) must divide the size of an action block, K\*A = 4"):
        to_steps(plan, 3)
    with pytest.raises(ValueError, match="action_block"):
        make("icem", horizon=2, action_block=3).plan(lambda a: a.sum((-1, -2)), **box(4))


# CEM and iCEM


def test_cem_refits_to_the_mean_of_the_elites_and_returns_the_last_mean():
    centre = torch.full((3, 4, 2), 0.3)
    cost, calls = recorded(bowl(centre))
    init = torch.full((3, 1, 4, 2), 0.5)
    planner = make("cem", horizon=4, samples=20, elites=5, iterations=6)
    plan = planner.plan(cost, batch=3, **box(2), init=init, generator=seeded())
    assert [call.shape[1] for call in calls] == [20] * 6 + [1]
    assert torch.equal(calls[0][:, :1], init)
    for before, after in pairwise(calls):  # candidate 0 is the mean
        torch.testing.assert_close(after[:, 0], cheapest(before, bowl(centre), 5).mean(dim=1))
    assert torch.equal(calls[6][:, 0], plan.actions)


def test_momentum_keeps_a_share_of_the_old_mean():
    centre = torch.full((1, 2, 2), 1.0)
    cost, calls = recorded(bowl(centre))
    make("cem", horizon=2, samples=30, elites=5, iterations=2, momentum=0.7).plan(cost, **box(2), generator=seeded())
    torch.testing.assert_close(calls[1][:, 0], 0.3 * cheapest(calls[0], bowl(centre), 5).mean(dim=1))


def test_a_floor_under_the_standard_deviation_keeps_the_search_moving():
    # A far minimum and a narrow first Gaussian: without a floor the spread shrinks away before it gets there.
    centre = torch.full((1, 5, 2), 1.8)
    options = {"horizon": 5, "samples": 50, "elites": 5, "initial_std": 0.02}
    stuck = make("cem", **options).plan(bowl(centre), **box(2), generator=seeded())
    moving = make("cem", **options, min_std=0.3).plan(bowl(centre), **box(2), generator=seeded())
    assert moving.cost.item() < 0.2 * stuck.cost.item()


def test_a_mean_that_is_unusable_gives_way_to_the_best_candidate():
    def ring(actions: torch.Tensor) -> torch.Tensor:  # usable elites lie on both sides of an unusable middle
        return torch.where(actions[..., 0, 0].abs() < 0.5, torch.nan, actions[..., 0, 0].abs())

    planner = make("cem", horizon=1, samples=300, elites=100, iterations=1)
    plan = planner.plan(ring, **box(1), generator=seeded())
    assert 0.5 <= plan.actions.abs().item() < 0.52
    assert plan.cost.item() == plan.actions.abs().item()


def test_icem_shrinks_its_population_to_twice_the_elites_and_evaluates_kept_elites_once():
    cost, calls = recorded(bowl(torch.zeros(2, 3, 2)))
    planner = make("icem", horizon=3, samples=50, elites=10, iterations=6, decay=1.25, keep=0.3)
    plan = planner.plan(cost, batch=2, **box(2), generator=seeded())
    assert [call.shape[1] for call in calls] == [50, 40, 32, 25, 20, 20]
    assert plan.evaluations.tolist() == [187, 187]
    assert planner.num_elites == 4


def test_icem_adds_the_mean_last_and_hands_on_the_best_it_has_seen():
    centre = torch.full((2, 3, 2), 0.4)
    cost, calls = recorded(bowl(centre))
    planner = make("icem", horizon=3, samples=40, elites=8, iterations=3, decay=1.0, keep=0.5, momentum=0.0)
    plan = planner.plan(cost, batch=2, **box(2), generator=seeded())
    pool = torch.cat([cheapest(calls[0], bowl(centre), 4), calls[1]], dim=1)
    torch.testing.assert_close(calls[2][:, 0], cheapest(pool, bowl(centre), 8).mean(dim=1))
    assert torch.equal(plan.elites, cheapest(torch.cat(calls, dim=1), bowl(centre), planner.num_elites))


def test_icem_carries_elites_from_one_plan_to_the_next():
    centre = torch.rand(4, 5, 2, generator=seeded(1))
    planner = make("icem", horizon=5, samples=30, elites=6, iterations=2, keep=0.5)
    plan = planner.plan(bowl(centre), batch=4, **box(2), generator=seeded(0))
    for seed in range(1, 6):
        following = planner.plan(bowl(centre), batch=4, **box(2), init=plan.elites, generator=seeded(seed))
        assert (following.cost <= plan.cost).all()
        plan = following


def test_colour_makes_plans_smoother():
    def jerk(colour: float) -> float:
        cost, calls = recorded(lambda actions: actions.sum((-1, -2)))
        make("icem", horizon=5, colour=colour, action_block=5, iterations=1).plan(cost, **box(10), generator=seeded())
        return to_steps(calls[0], 5).diff(dim=2).square().mean().item()

    assert jerk(3.0) < 0.5 * jerk(1.0) < 0.5 * jerk(0.0)


# MPPI


def test_classical_mppi_moves_by_the_weighted_perturbations():
    centre = torch.rand(2, 4, 3, generator=seeded(1))
    cost, calls = recorded(bowl(centre))
    planner = make(
        "mppi",
        horizon=4,
        samples=200,
        elites=None,
        iterations=1,
        temperature=1.0,
        normalise=False,
        adaptive_std=False,
        initial_std=0.8,
    )
    plan = planner.plan(cost, batch=2, **box(3, 100), generator=seeded())
    weights = torch.softmax(-bowl(centre)(calls[0]), dim=1)
    torch.testing.assert_close(plan.actions, (weights[:, :, None, None] * calls[0]).sum(dim=1))
    assert (calls[0].std() - 0.8).abs() < 0.02


def test_the_temperature_of_normalised_costs_does_not_depend_on_their_size():
    centre = torch.rand(1, 3, 2, generator=seeded(1))
    planner = make("mppi", horizon=3)
    plan, larger = (
        planner.plan(lambda a, f=factor: f * bowl(centre)(a), **box(2), generator=seeded()) for factor in (1.0, 1024.0)
    )
    torch.testing.assert_close(plan.actions, larger.actions, rtol=0, atol=1e-4)


def test_a_low_temperature_picks_the_cheapest_and_a_high_one_averages():
    centre = torch.rand(1, 3, 2, generator=seeded(1))
    options = {"horizon": 3, "samples": 50, "elites": 10, "iterations": 1}
    cost, calls = recorded(bowl(centre))
    low, high = (make("mppi", **options, temperature=t).plan(cost, **box(2), generator=seeded()) for t in (1e-4, 1e4))
    torch.testing.assert_close(low.actions, cheapest(calls[0], bowl(centre), 1)[:, 0], rtol=0, atol=1e-4)
    torch.testing.assert_close(high.actions, cheapest(calls[0], bowl(centre), 10).mean(dim=1), rtol=0, atol=1e-3)


def test_the_standard_deviation_of_mppi_stays_within_its_bounds():
    cost, calls = recorded(lambda actions: actions.square().sum((-1, -2)))
    make("mppi", horizon=4, samples=2000, min_std=0.3, iterations=8).plan(cost, **box(5, 100), generator=seeded())
    spreads = [call[:, 1:].std(dim=1).mean().item() for call in calls[:-1]]
    assert spreads[0] == pytest.approx(1.0, abs=0.05)
    assert spreads[-1] == pytest.approx(0.3, abs=0.02)


def test_smooth_mppi_adds_up_its_noise_over_primitive_steps():
    planner = make("mppi", horizon=3, smooth=True, action_block=2)
    noise = torch.randn(7, 3, 4, generator=seeded())
    deviations = planner._from_noise(noise)
    torch.testing.assert_close(planner._to_noise(deviations), noise)
    steps, white = to_steps(deviations, 2), to_steps(noise, 2)
    torch.testing.assert_close(steps[:, 0], white[:, 0])
    torch.testing.assert_close(steps.diff(dim=1), white[:, 1:] / 6**0.5)


def test_smooth_mppi_makes_smoother_plans_at_a_small_price():
    # A noisy cost landscape: the plan's jitter is what sampling noise leaves in it.
    target = torch.linspace(-1, 1, 25).view(1, 5, 5, 1).expand(-1, -1, -1, 2).reshape(1, 5, 10)
    options = {"horizon": 5, "action_block": 5, "iterations": 20}

    def cost(actions: torch.Tensor) -> torch.Tensor:  # only where each block ends up matters
        ends = to_steps(actions - target[:, None], 5).cumsum(dim=2)[:, :, 4::5]
        return ends.square().sum((-1, -2))

    plans = [
        make("mppi", **options, **extra).plan(cost, **box(10), generator=seeded())
        for extra in ({}, {"smooth": True}, {"smooth": True, "smoothness": 1.0})
    ]
    jerks = [to_steps(plan.actions, 5).diff(dim=1).square().sum().item() for plan in plans]
    assert jerks[2] < jerks[1] < jerks[0]
    assert plans[1].cost.item() < 0.05 * cost(torch.zeros(1, 1, 5, 10)).item()
    torch.testing.assert_close(plans[2].cost, cost(plans[2].actions[:, None])[:, 0])  # without the penalty


# Shooting


def test_random_shooting_spreads_evenly_between_the_bounds():
    cost, calls = recorded(lambda actions: actions.sum((-1, -2)))
    low, high = torch.tensor([-1.0, 5.0]), torch.tensor([3.0, 6.0])
    plan = make("random-shooting", horizon=2, samples=5000, iterations=2).plan(cost, low=low, high=high)
    seen = torch.cat(calls, dim=1)
    torch.testing.assert_close(seen.mean((0, 1, 2)), (low + high) / 2, rtol=0, atol=0.05)
    torch.testing.assert_close(seen.var((0, 1, 2)), (high - low).square() / 12, rtol=0, atol=0.05)
    assert plan.cost.item() == seen.sum((-1, -2)).min().item()


def test_predictive_sampling_samples_around_the_best_so_far_ever_closer():
    cost, calls = recorded(bowl(torch.full((1, 5, 4), 1.0)))
    planner = make("predictive-sampling", horizon=5, samples=400, iterations=3, initial_std=0.4, final_std=0.1)
    planner.plan(cost, **box(4, 100), generator=seeded())
    for index, std in enumerate((0.4, 0.2, 0.1)):
        best = cheapest(torch.cat(calls[: index or 1], dim=1), cost, 1) if index else torch.zeros(1, 1, 5, 4)
        assert (calls[index] - best).std().item() == pytest.approx(std, rel=0.05)
