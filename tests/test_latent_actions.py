"""Latent action spaces: what their regularisers promise, what training learns, what planning in them executes."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_agents import planning
from wm_agents.datasets import TrajectoryDataset
from wm_agents.evaluation import make_manifest
from wm_agents.models.latent_actions import LatentActionConfig, LatentActions, sparse_penalty
from wm_agents.studies import learned_latents
from wm_agents.studies.latent_control import DecodedActions, LatentMPC, LearnedActions, RealActions
from wm_agents.studies.learned_latents_report import markdown
from wm_agents.training.latent_actions import (
    LatentActionTrainingConfig,
    draw_windows,
    latent_action_loss,
    train_latent_actions,
)

sys.path.insert(0, str(Path(__file__).parent / "helpers"))
pytest_plugins = ["trained"]

KINDS = ["vae", "sparse", "vq"]


def network(regulariser: str = "vae", **shape) -> LatentActions:
    """A tiny one on 6 latents and blocks of 3 x 2."""
    torch.manual_seed(0)
    defaults = {"latent_size": 6, "action_size": 2, "action_block": 3, "size": 4, "codes": 5, "width": 16}
    return LatentActions(LatentActionConfig(regulariser=regulariser, **{**defaults, **shape})).eval()


def latents(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def points():
    """Ten episodes of a point with inertia, and its latents: six linear functions of the position, of spread 1."""
    rng = np.random.default_rng(0)
    episodes, steps = 10, 40
    actions = rng.uniform(-1, 1, (episodes, steps + 1, 2)).astype(np.float32)
    actions = (actions + np.repeat(actions[:, ::10], 10, axis=1)[:, : steps + 1]) / 2
    actions[:, -1] = 0
    velocity = np.zeros((episodes, 2))
    position = [np.zeros((episodes, 2))]
    for step in range(steps):
        velocity = 0.8 * velocity + 0.2 * actions[:, step]
        position.append(position[-1] + velocity)
    position = np.stack(position, axis=1).reshape(-1, 2)
    position = (position - position.mean(axis=0)) / position.std(axis=0)
    frames = episodes * (steps + 1)
    data = TrajectoryDataset(
        name="points", env_id="", pixels=np.zeros((frames, 16, 16, 3), np.uint8), actions=actions.reshape(frames, 2),
        states=position, starts=np.arange(episodes) * (steps + 1), lengths=np.full(episodes, steps),
        action_low=-np.ones(2, np.float32), action_high=np.ones(2, np.float32), state_names=("x", "y"), provenance={},
        episode_ids=np.arange(episodes),
    )  # fmt: skip
    mixing = rng.normal(size=(2, 6)) / np.sqrt(2)
    return data, torch.from_numpy((position @ mixing).astype(np.float32))


@pytest.fixture(scope="module")
def windows(world_model, points):
    """Windows of 4 blocks of 3 actions."""
    data, z = points
    return draw_windows(world_model(), data, z, 4, 64, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"regulariser": "vqq"}, "Did you mean 'vq'"),
        ({"codes": 1}, "codes must be at least 2"),
        ({"kl_weight": -1.0}, "kl_weight must be at least 0"),
        ({"sparsity": math.inf}, "sparsity must be at least 0 and finite"),
    ],
)
def test_a_bad_shape_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        LatentActionConfig(**wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes(kind):
    model = network(kind)
    z = latents(3, 7, 6)
    u = model.infer(z, z, z + 1)
    assert u.shape == (3, 7, 4)
    assert model.predict(z, z, u).shape == (3, 7, 6)
    assert model.decode(z, z, u).shape == (3, 7, 6)
    sampled, penalty = model(z[0], z[0], z[0] + 1)
    assert sampled.shape == (7, 4)
    assert penalty.shape == ()
    assert penalty >= 0


# The regularisers.


def test_vae_samples_in_training_only_and_its_penalty_is_the_divergence():
    model = network("vae", kl_weight=1.0)
    z = latents(50, 6)
    assert torch.equal(model(z, z, z + 1)[0], model.infer(z, z, z + 1))
    mean, log_variance = model._encode(z, z, z + 1).chunk(2, dim=-1)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    divergence = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(-1).mean()
    torch.testing.assert_close(model(z, z, z + 1)[1], divergence)
    model.train()
    assert not torch.equal(model(z, z, z + 1)[0], model(z, z, z + 1)[0])


@pytest.mark.parametrize("size", [2, 9])
def test_sparse_penalty_prefers_few_active_numbers_off_zero(size):
    """On the hinge's shell the L1 term tells one active number from all of them; zero pays for the hinge."""
    radius = size**0.25
    axes = torch.cat([torch.eye(size), -torch.eye(size)]) * radius
    signs = torch.tensor([[(-1.0) ** (row >> j & 1) for j in range(size)] for row in range(2**size)])
    spread = signs * radius / math.sqrt(size)
    zero = torch.zeros(8, size)
    assert sparse_penalty(axes, 1.0) - sparse_penalty(axes, 0.0) == pytest.approx(radius, rel=1e-5)
    assert sparse_penalty(spread, 1.0) - sparse_penalty(spread, 0.0) == pytest.approx(
        radius * math.sqrt(size), rel=1e-5
    )
    assert sparse_penalty(zero, 1.0) > math.sqrt(size)
    wide = 3 * spread  # beyond the shell, with standard deviation above 1 and no covariance: nothing left to pay
    assert sparse_penalty(wide, 0.0) < 0.01


