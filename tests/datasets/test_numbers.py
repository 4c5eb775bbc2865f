"""Whole numbers of any type are taken; what is no whole number is refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from foreign_files import MARKS, QUIET, UMAZE, lewm_columns, write_h5

from wm_agents.configs import whole_number
from wm_agents.datasets import collect, episode_seed, import_dataset, load, rollout_states
from wm_agents.envs import ENV_IDS

pytest_plugins = ["foreign_files"]
pytestmark = MARKS

WHOLE = [np.int64, np.int32, np.uint8, np.array, torch.tensor]
NOT_WHOLE = [2.5, 2.0, True, np.True_, np.float64(2), "2", np.array([2, 2])]
SMALL: dict[str, Any] = {"episodes": 2, "steps": 20, "seed": 3, "image_size": 16, "workers": 1}


@pytest.mark.parametrize("kind", WHOLE)
def test_collect_takes_every_kind_of_whole_number(kind: Any) -> None:
    plain = collect(UMAZE, name="test/plain-v0", **SMALL, **QUIET)
    same = collect(UMAZE, name="test/other-v0", **{key: kind(value) for key, value in SMALL.items()}, **QUIET)
    assert plain.provenance == same.provenance
    again = collect(UMAZE, name="test/other-v0", **SMALL, **QUIET)
    assert again.provenance == same.provenance
    for key in ("steps", "seed", "image_size"):
        assert type(load("test/other-v0").provenance[key]) is int


@pytest.mark.parametrize("value", NOT_WHOLE)
@pytest.mark.parametrize("key", SMALL)
def test_collect_refuses_other_numbers_before_any_work(key: str, value: Any, datasets_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{key} must be a whole number"):
        collect(UMAZE, **{**SMALL, key: value}, **QUIET)
    assert list(datasets_path.iterdir()) == []


@pytest.mark.parametrize("kind", WHOLE)
def test_import_takes_every_kind_of_whole_number(kind: Any, tmp_path: Path) -> None:
    path = write_h5(tmp_path / "mine.h5", lewm_columns())
    data = import_dataset(
        path, image_size=kind(16), episodes=kind(1), action_scale=np.float32(0.5), skip_invalid=np.True_, **QUIET
    )
    assert data.provenance["action_scale"] == 0.5
    assert len(data) == 1


@pytest.mark.parametrize("value", NOT_WHOLE)
@pytest.mark.parametrize("key", ["image_size", "episodes"])
def test_import_refuses_other_numbers(key: str, value: Any, tmp_path: Path) -> None:
    path = write_h5(tmp_path / "mine.h5", lewm_columns())
    with pytest.raises(ValueError, match=f"{key} must be a whole number"):
        import_dataset(path, **{"image_size": 16, key: value}, **QUIET)


@pytest.mark.parametrize("scale", [True, np.nan, 0.0, "2", [1.0, 2.0], np.inf])
def test_import_refuses_scales_that_are_none(scale: Any, tmp_path: Path) -> None:
    path = write_h5(tmp_path / "mine.h5", lewm_columns())
    with pytest.raises(ValueError, match="action_scale must be a finite number"):
        import_dataset(path, image_size=16, action_scale=scale, **QUIET)


@pytest.mark.parametrize("env_id", ENV_IDS)
@pytest.mark.parametrize("kind", WHOLE)
def test_environments_take_every_kind_of_whole_number(env_id: str, kind: Any) -> None:
    env = gym.make(env_id, image_size=kind(16))
    first, _ = env.reset(seed=kind(5))
    second, info = env.reset(seed=5)
    np.testing.assert_array_equal(first["pixels"], second["pixels"])
    assert env.unwrapped.render_state(info["state"], size=kind(20)).shape == (20, 20, 3)


@pytest.mark.parametrize("value", NOT_WHOLE)
def test_environments_refuse_other_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match="image_size must be a whole number"):
        gym.make("wm/PushT-v0", image_size=value)
    task = gym.make("wm/PushT-v0").unwrapped
    with pytest.raises(ValueError, match="seed must be a whole number"):
        task.reset(seed=value)
    with pytest.raises(ValueError, match="size must be a whole number"):
        task.render_state(task.get_state(), size=value)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        rollout_states(task, "uniform-random", value, episode_seed("collect", 0, 0))
    with pytest.raises(ValueError, match="seed must be a whole number"):
        episode_seed("collect", value, 0)


@pytest.mark.parametrize("value", NOT_WHOLE)
def test_the_reader_refuses_other_numbers(value: Any, tmp_path: Path) -> None:
    data = import_dataset(write_h5(tmp_path / "mine.h5", lewm_columns()), image_size=16, **QUIET)
    rng = np.random.default_rng(0)
    for draw in (
        lambda: data.windows(value, 2, 1, rng),
        lambda: data.windows(2, value, 1, rng),
        lambda: data.windows(2, 2, value, rng),
        lambda: data.segments(2, value, rng),
        lambda: data.hindsight(2, value, rng),
        lambda: data.split(0.5, seed=value),
    ):
        with pytest.raises(ValueError, match="must be a whole number"):
            draw()


def test_the_reader_takes_numpys_integers(tmp_path: Path) -> None:
    data = import_dataset(write_h5(tmp_path / "mine.h5", lewm_columns()), image_size=16, **QUIET)
    two, rng = np.int64(2), np.random.default_rng(0)
    assert data.windows(two, two, two, rng).pixels.shape == (2, 2, 16, 16, 3)
    assert data.hindsight(two, two, rng).frame.shape == data.segments(two, two, rng).shape == (2,)
    assert data.split(0.5, seed=two)[0].episode_ids == data.split(0.5, seed=2)[0].episode_ids


def test_the_result_is_pythons_own() -> None:
    assert type(whole_number("n", np.int64(7))) is int
