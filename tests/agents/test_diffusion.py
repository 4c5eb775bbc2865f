from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from landscapes import bowl, box, seeded, two_wells

from wm_agents.datasets import TrajectoryDataset
from wm_agents.models import ActionStatistics, Denoiser, DenoiserConfig, LeWM, LeWMConfig
from wm_agents.planning import make
from wm_agents.planning.ddim import ddim, signal_and_noise
from wm_agents.planning.diffusion import boltzmann
from wm_agents.training.denoiser import DenoiserTrainingConfig, train_denoiser


def prior_of(modes: torch.Tensor, width: float = 0.1):
    """The exact denoiser of equally likely Gaussians around ``modes [M, H, K*A]``: its posterior mean."""

    def denoise(actions: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        signal, noise = signal_and_noise(level)
        variance = signal**2 * width**2 + noise**2
        away = actions.unsqueeze(2) - signal * modes
        weights = torch.softmax(-away.square().sum((-1, -2)) / (2 * variance), dim=2)
        estimates = modes + away * signal * width**2 / variance
        return (weights[..., None, None] * estimates).sum(dim=2)

    return denoise


# Model-based diffusion on functions with known minima


@pytest.mark.parametrize("seed", range(3))
def test_the_default_budget_reaches_the_minimum_of_a_bowl_in_ten_dimensions(seed):
    centre = 3 * torch.rand(16, 5, 2, generator=seeded(100 + seed)) - 1.5
    plan = make("diffusion", horizon=5).plan(bowl(centre), batch=16, **box(2), generator=seeded(seed))
    torch.testing.assert_close(plan.actions, centre, rtol=0, atol=1e-2)
    assert plan.cost.max() < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_a_minimum_outside_the_bounds_is_approached_along_them(seed):
    centre = 8 * torch.rand(8, 5, 2, generator=seeded(200 + seed)) - 4
    plan = make("diffusion", horizon=5).plan(bowl(centre), batch=8, **box(2), generator=seeded(seed))
    nearest = bowl(centre)(centre.clamp(-2, 2)[:, None])[:, 0]
    torch.testing.assert_close(plan.cost, nearest, rtol=0, atol=5e-2)


def test_a_bowl_with_curvatures_100_apart_takes_more_steps():
    weights = torch.logspace(-1, 1, 10)[torch.randperm(10, generator=seeded(0))].view(5, 2)
    centre = 3 * torch.rand(16, 5, 2, generator=seeded(100)) - 1.5
    default, patient = (
        make("diffusion", horizon=5, **options).plan(bowl(centre, weights), batch=16, **box(2), generator=seeded())
        for options in ({}, {"samples": 128, "steps": 50})
    )
    assert default.cost.max() < 0.1
    assert patient.cost.max() < 0.01


@pytest.mark.parametrize(("horizon", "size", "gap"), [(2, 1, 0.5), (2, 2, 1.0), (5, 2, 5.0)])
def test_the_better_of_two_modes_is_found_in_95_of_100_seeds(horizon, size, gap):
    planner, cost = make("diffusion", horizon=horizon), two_wells(gap)
    found = [planner.plan(cost, **box(size), generator=seeded(seed)).cost.item() < gap / 2 for seed in range(100)]
    assert sum(found) >= 95


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1e6, 0.0), (1.0, -1e3)])
def test_the_scale_and_the_offset_of_a_cost_do_not_matter(scale, offset):
    centre = torch.full((1, 2, 2), 0.7)
    plan = make("diffusion", horizon=2).plan(
        lambda actions: scale * bowl(centre)(actions) + offset, **box(2), generator=seeded()
    )
    torch.testing.assert_close(plan.actions, centre, rtol=0, atol=2e-2)


def test_weights_by_hand():
    weights = boltzmann(torch.tensor([[1.0, 3.0, math.inf], [2.0, 2.0, 2.0], [math.inf] * 3]), temperature=0.5)
    odds = math.exp(-2 / (0.5 * 1.0))  # the finite costs 1 and 3 deviate by 1 from their mean
    expected = [[1 / (1 + odds), odds / (1 + odds), 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 0]]
    torch.testing.assert_close(weights, torch.tensor(expected))


