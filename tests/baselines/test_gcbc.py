"""Behaviour cloning from pixels: an agent like the others, without a world model."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

import wm_agents
from wm_agents.baselines import GCBCTrainingConfig, train_gcbc
from wm_agents.baselines.gcbc import GCBCLearner
from wm_agents.baselines.offline import shifted

pytest_plugins = ["trained"]

SHORT = GCBCTrainingConfig(steps=6, batch_size=16, evaluate_every=3, width=16)
UMAZE = "wm/PointMaze-UMaze-v0"


@pytest.fixture(scope="module")
def agent(small_dataset):
    return train_gcbc(small_dataset, SHORT, device="cpu", progress=False)


def test_it_acts_saves_and_loads_like_every_agent(agent, tmp_path):
    env = gym.make(UMAZE)
    observation, _ = env.reset(seed=0)
    action, _ = agent.predict(observation)
    assert env.action_space.contains(action)
    agent.save(tmp_path / "gcbc.safetensors")
    again = wm_agents.load(tmp_path / "gcbc.safetensors", env=env, device="cpu")
    np.testing.assert_array_equal(again.predict(observation)[0], action)
    assert again.provenance["baseline"] == "gcbc"
    assert again.env_id == UMAZE


def test_nothing_can_be_imagined_with_it(agent, tmp_path):
    agent.save(tmp_path / "gcbc.safetensors")
    observation, _ = gym.make(UMAZE).reset(seed=0)
    with pytest.raises(ValueError, match="no world model"):
        wm_agents.load(tmp_path / "gcbc.safetensors", agent="cem", device="cpu").predict(observation)


def test_encoder_and_policy_learn_together(small_dataset):
    learner = GCBCLearner(small_dataset, SHORT, "cpu")
    module = learner.module = learner.build().train()
    loss, _ = learner.loss(learner.train_data, 8, np.random.default_rng(0), torch.Generator())
    loss.backward()
    for part in ("encoder", "policy"):
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in module[part].parameters())


def test_a_run_goes_on_and_ends_like_one_that_was_not_interrupted(agent, small_dataset, tmp_path):
    learner = GCBCLearner(small_dataset, SHORT, "cpu")
    learner.fit(run_dir=tmp_path, callback=lambda _, step: step < 3, progress=False)
    assert (tmp_path / "training" / "gcbc.safetensors").exists()
    resumed = train_gcbc(small_dataset, SHORT, run_dir=tmp_path, device="cpu", progress=False)
    for name, value in agent.get_parameters()["policy"].items():
        torch.testing.assert_close(resumed.get_parameters()["policy"][name], value, rtol=0, atol=0)
    loaded = train_gcbc(small_dataset, SHORT, run_dir=tmp_path, device="cpu", progress=False)
    assert loaded.history == resumed.history


def test_all_images_of_a_batch_are_shifted_alike():
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)).expand(4, -1, -1, -1)
    found = shifted(pixels, rng)
    assert found.shape == pixels.shape
    assert found.dtype == torch.uint8
    assert (found == found[:1]).all()
    matches = [
        (found[0, 3:-3, 3:-3] == pixels[0, 3 + down : 13 + down, 3 + right : 13 + right]).all()
        for down in range(-3, 4)
        for right in range(-3, 4)
    ]
    assert sum(map(bool, matches)) == 1
