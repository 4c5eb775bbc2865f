"""Heads: every way to give one, those of another world model, those that nobody here knows."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tiny_agents import AGENTS, act, tiny_heads

import wm_agents
from wm_agents.agents import MPC
from wm_agents.models import Head
from wm_agents.registry import HEADS

pytest_plugins = ["tiny_agents"]
USED = [(name, head) for name, (_, _, heads) in AGENTS.items() for head in heads]


@pytest.fixture
def foreign(world_model):
    """Heads of another world model."""
    return tiny_heads(world_model(seed=1), seed=1)


@pytest.fixture
def registered():
    """A head of a user's own, known for the length of one test."""

    @dataclass(frozen=True)
    class Config:
        latent_size: int = 6

    @HEADS.register("users-own")
    class Own(Head):
        name = "users-own"

        def __init__(self, config):
            super().__init__(config)
            self.layer = torch.nn.Linear(config.latent_size, 1)

    Own.Config = Config
    yield Own
    del HEADS._entries["users-own"]


@pytest.mark.parametrize(("name", "head"), USED)
def test_a_head_of_another_world_model_is_refused_at_once(name, head, build, tiny, foreign, tmp_path):
    other = {**tiny[1], head: foreign[head]}
    build(name).save(tmp_path / "agent")
    ways = [
        lambda: build(name, heads=other),
        lambda: build(name, heads=list(other.values())),
        lambda: build(name, **{head.replace("-", "_"): foreign[head]}),
        lambda: wm_agents.load(tmp_path / "agent", heads=[foreign[head]]),
        lambda: AGENTS[name][0].load(tmp_path / "agent", heads={head: foreign[head]}),
        lambda: build(name).use(foreign[head]),
    ]
    for way in ways:
        with pytest.raises(ValueError, match=f"the {head} head was made on another world model"):
            way()


@pytest.mark.parametrize("head", sorted({head for _, head in USED}))
def test_a_head_that_is_not_used_is_checked_too(head, build, tiny, foreign):
    with pytest.raises(ValueError, match="made on another world model"):
        build("cem", heads=[*tiny[1].values(), foreign[head]])


def test_sizes_are_checked_where_nobody_knows_whose_a_head_is(build, inverse_dynamics):
    for shape in ({"action_size": 3}, {"latent_size": 7}):
        with pytest.raises(ValueError, match="made on another world model"):
            build("gc-idm", heads=[inverse_dynamics(**shape)])


def test_a_refused_head_leaves_the_agent_as_it_was(build, foreign):
    agent = build("gc-idm")
    before = act(agent)
    with pytest.raises(ValueError, match="another world model"):
        agent.use(foreign["gc-idm"])
    np.testing.assert_array_equal(act(agent), before)


@pytest.mark.parametrize("name", ["gc-idm", "proposals", "graph"])
def test_heads_given_to_load_replace_those_of_the_file(name, build, tiny, tmp_path):
    build(name).save(tmp_path / "agent.safetensors")
    network = tiny_heads(tiny[0], seed=5)["gc-idm"]
    expected = act(build(name, heads={**tiny[1], "gc-idm": network}))
    assert np.abs(expected - act(build(name))).max() > 1e-4
    for given in (
        {"inverse_dynamics": network},
        {"gc_idm": network},
        {"heads": [network]},
        {"heads": network},
        {"heads": {"gc-idm": network}},
        {"heads": {"inverse_dynamics": network, "graph": None}, "denoiser": None},
    ):
        for load in (wm_agents.load, AGENTS[name][0].load):
            agent = load(tmp_path / "agent.safetensors", device="cpu", **given)
            assert agent.heads["gc-idm"] is network
            assert set(agent.heads) == set(tiny[1])
            np.testing.assert_array_equal(act(agent), expected)
    same = wm_agents.load(tmp_path / "agent.safetensors", inverse_dynamics=None, graph=None, device="cpu")
    np.testing.assert_array_equal(act(same), act(build(name)))


