"""Hierarchical implicit Q-learning: subgoals on the way, actions towards them, and an agent of two levels."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from walk import LENGTH

import wm_agents
from wm_agents import baselines
from wm_agents.baselines import HIQLTrainingConfig, train_hiql
from wm_agents.baselines.hiql import HIQLLearner
from wm_agents.checkpoint import CheckpointError
from wm_agents.models.heads.hiql import of_length

pytest_plugins = ["trained", "walk"]


def short(**options) -> HIQLTrainingConfig:
    return HIQLTrainingConfig(**{"steps": 4, "batch_size": 16, "evaluate_every": 2, "width": 16, **options})


def test_it_learns_values_subgoals_on_the_way_and_actions_towards_them(walk):
    options = {"learning_rate": 1e-3, "target_rate": 0.1, "discount": 0.9, "augment": 0.0, "width": 32}
    training = short(steps=300, batch_size=64, evaluate_every=300, subgoal_steps=3, **options)
    learner = HIQLLearner(walk, training, "cpu")
    learner.fit(progress=False)
    goal = 9
    frames = torch.from_numpy(walk.pixels[: goal + 1])
    with torch.no_grad():
        seen = learner.values.encoder(frames)
        found = learner.values(seen, seen[-1:].expand(goal + 1, -1)).mean(dim=0).numpy()
        z = learner.encoder.encode(frames)
        proposed = of_length(learner.policy.propose(z[:1], z[-1:]))
        codes = learner.values.code(seen[:1].expand(goal + 1, -1), seen)
        actions = learner.policy(z, z[-1:].expand(goal + 1, -1))
    exact = -(1 - 0.9 ** np.arange(goal, -1, -1)) / (1 - 0.9)  # minus the discounted steps to the goal
    assert np.corrcoef(found, exact)[0, 1] > 0.95
    assert int((codes - proposed).norm(dim=1).argmin()) in (2, 3, 4), "the subgoal is 3 steps ahead, not the goal"
    assert (actions[:goal, 0] > 0.9).all()


def test_every_part_learns_and_the_low_level_trains_the_codes(walk):
    learner = HIQLLearner(walk, short(), "cpu")
    learner.module = learner.build().train()
    total, parts = learner.loss(learner.train_data, 8, np.random.default_rng(0), torch.Generator())
    torch.testing.assert_close(total, parts["value"] + parts["low"] + parts["high"])

    def moved(part):
        return any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in part.parameters())

    parts["low"].backward(retain_graph=True)
    assert moved(learner.values.coder)
    assert not moved(learner.values.estimates)
    learner.module.zero_grad()
    parts["high"].backward(retain_graph=True)
    assert moved(learner.policy.high)
    assert not moved(learner.values), "what is proposed must not shape the codes"
    total.backward()
    assert all(moved(part) for part in (learner.encoder, learner.policy.low, learner.values.estimates))
    assert all(weight.grad is None for weight in learner.targets.parameters())


def test_subgoals_end_at_the_goal_and_at_the_end_of_the_episode(walk):
    learner = HIQLLearner(walk, short(subgoal_steps=5), "cpu")
    starts = walk.starts[[1, 1, 2]]
    subgoal, towards = learner._subgoals(walk, starts + np.array([0, 0, 10]), starts + np.array([9, 2, 11]))
    np.testing.assert_array_equal(subgoal - starts, [5, 2, 11])
    np.testing.assert_array_equal(towards - starts, [5, 5, LENGTH])


def test_a_run_goes_on_acts_and_is_saved(small_dataset, tmp_path):
    whole = train_hiql(small_dataset, short(), device="cpu", progress=False)
    HIQLLearner(small_dataset, short(), "cpu").fit(run_dir=tmp_path, callback=lambda _, step: step < 2, progress=False)
    agent = train_hiql(small_dataset, short(), run_dir=tmp_path, device="cpu", progress=False)
    for name, value in whole.get_parameters()["policy"].items():
        torch.testing.assert_close(agent.get_parameters()["policy"][name], value, rtol=0, atol=0)
    agent.save(tmp_path / "agent.safetensors")
    env = gym.make("wm/PointMaze-UMaze-v0")
    observation, _ = env.reset(seed=0)
    again = wm_agents.load(tmp_path / "agent.safetensors", env=env, device="cpu")
    action, _ = again.predict(observation)
    assert env.action_space.contains(action)
    np.testing.assert_array_equal(action, agent.predict(observation)[0])
    assert (again.name, again.provenance["baseline"]) == ("hiql", "hiql")
    with pytest.raises((CheckpointError, ValueError), match="no inverse dynamics model"):
        wm_agents.load(tmp_path / "agent.safetensors", agent="gc-idm", device="cpu")
    with pytest.raises(ValueError, match="train_hiql"):
        wm_agents.agents.HIQL(agent.world_model, device="cpu")


def test_cubes_have_nearer_subgoals_and_no_shipped_file_has_such_a_policy():
    assert baselines.offline_options("hiql", "wm/Cube-Single-v0") == {"subgoal_steps": 10}
    assert baselines.offline_options("hiql", "wm/Reacher-v0") == baselines.offline_options("gcbc", "wm/Cube-Single-v0")
    assert not [name for name in wm_agents.list_checkpoints() if name.endswith("/hiql")]
