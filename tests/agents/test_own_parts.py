"""Planners, objectives and action spaces of a user's own, written as docs/extending.md says."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from tiny_agents import act

import wm_agents
from wm_agents import planning
from wm_agents.agents import MPC, HierarchicalMPC, agent_class
from wm_agents.agents.action_spaces import Blocks
from wm_agents.registry import ACTION_SPACES, OBJECTIVES, PLANNERS
from wm_agents.types import Plan

pytest_plugins = ["tiny_agents"]


class Plain:
    """Tries some sequences; no dataclass, no ``num_elites``, options of its own."""

    def __init__(self, horizon, tries=5, *, spread=1.0):
        if tries < 1:
            raise ValueError(f"tries must be at least 1, not {tries}.")
        self.horizon, self.tries, self.spread = horizon, tries, spread

    def plan(self, cost, *, low, high, batch=1, init=None, generator=None, on_iteration=None):
        noise = self.spread * torch.randn(self.tries, self.horizon, len(low), generator=generator)
        candidates = noise.expand(batch, -1, -1, -1)
        if init is not None:
            candidates = torch.cat([init, candidates], dim=1)
        candidates = candidates.clamp(low, high)
        costs = cost(candidates)
        best = costs.argmin(dim=1)
        actions = candidates[torch.arange(batch), best]
        count = torch.full((batch,), candidates.shape[1])
        return Plan(actions, costs.amin(dim=1), actions.unsqueeze(1), count)


class Bare(Plain):
    def __init__(self, horizon):
        super().__init__(horizon)


def factory(horizon, tries=5, spread=1.0):
    return Plain(horizon, tries, spread=spread)


def passing_on(horizon, **options):
    return Plain(horizon, **options)


KINDS = {"class": Plain, "factory": factory, "keywords": passing_on, "lazy": "users_module:Plain", "decorated": None}


@pytest.fixture(params=sorted(KINDS))
def planner(request, monkeypatch):
    """The name of a planner of a user's own, registered in one of the ways that there are."""
    module = ModuleType("users_module")
    module.Plain = Plain
    monkeypatch.setitem(sys.modules, "users_module", module)
    if KINDS[request.param] is None:
        PLANNERS.register("best-of-n")(Plain)
    else:
        PLANNERS.register("best-of-n", KINDS[request.param])
    yield "best-of-n"
    del PLANNERS._entries["best-of-n"]


def test_it_plans(planner):
    made = planning.make(planner, horizon=2, tries=64)
    low, high = -torch.ones(2), torch.ones(2)
    plan = made.plan(lambda a: a.square().sum((-1, -2)), batch=3, low=low, high=high)
    assert plan.actions.shape == (3, 2, 2)
    with pytest.raises(ValueError, match="tries must be at least 1"):
        planning.make(planner, horizon=2, tries=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shrinking": True},
        {"receding_horizon": 2},
        {"receding_horizon": 2, "shrinking": True},
        {"proposals": "gc-idm"},
        {"proposals": "diffusion"},
        {"objective": "temporal-distance"},
        {"actions": "latent"},
    ],
    ids=str,
)
def test_it_acts_and_each_environment_as_if_alone(planner, options, tiny):
    agent = MPC(tiny[0], heads=tiny[1], planner=planner, horizon=3, tries=6, device="cpu", **options)
    together = act(agent, steps=8, n=2)
    assert np.ptp(together) > 0
    np.testing.assert_allclose(act(agent, steps=8, n=1)[:, 0], together[:, 0], atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"high": "best-of-n", "high_options": {"tries": 4}},
        {"low": "best-of-n", "low_options": {"tries": 4, "horizon": 2, "shrinking": True}},
        {"high": "best-of-n", "low": "best-of-n"},
    ],
    ids=str,
)
def test_it_serves_both_levels_of_a_hierarchy(planner, options, tiny, tmp_path):
    agent = HierarchicalMPC(tiny[0], heads=tiny[1], device="cpu", **options)
    expected = act(agent)
    agent.save(tmp_path / "agent")
    np.testing.assert_array_equal(act(wm_agents.load(tmp_path / "agent", device="cpu")), expected)


