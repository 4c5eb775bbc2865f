from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
from dot_env import Dot
from filelock import FileLock

from wm_agents.datasets import POLICIES, collect, default_name, load, task_name
from wm_agents.datasets import episodes as episodes_module
from wm_agents.datasets.episodes import episode_path, save_episode
from wm_agents.envs import register_wrapped, wrapping

ENV_ID = "wm/PointMaze-UMaze-v0"
NAME = "wm/pointmaze-umaze/waypoint-v0"
SMALL: dict[str, Any] = {"episodes": 4, "steps": 20, "image_size": 32, "progress": False}


@pytest.fixture(autouse=True)
def datasets_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def partial(datasets_path: Path) -> Path:
    return datasets_path / "wm/pointmaze-umaze/.waypoint-v0.partial"


class InterruptedHereError(Exception):
    """Stands for whatever stops a collection."""


def stop_at(monkeypatch: pytest.MonkeyPatch, index: int, error: Exception) -> None:
    """Make collection fail when it is about to write episode ``index``."""

    def save(folder: Path, number: int, episode: Any) -> None:
        if number == index:
            raise error
        save_episode(folder, number, episode)

    monkeypatch.setattr(episodes_module, "save_episode", save)


def test_names() -> None:
    assert task_name(ENV_ID) == "pointmaze-umaze"
    assert task_name("wm/TwoRoom-v0") == "tworoom"
    assert task_name("Reacher-v5") == "reacher-v5" != task_name("wm/Reacher-v0")
    assert task_name("my_package:my/Task-v0") == "my/task-v0"
    assert task_name(f"wm_agents:{ENV_ID}") == "pointmaze-umaze"
    assert default_name("wm/PointMaze-Medium-v0", "smooth-random") == "wm/pointmaze-medium/smooth-random-v0"
    assert default_name(ENV_ID) == NAME
    assert default_name("wm/Cube-Single-v0") == "wm/cube-single/oracle-play-v0"


def test_dataset_is_plain_minari_and_lossless(datasets_path: Path) -> None:
    dataset = collect(ENV_ID, workers=1, **SMALL)
    assert dataset.name == NAME
    assert dataset.env_id == ENV_ID
    assert dataset.state_names == ("x", "y", "vx", "vy")
    assert dataset.lengths.tolist() == [20] * 4
    plain = minari.load_dataset(NAME)
    assert plain.total_steps == 80
    assert list(plain.observation_space.spaces) == ["pixels"]
    with plain.recover_environment() as env:
        assert env.spec.id == ENV_ID
        for episode, start in zip(plain.iterate_episodes(), dataset.starts, strict=True):
            assert set(episode.infos) == {"state", "goal_state"}
            assert episode.infos["goal_state"].shape == episode.infos["state"].shape == (21, 4)
            assert not episode.rewards.any()
            assert not episode.terminations.any()
            assert episode.truncations.tolist() == [False] * 19 + [True]
            assert np.array_equal(dataset.pixels[start : start + 21], episode.observations["pixels"])
            assert np.array_equal(dataset.actions[start : start + 20], episode.actions)
            for step in (0, 20):
                frame = env.unwrapped.render_state(episode.infos["state"][step], size=32)
                assert np.array_equal(episode.observations["pixels"][step], frame)
    assert np.asarray(dataset.pixels).reshape(len(dataset.pixels), -1).mean(axis=1).min() > 0
    assert {"policy", "seed", "versions", "episodes", "sha256"} <= set(dataset.provenance)
    assert {"python", "mujoco", "gymnasium", "minari", "wm_agents"} <= set(dataset.provenance["versions"])
    assert not list(datasets_path.rglob("*.partial"))


def test_states_replay_the_actions() -> None:
    dataset = collect(ENV_ID, workers=1, **SMALL)
    with gym.make(ENV_ID, obs_type="state") as env:
        env.reset(seed=0)
        env.unwrapped.reset(options={"state": dataset.states[0]})
        for step in range(20):
            _, _, _, _, info = env.unwrapped.step(dataset.actions[step])
            assert np.array_equal(info["state"], dataset.states[step + 1])


def test_result_does_not_depend_on_the_number_of_processes() -> None:
    one = collect(ENV_ID, name="test/one-v0", workers=1, **SMALL)
    two = collect(ENV_ID, name="test/two-v0", workers=2, **SMALL)
    other = collect(ENV_ID, name="test/other-v0", workers=1, seed=1, **SMALL)
    assert one.provenance["sha256"] == two.provenance["sha256"]
    assert one.provenance["sha256"] != other.provenance["sha256"]
    assert one.name != two.name


