"""Latent action spaces: what their regularisers promise, and how plans in them unroll."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from latent_networks import KINDS, latents, network

from wm_agents.models.heads.latent_actions import sparse_penalty


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
