"""The study of planners in latent action spaces: geometries, worlds, metrics, statistics, claims, the whole run."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_agents.planning import PLANNERS as REGISTERED
from wm_agents.studies import latent_action_claims, latent_action_report, latent_actions, statistics, worlds
from wm_agents.studies.worlds import COUPLINGS, GEOMETRIES, Problems

SOLVED = 1e-4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Geometries


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(GEOMETRIES),
    dim=st.integers(4, 12),
    seed=st.integers(0, 1000),
    scale=st.floats(0.01, 20),
)
def test_projection_is_idempotent_and_no_sample_is_nearer(name, dim, seed, scale):
    geometry = worlds.draw_geometry(name, 2, dim, seeded(seed))
    actions = scale * torch.randn(2, 3, 5, dim, generator=seeded(seed + 1))
    valid = geometry.project(actions)
    assert valid.shape == actions.shape
    torch.testing.assert_close(geometry.project(valid), valid, rtol=0, atol=1e-4)
    if name != "vae":  # nearest centre, then its ball: the nearest valid action only where balls do not overlap
        others = geometry.project(geometry.sample(200, seeded(seed + 2)))
        nearest = torch.cdist(actions.flatten(1, 2), others).amin(-1)
        assert ((actions - valid).norm(dim=-1).flatten(1) <= nearest + 1e-3).all()


def test_samples_lie_on_the_support():
    for dim in (4, 32):
        vae, sparse, vq = (worlds.draw_geometry(name, 4, dim, seeded()) for name in GEOMETRIES)
        for geometry, share in ((vae, 0.99), (sparse, 1.0)):
            samples = geometry.sample(2000, seeded(1))
            inside = (samples - geometry.project(samples)).norm(dim=-1) < SOLVED
            assert inside.float().mean() >= share
        samples = vq.sample(2000, seeded(1))
        noise = samples - vq.project(samples)
        assert noise.std().item() == pytest.approx(worlds.VQ_STD, rel=0.02)
        assert (sparse.sample(100, seeded(2)) != 0).sum(-1).eq(int(0.3 * dim)).all()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_spread_is_the_standard_deviation_of_samples(name):
    geometry = worlds.draw_geometry(name, 2000, 8, seeded())
    assert geometry.sample(20, seeded(1)).std().item() == pytest.approx(geometry.spread, rel=0.03)


def test_derivatives_through_the_couplings():
    problems = Problems.draw(3, 8, 0)
    for geometry in GEOMETRIES:
        for coupling in COUPLINGS:
            actions = torch.randn(3, 2, 4, 8, generator=seeded(1)).requires_grad_()
            (slope,) = torch.autograd.grad(problems.cost([(geometry, coupling)])(actions).sum(), actions)
            assert torch.isfinite(slope).all()
            if coupling == "support" and geometry == "vq":
                assert (slope == 0).all(), "codes do not move with the action"
            else:
                assert (slope != 0).any(-1).all()
            if coupling == "support" and geometry == "sparse":
                assert (slope != 0).sum(-1).eq(2).all(), "only kept coordinates have a slope"


# Worlds and costs


@settings(deadline=None, max_examples=20)
@given(batch=st.integers(1, 4), dim=st.integers(4, 10), seed=st.integers(0, 10_000))
def test_worlds_are_stable_and_follow_equation_4(batch, dim, seed):
    world = worlds.World.draw(batch, dim, seeded(seed))
    radius = np.abs(np.linalg.eigvals(world.transition.double().numpy())).max(-1)
    assert (radius < 0.9).all()
    start, actions = torch.randn(batch, dim, generator=seeded(1)), torch.randn(batch, 2, 3, dim, generator=seeded(2))
    states = world.rollout(start, actions)
    for row in range(batch):
        state = start[row]
        for step in range(3):
            state = torch.tanh(
                world.transition[row] @ state + world.action_map[row] @ actions[row, 1, step] + world.bias[row]
            )
            torch.testing.assert_close(states[row, 1, step], state, rtol=1e-4, atol=1e-5)


def test_cases_are_stacked_and_do_not_mix():
    problems = Problems.draw(3, 4, 5)
    cases = [(geometry, coupling) for geometry in GEOMETRIES for coupling in COUPLINGS]
    actions = 3 * torch.randn(len(cases) * 3, 6, 5, 4, generator=seeded())
    together = problems.cost(cases)(actions)
    for case, rows, costs in zip(cases, actions.chunk(len(cases)), together.chunk(len(cases)), strict=True):
        torch.testing.assert_close(problems.cost([case])(rows), costs)
    valid = torch.cat([problems.geometries[geometry].project(actions[:3]) for geometry in GEOMETRIES])
    support = problems.cost([(geometry, "support") for geometry in GEOMETRIES])(valid)
    free = problems.cost([(geometry, "free") for geometry in GEOMETRIES])(valid)
    penalised = problems.cost([(geometry, "penalty") for geometry in GEOMETRIES])(valid)
    torch.testing.assert_close(support, free)
    torch.testing.assert_close(penalised, free)
    with pytest.raises(ValueError, match="Did you mean 'support'"):
        problems.cost([("vae", "suport")])
    with pytest.raises(ValueError, match="Known: sparse, vae, vq"):
        problems.cost([("gan", "free")])


def test_guidance_is_equation_10_and_leaves_the_cost_alone():
    problems = Problems.draw(2, 4, 1)
    actions = torch.randn(2, 3, 5, 4, generator=seeded()).requires_grad_()
    guided = problems.cost([("vae", "free")], guidance=True)(actions)
    torch.testing.assert_close(guided, problems.cost([("vae", "free")])(actions))
    (slope,) = torch.autograd.grad(guided.sum(), actions)
    error = problems.world.rollout(problems.start, actions.detach())[:, :, -1] - problems.goal[:, None]
    expected = torch.einsum("bij,bsi->bsj", problems.world.action_map, error)
    torch.testing.assert_close(slope, expected.unsqueeze(2).expand_as(slope))


# Metrics with known values


def test_effective_dimension_counts_equal_directions():
    noise = torch.randn(1, 20_000, 6, generator=seeded())
    assert worlds.effective_dimension(noise).item() == pytest.approx(6, rel=0.01)
    assert worlds.effective_dimension(noise * torch.tensor([1, 1, 0, 0, 0, 0])).item() == pytest.approx(2, rel=0.01)
    two = worlds.effective_dimension(noise[..., :2] * torch.tensor([1.0, 2.0])).item()
    assert two == pytest.approx((1 + 4) ** 2 / (1 + 16), rel=0.02)
    torch.testing.assert_close(worlds.effective_dimension(3 * noise + 1), worlds.effective_dimension(noise))


def test_amenability_of_two_points():
    # Both at the root mean square distance, one direction of four, half of all pairs 2 apart.
    samples = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]).repeat(500, 1)[None]
    apart = 2 * 500 / 999
    expected = 0.4 + 0.3 * (1 - 1 / 4) + 0.3 / (1 + apart / 2)
    assert worlds.amenability(samples).item() == pytest.approx(expected, abs=1e-4)


def test_smoothness_is_the_mean_step():
    start = torch.zeros(1, 2)
    states = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 5.0]])[None, None]
    assert worlds.smoothness(start, states).item() == pytest.approx((5 + 0 + 1) / 3)
    assert worlds.goal_distance(states, torch.tensor([[3.0, 1.0]])).item() == pytest.approx(4)


def test_too_small_a_dimension_is_refused():
    with pytest.raises(ValueError, match="at least 4 dimensions"):
        worlds.draw_geometry("sparse", 1, 3, seeded())


# Statistics


def test_mean_interval_and_sign():
    mean, half = statistics.mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, half) == (3, pytest.approx(2.776 * math.sqrt(2.5 / 5), rel=1e-3))
    assert [statistics.sign_of_mean(values) for values in ([1, 1.1, 1.2], [-1, -2], [1, -1, 0.5])] == [1, 0, 0]
    assert statistics.sign_of_mean([-1, -1.1, -1.2]) == -1
    with pytest.raises(ValueError, match="at least 2"):
        statistics.mean_interval([1.0])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12))
def test_rank_correlation_matches_scipy(pairs):
    stats = pytest.importorskip("scipy.stats")
    first, second = zip(*pairs, strict=True)
    varied = len(set(first)) > 1 and len(set(second)) > 1
    expected = stats.spearmanr(first, second).statistic if varied else 0
    assert statistics.rank_correlation(first, second) == pytest.approx(expected)


# The run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with the search cut short: what is written, not what is found."""
    short = {"gradient": {"steps": 3}, "sgld": {"steps": 3}, "cem": {"iterations": 2}, "mppi": {"iterations": 2}}
    make, out = latent_actions.planning.make, tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            latent_actions.planning, "make", lambda name, **options: make(name, **(options | short.get(name, {})))
        )
        return out, latent_actions.run(out, seeds=(0, 1, 2), quick=True, progress=False)


