"""Options that are no numbers, or not the right ones, are refused by every agent and planner."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from tiny_agents import AGENTS

from wm_agents import planning
from wm_agents.planning import PLANNERS

pytest_plugins = ["tiny_agents"]
NO_NUMBER = [math.nan, "3", None, [1]]
NO_COUNT = [*NO_NUMBER, 2.5, True, False, 0, -1, math.inf, np.float32(2), np.bool_(True)]
NO_SIZE = [*NO_NUMBER, True, -1.0, math.inf]
NO_FLAG = [math.nan, "yes", None, 1, 0.0]


def kind_of(field):
    return str(field.type).split(" | ")[0]


def values(field):
    """Values that a field cannot take, by its type."""
    wrong = {"int": NO_COUNT, "float": NO_SIZE, "bool": NO_FLAG}.get(kind_of(field), [])
    return [value for value in wrong if not (value is None and "None" in str(field.type))]


@pytest.mark.parametrize("name", list(PLANNERS))
def test_planners_refuse_what_is_no_number(name):
    checked = 0
    for field in dataclasses.fields(PLANNERS.get(name)):
        for value in values(field):
            with pytest.raises(ValueError, match=field.name):
                planning.make(name, **{"horizon": 3, field.name: value})
            checked += 1
    assert checked > 20


@pytest.mark.parametrize("name", AGENTS)
def test_agents_refuse_what_is_no_number(name, build):
    checked, fields = 0, dataclasses.fields(AGENTS[name][0].Options)
    for field in fields:
        for value in values(field):
            with pytest.raises(ValueError, match=field.name):
                build(name, **{field.name: value})
            checked += 1
    assert checked > 5 or not fields
    if AGENTS[name][0].__name__ == "MPC":
        for option in {"samples", "steps", "iterations", "elites"} & set(AGENTS[name][1]):
            for value in NO_COUNT:
                with pytest.raises(ValueError, match=option):
                    build(name, **{option: value})


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, math.nan, "1", True, np.float64(3)])
def test_seeds_are_whole_numbers(seed, build):
    agent = build("gc-idm")
    for use in (lambda: build("gc-idm", seed=seed), lambda: agent.set_random_seed(seed)):
        with pytest.raises(ValueError, match="seed must be None or a whole number"):
            use()


@pytest.mark.parametrize("name", ["cem", "gradient", "graph+cem"])
def test_numpys_integers_are_integers(name, build, tmp_path):
    one = np.int64(1)
    if name == "graph+cem":
        agent = build(name, lookahead=9 * one, replan_every=one, seed=one, low_options={"horizon": 2 * one})
        assert agent.settings.lookahead == 9
    else:
        count = "samples" if name == "cem" else "steps"
        agent = build(name, horizon=4 * one, receding_horizon=2 * one, seed=one, **{count: 4 * one})
        assert type(agent.settings.horizon) is int
    assert type(agent.seed) is int
    agent.save(tmp_path / "agent")
    assert type(agent).load(tmp_path / "agent", device="cpu").seed == 1


@pytest.mark.parametrize("weight", [math.nan, math.inf, "1", None, True])
def test_weights_of_objectives_are_numbers(weight, build):
    with pytest.raises(ValueError, match="weight of the objective 'control'"):
        build("cem", objective={"control": weight})
