"""One call from an unknown environment to an agent: what is written, going on, honest words, mistakes."""

from __future__ import annotations

import functools
import io
import json

import gymnasium as gym
import numpy as np
import pytest
from dot_env import Dot
from gymnasium import spaces
from rich.console import Console

import wm_agents
from wm_agents import budgets, evaluation, solving
from wm_agents.envs import register_wrapped
from wm_agents.evaluation.results import Outcomes

ACTIONS = {"continuous": None, "discrete": spaces.Discrete(4)}


@pytest.fixture
def little(monkeypatch, tmp_path):
    """Budgets of seconds; data and results go to a folder of the test's own."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    monkeypatch.setattr(budgets, "LEAST", 4)
    monkeypatch.setattr(budgets, "MOST", dict.fromkeys(budgets.SHARES, 4))
    monkeypatch.setattr(budgets, "PARTS", 2)
    monkeypatch.setattr(budgets, "measure_frames", lambda env: 30.0)
    return tmp_path


@pytest.mark.parametrize("kind", ACTIONS)
def test_from_nothing_to_an_agent(kind, little):
    env_id = f"dots/solve-{kind}-v0"
    make = functools.partial(Dot, render_mode="rgb_array", actions=ACTIONS[kind], ends=30)
    register_wrapped(env_id, make, image_size=64, goal_steps=10)
    solved = solving.solve(env_id, 0.5, out=little / "run", tasks=3)
    assert {path.name for path in (little / "run").iterdir()} >= {
        *("agent.safetensors", "table.md", "gc-idm.json", "cem.json", "tasks.json", "film-strip.png", "training.png"),
        solving.PLAN_FILE,
    }
    assert list((little / "run").glob("*.mp4"))
    assert solved.verdict in (little / "run" / "table.md").read_text()
    assert [result.agent for result in solved.results] == ["gc-idm", "cem"]
    observation, _ = gym.make(env_id).reset(seed=0)
    wm_agents.load(little / "run" / "agent.safetensors").predict(observation)

    chosen = json.loads((little / "run" / solving.PLAN_FILE).read_text())["budget"]["temperature"]
    agent = wm_agents.load(little / "run" / "agent.safetensors", agent="gc-idm")
    assert (chosen is None) == (kind == "continuous")
    assert agent.settings.temperature == (chosen or 0.0)
    written = (little / "run" / "agent.safetensors").read_bytes()
    plan = (little / "run" / solving.PLAN_FILE).read_text()
    again = solving.solve(env_id, 0.5, out=little / "run", tasks=3)
    assert (little / "run" / "agent.safetensors").read_bytes() == written
    assert (little / "run" / solving.PLAN_FILE).read_text() == plan
    assert again.results[0].outcomes.to_dict() == solved.results[0].outcomes.to_dict()
    with pytest.raises(ValueError, match="holds another run"):
        solving.solve(env_id, 1, out=little / "run", tasks=3)


def test_an_interrupted_run_goes_on(little, monkeypatch):
    register_wrapped("dots/resumed-v0", functools.partial(Dot, render_mode="rgb_array"), goal_steps=10)
    with monkeypatch.context() as patch:
        patch.setattr(solving.pipeline, "reproduce", functools.partial(_interrupt))
        with pytest.raises(KeyboardInterrupt):
            solving.solve("dots/resumed-v0", 0.5, out=little / "run", tasks=2)
    plan = json.loads((little / "run" / solving.PLAN_FILE).read_text())
    assert plan["budget"]["updates"]
    solving.solve("dots/resumed-v0", 0.5, out=little / "run", tasks=2)
    assert json.loads((little / "run" / solving.PLAN_FILE).read_text()) == plan


def test_a_machine_too_slow_for_the_time_is_named_before_the_training(little, monkeypatch):
    monkeypatch.setattr(solving.pipeline, "reproduce", functools.partial(_interrupt))
    env_id = "dots/slow-v0"
    register_wrapped(env_id, functools.partial(Dot, render_mode="rgb_array", ends=30), image_size=64, goal_steps=10)
    for update, said in ((30.0, "minutes longer than you asked for: fewer than 4 steps"), (0.01, None)):
        monkeypatch.setattr(budgets, "measure_updates", lambda *args, update=update: update)
        console = Console(file=io.StringIO())
        with pytest.raises(KeyboardInterrupt):
            solving.solve(env_id, 0.5, out=little / f"run-{update}", tasks=3, console=console)
        assert ("longer than you asked" in console.file.getvalue()) == (said is not None)
        assert said is None or said in console.file.getvalue()


def test_a_run_with_other_images_is_another_run(little, monkeypatch):
    recorded = []

    def stopped(recipe):
        recorded.append(recipe.dataset)
        raise KeyboardInterrupt

    monkeypatch.setattr(solving.pipeline, "collect", stopped)
    register_wrapped("dots/viewed-v0", functools.partial(Dot, render_mode="rgb_array"), goal_steps=10)
    for wrapping in ({"resize": "crop"}, {"resize": "pad"}, {"resize": "pad", "goal_steps": 12}):
        out = little / "-".join(map(str, wrapping.values()))
        with pytest.raises(KeyboardInterrupt):
            solving.solve("dots/viewed-v0", 0.5, out=out, tasks=2, wrapping=wrapping)
    crop, pad, also_pad = (name.split("-")[-2] for name in recorded)
    assert crop != pad == also_pad
    with pytest.raises(ValueError, match=r"holds another run .*images made otherwise"):
        solving.solve("dots/viewed-v0", 0.5, out=little / "crop", tasks=2, wrapping={"resize": "pad"})


def _interrupt(*args, **options):
    raise KeyboardInterrupt


def test_discrete_choices_are_those_that_solve_most_development_goals(monkeypatch):
    asked = []

    class Player:
        def __init__(self, model, heads, temperature, device):
            self.temperature = temperature

    def evaluate(player, manifest, **_):
        asked.append(manifest)
        return result({0.0: 3, 0.5: 9, 1.0: 9}[player.temperature], 0)

    class Agent:
        world_model, heads, device = None, {}, "cpu"

    class Plan:
        def tasks(self, count, seed):
            return count, seed

    monkeypatch.setattr(solving, "GCIDM", Player)
    monkeypatch.setattr(solving.evaluation, "evaluate", evaluate)
    said = io.StringIO()
    assert solving._best_temperature(Agent(), Plan(), 20, Console(file=said)) == 0.5, "the lower of equals"
    assert asked == [(20, 1001)] * 3, "development goals, the same for all"
    assert "acts with 0.5" in said.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("NoSuchTask-v0",), "Unknown environment 'NoSuchTask-v0'"),
        (("Pendulum-v1", 0), "minutes"),
        (("Pendulum-v1", "ten"), "minutes"),
        ((Dot(),), "register_wrapped"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        solving.solve(*arguments, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def result(solved, random, noop=0, tasks=40):
    def outcomes(count):
        steps = np.where(np.arange(tasks) < count, 5, 0)
        return Outcomes(steps, steps)

    manifest = evaluation.Manifest("x/Y-v0", "", "random", 10, 0, np.zeros((tasks, 2)), np.ones((tasks, 2)), [])
    floors = {"random": outcomes(random), "noop": outcomes(noop)}
    return evaluation.EvaluationResult("cem", manifest, outcomes(solved), floors, evaluation.Timings(), 0, 1, 1)


def test_the_verdict_is_honest():
    assert "better than chance" in solving.verdict([result(30, 5)])
    assert "NOT" not in solving.verdict([result(30, 5)])
    poor = solving.verdict([result(6, 5)])
    assert "NOT better than chance" in poor
    assert "more minutes" in poor
    assert "goal_steps" not in poor
    assert "goal_steps" in solving.verdict([result(31, 30)])
    assert "doing nothing 75%" in solving.verdict([result(31, 0, 30)])
