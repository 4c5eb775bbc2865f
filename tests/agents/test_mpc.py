"""MPC with every planner, objective and source of proposals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wm_agents
from wm_agents import planning
from wm_agents.agents import CEMMPC, MPC, MPPIMPC
from wm_agents.agents.proposals import diffusion_proposals, inverse_dynamics_proposal, prior
from wm_agents.models import Denoiser, DenoiserConfig, TemporalDistance, TemporalDistanceConfig

pytest_plugins = ["trained"]

# The smallest search of each planner.
QUICK: dict[str, dict[str, Any]] = {
    "cem": {"samples": 12, "elites": 4, "iterations": 2},
    "icem": {"samples": 12, "elites": 4, "iterations": 2},
    "mppi": {"samples": 12, "elites": 4, "iterations": 2},
    "random-shooting": {"samples": 12},
    "predictive-sampling": {"samples": 12, "iterations": 2},
    "gradient": {"steps": 3},
    "sgld": {"steps": 3},
    "diffusion": {"samples": 12, "steps": 2},
    "diffusion-guidance": {"samples": 12, "steps": 2},
}


@pytest.fixture(scope="module")
def heads() -> dict[str, Any]:
    """Untrained heads that fit the session's world model."""
    torch.manual_seed(0)
    return {
        "temporal_distance": TemporalDistance(TemporalDistanceConfig(width=16, embedding_size=8)).eval(),
        "denoiser": Denoiser(DenoiserConfig(horizon=4, width=32, depth=1)).eval(),
    }


def state_of(model: Any, frames: int, n: int = 2) -> Any:
    """The world model's state after some frames, and a goal."""
    latents = torch.randn(n, frames, *model.spec.shape)
    state = model.remember(latents, torch.randn(n, frames - 1, model.spec.block_size))
    return latents, state, torch.randn(n, *model.spec.shape)