# The untrained guidance planner


def test_guidance_follows_equations_9_and_10():
    horizon, samples, steps, matrix = 3, 4, 20, torch.tensor([[0.4, 0.2], [0.0, 0.6]])
    goal, centre = torch.tensor([0.3, -0.2]), torch.zeros(2)

    def cost(actions: torch.Tensor) -> torch.Tensor:  # a linear world: s_T is the sum of B a_t
        return (actions.sum(2) @ matrix.T - goal).square().sum(-1) / 2

    plan = make("diffusion-guidance", horizon=horizon, samples=samples).plan(cost, **box(2, 50.0), generator=seeded(3))

    noise = seeded(3)
    a = centre + torch.randn(samples, horizon, 2, generator=noise)
    for k in range(steps):
        alpha = (k + 1) / steps
        end = a.sum(1) @ matrix.T
        g = torch.stack([-2.0 * (t / horizon) * (end - goal) @ matrix / horizon for t in (1, 2, 3)], dim=1)
        a = alpha * a + (1 - alpha) * g + 0.3 * (1 - alpha) * torch.randn(samples, horizon, 2, generator=noise)
    costs = cost(a[None])[0]
    torch.testing.assert_close(plan.actions[0], a[costs.argmin()])
    torch.testing.assert_close(plan.cost[0], costs.min())


def test_guidance_asks_1050_times_as_in_the_paper():
    plan = make("diffusion-guidance", horizon=8).plan(bowl(torch.zeros(2, 8, 4)), batch=2, **box(4), generator=seeded())
    assert plan.evaluations.tolist() == [1050, 1050]


def test_guidance_needs_a_gradient():
    with pytest.raises(ValueError, match="the cost has no gradient with respect to the actions"):
        make("diffusion-guidance", horizon=2).plan(lambda a: a.detach().square().sum((-1, -2)), **box(2))


# Sampling from a prior


def test_signal_and_noise_share_one_unit_of_variance():
    signal, noise = signal_and_noise(torch.linspace(0, 1, 11))
    torch.testing.assert_close(signal**2 + noise**2, torch.ones(11))
    assert (signal[0], noise[0]) == (1, 0)
    assert signal[-1] == pytest.approx(0, abs=1e-6)


def test_ddim_draws_from_the_prior():
    modes = torch.tensor([-1.0, 1.0]).view(2, 1, 1).expand(-1, 2, 3)
    drawn = ddim(prior_of(modes), torch.randn(1, 2000, 2, 3, generator=seeded()), steps=50)[0]
    right = drawn[:, 0, 0] > 0
    assert right.float().mean() == pytest.approx(0.5, abs=0.05)
    assert (drawn[right] - 1).mean() == pytest.approx(0, abs=0.02)
    assert (drawn[right] - 1).std() == pytest.approx(0.1, abs=0.03)


def test_a_prior_proposes_and_the_cost_chooses():
    modes = torch.stack([torch.full((2, 2), value) for value in (-1.5, 0.0, 1.5)])
    planner = make("diffusion", horizon=2, samples=64, elites=5, spread=1.0, denoise=prior_of(modes))
    plan = planner.plan(bowl(torch.full((1, 2, 2), 1.6)), **box(2), generator=seeded())
    torch.testing.assert_close(plan.actions[0], modes[2], rtol=0, atol=0.3)
    assert plan.elites.shape == (1, planner.num_elites, 2, 2)
    costs = bowl(torch.full((1, 2, 2), 1.6))(plan.elites)[0]
    assert (costs.diff() >= 0).all()
    assert costs[0] == plan.cost[0]
    assert plan.evaluations.item() == 64


