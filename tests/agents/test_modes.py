"""What the caller has set in torch, and where an agent was made or copied, does not change what it does."""

from __future__ import annotations

import contextlib
import copy
import pickle

import cloudpickle
import numpy as np
import pytest
import torch
from tiny_agents import AGENTS, act, images

import wm_agents
from wm_agents import planning
from wm_agents.planning import PLANNERS

pytest_plugins = ["tiny_agents"]


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


MODES = {
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "grad": torch.enable_grad,
    "bf16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "fp16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "device": lambda: default_device("meta"),
    "with device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", AGENTS)
def test_the_callers_modes_change_nothing(mode, name, build, tmp_path):
    agent = build(name)
    agent.save(tmp_path / "agent")
    expected = act(agent, steps=4)
    with MODES[mode]():
        np.testing.assert_array_equal(act(agent, steps=4), expected)
        made, loaded = build(name), wm_agents.load(tmp_path / "agent", device="cpu")
        copied, pickled = copy.deepcopy(agent), pickle.loads(cloudpickle.dumps(agent))
        for other in (made, loaded, copied, pickled):
            np.testing.assert_array_equal(act(other, steps=4), expected)
    for other in (made, loaded, copied, pickled):  # and afterwards
        np.testing.assert_array_equal(act(other, steps=4), expected)
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize("name", ["gradient", "sgld", "guidance", "prior", "learned", "graph+cem"])
def test_networks_that_were_copied_under_inference_mode_have_gradients(name, build, tiny):
    expected = act(build(name), steps=4)
    with torch.inference_mode():
        model, heads = copy.deepcopy(tiny)
        agent = build(name, world_model=model, heads=heads)
    np.testing.assert_array_equal(act(agent, steps=4), expected)


@pytest.mark.parametrize("planner", list(PLANNERS))
@pytest.mark.parametrize("mode", ["inference", "no grad", "float64"])
def test_a_planner_alone_works_in_every_mode(mode, planner):
    centre, bounds = torch.full((2, 1, 3, 2), 0.4), {"low": -torch.ones(2), "high": torch.ones(2)}

    def plan():
        cost = lambda actions: (actions - centre).square().sum((-1, -2))  # noqa: E731
        return planning.make(planner, horizon=3).plan(
            cost, batch=2, init=torch.zeros(2, 2, 3, 2), generator=torch.Generator().manual_seed(0), **bounds
        )

    expected = plan()
    with MODES[mode]():
        found = plan()
    assert found.actions.dtype == torch.float32
    if mode != "float64":  # which draws other random numbers
        torch.testing.assert_close(found.actions, expected.actions)
    assert found.evaluations.tolist() == expected.evaluations.tolist()


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a)), lambda a: cloudpickle.loads(cloudpickle.dumps(a))]
)
def test_a_copy_acts_the_same_and_is_its_own(name, again, build):
    agent = build(name, seed=3)
    early = again(agent)
    expected = act(agent)
    late = again(agent)
    for other in (early, late):
        assert type(other) is type(agent)
        assert other.options() == agent.options()
        np.testing.assert_array_equal(act(other), expected)
    with torch.no_grad():
        for value in late.world_model.parameters():
            value += 1
    np.testing.assert_array_equal(act(agent), expected)


def test_memory_can_be_pickled_and_copied(build):
    agent = build("graph+cem")
    _, state = agent.predict(images())
    for other in (copy.deepcopy(state), pickle.loads(pickle.dumps(state)), tuple(state)):
        np.testing.assert_array_equal(agent.predict(images(seed=1), other)[0], agent.predict(images(seed=1), state)[0])
    assert copy.deepcopy(state).names == state.names


@pytest.mark.parametrize("name", ["CEMMPC", "RandomShootingMPC", "DiffusionGuidanceMPC"])
def test_a_planners_class_and_its_agents_can_be_pickled(name, tiny):
    kind = getattr(wm_agents, name)
    assert pickle.loads(pickle.dumps(kind)) is kind
    agent = kind(tiny[0], seed=4, device="cpu")
    for again in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert type(again) is kind
        assert again.options() == agent.options()


@pytest.mark.parametrize("name", AGENTS)
def test_a_changed_goal_gets_what_a_new_episode_would_give(name, build):
    """In its row alone, whenever it comes, and whatever the low levels remember."""
    agent = build(name)
    for late in (1, 2, 3, 4):
        state = None
        for step in range(late):
            _, state = agent.predict(images(3, step), state)
        changed, kept = images(3, late), images(3, late)
        changed["goal_pixels"] = kept["goal_pixels"].copy()
        changed["goal_pixels"][1] = images(1, 7, goal=5)["goal_pixels"][0]
        before = [part.copy() for part in state]
        actions, after = agent.predict(changed, state)
        others, _ = agent.predict(kept, state)
        np.testing.assert_allclose(actions[[0, 2]], others[[0, 2]], atol=1e-4)
        assert after["elapsed"].tolist() == [late + 1, 1, late + 1]
        for old, now in zip(before, state, strict=True):
            np.testing.assert_array_equal(old, now)
        if "own.recent" in state.names or "own.low.recent" in state.names:
            goal = after["own.subgoal" if "own.subgoal" in state.names else "goal"]
            assert np.abs(goal[1] - goal[0]).max() > 0  # GC-IDM goes on with the velocity that it has seen
        else:
            fresh, memory = agent.predict(changed)
            np.testing.assert_allclose(actions[1], fresh[1], atol=1e-4)
            for field in memory.names:
                np.testing.assert_allclose(after[field][1], memory[field][1], atol=1e-3, err_msg=field)
