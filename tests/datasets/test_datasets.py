from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minari.data_collector.episode_buffer import EpisodeBuffer

from wm_agents.datasets import TrajectoryDataset, hub, list_datasets, load
from wm_agents.datasets.cache import FOLDER
from wm_agents.datasets.writing import lossless_images

ROOT = Path(__file__).resolve().parents[2]
LENGTHS = (12, 30, 2, 7, 19, 25)


def frames(steps: int, first: int = 0, size: int = 32) -> np.ndarray:
    """Frames that carry their own number, in every pixel."""
    return np.broadcast_to(
        np.arange(first, first + steps + 1, dtype=np.uint8)[:, None, None, None], (steps + 1, size, size, 3)
    )


def buffer(steps: int, **changes: Any) -> EpisodeBuffer:
    numbers = np.arange(steps + 1, dtype=np.float64)
    fields: dict[str, Any] = {
        "observations": {"pixels": np.array(frames(steps))},
        "actions": np.stack([numbers[:-1], -numbers[:-1]], axis=1).astype(np.float32) / 100,
        "rewards": np.zeros(steps),
        "terminations": np.zeros(steps, dtype=bool),
        "truncations": np.zeros(steps, dtype=bool),
        "infos": {"state": np.stack([numbers] * 3, axis=1)},
    }
    return EpisodeBuffer(**{**fields, **changes})


def create(name: str, buffers: list[EpisodeBuffer], **changes: Any) -> None:
    spaces: dict[str, Any] = {
        "observation_space": gym.spaces.Dict(pixels=gym.spaces.Box(0, 255, (32, 32, 3), np.uint8)),
        "action_space": gym.spaces.Box(-1, 1, (2,), np.float32),
    }
    with lossless_images() as options:
        minari.create_dataset_from_buffers(name, buffers, **{**spaces, **changes, **options})


@pytest.fixture(autouse=True)
def datasets_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrajectoryDataset]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        create("test/numbers-v0", [buffer(steps) for steps in LENGTHS])
        yield load("test/numbers-v0")


def test_arrays_follow_the_episodes(dataset: TrajectoryDataset) -> None:
    assert len(dataset) == len(LENGTHS)
    assert dataset.lengths.tolist() == list(LENGTHS)
    assert dataset.frames == sum(LENGTHS) + len(LENGTHS) == len(dataset.pixels)
    assert dataset.frame_indices().tolist() == list(range(dataset.frames))
    assert isinstance(dataset.pixels, np.memmap)
    assert not dataset.pixels.flags.writeable
    assert dataset.actions.dtype == np.float32
    assert dataset.states.dtype == np.float64
    assert dataset.state_names == ("state_0", "state_1", "state_2")
    assert len(dataset.provenance["sha256"]) == 64
    for start, length in zip(dataset.starts, dataset.lengths, strict=True):
        episode = slice(start, start + length + 1)
        assert np.array_equal(dataset.pixels[episode], frames(length))
        assert np.array_equal(dataset.states[episode, 0], np.arange(length + 1))
        assert not dataset.actions[start + length].any()


def test_goals_are_kept_for_each_frame() -> None:
    states = buffer(9).infos["state"]
    create("test/goals-v0", [buffer(5), buffer(9, infos={"state": states, "goal_state": states + 0.5}), buffer(3)])
    data = load("test/goals-v0")
    assert data.goal_states is not None
    assert data.goal_states.shape == data.states.shape
    goals = np.full(data.states.shape, np.nan)
    goals[6:16] = states + 0.5
    np.testing.assert_array_equal(data.goal_states, goals)
    for part in data.split(0.4):  # as all frames do, they keep their places
        np.testing.assert_array_equal(part.goal_states, goals)
    create("test/bare-v0", [buffer(5, infos={"goal_state": np.zeros((6, 3))})])
    bare = load("test/bare-v0").goal_states
    assert bare is not None
    assert bare.shape == (6, 0), "goals without states to compare with"