def observations(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Frames of noise; the goals are the same for every ``seed``."""
    rngs = {"pixels": np.random.default_rng(seed), "goal_pixels": np.random.default_rng(99)}
    return {key: rng.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8) for key, rng in rngs.items()}


def run(agent: MPC, frames: list[dict[str, np.ndarray]], rows: slice = slice(None)) -> np.ndarray:
    state, actions = None, []
    for frame in frames:
        action, state = agent.predict({key: value[rows] for key, value in frame.items()}, state=state)
        actions.append(action)
    return np.stack(actions)


def test_a_shrinking_horizon_counts_down_to_one_block_and_starts_again(trained: Any) -> None:
    agent = MPC(trained.world_model, horizon=3, shrinking=True, device="cpu", **QUICK["cem"])
    state, evaluations = None, []
    for seed in range(20):
        _, state = agent.predict(observations(2, seed), state=state)
        if agent.last_decision.plans:
            evaluations.append(agent.last_decision.evaluations)
    # 2 environments; evaluations of the world model are in proportion to the blocks of a plan.
    assert [count / evaluations[2] for count in evaluations] == [3, 2, 1, 3]


def test_a_shrinking_plan_that_is_followed_for_longer_ends_where_it_ends(trained: Any) -> None:
    """Of 3 blocks 2 are executed, then the last one, planned anew; the next plan has 3, and starts from nothing."""
    agent = MPC(trained.world_model, horizon=3, receding_horizon=2, shrinking=True, device="cpu", **QUICK["cem"])
    controller: Any = agent.policy.controller
    plan, starts = controller._plan, []

    def noted(frames: Any, memory: Any, rows: Any, start: torch.Tensor) -> Any:
        starts.append((time, start.shape[2], bool(start.any())))
        return plan(frames, memory, rows, start)

    controller._plan = noted
    state = None
    for time in range(31):
        _, state = agent.predict(observations(1, time), state=state)
    assert starts == [(0, 3, False), (10, 1, True), (15, 3, False), (25, 1, True), (30, 3, False)]


def test_environments_of_one_call_shrink_on_their_own(trained: Any) -> None:
    agent = MPC(trained.world_model, horizon=3, shrinking=True, device="cpu", **QUICK["cem"])
    frames = [observations(2, seed) for seed in range(12)]
    alone = run(agent, frames[5:], slice(1, 2))
    state, late = None, []
    for index, frame in enumerate(frames):
        action, state = agent.predict(frame, state=state, episode_start=np.array([index == 0, index == 5]))
        late.append(action[1])
    np.testing.assert_allclose(np.stack(late[5:]), alone[:, 0], atol=2e-3)


def test_a_terminal_cost_arrives_only_if_the_horizon_shrinks(trained: Any) -> None:
    """Free drift of one per block, and effort at each block: arriving later is cheaper, so a receding plan waits."""
    executed = {}
    for shrinking in (False, True):

        def postpone(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
            # The last block must be 1; blocks before it should rest.
            return (actions[:, :, -1] - 1).square().mean(-1) + actions[:, :, :-1].square().mean(-1).sum(-1)

        agent = MPC(
            trained.world_model,
            horizon=3,
            shrinking=shrinking,
            objective=postpone,
            samples=200,
            elites=20,
            iterations=8,
            device="cpu",
        )
        raw = run(agent, [observations(1, seed) for seed in range(15)])[:, 0]
        blocks = trained.world_model.normalize(torch.from_numpy(raw)).reshape(3, -1)
        executed[shrinking] = blocks.mean(dim=1)
    assert executed[False].abs().max() < 0.2
    assert executed[True][-1] > 0.8


def test_the_quick_searches_cover_every_planner() -> None:
    assert set(QUICK) == set(planning.PLANNERS)


@pytest.mark.parametrize("name", sorted(QUICK))
def test_every_planner_acts_inside_the_bounds_and_each_environment_as_if_alone(name: str, trained: Any) -> None:
    agent = MPC(trained.world_model, planner=name, horizon=3, device="cpu", **QUICK[name])
    frames = [observations(3, seed) for seed in range(11)]  # two replans, and the second block's history
    together = run(agent, frames)
    assert (together >= agent.action_space.low).all()
    assert (together <= agent.action_space.high).all()
    assert np.ptp(together) > 0
    np.testing.assert_array_equal(together, run(agent, frames))
    for row in range(3):
        np.testing.assert_allclose(run(agent, frames, slice(row, row + 1))[:, 0], together[:, row], atol=2e-3)


@pytest.mark.parametrize("name", sorted(set(QUICK) - {"diffusion"}))
def test_every_planner_is_a_shipped_agent(name: str) -> None:
    agent = wm_agents.load(f"pointmaze-umaze/{name}", device="cpu")
    assert agent.settings.planner == name
    assert f"pointmaze-umaze/{agent.name}" in wm_agents.list_checkpoints()


def test_named_classes_refuse_another_planner(trained: Any) -> None:
    with pytest.raises(ValueError, match="MPPIMPC plans with 'mppi', not 'cem': use MPC"):
        MPPIMPC(trained.world_model, planner="cem")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"planner": "cme"}, "Unknown planner 'cme'. Did you mean 'cem'"),
        ({"objective": "sumed"}, "Unknown objective 'sumed'. Did you mean 'summed'"),
        ({"sample": 3}, "Unknown option of MPC with planner 'cem' 'sample'. Did you mean 'samples'"),
        ({"proposals": "gcidm"}, "Unknown proposals 'gcidm'"),
        ({"proposals": "gc-idm"}, "needs the head 'gc-idm'"),
        ({"proposals": "diffusion"}, "needs the head 'denoiser'"),
        ({"objective": "temporal-distance"}, "needs the head 'temporal-distance'"),
        ({"receding_horizon": 6}, "receding_horizon must lie in 1..horizon"),
        ({"precision": "fp16"}, "precision must be"),
        ({"elites": 400}, "elites"),
    ],
)
def test_bad_options_name_the_way_out(options: dict[str, Any], message: str, trained: Any) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        MPC(trained.world_model, device="cpu", **options)


# Objectives


def test_the_learned_distance_is_the_mean_over_the_horizon(heads: Any) -> None:
    distance = heads["temporal_distance"]
    objective = planning.make_objective(
        "temporal-distance", {"temporal-distance": lambda: planning.learned_distance(distance)}
    )
    predicted, goal = torch.randn(2, 3, 4, 32), torch.randn(2, 32)
    expected = torch.stack(
        [torch.stack([distance(predicted[b, s], goal[b]).mean() for s in range(3)]) for b in range(2)]
    )
    torch.testing.assert_close(objective(predicted, goal, predicted), expected)


def test_objectives_by_hand() -> None:
    goal = torch.zeros(1, 2)
    predicted = torch.tensor([[[[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]]]])  # squared distances 9, 1, 4
    actions = torch.tensor([[[[1.0], [3.0], [3.0]]]])
    expected = {
        "terminal": 4.0,
        "summed": 14 / 3,
        "discounted": (9 + 0.9 * 1 + 0.81 * 4) / 2.71,
        "doubling": (9 + 2 * 1 + 4 * 4) / 7,
        "control": 19 / 3,
        "smoothness": 2.0,
    }
    for name, value in expected.items():
        cost = planning.make_objective(name)(predicted, goal, actions)
        assert cost.shape == (1, 1)
        assert cost.item() == pytest.approx(value, rel=1e-5), name
    cosine = planning.make_objective("cosine")(predicted, torch.tensor([[1.0, 0.0]]), actions)
    assert cosine.item() == pytest.approx(1 / 3, rel=1e-5)
    assert planning.make_objective("smoothness")(predicted[:, :, :1], goal, actions[:, :, :1]).item() == 0


def test_weighted_sums_and_constraints_of_your_own() -> None:
    def wall(predicted: torch.Tensor, goal: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        return (predicted[..., 0] - 2).clamp(min=0).sum(-1)  # by how far x passes 2

    goal = torch.zeros(1, 2)
    predicted = torch.tensor([[[[3.0, 0.0], [1.0, 0.0]], [[1.0, 1.0], [2.0, 0.0]]]])
    actions = torch.ones(1, 2, 2, 1)
    cost = planning.make_objective({"summed": 2.0, "control": 0.5, wall: 100.0})(predicted, goal, actions)
    torch.testing.assert_close(cost, torch.tensor([[2 * 5.0 + 0.5 + 100, 2 * 3.0 + 0.5]]))
    for bad in ({}, {"summed": float("nan")}):
        with pytest.raises(ValueError, match="objective"):
            planning.make_objective(bad)


def test_an_objective_of_your_own_works_but_is_not_saved(trained: Any, tmp_path: Path) -> None:
    agent = MPC(
        trained.world_model,
        device="cpu",
        horizon=3,
        objective=lambda z, goal, a: a.square().sum((-1, -2)),
        samples=50,
        elites=5,
        iterations=20,
    )
    actions = run(agent, [observations(1)])
    raw_zero = trained.world_model.denormalize(torch.zeros(2)).numpy()
    np.testing.assert_allclose(actions[0, 0], raw_zero, atol=0.05)
    with pytest.raises(ValueError, match="cannot be saved"):
        agent.save(tmp_path / "agent")


def test_options_survive_saving(trained: Any, heads: Any, tmp_path: Path) -> None:
    options = {"horizon": 4, "objective": {"temporal-distance": 1.0, "smoothness": 0.1}, "temperature": 0.3}
    agent = MPPIMPC(trained.world_model, device="cpu", **options, **heads)
    agent.save(tmp_path / "agent")
    loaded = wm_agents.load(tmp_path / "agent.zip")
    assert isinstance(loaded, MPPIMPC)
    assert loaded.options() == agent.options()
    frames = [observations(2, seed) for seed in range(2)]
    np.testing.assert_allclose(run(loaded, frames), run(agent, frames), atol=1e-5)
    other = wm_agents.load(tmp_path / "agent.zip", agent="diffusion", horizon=4, proposals="diffusion")
    assert other.heads["denoiser"].config == heads["denoiser"].config


def test_a_search_in_bf16_follows_the_weights(trained: Any) -> None:
    model = copy.deepcopy(trained.world_model)
    agent = MPC(model, horizon=3, precision="bf16", device="cpu", **QUICK["cem"])
    frames = [observations(2)]
    first = run(agent, frames)
    np.testing.assert_allclose(first, run(MPC(model, horizon=3, device="cpu", **QUICK["cem"]), frames), atol=0.5)
    with torch.no_grad():
        model.predictor.embed[0].weight.neg_()
    changed = run(agent, frames)
    assert not np.array_equal(changed, first)
    fresh = MPC(model, horizon=3, precision="bf16", device="cpu", **QUICK["cem"])
    np.testing.assert_array_equal(changed, run(fresh, frames))


# Proposals


def test_gc_idm_proposals_are_its_actions_in_imagination(trained: Any) -> None:
    model, network = trained.world_model, trained.agent.inverse_dynamics
    z, state, goal = state_of(model, frames=2)
    with torch.no_grad():
        plans, evaluations = inverse_dynamics_proposal(model, network, state, goal, 3, torch.Generator())
    assert plans.shape == (2, 1, 3, 10)
    assert evaluations == 6
    with torch.no_grad():
        before = z[:, -1] - (z[:, -1] - z[:, -2]) * network.config.lag / 5
        raw = network(z[:, -1], before, goal, torch.zeros(2, dtype=torch.int64))
    expected = model.normalize(raw.clamp(model.action_low, model.action_high))
    torch.testing.assert_close(plans[:, 0, 0, :2], expected)
    low, high = model.block_bounds()
    assert (plans >= low - 1e-5).all()
    assert (plans <= high + 1e-5).all()


@pytest.mark.parametrize("horizon", [2, 4, 6])
def test_diffusion_proposals_fit_the_planners_horizon(horizon: int, trained: Any, heads: Any) -> None:
    _, state, goal = state_of(trained.world_model, frames=1)

    def propose(horizon: int) -> Any:
        generator = torch.Generator().manual_seed(0)
        return diffusion_proposals(
            trained.world_model, heads["denoiser"], state, goal, horizon, generator, samples=5, steps=3
        )

    plans, evaluations = propose(horizon)
    assert plans.shape == (2, 5, horizon, 10)
    assert evaluations == 0
    full, _ = propose(4)
    torch.testing.assert_close(plans[:, :, : min(horizon, 4)], full[:, :, :horizon])
    if horizon > 4:
        torch.testing.assert_close(plans[:, :, 4:], full[:, :, 3:4].expand(-1, -1, 2, -1))


def test_the_prior_sees_standing_still_where_one_frame_is_known(trained: Any, heads: Any) -> None:
    z, state, goal = state_of(trained.world_model, frames=1)
    noisy, level = torch.randn(2, 3, 4, 10), torch.tensor(0.5)
    guess = prior(trained.world_model, heads["denoiser"], state, goal)(noisy, level)
    torch.testing.assert_close(guess, heads["denoiser"](noisy, level, z[:, 0], z[:, 0], goal))


@pytest.mark.parametrize("source", ["gc-idm", "diffusion"])
def test_a_hybrid_is_no_worse_than_its_proposals(source: str, trained: Any, heads: Any) -> None:
    """The best candidate is returned, and the proposals are among the candidates."""
    options: dict[str, Any] = {"horizon": 4, "samples": 20, "elites": 4, "iterations": 2, "returns": "best"}
    agent = CEMMPC(
        trained.world_model,
        device="cpu",
        proposals=source,
        **options,
        **heads,
        inverse_dynamics=trained.agent.inverse_dynamics,
    )
    model, frame, summed = agent.world_model, observations(3), planning.make_objective("summed")
    _, memory = agent.predict(frame)
    with torch.no_grad():
        z, goal = (model.encode(torch.from_numpy(frame[key])) for key in ("pixels", "goal_pixels"))
        state, elites = model.remember(z[:, None], torch.zeros(3, 0, 10)), torch.from_numpy(memory["own.plan"])
        proposer: Any = agent.policy.controller.proposer
        proposals, asked = proposer(state, goal, 4, torch.Generator().manual_seed(agent.policy.seed))
        costs = summed(model.imagine(state, proposals), goal, proposals)
        chosen = summed(model.imagine(state, elites), goal, elites)
    assert (chosen[:, 0] <= costs.amin(1) + 1e-4).all()
    assert agent.last_decision.evaluations == 3 * (asked + 4 * (max(20, proposals.shape[1] + 1) + 20))


def test_a_prior_cannot_shrink(trained: Any, heads: Any) -> None:
    with pytest.raises(ValueError, match="leave out shrinking"):
        MPC(trained.world_model, planner="diffusion", horizon=4, shrinking=True, proposals="diffusion", **heads)


def test_a_prior_of_another_horizon_is_refused(trained: Any, heads: Any) -> None:
    with pytest.raises(ValueError, match="denoiser was trained for horizon=4, not 8"):
        MPC(trained.world_model, planner="diffusion", horizon=8, proposals="diffusion", device="cpu", **heads)