def test_what_is_no_head_is_refused(build, tiny):
    for heads, message in (
        ([3], "heads must be networks .* not int"),
        ({"graph": tiny[1]["gc-idm"]}, "graph was given the head 'gc-idm'"),
        ([torch.nn.Linear(2, 2)], "heads must be networks .* not Linear"),
    ):
        with pytest.raises(ValueError, match=message):
            build("cem", heads=heads)
    with pytest.raises(ValueError, match="graph was given the head 'gc-idm'"):
        build("cem", graph=tiny[1]["gc-idm"])
    with pytest.raises(ValueError, match="network was given the head 'gc-idm'"):
        build("gc-idm", network=tiny[1]["gc-idm"])


@pytest.mark.parametrize(("name", "head"), USED)
def test_a_head_that_is_missing_is_named(name, head, build, tiny):
    rest = [value for key, value in tiny[1].items() if key != head]
    if name == "gc-idm":
        with pytest.raises(ValueError, match=r"call agent\.fit"):
            act(build(name, heads=rest))
        return
    how = "train_hiql" if name == "hiql" else rf"needs the head '{head}': make one \(wm_agents.train_head"
    with pytest.raises(ValueError, match=how):
        build(name, heads=rest)


@pytest.mark.parametrize("name", AGENTS)
def test_a_head_of_ones_own_is_kept_and_ignored(name, build, tiny, registered, tmp_path):
    own = registered(registered.Config())
    own.stamp(tiny[0])
    build(name, heads=[*tiny[1].values(), own]).save(tmp_path / "one")
    agent = wm_agents.load(tmp_path / "one", device="cpu")
    agent.save(tmp_path / "two.safetensors")
    again = wm_agents.load(tmp_path / "two.safetensors", device="cpu")
    assert torch.equal(again.heads["users-own"].layer.weight, own.layer.weight)
    np.testing.assert_array_equal(act(again), act(build(name)))


def test_a_head_that_nobody_here_knows_names_its_package(build, tiny, registered, tmp_path):
    own = registered(registered.Config())
    registered.__module__ = "their_package.heads"
    own.stamp(tiny[0])
    build("cem", heads=[own]).save(tmp_path / "agent")
    del HEADS._entries["users-own"]
    with pytest.raises(ValueError, match=r"agent\.zip needs the head 'users-own' of the package their_package"):
        wm_agents.load(tmp_path / "agent")
    HEADS.register("users-own", registered)


def test_a_head_by_a_name_that_is_not_its_own_cannot_be_saved(build, registered, tmp_path):
    class Inherited(registered):
        pass

    HEADS.register("inherited", Inherited)
    try:
        agent = build("cem", heads=[Inherited(registered.Config())])
        with pytest.raises(ValueError, match="Inherited is registered as 'inherited', not as 'users-own'"):
            agent.save(tmp_path / "agent")
        assert not list(tmp_path.iterdir())
    finally:
        del HEADS._entries["inherited"]


@pytest.mark.parametrize("name", AGENTS)
def test_the_users_networks_stay_as_they_are_and_their_mode_does_not_matter(name, tiny):
    kind, options, _ = AGENTS[name]
    model = copy.deepcopy(tiny[0])
    heads = copy.deepcopy(tiny[1])
    expected = act(kind(model, heads=heads, device="cpu", **options))
    networks = [model, *heads.values()]
    for number, part in enumerate(part for network in networks for part in network.modules()):
        part.training = number % 3 > 0
    values = [value for network in networks for value in network.parameters()]
    for number, value in enumerate(values):
        value.requires_grad_(number % 2 > 0)
    modes = [part.training for network in networks for part in network.modules()]
    weights = [value.detach().clone() for network in networks for value in network.state_dict().values()]
    np.testing.assert_array_equal(act(kind(model, heads=heads, device="cpu", **options)), expected)
    assert [part.training for network in networks for part in network.modules()] == modes
    assert [value.requires_grad for value in values] == [number % 2 > 0 for number in range(len(values))]
    assert all(value.grad is None for value in values)
    after = [value for network in networks for value in network.state_dict().values()]
    assert all(torch.equal(one, other) for one, other in zip(weights, after, strict=True))


def test_one_planner_has_one_class():
    assert MPC.using("cem") is MPC.using("cem")
