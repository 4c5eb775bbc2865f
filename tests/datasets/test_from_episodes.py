"""Own frames and actions become a dataset: from arrays, lists and generators, with clear refusals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from foreign_files import MARKS, QUIET

from wm_agents.datasets import from_episodes, list_datasets
from wm_agents.images import RESIZE_RULES, square_image

pytest_plugins = ["foreign_files"]
pytestmark = MARKS

NAME = "mine/robot-v0"
SMALL: dict[str, Any] = {"name": NAME, "image_size": 16, **QUIET}


def episodes(lengths: tuple[int, ...] = (5, 3, 4), shape: tuple[int, ...] = (16, 16, 3)) -> tuple[list, list]:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (steps + 1, *shape), dtype=np.uint8) for steps in lengths]
    return images, [rng.uniform(-1, 1, (steps, 2)) for steps in lengths]


def leftovers(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "namespace" not in path.name]


# What is accepted.


def test_frames_and_actions_stay_what_they_are() -> None:
    images, actions = episodes()
    data = from_episodes(images, actions, **SMALL)
    assert data.lengths.tolist() == [5, 3, 4]
    np.testing.assert_array_equal(data.pixels, np.concatenate(images))
    np.testing.assert_array_equal(data.actions[:5], actions[0].astype(np.float32))
    assert data.states.shape == (15, 0)
    every = np.concatenate(actions).astype(np.float32)
    np.testing.assert_array_equal(data.action_low, every.min(axis=0))
    np.testing.assert_array_equal(data.action_high, every.max(axis=0))
    assert minari.load_dataset(NAME).action_space.is_bounded()
    assert list_datasets() == [NAME]


def as_lists(values: list[np.ndarray]) -> list[Any]:
    return [part.tolist() if part.ndim == 2 else list(part) for part in values]


def as_generators(values: list[np.ndarray]) -> Iterator[Any]:
    return (iter(part) if part.ndim > 2 else part for part in values)


@pytest.mark.parametrize("given", [as_lists, as_generators, tuple])
def test_lists_and_generators_give_the_same(given: Callable[[list[np.ndarray]], Any]) -> None:
    images, actions = episodes()
    first = from_episodes(images, actions, **SMALL)
    again = from_episodes(given(images), given(actions), **{**SMALL, "name": "mine/again-v0"})
    assert first.provenance["sha256"] == again.provenance["sha256"]


def test_one_array_of_equally_long_episodes() -> None:
    images, actions = episodes((4, 4))
    assert len(from_episodes(np.stack(images), np.stack(actions), **SMALL)) == 2


@pytest.mark.parametrize("resize", RESIZE_RULES)
@pytest.mark.parametrize("shape", [(64, 96, 3), (96, 64), (20, 20, 1), (3, 48, 32), (40, 30, 4)])
def test_images_of_any_shape_become_square(shape: tuple[int, ...], resize: str) -> None:
    images, actions = episodes((3, 3), shape)
    data = from_episodes(images, actions, resize=resize, **SMALL)
    assert data.pixels.shape == (8, 16, 16, 3)
    np.testing.assert_array_equal(data.pixels[0], square_image(images[0][0], 16, resize))
    assert data.provenance["resize"] == resize


def test_what_the_resize_rules_do() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :16], image[:, 16:80], image[:, 80:] = 200, 100, 50
    stretched, cropped, padded = (square_image(image, 32, rule)[16, :, 0].tolist() for rule in RESIZE_RULES)
    assert (stretched[0], stretched[16], stretched[-1]) == (200, 100, 50)
    assert set(cropped) == {100}
    assert (padded[0], padded[16], padded[-1]) == (200, 100, 50)
    assert not square_image(image, 32, "pad")[:5].any()
    assert not square_image(np.dstack([image, np.zeros((64, 96), np.uint8)]), 16).any(), "transparent is black"


def test_floats_from_0_to_1() -> None:
    images, actions = episodes()
    data = from_episodes([part.astype(np.float32) / 255 for part in images], actions, **SMALL)
    np.testing.assert_array_equal(data.pixels, np.concatenate(images))


def test_states_and_bounds() -> None:
    images, actions = episodes((3, 4))
    states = [np.arange(2.0 * len(part)).reshape(-1, 2) for part in images]
    more: dict[str, Any] = {"states": states, "state_names": ("x", "y"), "env_id": "my/Env-v0"}
    data = from_episodes(images, actions, action_low=-1, action_high=[1, 2], **more, **SMALL)
    np.testing.assert_array_equal(data.states, np.concatenate(states))
    assert (data.state_names, data.env_id) == (("x", "y"), "my/Env-v0")
    assert (data.action_low.tolist(), data.action_high.tolist()) == ([-1, -1], [1, 2])


@pytest.mark.parametrize("given", [np.asarray, np.ndarray.tolist, iter], ids=["arrays", "lists", "generators"])
def test_discrete_actions(given: Callable[[np.ndarray], Any]) -> None:
    images, _ = episodes()
    taken = [np.arange(len(frames) - 1) % 3 for frames in images]
    data = from_episodes(images, [given(each) for each in taken], choices=3, **SMALL)
    assert data.choices == (3,)
    np.testing.assert_array_equal(data.actions[:5], np.eye(3)[taken[0]])
    pairs = [np.stack([each, each % 2], axis=1) for each in taken]
    data = from_episodes(images, [given(each) for each in pairs], choices=[3, 2], **SMALL, overwrite=True)
    assert data.choices == (3, 2)
    np.testing.assert_array_equal(data.actions[:5], np.concatenate([np.eye(3)[taken[0]], np.eye(2)[taken[0] % 2]], 1))


@pytest.mark.parametrize(
    ("change", "choices", "message"),
    [
        (3, 3, "episode 1, column 'actions': row 2 has 3, where a whole number from 0 to 2 is needed"),
        (-1, 3, "row 2 has -1"),
        (0.5, 3, "row 2 has 0.5"),
        (np.nan, 3, "row 2 is NaN"),
        (1, [3, 2], "a row has 1 numbers, and there are choices for 2"),
        (1, None, r"episode 0, column 'actions': .*how many choices there are: choices="),
        (1, 1, "choices must be"),
        (1, [], "choices is empty"),
        (1, "three", "choices must be"),
    ],
)
def test_discrete_actions_that_are_none(datasets_path: Path, change: float, choices: Any, message: str) -> None:
    images, _ = episodes()
    taken = [np.arange(len(frames) - 1) % 3 for frames in images]
    taken[1] = np.array([0, 1, change]) if isinstance(change, float) else np.array([0, 1, int(change)])
    with pytest.raises(ValueError, match=message):
        from_episodes(images, taken, choices=choices, **SMALL)
    assert not leftovers(datasets_path)


def test_one_episode_at_a_time_is_in_memory() -> None:
    def images(count: int) -> Iterator[Iterator[np.ndarray]]:
        for _ in range(count):
            yield (np.full((128, 128, 3), row, np.uint8) for row in range(101))

    def peak(count: int) -> int:
        tracemalloc.start()
        from_episodes(
            images(count), (np.zeros((100, 2)) for _ in range(count)), name=f"mine/n{count}-v0", image_size=64, **QUIET
        )
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(12) < peak(3) + 2e6  # an episode has 1.2 MB


# What is refused.


def with_frame(value: Any) -> Callable[[list, list], None]:
    def change(images: list, actions: list) -> None:
        images[1] = images[1].astype(np.float64) / 255
        images[1][2, 0, 0, 0] = value

    return change


def set_part(which: int, episode: int, value: Any) -> Callable[[list, list], None]:
    def change(*parts: list) -> None:
        parts[which][episode] = value

    return change


def drop(images: list, actions: list) -> None:
    actions.pop()


def one_more(images: list, actions: list) -> None:
    actions.append(actions[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_frame(np.nan), "episode 1, column 'images': frame 2 is not valid: it holds NaN"),
        (with_frame(3.0), "episode 1, column 'images': frame 2 is not valid: .*floats from 0 to 3"),
        (set_part(0, 2, np.zeros((5, 16, 16, 3), int)), "episode 2, column 'images': frame 0 .*int64"),
        (set_part(0, 2, np.zeros((5, 16, 16, 2), np.uint8)), r"episode 2, column 'images': frame 0 .*\(16, 16, 2\)"),
        (set_part(0, 0, [np.zeros((16, 16)), np.zeros((16, 18))]), r"episode 0.*frame 1 has the shape \(16, 18\)"),
        (set_part(0, 0, [None] * 6), "episode 0, column 'images': frame 0"),
        (set_part(0, 1, np.zeros((3, 16, 16, 3), np.uint8)), "episode 1.*3 frames and as many actions.*actions"),
        (set_part(0, 1, np.zeros((5, 16, 16, 3), np.uint8)), "episode 1.*5 frames for 3 actions; one frame more"),
        (set_part(1, 1, np.full((3, 2), np.nan)), "episode 1, column 'actions': row 0 is NaN"),
        (set_part(1, 1, np.full((3, 2), np.inf)), "episode 1, column 'actions': row 0 is NaN or infinite"),
        (set_part(1, 1, [[1, 2], [1], [1, 2]]), "episode 1, column 'actions': its rows differ in length"),
        (set_part(1, 1, [["a", "b"]] * 3), "episode 1, column 'actions': .*no numbers"),
        (set_part(1, 1, np.zeros(3)), r"episode 1, column 'actions': it has the shape \(3,\)"),
        (set_part(1, 1, np.zeros((3, 4))), "episode 1, column 'actions': it has 4 numbers a row, .*before it 2"),
        (set_part(1, 1, np.full((3, 2), 256.0)), "episode 1, column 'actions': row 0 has 256 in dimension 0, whose"),
        (drop, "episode 2: there are no actions for it"),
        (one_more, "episode 3: there are no images for it"),
    ],
)
def test_bad_episodes_are_named(datasets_path: Path, change: Callable[[list, list], None], message: str) -> None:
    images, actions = episodes()
    change(images, actions)
    with pytest.raises(ValueError, match=f"{NAME}, {message}"):
        from_episodes(images, actions, action_low=-1, action_high=1, **SMALL)
    assert not leftovers(datasets_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "no version"}, "is not a dataset name"),
        ({"resize": "stretched"}, "Did you mean 'stretch'"),
        ({"image_size": 8}, "16 to 2048"),
        ({"action_low": -1}, "belong together"),
        ({"action_low": -1, "action_high": 1, "choices": 3}, "give one of the two"),
        ({"action_low": [1, 2, 3], "action_high": 1}, "arrays of 2 numbers"),
        ({"states": [np.zeros((6, 1))]}, "episode 1: there are no states for it"),
        ({"states": [np.zeros((5, 1))] * 3}, "episode 0, column 'states': it has 5 rows for 6 frames"),
        ({"state_names": ("x",)}, "state_names has 1 names, a state 0 numbers"),
    ],
)
def test_bad_arguments(datasets_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_episodes(*episodes(), **{**SMALL, **options})
    assert not leftovers(datasets_path)


def test_an_episode_is_no_list_of_episodes() -> None:
    images, actions = episodes()
    with pytest.raises(ValueError, match=r"those of one episode: pass lists of episodes, \[images\]"):
        from_episodes(images[0], actions[0], **SMALL)
    with pytest.raises(ValueError, match="there are no episodes"):
        from_episodes([], [], **SMALL)


def test_a_name_that_is_taken(datasets_path: Path) -> None:
    images, actions = episodes()
    from_episodes(images, actions, **SMALL)
    with pytest.raises(ValueError, match="already exists"):
        from_episodes(images[:1], actions[:1], **SMALL)
    with pytest.raises(ValueError, match="episode 1"):  # what is there stays until the new one is whole
        from_episodes(images, [actions[0], actions[0]], overwrite=True, **SMALL)
    assert len(from_episodes(images[:1], actions[:1], overwrite=True, **SMALL)) == 1


def test_a_failing_generator_leaves_nothing(datasets_path: Path) -> None:
    images, actions = episodes()

    def failing() -> Iterator[np.ndarray]:
        yield images[0]
        raise KeyError("the camera")

    with pytest.raises(KeyError, match="the camera"):
        from_episodes(failing(), actions, **SMALL)
    assert not leftovers(datasets_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_process_leaves_no_dataset_and_does_not_block_the_next(datasets_path: Path) -> None:
    script = """
import os, signal, numpy as np
from wm_agents.datasets import from_episodes
def images():
    yield np.zeros((4, 16, 16, 3), np.uint8)
    yield np.zeros((4, 16, 16, 3), np.uint8)
    os.kill(os.getpid(), signal.SIGKILL)
from_episodes(images(), [np.zeros((3, 2))] * 3, name="mine/robot-v0", image_size=16, progress=False)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert list_datasets() == []
    assert len(from_episodes(*episodes(), **SMALL)) == 3
    assert not [path for path in datasets_path.rglob(".*")]