def test_the_pull_of_the_cost_moves_samples_within_the_prior():
    modes = torch.zeros(1, 2, 2)
    planner = make("diffusion", horizon=2, samples=8, spread=1.0, denoise=prior_of(modes, width=1.0))
    cost = bowl(torch.full((1, 2, 2), 1.0))
    plain = planner.plan(cost, **box(2), generator=seeded())
    pulled = dataclasses.replace(planner, guidance=0.3).plan(cost, **box(2), generator=seeded())
    assert pulled.cost < 0.5 * plain.cost
    assert pulled.evaluations.item() == 8 * 20 + 8


def test_no_spread_gives_the_same_sequence_whatever_the_seed():
    planner = make("diffusion", horizon=2, samples=1, spread=0, denoise=prior_of(torch.randn(4, 2, 2)))
    cost = bowl(torch.zeros(1, 2, 2))
    first, second = (planner.plan(cost, **box(2), generator=seeded(seed)).actions for seed in (0, 1))
    assert torch.equal(first, second)


def test_proposals_compete_with_the_samples_of_a_prior():
    planner = make("diffusion", horizon=2, samples=8, denoise=prior_of(torch.zeros(1, 2, 2)))
    init = torch.full((1, 3, 2, 2), 1.0)
    plan = planner.plan(bowl(torch.full((1, 2, 2), 1.0)), **box(2), init=init, generator=seeded())
    assert torch.equal(plan.actions, init[:, 0])
    assert plan.evaluations.item() == 8 + 3


# What all of them share

KINDS = {
    "diffusion": {},
    "diffusion-guidance": {},
    "prior": {"denoise": prior_of(torch.ones(1, 1, 1))},
    "guided prior": {"denoise": prior_of(torch.ones(1, 1, 1)), "guidance": 0.5},
}


def planner_of(kind: str, **options):
    return make(kind if kind.startswith("diffusion") else "diffusion", **KINDS[kind], **options)


@pytest.mark.parametrize("kind", KINDS)
def test_every_environment_of_a_batch_gets_the_plan_that_it_would_get_alone(kind):
    goals = 6 * torch.rand(8, 3, 4, generator=seeded(1)) - 3
    planner = planner_of(kind, horizon=3, samples=24, steps=8)
    together = planner.plan(bowl(goals), batch=8, **box(4), generator=seeded(7))
    for row in range(8):
        alone = planner.plan(bowl(goals[row : row + 1]), **box(4), generator=seeded(7))
        torch.testing.assert_close(alone.actions[0], together.actions[row], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.cost[0], together.cost[row], rtol=1e-4, atol=1e-5)
        assert alone.evaluations[0] == together.evaluations[row]


@pytest.mark.parametrize("kind", KINDS)
def test_evaluations_are_counted_exactly_and_the_callback_sees_them(kind):
    asked, seen = [], []

    def cost(actions: torch.Tensor) -> torch.Tensor:
        asked.append(actions.shape[1])
        return actions.square().sum((-1, -2))

    plan = planner_of(kind, horizon=2, samples=6, steps=4).plan(
        cost,
        batch=2,
        **box(2),
        init=torch.ones(2, 9, 2, 2),
        generator=seeded(),
        on_iteration=lambda iteration, costs: seen.append((iteration, costs.shape[1])),
    )
    assert plan.evaluations.tolist() == [sum(asked)] * 2
    assert seen == list(enumerate(asked))


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)),
    edges=st.lists(st.tuples(st.floats(-50, 50, width=32), st.floats(0, 10, width=32)), min_size=4, max_size=4),
    samples=st.integers(1, 12),
    steps=st.integers(1, 4),
    start=st.none() | st.floats(width=32, allow_nan=False) | st.sampled_from([math.inf, -math.inf]),
    broken=st.floats(0, 0.9),
    seed=st.integers(0, 2**20),
)
def test_no_plan_and_no_candidate_ever_leaves_the_bounds(kind, sizes, edges, samples, steps, start, broken, seed):
    batch, horizon, size = sizes
    low = torch.tensor([edge for edge, _ in edges[:size]])
    high = low + torch.tensor([width for _, width in edges[:size]])
    noise, slopes = seeded(seed), 10 * torch.randn(size, generator=seeded(seed + 1))

    def cost(actions: torch.Tensor) -> torch.Tensor:
        assert (actions >= low).all()
        assert (actions <= high).all()
        costs = (actions * slopes).sum((-1, -2))
        kinds = torch.tensor([math.nan, math.inf, -math.inf])[torch.randint(3, costs.shape, generator=noise)]
        unusable = torch.rand(costs.shape, generator=noise) < broken
        unusable[:, 0] = False
        return torch.where(unusable, kinds, costs)

    init = None if start is None else torch.full((batch, 2, horizon, size), start)
    plan = planner_of(kind, horizon=horizon, samples=samples, steps=steps).plan(
        cost, batch=batch, low=low, high=high, init=init, generator=seeded(seed)
    )
    assert plan.actions.shape == (batch, horizon, size)
    assert (plan.actions >= low).all()
    assert (plan.actions <= high).all()
    assert torch.isfinite(plan.cost).all()