def test_a_run_writes_numbers_figures_and_report(run):
    out, results = run
    names = {f"figure-{number}.png" for number in range(1, 9)} | {"cells", "latent-actions.json", "latent-actions.md"}
    assert {path.name for path in out.iterdir()} == names
    saved = json.loads((out / "latent-actions.json").read_text(encoding="utf-8"))
    assert saved["settings"]["quick"] is True
    assert saved["settings"]["seeds"] == [0, 1]
    settings_each = len(GEOMETRIES) * (2 * 2 + 1)  # d x h, and the other start at d = h = 8
    assert len(saved["cells"]) == settings_each * (2 * 4 + 3 * 3)
    assert all(len(cell["goal_distance"]) == 2 for cell in saved["cells"])
    # Read back, the same report follows.
    for key in ("claims", "correlations"):
        assert [*saved[key]] == [*json.loads(json.dumps(results[key]))]
    text = latent_action_report.as_markdown(saved)
    assert text.startswith("# Planning in latent action spaces")
    assert "nan" not in text
    assert "not a result" in text


def test_executed_plans_on_the_support_end_where_planned(run):
    for cell in run[1]["cells"]:
        if cell["coupling"] == "support":
            assert cell["executed"] == pytest.approx(cell["goal_distance"], abs=1e-4)