def test_sparse_penalty_charges_for_a_mean_and_for_copies():
    u = 2 * latents(512, 4)
    assert sparse_penalty(u + 3, 0.0) > sparse_penalty(u, 0.0) + 0.5
    assert sparse_penalty(u[:, :1].expand(-1, 4), 0.0) > sparse_penalty(u, 0.0)


def test_vq_infers_its_codes_and_nothing_else():
    model = network("vq", codes=5)
    u = model.infer(latents(500, 6), latents(500, 6, seed=1), latents(500, 6, seed=2))
    assert len(u.unique(dim=0)) <= 5
    assert all(any(torch.equal(row, code) for code in model.codebook) for row in u.unique(dim=0))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100.0))
def test_vq_projects_to_the_nearest_code_once(seed, scale):
    model = network("vq", codes=7)
    u = scale * latents(40, 4, seed=seed)
    nearest = torch.cdist(u.double(), model.codebook.double()).argmin(-1)
    assert torch.equal(model.project(u), model.codebook[nearest])
    assert torch.equal(model.project(model.project(u)), model.project(u))


def test_vq_passes_gradients_straight_through():
    model = network("vq").requires_grad_(False)
    u = latents(10, 4).requires_grad_()
    (model.project(u) * torch.arange(4.0)).sum().backward()
    assert torch.equal(u.grad, torch.arange(4.0).expand(10, 4))


def test_vq_places_dead_codes_on_the_data():
    """Codes far from everything are never used; the first training batch moves all of them to encoded rows."""
    model = network("vq").train()
    with torch.no_grad():
        model.codebook += 100
    z = latents(64, 6)
    encoded = model._encode(z, z, z + 1).detach()
    model(z, z, z + 1)
    assert all((encoded == code).all(dim=1).any() for code in model.codebook)
    with torch.no_grad():
        model.codebook[0] += 100
    for _ in range(400):
        model(z, z, z + 1)
    assert model.codebook[0].abs().max() < 50
    model.eval()
    before = model.codebook.detach().clone(), model.usage.clone()
    model(z, z, z + 1)
    assert torch.equal(before[0], model.codebook)
    assert torch.equal(before[1], model.usage)


@pytest.mark.parametrize("kind", ["vae", "sparse"])
def test_other_spaces_are_executed_as_they_are(kind):
    u = latents(10, 4)
    assert torch.equal(network(kind).project(u), u)


# Units and rollouts.


def test_bounds_are_percentiles_of_standardised_actions():
    model = network()
    u = latents(5000, 4) * torch.tensor([1.0, 3.0, 10.0, 0.0]) + 5
    model.measure(u)
    low, high = model.bounds()
    torch.testing.assert_close(model.destandardise(model.standardise(u)), u, atol=1e-4, rtol=1e-4)
    inside = (model.standardise(u) >= low) & (model.standardise(u) <= high)
    assert torch.allclose(inside[:, :3].float().mean(0), torch.full((3,), 0.96), atol=0.002)
    assert torch.isfinite(low).all()
    assert (low <= high).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seen", [1, 2, 3])
def test_a_rollout_is_its_steps_and_each_row_is_alone(kind, seen):
    model = network(kind)
    model.measure(latents(100, 4, seed=4) * 2 + 1)
    z, actions = latents(3, seen, 6), latents(3, 5, 4, 4, seed=1)
    imagined = model.rollout(z, actions)
    assert imagined.shape == (3, 5, 4, 6)
    before, now = z[1, max(-2, -seen)], z[1, -1]
    for h in range(4):
        now, before = model.predict(before, now, model.destandardise(actions[1, 2, h])), now
        torch.testing.assert_close(imagined[1, 2, h], now)
    torch.testing.assert_close(model.rollout(z[1:2], actions[1:2]), imagined[1:2])