def test_its_name_is_an_agent_and_its_options_are_saved_and_checked(planner, tiny, tmp_path):
    kind = agent_class(planner)
    agent = kind(tiny[0], horizon=3, tries=7, spread=0.5, device="cpu")
    agent.save(tmp_path / "agent")
    for loaded in (wm_agents.load(tmp_path / "agent", device="cpu"), kind.load(tmp_path / "agent", device="cpu")):
        assert loaded.name == planner
        assert loaded.settings.planner_options == {"tries": 7, "spread": 0.5}
        np.testing.assert_array_equal(act(loaded), act(agent))
    assert wm_agents.load(tmp_path / "agent", tries=3).settings.planner_options["tries"] == 3
    assert wm_agents.load(f"pointmaze-umaze/{planner}", tries=2).settings.planner == planner
    assert f"pointmaze-umaze/{planner}" in wm_agents.list_checkpoints()
    with pytest.raises(ValueError, match="tries must be at least 1"):
        wm_agents.load(tmp_path / "agent", tries=0)
    if PLANNERS.get(planner) is not passing_on:
        for make in (lambda: kind(tiny[0], trise=3), lambda: planning.make(planner, horizon=2, trise=3)):
            with pytest.raises(ValueError, match=r"'trise'\. Did you mean 'tries'"):
                make()


def test_a_planner_of_the_horizon_alone(tiny):
    PLANNERS.register("bare", Bare)
    try:
        assert np.ptp(act(MPC(tiny[0], planner="bare", horizon=2, device="cpu"))) > 0
        with pytest.raises(ValueError, match="Unknown option of MPC with planner 'bare' 'tries'"):
            MPC(tiny[0], planner="bare", tries=3)
    finally:
        del PLANNERS._entries["bare"]


def test_elites_of_another_shape_are_named(tiny):
    class Wrong(Plain):
        num_elites = 3

    PLANNERS.register("wrong", Wrong)
    try:
        with pytest.raises(ValueError, match=r"elites are \(1, 1, 5, 6\), expected \(1, 3, 5, 6\)"):
            act(MPC(tiny[0], planner="wrong", device="cpu"), n=1)
    finally:
        del PLANNERS._entries["wrong"]


def reach(predicted, goal, actions):
    return (predicted[:, :, -1] - goal[:, None]).abs().flatten(2).sum(-1)


class Halved(Blocks):
    """Blocks of at most half the size."""

    def bounds(self):
        return tuple(0.5 * bound for bound in super().bounds())


@pytest.fixture
def own_parts():
    OBJECTIVES.register("reach", reach)
    ACTION_SPACES.register("halved")(Halved)
    PLANNERS.register("plain", Plain)
    yield
    for table, name in ((OBJECTIVES, "reach"), (ACTION_SPACES, "halved"), (PLANNERS, "plain")):
        table._entries.pop(name, None)


@pytest.mark.parametrize("objective", ["reach", {"reach": 1.0, "control": np.float32(0.1)}])
def test_objectives_and_action_spaces_of_ones_own(objective, own_parts, tiny, tmp_path):
    options = {"objective": objective, "actions": "halved", "samples": 8, "elites": 2, "iterations": 2}
    flat = MPC(tiny[0], device="cpu", **options)
    levels = HierarchicalMPC(tiny[0], heads=tiny[1], low="cem", low_options=options, device="cpu")
    for number, agent in enumerate((flat, levels)):
        expected = act(agent)
        assert np.ptp(expected) > 0
        agent.save(tmp_path / str(number))
        np.testing.assert_array_equal(act(wm_agents.load(tmp_path / str(number), device="cpu")), expected)
    with pytest.raises(ValueError, match="Did you mean 'halved'"):
        MPC(tiny[0], actions="halve")


@pytest.mark.parametrize(
    ("table", "name", "options"),
    [
        (PLANNERS, "plain", {"planner": "plain"}),
        (OBJECTIVES, "reach", {"objective": {"reach": 1.0}}),
        (ACTION_SPACES, "halved", {"actions": "halved"}),
    ],
)
def test_a_part_that_nobody_here_knows_names_its_package(table, name, options, own_parts, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(table.get(name), "__module__", "their_package.parts")
    flat = MPC(tiny[0], heads=tiny[1], device="cpu", **options)
    low = {key: value for key, value in options.items() if key != "planner"}
    levels = HierarchicalMPC(tiny[0], heads=tiny[1], low=options.get("planner", "cem"), low_options=low, device="cpu")
    for number, agent in enumerate((flat, levels)):
        agent.save(tmp_path / str(number))
    del table._entries[name]
    for number in range(2):
        with pytest.raises(ValueError, match=f"needs the {table.kind} '{name}' of the package their_package"):
            wm_agents.load(tmp_path / str(number))
        assert wm_agents.load(tmp_path / str(number), agent="gc-idm").name == "gc-idm", "the rest of the file is fine"


def test_options_of_the_agent_are_not_the_planners(tiny):
    with pytest.raises(ValueError, match="'horizon'"):
        MPC(tiny[0], planner_options={"horizon": 3})
    assert MPC(tiny[0], planner_options={"samples": 40}).settings.planner_options == {"samples": 40}
    for unknown in ("seed", "env", "device"):
        with pytest.raises(ValueError, match=f"'{unknown}'"):
            HierarchicalMPC(tiny[0], heads=tiny[1], low="cem", low_options={unknown: 1})
