"""What is found among strange folders, warned about, and loaded without states."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
from foreign_files import MARKS, QUIET, UMAZE, lewm_columns, write_h5
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.namespace import list_local_namespaces

from wm_agents import cli
from wm_agents.datasets import ActionsOutsideWarning, collect, concatenate, import_dataset, list_datasets, load
from wm_agents.datasets.frame_files import take
from wm_agents.datasets.writing import lossless_images

pytest_plugins = ["foreign_files"]
pytestmark = [*MARKS, pytest.mark.filterwarnings("ignore::UserWarning:minari")]


def create(name: str, actions: list[Any], low: Any = -1.0, high: Any = 1.0, **fields: Any) -> None:
    """Create a dataset of images with one episode per array of actions."""
    rng = np.random.default_rng(0)
    episodes = []
    for index, values in enumerate(actions):
        taken = np.asarray(values, dtype=np.float32)
        steps = len(taken)
        pixels = rng.integers(0, 255, (steps + 1, 16, 16, 3), dtype=np.uint8)
        episodes.append(
            EpisodeBuffer(
                id=index,
                observations={"pixels": pixels},
                actions=taken,
                rewards=np.zeros(steps),
                terminations=np.zeros(steps, bool),
                truncations=np.arange(steps) == steps - 1,
                **{"infos": {}, **fields},
            )
        )
    size = episodes[0].actions.shape[1:]
    with lossless_images() as options:
        minari.create_dataset_from_buffers(
            name,
            buffer=episodes,
            observation_space=gym.spaces.Dict(pixels=gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)),
            action_space=gym.spaces.Box(np.broadcast_to(low, size), np.broadcast_to(high, size), size, np.float32),
            **options,
        )


def said(name: str) -> list[str]:
    """Load a dataset and return the warnings about its actions."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(name)
    return [str(warning.message) for warning in caught if issubclass(warning.category, ActionsOutsideWarning)]


# Strange folders.


def clutter(root: Path) -> None:
    """Put what is no dataset among the datasets."""
    for folder in (
        "empty",
        "no version/data",
        "with space-v0/data",
        "noversion/data",
        "ünïcode",
        "наборы/пусто",
        "data",
    ):
        (root / folder).mkdir(parents=True)
    (root / "file").write_text("hello")
    (root / "file-v0").write_text("hello")
    (root / "file-data-v0").mkdir()
    (root / "file-data-v0" / "data").write_text("hello")
    for number, metadata in enumerate(
        ("{", "[]", "null", "{}", '{"dataset_id": "other-v0"}', "\x00", '{"dataset_id": 3}')
    ):
        (root / f"broken{number}-v0" / "data").mkdir(parents=True)
        (root / f"broken{number}-v0" / "data" / "metadata.json").write_text(metadata)
    (root / "bytes-v0" / "data").mkdir(parents=True)
    (root / "bytes-v0" / "data" / "metadata.json").write_bytes(b"\xff\xfe\xff")
    (root / "folder-v0" / "data" / "metadata.json").mkdir(parents=True)
    (root / "unversioned" / "data").mkdir(parents=True)
    (root / "unversioned" / "data" / "metadata.json").write_text(json.dumps({"dataset_id": "unversioned"}))
    (root / "gone").symlink_to(root / "nowhere")
    (root / "round").symlink_to(root)
    (root / "empty" / "again").symlink_to(root)