@pytest.mark.parametrize(
    ("env_id", "policy"),
    [("wm/PushT-v0", "play"), ("wm/Reacher-v0", "piecewise-random"), ("wm/Cube-Double-v0", "oracle-play")],
)
def test_every_task_is_collected_with_its_own_policy_by_two_processes(env_id: str, policy: str) -> None:
    dataset = collect(env_id, workers=2, **{**SMALL, "episodes": 2, "steps": 8})
    again = collect(env_id, name="test/again-v0", policy=policy, workers=1, **{**SMALL, "episodes": 2, "steps": 8})
    assert dataset.name == f"wm/{task_name(env_id)}/{policy}-v0"
    assert (dataset.env_id, dataset.provenance["policy"]) == (env_id, policy)
    assert dataset.provenance["sha256"] == again.provenance["sha256"]
    assert {"gym-pusht", "pymunk", "dm-control", "ogbench"} <= set(dataset.provenance["versions"])
    with gym.make(env_id) as env:
        assert dataset.actions.shape == (18, *env.action_space.shape)
        assert dataset.state_names == env.unwrapped.state_names
        for frame in (0, 8, 17):
            drawn = env.unwrapped.render_state(dataset.states[frame], size=32)
            assert np.array_equal(dataset.pixels[frame], drawn)


def test_same_call_loads_and_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    first = collect(ENV_ID, workers=1, **SMALL)
    with monkeypatch.context() as patch:
        stop_at(patch, 0, InterruptedHereError())
        assert collect(ENV_ID, workers=1, **SMALL).provenance == first.provenance
        with pytest.raises(ValueError, match=r"already exists.*seed 0 instead of 1.*overwrite=True"):
            collect(ENV_ID, workers=1, seed=1, **SMALL)
    replaced = collect(ENV_ID, workers=1, seed=1, overwrite=True, **SMALL)
    assert replaced.provenance["sha256"] != first.provenance["sha256"]
    assert load(NAME).provenance == replaced.provenance


def test_interrupted_collection_continues(monkeypatch: pytest.MonkeyPatch, partial: Path) -> None:
    whole = collect(ENV_ID, name="test/whole-v0", workers=1, **SMALL).provenance["sha256"]
    with monkeypatch.context() as patch:
        stop_at(patch, 2, InterruptedHereError())
        with pytest.raises(InterruptedHereError):
            collect(ENV_ID, workers=1, **SMALL)
    done = [episode_path(partial, index).stat().st_mtime_ns for index in (0, 1)]
    assert not episode_path(partial, 2).exists()
    with monkeypatch.context() as patch:
        stop_at(patch, 3, InterruptedHereError())
        with pytest.raises(InterruptedHereError):
            collect(ENV_ID, workers=1, **SMALL)
    assert done == [episode_path(partial, index).stat().st_mtime_ns for index in (0, 1)]
    assert collect(ENV_ID, workers=1, **SMALL).provenance["sha256"] == whole
    assert not partial.exists()


