"""``collect(policy="curious")``: the same data whatever the interruptions, and each round learns from those before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from wm_agents.agents import curious_collection
from wm_agents.agents.curious_collection import Curious, Student
from wm_agents.datasets import collect, episode_seed
from wm_agents.datasets.episodes import episode_path, open_env, rollout, save_episode

ENV_ID = "wm/PointMaze-UMaze-v0"
SMALL: dict[str, Any] = {"policy": "curious", "episodes": 5, "steps": 20, "image_size": 32, "progress": False}


@pytest.fixture(autouse=True)
def datasets_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.setattr(Curious, "settings", {**Curious.settings, "world_model_updates": 0.05})
    return tmp_path


def test_an_interrupted_collection_ends_like_a_whole_one(datasets_path: Path) -> None:
    whole = collect(ENV_ID, name="test/whole-v0", **SMALL)
    assert (len(whole), whole.provenance["policy"], whole.states.shape[1]) == (5, "curious", 4)
    assert whole.provenance["settings"] == Curious.settings
    assert {"torch", "wm_agents"} <= whole.provenance["versions"].keys()

    def stopping(folder: Path, index: int, episode: Any) -> None:
        if index == 3:
            raise KeyboardInterrupt
        save_episode(folder, index, episode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curious_collection, "save_episode", stopping)
        with pytest.raises(KeyboardInterrupt):
            collect(ENV_ID, **SMALL)
    partial = datasets_path / "wm/pointmaze-umaze/.curious-v0.partial"
    assert [episode_path(partial, index).exists() for index in range(4)] == [True] * 3 + [False]
    with pytest.raises(ValueError, match=r"unfinished collection .*\(episodes 5 instead of 9\)"):
        collect(ENV_ID, **{**SMALL, "episodes": 9})
    assert collect(ENV_ID, **SMALL).provenance["sha256"] == whole.provenance["sha256"]
    assert collect(ENV_ID, **SMALL).name == "wm/pointmaze-umaze/curious-v0", "and it is loaded"


def test_later_episodes_depend_on_what_was_learned() -> None:
    env = open_env(ENV_ID, 32)
    student = Student(env, 12, 20, 0, {**Curious.settings, "random_episodes": 0.0})
    assert student.rounds == 0
    seeds = [episode_seed("collect", 0, index) for index in range(3)]

    def play(seed: Any) -> Any:
        return rollout(env, lambda task, rng: Curious(task, rng, student), 20, seed)

    before = play(seeds[2])
    np.testing.assert_array_equal(before.actions, rollout(env, "smooth-random", 20, seeds[2]).actions)
    student.add(play(seeds[0]))
    assert student.rounds == 0, "rounds of two episodes"
    student.add(play(seeds[1]))
    assert student.rounds == 1
    after = play(seeds[2])
    assert not np.array_equal(after.actions, before.actions)
    np.testing.assert_array_equal(after.states[0], before.states[0])
    assert env.action_space.contains(after.actions[0])


def test_it_collects_only() -> None:
    env = gym.make(ENV_ID, obs_type="state")
    with pytest.raises(ValueError, match="it is there for collect alone"):
        rollout(env, "curious", 20, episode_seed("evaluate", 0, 0))
    with pytest.raises(ValueError, match=r"episode of replay buffer .* has 10"):
        collect(ENV_ID, **{**SMALL, "steps": 10})
