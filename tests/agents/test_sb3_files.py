"""What Stable-Baselines3's users expect of ``save`` and ``load`` holds for every agent."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sb3_agents import CHEAP, UMAZE, Make, make_env

import wm_agents
from wm_agents import CEMMPC

pytest_plugins = ["trained", "sb3_agents"]


@pytest.mark.parametrize("name", ["agent", "agent.safetensors", "agent.zip", "agent_v1.5", "deeper/folder/agent"])
def test_a_saved_agent_acts_the_same(make: Make, frames: Any, tmp_path: Path, name: str) -> None:
    agent = make(seed=4)
    agent.env_id = UMAZE
    agent.save(tmp_path / name)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.suffix for path in written] == [".safetensors" if name.endswith(".safetensors") else ".zip"]
    for loaded in (
        type(agent).load(tmp_path / name),
        type(agent).load(str(tmp_path / name), env=make_env()(), device="cpu"),
        wm_agents.load(tmp_path / name),
        wm_agents.load(written[0]),
    ):
        assert loaded.name == agent.name
        assert loaded.options() == agent.options()
        assert loaded.env_id == UMAZE
        mine = yours = None
        for batch in frames[:7]:
            expected, mine = agent.predict(batch, state=mine)
            actions, yours = loaded.predict(batch, state=yours)
            np.testing.assert_array_equal(actions, expected)


def test_saving_over_a_zip_is_atomic(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained.agent.save(tmp_path / "agent.zip")
    before = (tmp_path / "agent.zip").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            trained.agent.save(tmp_path / "agent.zip")
    assert (tmp_path / "agent.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["agent.zip"]


def test_options_given_to_load_override_the_stored_ones(trained: Any, tmp_path: Path) -> None:
    CEMMPC(trained.world_model, **CHEAP, receding_horizon=2, objective="terminal").save(tmp_path / "cem")
    stored = CEMMPC.load(tmp_path / "cem")
    assert (stored.settings.receding_horizon, stored.settings.objective) == (2, "terminal")
    assert stored.settings.planner_options == {"samples": 24, "elites": 6, "iterations": 2}
    changed = CEMMPC.load(tmp_path / "cem", env=make_env()(), samples=50, seed=9)
    assert changed.settings.planner_options["samples"] == 50
    assert changed.policy.controller.make_planner(horizon=3).samples == 50
    assert changed.policy.seed == 9
    assert changed.settings.receding_horizon == 2
    with pytest.raises(ValueError, match="receding_horizon must lie in"):
        CEMMPC.load(tmp_path / "cem", horizon=1)


def test_a_policy_is_saved_with_its_agent(make: Make, tmp_path: Path) -> None:
    policy = make().policy
    with pytest.raises(NotImplementedError, match=r"saved with its agent: agent\.save"):
        policy.save(tmp_path / "policy.pkl")
    with pytest.raises(NotImplementedError, match=r"wm_agents\.load\(path\)\.policy"):
        type(policy).load(tmp_path / "policy.pkl")
    assert not list(tmp_path.iterdir())


def test_save_refuses_what_it_cannot_do(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exclude and include"):
        trained.agent.save(tmp_path / "agent", exclude=["policy"])
    for act in (trained.agent.save, type(trained.agent).load):
        with pytest.raises(ValueError, match="give a path, not BytesIO"):
            act(io.BytesIO())
        with pytest.raises(ValueError, match="is not the name of a file"):
            act("")
    assert not list(tmp_path.iterdir())
