"""Offline reinforcement learning from pixels: values that fall with the distance to the goal, and who acts by them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from walk import LENGTH

import wm_agents
from wm_agents.baselines import GCIVLTrainingConfig, train_gcivl
from wm_agents.baselines.gcivl import GCIVLLearner

pytest_plugins = ["trained", "walk"]


def short(**options) -> GCIVLTrainingConfig:
    return GCIVLTrainingConfig(**{"steps": 4, "batch_size": 16, "evaluate_every": 2, "width": 16, **options})


def test_values_fall_with_the_distance_to_the_goal_and_the_way_is_cloned(walk):
    options = {"learning_rate": 2e-3, "target_rate": 0.1, "discount": 0.9, "augment": 0.0, "width": 32}
    learner = GCIVLLearner(walk, short(steps=250, batch_size=32, evaluate_every=250, **options), "cpu")
    learner.fit(progress=False)
    goal = 8
    frames = torch.from_numpy(walk.pixels[: goal + 1])
    with torch.no_grad():
        z = learner.values.encoder(frames)
        found = learner.values(z, z[-1:].expand(goal + 1, -1)).mean(dim=0).numpy()
        z = learner.encoder.encode(frames)
        action = learner.policy(z, z, z[-1:].expand(goal + 1, -1), torch.zeros(goal + 1, dtype=torch.int64))
    exact = -(1 - 0.9 ** np.arange(goal, -1, -1)) / (1 - 0.9)  # minus the discounted steps to the goal
    assert np.corrcoef(found, exact)[0, 1] > 0.95
    assert np.abs(found - exact).mean() < 1.5
    assert (action[:goal, 0] > 0.9).all()


def test_targets_follow_and_are_not_trained(walk):
    learner = GCIVLLearner(walk, short(), "cpu")
    learner.module = learner.build().train()
    with torch.no_grad():
        for weight in learner.values.parameters():
            weight += 1.0
    before = [weight.clone() for weight in learner.targets.parameters()]
    loss, parts = learner.loss(learner.train_data, 8, np.random.default_rng(0), torch.Generator())
    loss.backward()
    assert {"value", "policy"} < set(parts)
    for old, target, weight in zip(before, learner.targets.parameters(), learner.values.parameters(), strict=True):
        torch.testing.assert_close(target, old + 0.005 * (weight - old))
        assert target.grad is None
    for part in (learner.encoder, learner.policy, learner.values):
        assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in part.parameters())


def test_goals_are_the_frame_itself_later_ones_and_any(walk):
    learner = GCIVLLearner(walk, short(), "cpu")
    rng = np.random.default_rng(0)
    frame = walk.segments(5000, 1, rng)
    near, far = learner._goals(walk, frame, rng)
    last = walk.starts[walk.episode_of(frame)] + LENGTH
    assert ((frame < far) & (far <= last)).all()
    assert 0.15 < (near == frame).mean() < 0.27
    ahead = (near > frame) & (near <= last)
    assert 0.45 < ahead.mean() < 0.75
    assert (walk.episode_of(near) != walk.episode_of(frame)).any()


def test_a_run_goes_on_acts_and_is_saved(small_dataset, tmp_path):
    whole = train_gcivl(small_dataset, short(), device="cpu", progress=False)
    GCIVLLearner(small_dataset, short(), "cpu").fit(run_dir=tmp_path, callback=lambda _, step: step < 2, progress=False)
    agent = train_gcivl(small_dataset, short(), run_dir=tmp_path, device="cpu", progress=False)
    for name, value in whole.get_parameters()["policy"].items():
        torch.testing.assert_close(agent.get_parameters()["policy"][name], value, rtol=0, atol=0)
    agent.save(tmp_path / "agent.safetensors")
    env = gym.make("wm/PointMaze-UMaze-v0")
    again = wm_agents.load(tmp_path / "agent.safetensors", env=env, device="cpu")
    assert env.action_space.contains(again.predict(env.reset(seed=0)[0])[0])
    assert again.provenance["baseline"] == "gcivl"