@given(frame_count=st.integers(1, 6), block=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_windows_are_frames_k_steps_apart_with_the_actions_between(
    dataset: TrajectoryDataset, frame_count: int, block: int, seed: int
) -> None:
    window = dataset.windows(8, frame_count, block, np.random.default_rng(seed))
    assert window.pixels.shape == (8, frame_count, 32, 32, 3)
    assert window.pixels.dtype == np.uint8
    assert window.actions.shape == (8, frame_count - 1, block * 2)
    assert window.actions.dtype == np.float32
    number = window.states[:, :, 0]
    assert np.array_equal(window.pixels[..., 0, 0, 0], number)
    assert np.array_equal(number, number[:, :1] + np.arange(frame_count) * block)
    taken = window.actions.reshape(8, frame_count - 1, block, 2)
    expected = number[:, :-1, None] + np.arange(block)
    assert np.allclose(taken[..., 0], expected / 100)
    assert np.allclose(taken[..., 1], -expected / 100)


def test_every_window_is_equally_likely(dataset: TrajectoryDataset) -> None:
    frame_count, block = 3, 5
    window = dataset.windows(60_000, frame_count, block, np.random.default_rng(0))
    starts = window.states[:, 0, 0].astype(int)
    expected = np.zeros(max(LENGTHS) + 1)
    for length in LENGTHS:
        expected[: max(length - (frame_count - 1) * block + 1, 0)] += 1
    share = np.bincount(starts, minlength=len(expected)) / len(starts)
    assert np.allclose(share, expected / expected.sum(), atol=0.006)


def test_windows_follow_the_generator(dataset: TrajectoryDataset) -> None:
    one, two = (dataset.windows(16, 2, 3, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one.pixels, two.pixels)
    assert np.array_equal(one.actions, two.actions)


def test_hindsight_goals_are_later_frames_of_the_same_episode(dataset: TrajectoryDataset) -> None:
    pairs = dataset.hindsight(5000, 10, np.random.default_rng(0))
    episode = np.searchsorted(dataset.starts, pairs.frame, side="right")
    assert np.array_equal(episode, np.searchsorted(dataset.starts, pairs.goal, side="right"))
    assert np.array_equal(pairs.goal - pairs.frame, pairs.steps)
    assert pairs.steps.min() == 1
    assert pairs.steps.max() == 10
    assert np.array_equal(pairs.actions, dataset.actions[pairs.frame])
    assert {array.dtype for array in (pairs.frame, pairs.goal, pairs.steps)} == {np.dtype(np.int64)}
    lasts = dataset.starts + dataset.lengths
    assert not np.isin(pairs.frame, lasts).any()
    near_the_end = pairs.steps[pairs.frame == lasts[1] - 4]
    assert set(near_the_end) == {1, 2, 3, 4}
    assert len(np.unique(pairs.frame)) == sum(LENGTHS)


def test_split_is_by_episode_and_repeatable(dataset: TrajectoryDataset) -> None:
    train, validation = dataset.split(0.34, seed=1)
    assert sorted([*train.episode_ids, *validation.episode_ids]) == list(range(6))
    assert len(validation) == 2
    assert train.pixels is dataset.pixels
    assert train.frames + validation.frames == dataset.frames
    assert not set(train.frame_indices()) & set(validation.frame_indices())
    again = dataset.split(0.34, seed=1)[1]
    assert np.array_equal(again.episode_ids, validation.episode_ids)
    assert any(not np.array_equal(dataset.split(0.34, seed)[1].episode_ids, again.episode_ids) for seed in range(5))
    inside = set(validation.frame_indices())
    pairs = validation.hindsight(500, 40, np.random.default_rng(0))
    assert set(pairs.frame) | set(pairs.goal) <= inside


def test_split_leaves_an_episode_on_either_side(dataset: TrajectoryDataset) -> None:
    for fraction in (0.001, 0.999):
        train, validation = dataset.split(fraction)
        assert len(train) >= 1
        assert len(validation) >= 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        dataset.split(1.0)
    with pytest.raises(ValueError, match="two or more"):
        dataset.split(0.001)[1].split()


def test_action_statistics_are_of_this_split_without_the_padding(dataset: TrajectoryDataset) -> None:
    train, _ = dataset.split(0.5)
    real = np.concatenate([dataset.actions[s : s + n] for s, n in zip(train.starts, train.lengths, strict=True)])
    mean, std = train.action_mean_std()
    assert np.allclose(mean, real.mean(axis=0), atol=1e-6)
    assert np.allclose(std, real.std(axis=0), atol=1e-6)


def test_constant_action_has_unit_deviation() -> None:
    create("test/still-v0", [buffer(5, actions=np.zeros((5, 2), np.float32))])
    assert load("test/still-v0").action_mean_std()[1].tolist() == [1.0, 1.0]


def test_too_long_windows_name_the_longest_episode(dataset: TrajectoryDataset) -> None:
    with pytest.raises(ValueError, match="longest episode, 1, has 30 actions"):
        dataset.windows(4, 8, 5, np.random.default_rng(0))
    assert dataset.windows(4, 7, 5, np.random.default_rng(0)).states[:, 0, 0].tolist() == [0, 0, 0, 0]


def test_sizes_below_one_are_refused(dataset: TrajectoryDataset) -> None:
    rng = np.random.default_rng(0)
    for bad in ((0, 2, 2), (2, 0, 2), (2, 2, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            dataset.windows(*bad, rng)
    with pytest.raises(ValueError, match="max_horizon"):
        dataset.hindsight(2, 0, rng)


def with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[1, 0] = np.nan
    return array


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            lambda: buffer(5, observations={"left": np.array(frames(5)), "right": np.array(frames(5))}),
            "no pixels.*'left', 'right'.*--pixels",
        ),
        pytest.param(
            lambda: buffer(5, observations={"pixels": np.zeros((6, 32, 32, 3), np.float32)}),
            "no pixels.*float32",
            marks=pytest.mark.skipif(minari.__version__ == "0.5.3", reason="its own image encoder mangles floats"),
        ),
        (lambda: buffer(5, actions=with_nan(buffer(5).actions)), "actions have 1 NaN"),
        (lambda: buffer(5, infos={"state": with_nan(np.zeros((6, 3)))}), "state'. has 1 NaN"),
        (lambda: buffer(5, infos={"state": np.zeros((5, 3))}), "one row a frame"),
        (lambda: buffer(1), r"1 action\(s\)"),
        (lambda: buffer(5, observations={"pixels": np.array(frames(3))}), "4 frames for 5 actions"),
        (lambda: buffer(5, observations={"pixels": np.array(frames(5, size=48))}), "those of the episodes before"),
    ],
    ids=["no-pixels", "float-pixels", "nan-action", "nan-state", "short-state", "one-step", "frames", "shape"],
)
def test_unfit_episodes_are_named(broken: Callable[[], EpisodeBuffer], message: str) -> None:
    space = gym.spaces.Dict({key: gym.spaces.Box(0, 255, (32, 32, 3), np.uint8) for key in broken().observations})
    two = len(space.spaces) == 2
    good = buffer(5, observations={key: np.array(frames(5)) for key in space.spaces})
    create("test/broken-v0", [good, broken()], observation_space=space)
    episode = 0 if two else 1
    with pytest.raises(ValueError, match=rf"test/broken-v0', episode {episode}: .*{message}.*collect"):
        load("test/broken-v0")
    assert not list(minari.storage.datasets_root_dir.get_dataset_path("test/broken-v0").glob(f"*{FOLDER}*"))


def test_discrete_actions_become_one_hot_vectors() -> None:
    create("test/buttons-v0", [buffer(5, actions=np.arange(5) % 3)], action_space=gym.spaces.Discrete(3))
    data = load("test/buttons-v0")
    assert data.choices == (3,)
    assert np.array_equal(data.actions, [*np.eye(3)[[0, 1, 2, 0, 1]], np.zeros(3)])


def test_discrete_actions_outside_their_space_are_named() -> None:
    create("test/beyond-v0", [buffer(5, actions=np.arange(5))], action_space=gym.spaces.Discrete(3))
    with pytest.raises(ValueError, match=r"episode 0: its actions are not all of Discrete\(3\)"):
        load("test/beyond-v0")


def test_datasets_of_others_load() -> None:
    space = gym.spaces.Box(0, 255, (32, 32, 3), np.uint8)
    episodes = [buffer(5, observations=np.array(frames(5)), infos=None) for _ in range(2)]
    create("images-v0", episodes, observation_space=space)
    dataset = load("images-v0")
    assert dataset.states.shape == (12, 0)
    assert dataset.env_id == ""
    assert dataset.windows(3, 2, 2, np.random.default_rng(0)).states.shape == (3, 2, 0)
    assert list_datasets() == ["images-v0"]


def test_wrong_names_say_what_exists() -> None:
    create("test/numbers-v0", [buffer(5)])
    with pytest.raises(ValueError, match="Did you mean 'test/numbers-v0'"):
        load("wm/numbers-v0")
    with pytest.raises(ValueError, match="name-v<number>"):
        load("no name")


def test_failed_download_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(hub, "pull", offline)
    with pytest.raises(ValueError, match=r"Unknown dataset 'D4RL/x-v2'.*Known: none.*no network"):
        load("D4RL/x-v2")


def _truncate(folder: Path) -> None:
    with (folder / "pixels.bin").open("r+b") as file:
        file.truncate(100)


def _spoil(folder: Path) -> None:
    data = bytearray((folder / "arrays.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / "arrays.npz").write_bytes(data)


def _older_format(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "format": 0}))


@pytest.mark.parametrize(
    "damage",
    [_truncate, _spoil, _older_format, lambda folder: (folder / "index.json").write_text("{")],
    ids=["truncated", "spoilt", "format", "index"],
)
def test_damaged_cache_is_rebuilt(damage: Callable[[Path], Any], datasets_path: Path) -> None:
    create("test/numbers-v0", [buffer(5), buffer(9)])
    before = load("test/numbers-v0")
    expected = np.array(before.pixels)
    damage(datasets_path / "test/numbers-v0" / FOLDER)
    after = load("test/numbers-v0")
    assert np.array_equal(after.pixels, expected)
    assert np.array_equal(after.actions, before.actions)
    assert after.provenance["sha256"] == before.provenance["sha256"]


def test_cache_is_kept_while_the_dataset_is_the_same(datasets_path: Path) -> None:
    create("test/numbers-v0", [buffer(5)])
    load("test/numbers-v0")
    index = datasets_path / "test/numbers-v0" / FOLDER / "index.json"
    built = index.stat().st_mtime_ns
    load("test/numbers-v0")
    assert index.stat().st_mtime_ns == built


def test_stale_cache_is_rebuilt() -> None:
    create("test/numbers-v0", [buffer(5)])
    before = load("test/numbers-v0")
    minari.load_dataset("test/numbers-v0").update_dataset_from_buffer([buffer(9)])
    after = load("test/numbers-v0")
    assert len(after) == 2
    assert after.provenance["sha256"] != before.provenance["sha256"]


def test_damaged_dataset_says_so(datasets_path: Path) -> None:
    create("test/numbers-v0", [buffer(30)])
    file = datasets_path / "test/numbers-v0/data/main_data.hdf5"
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"'test/numbers-v0' is damaged.*again"):
        load("test/numbers-v0")
    (datasets_path / "test/numbers-v0/data/metadata.json").write_text("{")
    with pytest.raises(ValueError, match="no readable metadata"):
        load("test/numbers-v0")


def test_folder_is_no_top_level_package() -> None:
    if not (ROOT / "datasets" / "__init__.py").is_file():
        pytest.skip("not a checkout")
    done = subprocess.run([sys.executable, "-c", "import datasets"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "wm_agents.datasets" in done.stderr