@pytest.mark.parametrize("kind", KINDS)
def test_costs_that_are_all_unusable_raise_and_name_the_environments(kind):
    def cost(actions: torch.Tensor) -> torch.Tensor:
        rows = torch.tensor([1.0, math.nan])[:, None]
        return actions.square().sum((-1, -2)) * rows

    with pytest.raises(ValueError, match=r"NaN or infinite for environments \[1\]"):
        planner_of(kind, horizon=2, samples=4, steps=2).plan(cost, batch=2, **box(2), generator=seeded())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("diffusion", {"samples": 0}, "samples must be a whole number of at least 1"),
        ("diffusion", {"steps": 0}, "steps must be a whole number of at least 1"),
        ("diffusion", {"temperature": 0.0}, "temperature must be a finite number, above 0"),
        ("diffusion", {"final_std": 0.0}, "final_std must be a finite number, above 0"),
        ("diffusion", {"final_std": 2.0}, r"final_std \(2\.0\) must not exceed initial_std \(1\.0\)"),
        ("diffusion", {"samples": 4, "elites": 5}, r"elites \(5\) must not exceed samples \(4\)"),
        ("diffusion", {"guidance": -1.0}, "guidance must be a finite number, at least 0"),
        ("diffusion", {"spread": math.nan}, "spread must be a finite number, at least 0"),
        ("diffusion-guidance", {"horizon": 0}, "horizon must be a whole number of at least 1"),
        ("diffusion-guidance", {"residual": -0.1}, "residual must be a finite number, at least 0"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make(name, **{"horizon": 2, **options})


def test_a_prior_of_another_horizon_is_refused():
    network = Denoiser(DenoiserConfig(latent_size=3, block_size=2, horizon=4))
    z = torch.zeros(1, 3)
    planner = make("diffusion", horizon=5, samples=2, denoise=network.conditioned(z, z, z))
    with pytest.raises(ValueError, match=r"sequences \[5, 2\], the denoiser was trained on \[4, 2\]"):
        planner.plan(bowl(torch.zeros(1, 5, 2)), **box(2))


# The network and its training


def test_the_default_network_fits_into_a_megabyte_and_a_bit():
    assert sum(p.numel() for p in Denoiser(DenoiserConfig()).parameters()) < 280_000


def test_guidance_weights_interpolate_between_free_and_conditioned():
    torch.manual_seed(0)
    network = Denoiser(DenoiserConfig(latent_size=3, block_size=2, horizon=4))
    torch.nn.init.normal_(network.no_goal)
    z, before, goal = torch.randn(3, 2, 3)
    noisy, level = torch.randn(2, 5, 4, 2), torch.tensor(0.4)
    with torch.no_grad():
        ignored, other = (network.conditioned(z, before, g, guidance=0)(noisy, level) for g in (goal, goal + 1))
        trusted, exaggerated = (network.conditioned(z, before, goal, guidance=w)(noisy, level) for w in (1, 3))
    assert torch.equal(ignored, other)
    torch.testing.assert_close(exaggerated, ignored + 3 * (trusted - ignored))
    assert (trusted - ignored).abs().max() > 1e-3


def straight_lines(episodes: int = 40, steps: int = 30) -> tuple[TrajectoryDataset, LeWM]:
    """Points that walk along a line, each episode at its own constant action; the latent is the position."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (episodes, 1, 2)).repeat(steps + 1, axis=1).astype(np.float32)
    states = np.concatenate([np.zeros((episodes, 1, 2)), actions[:, :-1].cumsum(1)], axis=1)
    actions[:, -1] = 0
    frames = episodes * (steps + 1)
    dataset = TrajectoryDataset(
        name="lines",
        env_id="",
        pixels=np.zeros((frames, 16, 16, 3), np.uint8),
        actions=actions.reshape(frames, 2),
        states=states.reshape(frames, 2),
        starts=np.arange(episodes) * (steps + 1),
        lengths=np.full(episodes, steps),
        action_low=-np.ones(2, np.float32),
        action_high=np.ones(2, np.float32),
        state_names=("x", "y"),
        provenance={},
        episode_ids=np.arange(episodes),
    )
    statistics = ActionStatistics(-np.ones(2), np.ones(2), np.zeros(2), np.full(2, 0.5))
    return dataset, LeWM(LeWMConfig(image_size=16, latent_size=2, action_block=5), statistics)


def test_training_learns_to_head_for_the_goal(monkeypatch):
    dataset, world_model = straight_lines()
    positions = torch.from_numpy(dataset.states).float() / 5
    monkeypatch.setattr("wm_agents.training.learner.encode_frames", lambda *args, **options: positions)
    training = DenoiserTrainingConfig(steps=400, batch_size=256, learning_rate=3e-3, evaluate_every=400)
    network, history = train_denoiser(
        world_model, dataset, DenoiserConfig(horizon=2, width=64, max_horizon=15), training, progress=False
    )
    assert network.config.latent_size == 2
    assert [step for step, _ in history["validation/denoiser"]] == [400]
    assert history["validation/denoiser"][0][1] < 0.1  # no better than the mean is 1.3, the variance of the actions

    z = torch.zeros(2, 2)
    velocity = torch.tensor([[0.6, 0.0], [0.0, -0.6]])
    denoise = network.conditioned(z, z - velocity, 2 * velocity)
    with torch.no_grad():
        drawn = ddim(denoise, 0.5 * torch.randn(2, 16, 2, 10, generator=seeded()), steps=10)
    headings = world_model.denormalize(drawn).unflatten(-1, (5, 2)).mean((1, 2, 3))
    torch.testing.assert_close(headings, velocity, rtol=0, atol=0.2)


def test_the_same_seed_trains_the_same_network_and_a_run_resumes(monkeypatch, tmp_path):
    dataset, world_model = straight_lines(episodes=6)
    latents = torch.from_numpy(dataset.states).float()
    monkeypatch.setattr("wm_agents.training.learner.encode_frames", lambda *args, **options: latents)
    options = {"progress": False}
    shape = DenoiserConfig(horizon=2, width=16)
    training = DenoiserTrainingConfig(steps=6, batch_size=8, evaluate_every=3)
    whole, _ = train_denoiser(world_model, dataset, shape, training, **options)
    train_denoiser(
        world_model, dataset, shape, training, run_dir=tmp_path, callback=lambda learner, step: step < 3, **options
    )
    resumed, history = train_denoiser(world_model, dataset, shape, training, run_dir=tmp_path, **options)
    assert [step for step, _ in history["validation/denoiser"]] == [3, 6]
    for name, values in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], values)


def test_bad_shapes_and_shares_are_refused():
    with pytest.raises(ValueError, match=r"DenoiserConfig\.horizon must be a whole number of at least 1"):
        DenoiserConfig(horizon=0)
    with pytest.raises(ValueError, match=r"DenoiserConfig\.lag must be a whole number of at least 0"):
        DenoiserConfig(lag=-1)
    with pytest.raises(ValueError, match="hidden_fraction must be a finite number, at least 0 and at most 1, not 2"):
        DenoiserTrainingConfig(hidden_fraction=2)