# Training.


def test_windows_are_cut_from_single_episodes(world_model, points, windows):
    (data, z), model = points, world_model()
    episode = np.searchsorted(data.starts, windows.frame, side="right") - 1
    offset = windows.frame - data.starts[episode]
    assert (offset + 12 <= data.lengths[episode]).all()
    assert (offset < 3).any()
    assert torch.equal(windows.z[:, 3], z[torch.from_numpy(windows.frame + 9)])
    before = np.where(offset < 3, windows.frame, windows.frame - 3)
    assert torch.equal(windows.before, z[torch.from_numpy(before)])
    assert torch.equal(windows.previous[:, 2], windows.z[:, 1])
    taken = data.actions[windows.frame[:, None] + 6 + np.arange(3)].reshape(64, 6)
    torch.testing.assert_close(windows.blocks[:, 2], model.normalize(torch.from_numpy(taken)))
    hidden = draw_windows(model, data, z, 4, 64, np.random.default_rng(0), first_fraction=1.0)
    assert torch.equal(hidden.before, hidden.z[:, 0])


def test_windows_longer_than_any_episode_are_refused(world_model, points):
    with pytest.raises(ValueError, match="holds 14 blocks of 3 actions, the longest has 40"):
        draw_windows(world_model(), *points, 14, 8, np.random.default_rng(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_can_be_learned(kind, windows):
    """Also: the forward model depends on the latent action, which the decoder turns into what was done."""
    model = network(kind, codes=32, width=32, kl_weight=1e-4).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(200):
        optimizer.zero_grad()
        latent_action_loss(model, windows).backward()
        optimizer.step()
    model.eval()
    previous, z, z_next = windows.previous, windows.z[:, :-1], windows.z[:, 1:]
    u = model.infer(previous, z, z_next)
    moved = (z_next - z).square().mean()
    error = (model.predict(previous, z, u) - z_next).square().mean()
    blind = (model.predict(previous, z, u[torch.randperm(len(u))]) - z_next).square().mean()
    assert error < 0.15 * moved
    assert error < 0.5 * blind
    mean, decoded = (b.unflatten(-1, (3, 2)).mean(-2) for b in (windows.blocks, model.decode(previous, z, u)))
    assert (decoded - mean).square().mean() < 0.4 * mean.var(dim=(0, 1)).mean()


def test_real_actions_teach_the_decoder_alone(windows):
    model = network("vae")
    gradients = []
    for blocks in (windows.blocks, 3 * windows.blocks + 1):
        model.zero_grad()
        latent_action_loss(model, dataclasses.replace(windows, blocks=blocks)).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]) == (not name.startswith("decoder")), name


