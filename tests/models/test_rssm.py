"""What is particular to the recurrent state-space model: it samples, and its divergence has free nats."""

from __future__ import annotations

import pytest
import torch
from tiny_kinds import BLOCK, close, images, make, normal


def test_training_samples_around_the_latents():
    model, frames, actions = make("rssm"), images(5, 4), normal(5, 3, BLOCK)
    means = model.learn(frames, actions, torch.Generator()).z
    close(means, model.encode(frames))
    model.train()
    samples = [model.learn(frames, actions, torch.Generator().manual_seed(seed)).z for seed in (0, 0, 1)]
    assert torch.equal(samples[0], samples[1])
    away = (samples[0] - samples[2]).std() / 2**0.5
    assert away > 0.1  # at least the least standard deviation


def test_free_nats_let_the_divergence_be():
    model = make("rssm", free_nats=1e6).train()
    batch = model.learn(images(5, 4), normal(5, 3, BLOCK), torch.Generator())
    assert batch.own["kl"].item() == pytest.approx(1.1e6)
    batch.own["kl"].backward()
    assert not any(weight.grad is not None and weight.grad.any() for weight in model.parameters())
