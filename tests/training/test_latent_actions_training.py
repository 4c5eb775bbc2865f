"""Training of latent action spaces: what its windows are, what it learns, and that it resumes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from latent_networks import KINDS, network

from wm_agents.datasets import TrajectoryDataset
from wm_agents.models import LatentActionConfig
from wm_agents.training.latent_actions import (
    LatentActionTrainingConfig,
    draw_windows,
    latent_action_loss,
    train_latent_actions,
)


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
        name="points",
        env_id="",
        pixels=np.zeros((frames, 16, 16, 3), np.uint8),
        actions=actions.reshape(frames, 2),
        states=position,
        starts=np.arange(episodes) * (steps + 1),
        lengths=np.full(episodes, steps),
        action_low=-np.ones(2, np.float32),
        action_high=np.ones(2, np.float32),
        state_names=("x", "y"),
        provenance={},
        episode_ids=np.arange(episodes),
    )
    mixing = rng.normal(size=(2, 6)) / np.sqrt(2)
    return data, torch.from_numpy((position @ mixing).astype(np.float32))


@pytest.fixture(scope="module")
def windows(world_model, points):
    """Windows of 4 blocks of 3 actions."""
    data, z = points
    return draw_windows(world_model(), data, z, 4, 64, np.random.default_rng(0))


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


def test_training_measures_the_space_and_resumes_to_the_same(world_model, points, tmp_path, monkeypatch):
    data, z = points
    monkeypatch.setattr("wm_agents.training.learner.encode_frames", lambda *_, **__: z)
    monkeypatch.setattr("wm_agents.training.learner.check_dataset_fits", lambda *_: None)

    def train(**options):
        shape = LatentActionConfig(size=3, regulariser="vq", codes=4, width=16)
        training = LatentActionTrainingConfig(steps=12, batch_size=32, evaluate_every=6)
        return train_latent_actions(world_model(), data, shape, training, progress=False, **options)[0]

    whole = train()
    train(run_dir=tmp_path, callback=lambda _, step: step < 6)
    resumed = train(run_dir=tmp_path)
    assert not whole.training
    assert (whole.config.latent_size, whole.config.action_block) == (6, 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert (whole.low < 0).all()
    assert (whole.high > 0).all()