def test_training_measures_the_space_and_resumes_to_the_same(world_model, points, tmp_path):
    data, z = points

    def train(**options):
        return train_latent_actions(
            world_model(), data, LatentActionConfig(size=3, regulariser="vq", codes=4, width=16),
            LatentActionTrainingConfig(steps=12, batch_size=32, evaluate_every=6), latents=z, progress=False, **options,
        )[0]  # fmt: skip

    whole = train()
    train(run_dir=tmp_path, on_step=lambda _, step: step < 6)
    resumed = train(run_dir=tmp_path)
    assert not whole.training
    assert (whole.config.latent_size, whole.config.action_block) == (6, 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert (whole.low < 0).all()
    assert (whole.high > 0).all()


@pytest.mark.parametrize("wrong", [{"blocks": 0}, {"first_fraction": 1.5}])
def test_bad_training_options_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LatentActionTrainingConfig(**wrong)


# Planning.


def tiny_space(world_model, kind: str = "vae"):
    if kind == "real":
        return RealActions(world_model)
    sizes = world_model.config
    model = network(kind.split()[0], latent_size=sizes.latent_size, action_block=sizes.action_block, codes=6)
    model.measure(latents(200, 4))
    return DecodedActions(model, world_model) if kind.endswith("decoded") else LearnedActions(model)


SPACES = ["real", *KINDS, "vae decoded"]


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("planner", ["cem", "gradient"])
def test_each_environment_gets_the_plan_that_it_gets_alone(world_model, kind, planner):
    model = world_model(history=2)
    space = tiny_space(model, kind)
    options = {"cem": {"samples": 12, "elites": 3, "iterations": 3}, "gradient": {"steps": 4, "restarts": 2}}
    searcher = planning.make(planner, horizon=3, **options[planner])
    agent = LatentMPC(model, space, searcher)
    rng = np.random.default_rng(0)

    def play(rows, steps=5):
        """Images depend on row and step alone, so that a batch and its rows see the same."""
        state, actions = None, []
        for step in range(steps):
            images = rng_images[rows, step]
            observation = {"pixels": images, "goal_pixels": goals[rows]}
            chosen, state = agent.predict(observation, state, np.full(len(rows), step == 0), deterministic=True)
            actions.append(chosen)
        return np.stack(actions, axis=1)

    rng_images = rng.integers(0, 256, (3, 5, 16, 16, 3), dtype=np.uint8)
    goals = rng.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    together = play(np.arange(3))
    low, high = model.action_low.numpy(), model.action_high.numpy()
    assert together.shape == (3, 5, 2)
    assert (together >= low).all()
    assert (together <= high).all()
    for row in range(3):
        np.testing.assert_allclose(play(np.array([row]))[0], together[row], atol=1e-4)


@pytest.mark.parametrize("kind", SPACES)
def test_the_agent_executes_the_decoded_plan_and_counts_it(world_model, kind):
    model = world_model(history=2)
    space = tiny_space(model, kind)
    searcher = planning.make("cem", horizon=2, samples=8, elites=2, iterations=2)
    agent = LatentMPC(model, space, searcher, seed=3)
    images = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    actions, state = agent.predict({"pixels": images, "goal_pixels": images[::-1]})
    z = agent.encode(images).unsqueeze(1)
    plan = torch.from_numpy(state[2][:, 0])
    low, high = space.bounds()
    assert ((plan >= low) & (plan <= high)).all()
    block = model.denormalize(space.decode(z, plan[:, 0]).detach()).numpy()
    np.testing.assert_allclose(actions, block.reshape(2, 3, 2)[:, 0], atol=1e-5)
    record = agent.last_decision
    assert (record.plans, record.evaluations) == (2, 2 * 2 * 17)  # 8 x 2 sequences and the mean, 2 blocks, 2 plans
    for step in range(1, 3):  # the rest of the block, without planning
        actions, state = agent.predict({"pixels": images, "goal_pixels": images[::-1]}, state, np.zeros(2, bool))
        np.testing.assert_allclose(actions, block.reshape(2, 3, 2)[:, step], atol=1e-5)
        assert agent.last_decision.plans == 0


def test_decoded_actions_imagine_what_the_world_model_does_with_the_blocks(world_model):
    model = world_model(history=2)
    space = tiny_space(model, "vae decoded")
    z, past, actions = latents(2, 2, 6), latents(2, 1, 6), latents(2, 4, 3, 4)
    imagined = space.imagine(z, past, actions)
    low, high = model.block_bounds()
    seen, blocks = z, []
    for h in range(3):
        blocks.append(space.decode(seen, actions[:, 1, h]).clamp(low, high))
        real = model.rollout(z, past, torch.stack(blocks, dim=1).unsqueeze(1))[:, 0]
        seen = torch.cat([z, real], dim=1)
    torch.testing.assert_close(imagined[:, 1], real, atol=1e-5, rtol=1e-4)


def test_the_study_writes_everything(world_model, small_dataset, tmp_path, monkeypatch):
    agent = SimpleNamespace(world_model=world_model(image_size=64, action_block=5))
    monkeypatch.setattr(learned_latents, "load", lambda name: agent)
    monkeypatch.setattr(learned_latents, "load_dataset", lambda name: small_dataset)
    monkeypatch.setattr(
        learned_latents, "make_manifest", lambda *args, **kw: make_manifest(*args, **{**kw, "tasks": 1})
    )
    budget = {"samples": 8, "elites": 2, "iterations": 2}
    monkeypatch.setattr(learned_latents, "PLANNERS", {"cem": budget, "mppi": budget})
    found = learned_latents.run(tmp_path, quick=True, progress=False, planners=("cem", "mppi"))
    assert json.loads((tmp_path / "learned-latent-actions.json").read_text()) == json.loads(json.dumps(found))
    assert (tmp_path / "learned.png").stat().st_size > 10_000
    text = (tmp_path / "learned-latent-actions.md").read_text()
    assert text == markdown(found)
    assert "not a result" in text
    names = [space["name"] for space in found["spaces"]]
    assert names == ["real", "vae-4", "vae-4 decoded", "vq-10"]
    assert {(cell["space"], cell["planner"]) for cell in found["cells"]} == {
        (name, planner) for name in names for planner in ("cem", "mppi")
    }
    real = found["spaces"][0]
    assert real["decoder_error"] == 0
    assert all(len(cell["gap"]) == learned_latents.HORIZON for cell in found["cells"])