def test_full_disk_leaves_whole_episodes_only(monkeypatch: pytest.MonkeyPatch, partial: Path) -> None:
    whole = collect(ENV_ID, name="test/whole-v0", workers=1, **SMALL).provenance["sha256"]
    savez, written = np.savez, []

    def full(file: Any, **arrays: Any) -> None:
        if len(written) == 2:
            file.write(b"half an episode")
            raise OSError(28, "No space left on device")
        written.append(file)
        savez(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            collect(ENV_ID, workers=1, **SMALL)
    assert sorted(path.name for path in partial.glob("episode*")) == ["episode_000000.npz", "episode_000001.npz"]
    assert collect(ENV_ID, workers=1, **SMALL).provenance["sha256"] == whole


def test_lost_and_cut_episode_files_are_recorded_again(monkeypatch: pytest.MonkeyPatch, partial: Path) -> None:
    whole = collect(ENV_ID, name="test/whole-v0", workers=1, **SMALL).provenance["sha256"]
    with monkeypatch.context() as patch:
        stop_at(patch, 3, InterruptedHereError())
        with pytest.raises(InterruptedHereError):
            collect(ENV_ID, workers=1, **SMALL)
    episode_path(partial, 0).unlink()
    os.truncate(episode_path(partial, 1), 1000)
    assert collect(ENV_ID, workers=1, **SMALL).provenance["sha256"] == whole


def test_killed_collection_continues_with_the_same_result(datasets_path: Path, partial: Path) -> None:
    arguments = {**SMALL, "episodes": 40, "steps": 60}
    whole = collect(ENV_ID, name="test/whole-v0", workers=1, **arguments).provenance["sha256"]
    script = f"from wm_agents.datasets import collect; collect({ENV_ID!r}, workers=2, **{arguments!r})"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(partial.glob("episode*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)  # its two workers see that it is gone and stop by themselves
    process.wait()
    finished = len(list(partial.glob("episode*.npz")))
    assert 3 <= finished < 40
    assert not (datasets_path / NAME).exists()
    assert collect(ENV_ID, workers=1, **arguments).provenance["sha256"] == whole


def test_dead_worker_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, partial: Path) -> None:
    entry = "wm_agents.datasets.policies:UniformRandom"
    monkeypatch.setitem(POLICIES._entries, "known-here-only", entry)
    with pytest.raises(RuntimeError, match=r"ended with status 1.*known-here-only.*(\n.*)*continues"):
        collect(ENV_ID, policy="known-here-only", name=NAME, workers=2, **SMALL)


def test_unfinished_collection_of_other_arguments_is_not_lost(monkeypatch: pytest.MonkeyPatch, partial: Path) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 2, InterruptedHereError())
        with pytest.raises(InterruptedHereError):
            collect(ENV_ID, workers=1, **SMALL)
    with pytest.raises(ValueError, match=r"unfinished collection .*\(seed 0 instead of 1\)"):
        collect(ENV_ID, workers=1, seed=1, **SMALL)
    assert episode_path(partial, 1).exists()
    assert collect(ENV_ID, workers=1, seed=1, overwrite=True, **SMALL).provenance["seed"] == 1


def test_two_collections_of_one_dataset_do_not_mix(partial: Path) -> None:
    partial.mkdir(parents=True)
    with FileLock(partial / "lock"), pytest.raises(RuntimeError, match="Another process is writing"):
        collect(ENV_ID, workers=1, **SMALL)


def test_replacing_keeps_the_old_dataset_until_the_new_one_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    first = collect(ENV_ID, workers=1, **SMALL).provenance
    with monkeypatch.context() as patch:
        stop_at(patch, 2, InterruptedHereError())
        with pytest.raises(InterruptedHereError):
            collect(ENV_ID, workers=1, seed=1, overwrite=True, **SMALL)
    assert load(NAME).provenance == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "waypiont"}, "Did you mean 'waypoint'"),
        ({"episodes": 0}, "At least 1 episode"),
        ({"steps": 1}, "2 steps"),
        ({"workers": 0}, "1 worker"),
        ({"seed": -1}, "count from 0"),
        ({"name": "no version"}, "name-v<number>"),
        ({"image_size": 4}, "image_size"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collect(ENV_ID, **{**SMALL, "workers": 1, **changes})


def test_unknown_task() -> None:
    with pytest.raises(ValueError, match="Did you mean 'wm/PointMaze-UMaze-v0'"):
        collect("wm/PointMaze-Umaze-v0", **SMALL)


def test_workers_start_without_torch() -> None:
    script = "import sys; import wm_agents.datasets.worker; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def wrapped(env_id: str, **options: Any) -> str:
    """Register a wrapped environment of another package, anew under the same id."""
    gym.registry.pop(env_id, None)
    register_wrapped(env_id, functools.partial(Dot, render_mode="rgb_array"), image_size=32, **options)
    return env_id


def test_data_of_an_environment_that_was_shown_otherwise_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {**SMALL, "workers": 1, "name": "dots/shown-v0"}
    made = collect(wrapped("dots/Shown-v0"), **options)
    assert made.provenance["view"]["version"] == wrapping.VERSION
    again = collect(wrapped("dots/Shown-v0", goal_steps=7, success="pixels", mode="strict"), **options)
    assert np.array_equal(again.pixels, made.pixels), "goals and tests of success are not in the frames"
    with pytest.raises(ValueError, match=r"already exists, made with focus True instead of False\."):
        collect(wrapped("dots/Shown-v0", focus=False), **options)
    with pytest.raises(ValueError, match="resize 'stretch' instead of 'crop'"):
        collect(wrapped("dots/Shown-v0", resize="crop"), **options)
    replaced = collect(wrapped("dots/Shown-v0", focus=False), **options, overwrite=True)
    assert replaced.provenance["view"]["options"]["focus"] is False
    monkeypatch.setattr(wrapping, "VERSION", wrapping.VERSION + 1)
    with pytest.raises(ValueError, match="version 1 instead of 2"):
        collect(wrapped("dots/Shown-v0", focus=False), **options)


def test_an_identity_is_json_and_only_of_what_is_wrapped() -> None:
    def turned(env: Any) -> None: ...

    seen = wrapping.view_of(wrapped("dots/Options-v0", bounds=(np.zeros(2), 1), success=turned))
    assert seen is not None
    assert json.loads(json.dumps(seen)) == seen
    assert seen["env"][0] == "dot_env.Dot"
    assert seen != wrapping.view_of(wrapped("dots/Options-v0", bounds=(np.ones(2), 1)))
    assert wrapping.view_of(ENV_ID) is None
    plain = wrapping.view_of("Pendulum-v1")
    assert plain is not None
    assert plain["env"] == "Pendulum-v1"
