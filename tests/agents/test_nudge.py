"""GC-IDM's nudge: noise where the agent is stuck away from the goal, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import wm_agents
from wm_agents.models import InverseDynamics, InverseDynamicsConfig

START = {
    key: np.random.default_rng(row).integers(0, 255, (64, 64, 3), np.uint8)
    for row, key in enumerate(("pixels", "goal_pixels"))
}
THERE = {"pixels": START["goal_pixels"], "goal_pixels": START["goal_pixels"]}


def agent(action, **options):
    """An agent of PushT whose network gives one action, in half ranges of the action space."""
    made = wm_agents.load("pusht/gc-idm", device="cpu", **options)
    low, high = made.action_space.low, made.action_space.high
    head = made.heads["gc-idm"].head
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.from_numpy((high + low) / 2 + np.asarray(action) * (high - low) / 2))
    return made


def actions(player, observation=START, steps=20, moving=False):
    """Consecutive actions, in half ranges of the action space."""
    memory, taken = None, []
    for step in range(steps):
        shown = np.roll(observation["pixels"], 7 * step, axis=0) if moving else observation["pixels"]
        action, memory = player.predict({**observation, "pixels": shown}, memory)
        taken.append(action)
    low, high = player.action_space.low, player.action_space.high
    return (np.stack(taken) - (high + low) / 2) / ((high - low) / 2)


def test_an_agent_that_is_stuck_away_from_the_goal_gets_noise():
    player = agent([0.3, -0.2], nudge=0.5)
    taken = actions(player, steps=400)
    lag = player.heads["gc-idm"].config.lag
    assert taken[:lag] == pytest.approx(np.tile([0.3, -0.2], (lag, 1)), abs=1e-6), "it has no past yet"
    assert np.abs(taken).max() <= 1
    assert np.median(taken, axis=0) == pytest.approx([0.3, -0.2], abs=0.1)
    assert np.subtract(*np.percentile(taken, [69, 31], axis=0)) == pytest.approx([0.5, 0.5], abs=0.12)


def test_no_other_action_is_changed():
    for options, case in (
        ({"nudge": 0.5}, {"moving": True}),
        ({"nudge": 0.5}, {"observation": THERE}),
        ({"nudge": 0.0}, {}),
    ):
        assert np.ptp(actions(agent([0.1, 0.1], **options), **case), axis=0).max() == 0


def test_the_seed_fixes_the_noise_whoever_else_is_in_the_batch():
    first, second = (actions(agent([0, 0], nudge=0.5, seed=seed)) for seed in (3, 4))
    np.testing.assert_array_equal(actions(agent([0, 0], nudge=0.5, seed=3)), first)
    assert not np.array_equal(first, second)
    player = agent([0, 0], nudge=0.5, seed=3)
    both = {key: np.stack([THERE[key], value]) for key, value in START.items()}
    memory, taken = None, []
    for _ in range(len(first)):
        pair, memory = player.predict(both, memory)
        taken.append(pair)
    np.testing.assert_array_equal(np.stack(taken)[:, 1], first)
    assert np.ptp(np.stack(taken)[:, 0], axis=0).max() == 0


def test_a_network_without_a_past_cannot_be_nudged():
    model = wm_agents.load("pusht/gc-idm", device="cpu").world_model
    network = InverseDynamics(InverseDynamicsConfig(latent_size=model.spec.feature_size, action_size=2, lag=0))
    with pytest.raises(ValueError, match="lag=0"):
        wm_agents.GCIDM(model, heads=[network], nudge=0.5)


def test_it_is_saved(tmp_path):
    agent([0, 0], nudge=0.25).save(tmp_path / "agent.safetensors")
    assert wm_agents.load(tmp_path / "agent.safetensors").settings.nudge == 0.25


@pytest.mark.parametrize("wrong", [-1, float("nan"), "far"])
def test_a_nudge_is_a_number(wrong):
    with pytest.raises(ValueError, match="nudge"):
        wm_agents.load("pusht/gc-idm", nudge=wrong)
