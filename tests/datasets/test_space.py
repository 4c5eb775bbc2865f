"""A disk that is too full is an error in one line before anything is written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import MARKS, QUIET, UMAZE, lewm_columns, write_h5

from wm_agents.datasets import collect, import_dataset, list_datasets, load
from wm_agents.datasets.cache import FOLDER
from wm_agents.datasets.space import require_space, stored_size
from wm_agents.datasets.writing import episode_buffer, write_episodes

pytest_plugins = ["foreign_files"]
pytestmark = MARKS

Usage = namedtuple("Usage", ("total", "used", "free"))
NAME = "test/space-v0"


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set how many bytes are free on every disk."""

    def set_free(size: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - size, size))

    return set_free


def collected(**changes: Any) -> Any:
    return collect(UMAZE, **{"episodes": 2, "steps": 5, "name": NAME, "workers": 1, **QUIET, **changes})


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def check_message(error: pytest.ExceptionInfo[OSError], folder: Path) -> None:
    message = str(error.value)
    assert str(folder) in message
    assert "are needed and 1.0 MB are free" in message
    assert "\n" not in message


def test_collect_writes_nothing(free: Callable[[int], None], datasets_path: Path) -> None:
    free(10**6)
    with pytest.raises(OSError, match="too full") as error:
        collected()
    check_message(error, datasets_path)
    assert files(datasets_path) == []
    free(10**11)
    assert len(collected()) == 2


def test_more_episodes_need_more_space(free: Callable[[int], None]) -> None:
    free(20_000_000)
    assert len(collected()) == 2
    with pytest.raises(OSError, match=r"needed and 20\.0 MB are free"):
        collected(episodes=500, steps=50, name="test/large-v0")
    with pytest.raises(OSError, match=r"[\d,.]+ GB are needed"):
        collected(episodes=100_000, steps=1000, name="test/large-v0")


def test_episodes_that_end_early_need_less_space(free: Callable[[int], None], datasets_path: Path) -> None:
    free(30_000_000)
    few = {"episodes": 2, "steps": 2000, "workers": 1, **QUIET}  # 2 x 25 MB of frames at full length
    with pytest.raises(OSError, match="too full"):
        collect("wm/PushT-v0", policy="play", **few)
    assert files(datasets_path) == []
    dataset = collect("wm/PushT-v0", policy="arrange", **few)
    assert dataset.lengths.max() < 400


def test_import_writes_nothing(free: Callable[[int], None], datasets_path: Path, tmp_path: Path) -> None:
    path = write_h5(tmp_path / "mine.h5", lewm_columns())
    free(10**6)
    with pytest.raises(OSError, match="too full") as error:
        import_dataset(path, image_size=16, **QUIET)
    check_message(error, datasets_path)
    assert files(datasets_path) == []
    free(10**11)
    assert len(import_dataset(path, image_size=16, **QUIET)) == 2


def test_the_cache_is_not_begun_and_the_dataset_stays(free: Callable[[int], None], datasets_path: Path) -> None:
    expected = np.array(collected().pixels)
    root = datasets_path / NAME
    shutil.rmtree(root / FOLDER)
    before = files(root)
    free(10**6)
    with pytest.raises(OSError, match="too full") as error:
        load(NAME)
    check_message(error, root)
    assert files(root) == before
    free(10**11)
    np.testing.assert_array_equal(load(NAME).pixels, expected)


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_disk_that_fills_up_on_the_way_leaves_nothing_half_written(
    monkeypatch: pytest.MonkeyPatch, datasets_path: Path, left: int
) -> None:
    looks = iter([10**12] * (1 + left))  # the first look is before anything is written
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, next(looks, 10**6)))
    with pytest.raises(OSError, match="too full"):
        collected()
    assert not (datasets_path / NAME).exists()
    assert not list(datasets_path.rglob("*.hdf5"))
    assert list_datasets() == []
    monkeypatch.undo()
    os.environ["MINARI_DATASETS_PATH"] = str(datasets_path)
    try:
        assert len(collected()) == 2  # goes on with the episodes that were finished
    finally:
        del os.environ["MINARI_DATASETS_PATH"]


def test_a_folder_that_is_not_there_yet(free: Callable[[int], None], tmp_path: Path) -> None:
    free(10**8)
    require_space(tmp_path / "a" / "b", 1000)
    with pytest.raises(OSError, match="a/b"):
        require_space(tmp_path / "a" / "b", 10**8)


@pytest.mark.parametrize("side", [16, 50, 64, 96, 128])
@pytest.mark.parametrize("steps", [2, 7, 20, 61])
def test_the_estimate_is_an_upper_bound(tmp_path: Path, side: int, steps: int) -> None:
    import gymnasium as gym

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (steps + 1, side, side, 3), dtype=np.uint8)
    actions, states = np.zeros((steps, 5), np.float32), np.zeros((steps + 1, 54))
    write_episodes(
        (episode_buffer(index, pixels, actions, state=states, goal_state=states) for index in range(3)),
        NAME,
        tmp_path,
        pixel_space=gym.spaces.Box(0, 255, (side, side, 3), np.uint8),
        action_space=gym.spaces.Box(-1, 1, (5,), np.float32),
        env_spec=None,
        description="",
        made={"policy": "none"},
    )
    estimate = stored_size(3, 3 * (pixels.nbytes + actions.nbytes + 2 * states.nbytes))
    found = (tmp_path / "dataset/data/main_data.hdf5").stat().st_size
    assert found <= estimate <= 4 * found + 200_000


COLLECT = """
import sys
from wm_agents import datasets
try:
    datasets.collect("wm/PushT-v0", episodes=int(sys.argv[1]), steps=20, workers=1, progress=False, name="test/x-v0")
except OSError as error:
    print(error)
"""


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_small_disk(tiny_disk: Path) -> None:
    environment = {**os.environ, "MINARI_DATASETS_PATH": str(tiny_disk)}
    for episodes, said in ((2, ""), (100, "too full")):
        done = subprocess.run(
            [sys.executable, "-c", COLLECT.replace("x-v0", f"x{episodes}-v0"), str(episodes)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    assert [path.name for path in (tiny_disk / "test").iterdir() if path.is_dir()] == ["x2-v0"]
