"""Planners that follow the gradient of the cost."""

from __future__ import annotations

import pytest
import torch
from landscapes import bowl, box, seeded

from wm_agents.planning import make
from wm_agents.planning.gradient import falling

BOTH = pytest.mark.parametrize("name", ["gradient", "sgld"])


def test_plain_descent_is_the_equation_by_hand():
    centre = torch.tensor([[[1.0, -0.5]]])
    actions = torch.zeros(1, 1, 2)
    for _ in range(7):
        actions = actions - 0.05 * 2 * (actions - centre)
    plan = make("gradient", horizon=1, optimizer="sgd", step_size=0.05, cosine=False, restarts=1, steps=7).plan(
        bowl(centre), **box(2)
    )
    torch.testing.assert_close(plan.actions, actions)
    assert plan.evaluations.tolist() == [8]  # seven steps, and where the last one ends


def test_adam_is_that_of_torch():
    centre, weights = torch.randn(1, 3, 2, generator=seeded()), torch.tensor([0.1, 10.0])
    parameter = torch.nn.Parameter(torch.zeros(1, 3, 2))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    for step in range(20):
        optimizer.param_groups[0]["lr"] = 0.1 * falling(step, 20)
        optimizer.zero_grad()
        bowl(centre, weights)(parameter[:, None]).sum().backward()
        optimizer.step()
    plan = make("gradient", horizon=3, restarts=1, steps=20).plan(bowl(centre, weights), **box(2, 100))
    torch.testing.assert_close(plan.actions, parameter.detach(), rtol=0, atol=1e-5)


def test_langevin_dynamics_are_the_equation_by_hand():
    centre, noise = torch.tensor([[[1.0, -0.5]]]), seeded(4)
    torch.randn(1, 1, 2, generator=noise)  # what the chains' starts draw
    actions = torch.zeros(1, 1, 2)
    chain = [actions]
    for _ in range(200):
        actions = actions - 0.01 * 2 * (actions - centre) + 0.005 * torch.randn(1, 1, 2, generator=noise)
        chain.append(actions)
    planner = make("sgld", horizon=1, step_size=0.01, noise=0.005, preconditioned=False, cosine=False, chains=1)
    plan = planner.plan(bowl(centre), **box(2), generator=seeded(4))
    costs = bowl(centre)(torch.stack(chain, dim=1))
    torch.testing.assert_close(plan.actions[0], torch.stack(chain, dim=1)[0, costs.argmin()])  # the best is kept
    assert plan.evaluations.tolist() == [201]


def test_preconditioned_langevin_dynamics_do_not_depend_on_the_size_of_costs():
    centre = torch.rand(1, 3, 2, generator=seeded(1))
    plan, larger = (
        make("sgld", horizon=3).plan(lambda a, f=factor: f * bowl(centre)(a), **box(2), generator=seeded())
        for factor in (1.0, 1024.0)
    )
    torch.testing.assert_close(plan.actions, larger.actions, rtol=0, atol=1e-4)


@BOTH
def test_all_restarts_of_all_environments_share_one_call_a_step(name):
    shapes = []

    def cost(actions: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(actions.shape))
        return actions.square().sum((-1, -2))

    rows = {"gradient": "restarts", "sgld": "chains"}[name]
    make(name, horizon=4, steps=3, **{rows: 5}).plan(cost, batch=6, **box(2), generator=seeded())
    assert shapes == [(6, 5, 4, 2)] * 4


@BOTH
def test_unusable_gradients_do_not_poison_the_search(name):
    def cost(actions: torch.Tensor) -> torch.Tensor:
        first = actions[..., 0, 0]
        # The root's slope is infinite at 0, where the search starts; below 0 it is NaN. Huge slopes overflow squares.
        return first.sqrt() * 0 + 1e25 * (first - 0.5).square() + (actions[..., 0, 1] - 0.3).square()

    plan = make(name, horizon=1, spread=0.5).plan(cost, **box(2), generator=seeded())
    assert torch.isfinite(plan.actions).all()
    assert torch.isfinite(plan.cost).all()
    assert plan.actions[0, 0, 0].item() == pytest.approx(0.5, abs=0.05)


@BOTH
def test_steps_are_projected_into_the_bounds(name):
    plan = make(name, horizon=2, step_size=50.0, steps=5).plan(
        lambda actions: actions.sum((-1, -2)), low=torch.tensor([-0.7, 1.0]), high=torch.tensor([0.1, 1.5])
    )
    assert plan.actions.tolist() == [[[pytest.approx(-0.7), 1.0]] * 2]


@BOTH
@pytest.mark.parametrize(
    "cost",
    [lambda actions: actions.detach().square().sum((-1, -2)), lambda actions: torch.ones(actions.shape[:2])],
    ids=["detached", "constant"],
)
def test_a_cost_without_a_gradient_is_refused(name, cost):
    with pytest.raises(ValueError, match=r'the cost has no gradient .* such as "cem"'):
        make(name, horizon=2).plan(cost, **box(2))


def test_an_environment_that_has_arrived_stands_still():
    # The second environment starts at its minimum; only the first goes on being counted.
    centre = torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]]])
    planner = make("gradient", horizon=1, restarts=1, tolerance=1e-3)
    plan = planner.plan(bowl(centre), batch=2, **box(2))
    assert plan.evaluations[1] == 1
    assert plan.evaluations[0] > 20
    assert plan.actions[1].abs().max() == 0