def test_claims_with_differences_of_known_sign(run):
    results = json.loads(json.dumps(run[1]))
    for cell in results["cells"]:
        cell["goal_distance"] = [{"cem": 1.0, "gradient": 2.0}.get(cell["planner"], 3.0)] * 2
    verdicts = {claim["text"]: claim["verdicts"] for claim in latent_action_claims.judge(results)}
    lowest = verdicts["CEM reaches the lowest goal distance, geometries averaged"]
    assert lowest["free"] == {"verdict": "agrees", "holds": 4, "reversed": 0, "of": 4}
    assert verdicts["Gradient planning is best on VAE"]["free"]["verdict"] == "does not"
    assert verdicts["All planners get worse with every doubling of d"]["free"]["verdict"] == "open"
    assert set(verdicts["Amenability rises with d"]) == {"any"}


def test_planners_have_the_constants_and_counts_of_the_paper():
    problems = Problems.draw(2, 8, 0)
    counts = {
        name: latent_actions.search(problems, name, 8, "centre", 0, ["vae"])[1] for name in latent_actions.PLANNERS
    }
    # The final mean, and the last step of a descent, are scored once more.
    assert counts == {"cem": 2001, "mppi": 2001, "gradient": 101, "sgld": 201, "diffusion": 1050}
    assert "diffusion-guidance" in REGISTERED
    with pytest.raises(ValueError, match="Did you mean 'sgld'"):
        latent_actions.make_planner("sgd", 8, 1.0)


def test_searches_agree_with_one_problem_alone_and_stay_in_the_box():
    problems = Problems.draw(3, 4, 7)
    plans, _ = latent_actions.search(problems, "diffusion", 4, "centre", 3)
    geometries = {name: worlds.draw_geometry(name, 1, 4, seeded()) for name in GEOMETRIES}
    world = worlds.World(problems.world.transition[:1], problems.world.action_map[:1], problems.world.bias[:1])
    alone = Problems(world, geometries, problems.start[:1], problems.goal[:1])
    single, _ = latent_actions.search(alone, "diffusion", 4, "centre", 3)
    torch.testing.assert_close(single["vae", "free"], plans["vae", "free"][:1], rtol=0, atol=1e-4)
    assert all(actions.abs().max() <= worlds.BOX for actions in plans.values())


def test_gradients_do_not_move_on_codes_but_do_straight_through():
    problems = Problems.draw(2, 4, 0)
    plans, _ = latent_actions.search(problems, "gradient", 4, "centre", 0)
    assert (plans["vq", "support"] == 0).all()
    assert (plans["vq", "straight-through"] != 0).any()


@pytest.mark.parametrize(("options", "message"), [({"seeds": (0,)}, "at least 2 seeds"), ({"dims": (4,)}, "keep 8")])
def test_a_grid_without_what_the_tables_need_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        latent_actions.Grid(**options)
