"""GC-IDM's nudge: noise where the network stands still away from the goal, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import wm_agents
from wm_agents.agents.gc_idm import STILL

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


def actions(player, observation=START, steps=20):
    """Consecutive actions, in half ranges of the action space."""
    memory, taken = None, []
    for _ in range(steps):
        action, memory = player.predict(observation, memory)
        taken.append(action)
    low, high = player.action_space.low, player.action_space.high
    return (np.stack(taken) - (high + low) / 2) / ((high - low) / 2)


def test_an_agent_that_stands_still_away_from_the_goal_gets_noise():
    moved = actions(agent([0.01, -0.01], nudge=0.5), steps=400)
    assert np.abs(moved).max() <= 1
    assert moved.std(axis=0) == pytest.approx([0.45, 0.45], abs=0.05), "0.5, less what the bounds cut off"
    assert np.abs(moved.mean(axis=0)).max() < 0.1


def test_no_other_action_is_changed():
    slow, fast = [0.01, 0.01], [0.0, 2 * STILL]
    for player, observation in (
        (agent(fast, nudge=0.5), START),  # it moves
        (agent(slow, nudge=0.5), THERE),  # it is there
        (agent(slow, nudge=0.0), START),  # nobody asked for it
    ):
        assert np.ptp(actions(player, observation), axis=0).max() == 0


def test_the_seed_fixes_the_noise_whoever_else_is_in_the_batch():
    first, second = (actions(agent([0, 0], nudge=0.5, seed=seed)) for seed in (3, 4))
    np.testing.assert_array_equal(actions(agent([0, 0], nudge=0.5, seed=3)), first)
    assert not np.array_equal(first, second)
    player = agent([0, 0], nudge=0.5, seed=3)
    both = {key: np.stack([THERE[key], value]) for key, value in START.items()}
    alone = agent([0, 0], nudge=0.5, seed=3).predict(START)[0]
    np.testing.assert_array_equal(player.predict(both)[0][1], alone)


def test_it_is_saved(tmp_path):
    agent([0, 0], nudge=0.25).save(tmp_path / "agent.safetensors")
    assert wm_agents.load(tmp_path / "agent.safetensors").settings.nudge == 0.25


@pytest.mark.parametrize("wrong", [-1, float("nan"), "far"])
def test_a_nudge_is_a_number(wrong):
    with pytest.raises(ValueError, match="nudge"):
        wm_agents.load("pusht/gc-idm", nudge=wrong)