def test_what_is_no_dataset_is_skipped(
    datasets_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clutter(datasets_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list_datasets() == []
    data = collect(UMAZE, episodes=2, steps=5, image_size=16, workers=1, **QUIET)
    create("простой/набор-v0", [np.zeros((4, 2))])
    create("demo/x-v10", [np.zeros((4, 2))])
    create("demo/x-v2", [np.zeros((4, 2))])
    create("data/inside-v0", [np.zeros((4, 2))])
    (datasets_path / "linked-elsewhere").mkdir()
    names = ["data/inside-v0", "demo/x-v2", "demo/x-v10", data.name, "простой/набор-v0"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list_datasets() == names
    monkeypatch.setattr(sys, "argv", ["wm-agents", "list", "datasets"])
    with contextlib.suppress(SystemExit):
        cli.main()
    assert capsys.readouterr().out.split() == names
    for name in names:
        assert len(load(name))
    with pytest.raises(ValueError, match="Did you mean 'demo/x-v2'"):
        load("demo/x-v3")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_skipped(datasets_path: Path) -> None:
    (datasets_path / "lost+found").mkdir(mode=0)
    data = collect(UMAZE, episodes=2, steps=5, image_size=16, workers=1, **QUIET)
    assert list_datasets() == [data.name]


def test_a_new_namespace_is_minaris_own(datasets_path: Path) -> None:
    collect(UMAZE, episodes=2, steps=5, image_size=16, workers=1, name="a/b/c-v0", **QUIET)
    assert list_local_namespaces() == ["a", "a/b"]


@pytest.mark.parametrize("metadata", ["[]", "null", "{"])
def test_broken_metadata_says_so(datasets_path: Path, metadata: str) -> None:
    create("demo/broken-v0", [np.zeros((4, 2))])
    (datasets_path / "demo/broken-v0/data/metadata.json").write_text(metadata)
    with pytest.raises(ValueError, match=r"'demo/broken-v0' has no readable metadata.*Delete"):
        load("demo/broken-v0")


# Actions of another scale.


def test_actions_of_another_scale_are_named_once() -> None:
    rng = np.random.default_rng(0)
    fine, large = rng.uniform(-1, 1, (20, 3)), rng.uniform(-1, 1, (20, 3))
    large[4] = [3, -256, 7]
    large[9] = [3, 99, 7]
    create("demo/outside-v0", [fine, fine, large, large])
    for _ in range(2):  # when the cache is built and when it is read
        (message,) = said("demo/outside-v0")
        assert "'demo/outside-v0'" in message
        assert "in episode 2 first" in message
        assert "the largest is -256 in dimension 1, whose bounds are -1 and 1" in message


@pytest.mark.parametrize(
    ("actions", "low", "high", "warns"),
    [
        ([[0.5, 1.0]] * 3, -1, 1, False),
        ([[0.5, 1.0001]] * 3, -1, 1, False),  # rounding
        ([[0.5, 1.5625]] * 3, -1, 1, True),
        ([[0.0, 0.0], [-2.0, 0.0], [0.0, 0.0]], -1, 1, True),
        ([[300.0, 10.0]] * 3, 0, 512, False),
        ([[300.0, -100.0]] * 3, 0, 512, True),
        ([[1e6, 0.0]] * 3, -np.inf, np.inf, False),
        ([[1e6, -5.0]] * 3, 0, np.inf, True),
        ([[6.0, 7.0]] * 3, 5, 8, False),  # 0, the padding of an episode's end, is outside
        ([[6.0, 0.0]] * 3, 5, 8, True),
        ([[6.0, 100.0]] * 3, [5, 0], [8, 200], False),
        ([[100.0, 100.0]] * 3, [5, 0], [8, 200], True),
        ([[256.0, 0.0]], -1, 1, None),
    ],
)
def test_far_outside_is_a_tenth_of_the_range(actions: Any, low: Any, high: Any, warns: bool | None) -> None:
    if warns is None:  # the very last action of a dataset
        actions, warns = [[0.0, 0.0], *actions], True
    create("demo/outside-v0", [actions], low, high)
    assert bool(said("demo/outside-v0")) is warns


def test_our_own_data_are_inside() -> None:
    collect(UMAZE, episodes=2, steps=20, image_size=16, workers=1, name="demo/own-v0", **QUIET)
    assert said("demo/own-v0") == []


# Data without states.


def test_every_function_works_without_states(tmp_path: Path) -> None:
    columns = {key: values for key, values in lewm_columns((30, 40, 35)).items() if key != "proprio"}
    path = write_h5(tmp_path / "mine.h5", columns)
    imported = import_dataset(path, image_size=16, **QUIET)
    scale = float(np.nanmax(np.abs(columns["action"])))
    create("demo/plain-v0", [np.nan_to_num(columns["action"][:29]) / scale] * 3, infos=None)
    for data in (imported, load("demo/plain-v0"), import_dataset(path, image_size=16, **QUIET)):
        rng = np.random.default_rng(0)
        assert data.states.shape == (data.frames, 0)
        assert data.state_names == ()
        assert data.windows(4, 3, 5, rng).states.shape == (4, 3, 0)
        assert data.windows(4, 3, 5, rng).pixels.shape == (4, 3, 16, 16, 3)
        assert data.hindsight(4, 5, rng).actions.shape == (4, 2)
        assert data.segments(4, 5, rng).shape == (4,)
        train, validation = data.split(0.34)
        assert validation.windows(2, 2, 2, rng).states.shape == (2, 2, 0)
        assert np.isfinite(train.action_mean_std()).all()
        joined = concatenate([data, data])
        assert joined.states.shape == (2 * data.frames, 0)
        assert joined.windows(4, 3, 5, rng).states.shape == (4, 3, 0)
        assert len(data.frame_indices()) == data.frames


# Where the cache lies.


def test_a_dataset_that_may_only_be_read_is_cached_with_the_user(
    datasets_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own cache"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *args, **options: tmp_path / "own cache" / "wm-agents")
    create("their/shared-v0", [np.zeros((4, 2))])
    create("their/other-v0", [np.ones((3, 2))])
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **rest: mode != os.W_OK and allowed(path, mode, **rest))
    before = sorted(datasets_path.rglob("*"))
    assert load("their/shared-v0").lengths.tolist() == [4]
    assert load("their/other-v0").lengths.tolist() == [3]
    assert sorted(datasets_path.rglob("*")) == before, "nothing is written beside the data"
    found = sorted(path.name.rsplit("-", 1)[0] for path in (tmp_path / "own cache" / "wm-agents").iterdir())
    assert found == ["other-v0", "shared-v0"]
    first = load("their/shared-v0").pixels
    assert os.path.samefile(first.filename, load("their/shared-v0").pixels.filename), "it is built once"  # type: ignore[attr-defined]
    monkeypatch.setattr(os, "access", allowed)
    assert load("their/shared-v0").frames == 5


# Large data.


def test_frames_of_large_data_stay_out_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    create("demo/large-v0", [np.zeros((300, 2))])
    data = load("demo/large-v0")

    def resident() -> int:
        lines = Path("/proc/self/smaps").read_text().splitlines()
        first = next(i for i, line in enumerate(lines) if line.endswith(str(data.pixels.filename)))
        return int(next(line for line in lines[first:] if line.startswith("Rss:")).split()[1])

    index = np.arange(300)
    expected = np.array(data.pixels[index])
    np.testing.assert_array_equal(data.frames_at(index), expected)
    if sys.platform == "linux":
        assert resident() > 200  # kB, of 231
    monkeypatch.setattr("wm_agents.datasets.frame_files.LARGE", 0)
    shuffled = np.random.default_rng(0).permutation(300).reshape(30, 10)
    np.testing.assert_array_equal(data.frames_at(shuffled), expected[shuffled])
    np.testing.assert_array_equal(concatenate([data, data]).frames_at(index), expected)
    assert data.frames_at(np.array(7)).shape == expected[7].shape
    assert data.frames_at(np.zeros((0, 2), int)).shape == (0, 2, *expected.shape[1:])
    if sys.platform == "linux":
        assert resident() == 0
    for wrong in (-1, 301):
        with pytest.raises(IndexError, match="count from 0 to 300"):
            data.frames_at(np.array([0, wrong]))


def test_a_large_file_that_was_replaced_is_not_read_in_place_of_the_loaded_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("wm_agents.datasets.frame_files.LARGE", 0)
    path = tmp_path / "pixels.bin"
    frames = np.arange(60, dtype=np.uint8).reshape(5, 12)
    frames.tofile(path)
    mapped = np.memmap(path, np.uint8, "r", shape=(5, 12))
    (tmp_path / "other").write_bytes(bytes(60))
    (tmp_path / "other").replace(path)
    np.testing.assert_array_equal(take(mapped, np.array([4, 0])), frames[[4, 0]])
    part = np.memmap(path, np.uint8, "r", offset=12, shape=(4, 12))
    assert not take(part, np.array([3])).any()
