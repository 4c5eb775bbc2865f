"""Importers of folders: LeRobot, videos with tables; and of robomimic's file and any Minari dataset."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from foreign_files import MARKS, QUIET
from foreign_folders import (
    CAMERA,
    LENGTHS,
    actions,
    frames,
    levels,
    write_csv,
    write_lerobot_v2,
    write_lerobot_v3,
    write_parquet,
    write_robomimic,
    write_video,
    write_videos,
)
from minari.data_collector.episode_buffer import EpisodeBuffer

from wm_agents import cli
from wm_agents.datasets import TrajectoryDataset, import_dataset, load
from wm_agents.datasets.writing import lossless_images

pytest_plugins = ["foreign_files"]
pytestmark = MARKS
SMALL: dict[str, Any] = {"image_size": 16, **QUIET}


def check_episodes(data: TrajectoryDataset) -> None:
    """Every episode has its own frames in order, and all but the last of its actions."""
    assert data.lengths.tolist() == [length - 1 for length in LENGTHS]
    assert levels(np.asarray(data.pixels)).tolist() == list(range(sum(LENGTHS)))
    for episode, start in enumerate(data.starts):
        length = int(data.lengths[episode])
        np.testing.assert_array_equal(data.actions[start : start + length], actions(LENGTHS[episode], episode)[:-1])


def refused(place: Path, message: str, **options: Any) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        import_dataset(place, name="mine/refused-v0", **{**SMALL, **options})
    assert "\n" not in str(caught.value)
    root = minari.storage.datasets_root_dir.get_dataset_path("mine")
    assert not list(root.glob("*refused*")), "nothing is left"


# LeRobot.


@pytest.mark.parametrize("layout", ["v2.1", "v2.1 images", "v3.0"])
def test_lerobot(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "été 机器人"  # unicode and a space
    if layout == "v3.0":
        write_lerobot_v3(root)
    else:
        write_lerobot_v2(root, "image" if "images" in layout else "video")
    data = import_dataset(root, name="mine/robot-v0", **SMALL)
    check_episodes(data)
    assert data.provenance["format"] == "lerobot"
    assert data.states.shape == (sum(LENGTHS), 2)
    np.testing.assert_array_equal(data.states[LENGTHS[0] : LENGTHS[0] + 2], [[0, 1], [2, 3]])


def edit_info(root: Path, **changes: Any) -> None:
    path = root / "meta/info.json"
    known = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in known.items() if value is not None}))


def test_lerobot_says_what_is_missing_or_wrong(tmp_path: Path) -> None:
    whole = write_lerobot_v2(tmp_path / "whole")

    def copy() -> Path:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        return Path(shutil.copytree(whole, tmp_path / "copy"))

    root = copy()
    (root / "meta/info.json").unlink()
    refused(root, r"copy: meta/info\.json is missing")
    root = copy()
    (root / "meta/episodes.jsonl").unlink()
    refused(root, r"copy: meta/episodes\.jsonl is missing")
    root = copy()
    (root / f"videos/chunk-000/{CAMERA}/episode_000001.mp4").unlink()
    refused(root, r"the file videos/chunk-000/.*episode_000001\.mp4 is missing")
    root = copy()
    edit_info(root, codebase_version="v1.6")
    refused(root, r"info\.json, column 'codebase_version': its version is v1\.6")
    root = copy()
    edit_info(root, fps=None)
    refused(root, r"info\.json, column 'fps': it is missing")
    root = copy()
    edit_info(root, video_path="videos/{key}.mp4")
    refused(root, r"info\.json, column 'video_path': it is missing, or has other fields than video_key")
    root = copy()
    edit_info(root, features={"action": {}})
    refused(root, r"info\.json, column 'features': 'action' has no dtype and shape")
    root = copy()
    edit_info(root, fps=30)
    refused(root, r"episode_000000\.parquet, episode 0, column 'timestamp': it has 10 rows a second; .*says 30")
    root = copy()
    write_video(root / f"videos/chunk-000/{CAMERA}/episode_000001.mp4", frames(LENGTHS[1]), fps=30)
    refused(root, r"episode_000001\.mp4, episode 1: it has 30 frames a second; .* says 10")
    root = copy()
    write_video(root / f"videos/chunk-000/{CAMERA}/episode_000002.mp4", frames(4))
    refused(root, r"episode_000002\.mp4, episode 2: it has 4 frames, and the table needs 9")
    root = copy()
    video = root / f"videos/chunk-000/{CAMERA}/episode_000002.mp4"
    video.write_bytes(video.read_bytes()[:500])
    refused(root, r"episode_000002\.mp4: it is no video, or is cut short")
    root = copy()
    write_parquet(
        root / "data/chunk-000/episode_000001.parquet", {"action": actions(7), "timestamp": np.arange(7) / 10}
    )
    refused(root, r"episode_000001\.parquet, column 'observation\.state': there is no such column; it has action")
    root = copy()
    (root / "data/chunk-000/episode_000001.parquet").write_bytes(b"PAR1")
    refused(root, r"episode_000001\.parquet: it is no parquet file")
    refused(whole, "Unknown images 'observation.images.tpo'.*Did you mean", pixels="observation.images.tpo")


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_lerobot_v2(tmp_path / "robot")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"take pyarrow: pip install 'wm-agents\[lerobot\]'"):
        import_dataset(root, **SMALL)


# Videos with tables.


def test_videos_with_a_table_each(tmp_path: Path) -> None:
    root = write_videos(tmp_path / "my videos", ("run 1", "run ü", "run 点"))
    data = import_dataset(root, name="mine/videos-v0", **SMALL)
    check_episodes(data)
    assert data.provenance["format"] == "videos"
    assert data.pixels.shape[1:] == (16, 16, 3)


@pytest.mark.parametrize("kind", ["csv by name", "csv by number", "parquet", "npz by name", "npz"])
def test_videos_with_one_table_for_all(tmp_path: Path, kind: str) -> None:
    root = write_videos(tmp_path / "all")
    for path in root.glob("*.csv"):
        path.unlink()
    taken = [actions(length, episode).astype(float) for episode, length in enumerate(LENGTHS)]
    whose = np.repeat(np.arange(3), LENGTHS)
    every = np.concatenate(taken)
    columns = {f"joint {i}": every[:, i] for i in range(3)}  # not called actions: the only numbers there are
    if kind == "csv by name":
        write_csv(root / "actions.csv", {"video": [f"{'abc'[i]}.mp4" for i in whose], **columns})
    elif kind == "csv by number":
        write_csv(root / "actions.csv", {"episode": whose, "frame": np.arange(len(whose)), **columns})
    elif kind == "parquet":
        write_parquet(root / "table.parquet", {"episode_index": whose, "action": every})
    elif kind == "npz by name":
        np.savez(root / "actions.npz", a=taken[0], b=taken[1], c=taken[2])
    else:
        np.savez(root / "actions.npz", episode=whose, actions=every)
    check_episodes(import_dataset(root, name="mine/all-v0", **SMALL))


def test_a_video_with_a_frame_more_than_rows_loses_no_action(tmp_path: Path) -> None:
    root = tmp_path / "more"
    write_video(root / "a.mp4", frames(6))
    write_csv(root / "a.csv", {"action": [0.0, 1.0, 2.0, 3.0, 4.0]})
    data = import_dataset(root, name="mine/more-v0", **SMALL)
    assert data.actions[:5, 0].tolist() == [0, 1, 2, 3, 4]
    write_csv(root / "a.csv", {"action": [0.0, 1.0, 2.0, 3.0, 4.0], "state": [9.0, 8, 7, 6, 5]})
    data = import_dataset(root, name="mine/states-v0", **SMALL)  # no state after the last row: its frame goes too
    assert (data.actions[:4, 0].tolist(), data.states[:, 0].tolist()) == ([0, 1, 2, 3], [9, 8, 7, 6, 5])


def test_videos_say_what_is_missing_or_wrong(tmp_path: Path) -> None:
    whole = write_videos(tmp_path / "whole")

    def copy() -> Path:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        return Path(shutil.copytree(whole, tmp_path / "copy"))

    root = copy()
    (root / "b.csv").unlink()
    refused(root, r"copy: there are no actions for b\.mp4: put a table beside each video, b\.csv")
    for path in root.glob("*.csv"):
        path.unlink()
    refused(root, r"no actions for a\.mp4 and 2 more.*there is none")
    write_csv(root / "actions.csv", {"action": range(28)})
    refused(root, r"actions\.csv, column 'video': it is the only table for 3 videos")
    write_csv(root / "actions.csv", {"video": ["a"] * 12 + ["b"] * 7, "action": range(19)})
    refused(root, r"actions\.csv, episode 2, column 'video': it has no rows for c\.mp4")
    root = copy()
    write_csv(root / "b.csv", {"action_0": range(4), "action_1": range(4), "action_2": range(4)})
    refused(root, r"b\.mp4, episode 1: it has 7 frames, and b\.csv 4 rows for it; as many rows as frames, or one less")
    root = copy()
    write_csv(root / "b.csv", {f"action_{i}": range(35) for i in range(3)})
    refused(root, r"b\.mp4, episode 1: .*The video has 10 frames a second; the rows look like 50 a second")
    root = copy()
    write_csv(root / "b.csv", {"action_0": range(7), "action_1": range(7)})
    refused(
        root,
        r"b\.csv, episode 1, column 'actions': its columns are action_0, action_1 \(2 numbers\), those of the first",
    )
    root = copy()
    write_csv(root / "b.csv", {"action_0": [1, 2, "nan", 4, 5, 6, 7]})
    refused(root, r"b\.csv, episode 1, column 'action_0': row 2 is NaN")
    root = copy()
    write_csv(root / "b.csv", {"action_0": [1, 2, "left", 4, 5, 6, 7]})
    refused(root, r"b\.csv, episode 1, column 'action_0': row 2 is 'left', which is no number")
    root = copy()
    (root / "b.csv").write_text("action_0,action_1\n1,2\n3\n")
    refused(root, r"b\.csv: row 1 has 1 of 2 columns")
    root = copy()
    (root / "b.csv").write_bytes(b"\xff\xfe\x00")
    refused(root, r"b\.csv: it is no csv file in UTF-8")
    root = copy()
    write_csv(root / "b.csv", {"time": range(7)})
    refused(root, r"b\.csv, episode 1, column 'action': there is no such column; it has time")
    root = copy()
    (root / "b.mp4").write_bytes((root / "b.mp4").read_bytes()[:700])
    refused(root, r"b\.mp4: it is no video, or is cut short or damaged")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "its format is not recognised. What can be imported: .*videos: a folder of videos")


# robomimic.


def test_robomimic(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "image.hdf5")
    data = import_dataset(path, name="mine/lift-v0", **SMALL)
    assert data.provenance["format"] == "robomimic-hdf5"
    assert data.lengths.tolist() == [*(length - 1 for length in LENGTHS), *[2] * 8]
    assert data.pixels[data.starts, 0, 0, 0].tolist() == list(range(11))
    assert data.states.shape[1] == 4
    np.testing.assert_array_equal(data.actions[:11], actions(12, 0)[:-1])
    with h5py.File(path, "r+") as file:
        del file["data/demo_3/obs/agentview_image"]
    refused(path, r"image\.hdf5, episode 3, column 'obs/agentview_image': demo_3 has no such column; it has actions")
    with h5py.File(path, "r+") as file:
        file["data/demo_0/obs/wrist_image"] = np.zeros((12, 24, 24, 3), np.uint8)
    refused(path, r"it has several images, agentview_image, wrist_image: say which with pixels=, --pixels")
    with h5py.File(path, "r+") as file:
        for name in ("agentview_image", "wrist_image"):
            del file[f"data/demo_0/obs/{name}"]
    refused(path, r"episode 0, column 'obs': it has no images; make them with robomimic's")


# Any Minari dataset.


def create(
    name: str, observations: dict[str, Any], space: gym.Space[Any], taken: np.ndarray | None = None, **fields: Any
) -> None:
    buffers = [
        EpisodeBuffer(
            id=episode,
            observations=observations,
            actions=actions(5, episode) if taken is None else taken,
            rewards=np.zeros(5),
            terminations=np.zeros(5, bool),
            truncations=np.arange(5) == 4,
            infos={},
        )
        for episode in range(2)
    ]
    with lossless_images() as options:
        minari.create_dataset_from_buffers(
            name,
            buffer=buffers,
            observation_space=space,
            **{"action_space": gym.spaces.Box(-1, 1, (3,), np.float32), **fields},
            **options,
        )


def image_space(*shape: int) -> gym.spaces.Box:
    return gym.spaces.Box(0, 255, shape, np.uint8)


def test_minari_with_pixels_under_any_key() -> None:
    images = frames(6, shape=(24, 32))
    observations = {"cameras": {"front": images, "depth": images[..., :1]}, "joints": np.ones((6, 2))}
    space = gym.spaces.Dict(
        cameras=gym.spaces.Dict(front=image_space(24, 32, 3), depth=image_space(24, 32, 1)),
        joints=gym.spaces.Box(-1, 1, (2,)),
    )
    create("their/arm-v0", observations, space)
    with pytest.raises(ValueError, match=r"no pixels.*wm-agents import NAME --pixels KEY"):
        load("their/arm-v0")
    with pytest.raises(ValueError, match=r"several images, cameras/depth, cameras/front: say which"):
        import_dataset("their/arm-v0", name="mine/arm-v0", **SMALL)
    data = import_dataset("their/arm-v0", name="mine/arm-v0", pixels="cameras/front", **SMALL)
    assert data.pixels.shape == (12, 16, 16, 3)
    assert levels(data.pixels).tolist() == [*range(6), *range(6)]
    assert data.states.tolist() == [[1, 1]] * 12
    np.testing.assert_array_equal(data.actions[6:11], actions(5, 1))


def test_minari_whose_only_images_have_another_key_or_none() -> None:
    images = frames(6, shape=(16, 16))
    create("their/image-v0", {"image": images}, gym.spaces.Dict(image=image_space(16, 16, 3)))
    assert levels(load("their/image-v0").pixels[:6]).tolist() == list(range(6))
    create("their/plain-v0", images, image_space(16, 16, 3))  # type: ignore[arg-type]
    data = import_dataset("their/plain-v0", name="mine/plain-v0", **SMALL)
    np.testing.assert_array_equal(data.pixels, load("their/plain-v0").pixels)


@pytest.mark.parametrize("column", ["video", "episode"])
def test_a_table_with_rows_of_a_missing_video(tmp_path: Path, column: str) -> None:
    write_videos(tmp_path)
    names, rows = ("a", "b", "c"), []
    for episode, length in enumerate(LENGTHS):
        (tmp_path / f"{names[episode]}.csv").unlink()
        whose = f"{names[episode]}.mp4" if column == "video" else episode
        rows += [(whose, *action) for action in actions(length, episode)]
    write_csv(tmp_path / "actions.csv", dict(zip((column, "x", "y", "z"), zip(*rows, strict=True), strict=True)))
    (tmp_path / "b.mp4").unlink()
    if column == "episode":  # is c.mp4 episode 1 or 2?
        refused(tmp_path, r"actions\.csv, column 'episode': it has rows of 3 episodes, and there are 2 videos")
        return
    with pytest.warns(UserWarning, match=r"actions\.csv: no video is there for its rows of b\.mp4; they are left out"):
        data = import_dataset(tmp_path, name="mine/rest-v0", **SMALL)
    assert data.lengths.tolist() == [LENGTHS[0] - 1, LENGTHS[2] - 1]
    np.testing.assert_array_equal(data.actions[LENGTHS[0] :][: LENGTHS[2] - 1], actions(LENGTHS[2], 2)[:-1])


def test_videos_with_discrete_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [np.arange(length) % 3 for length in LENGTHS]
    for episode, length in enumerate(LENGTHS):
        write_video(tmp_path / f"{episode}.mp4", frames(length, 0))
        write_csv(tmp_path / f"{episode}.csv", {"frame": np.arange(length), "action": taken[episode]})
    command = ["wm-agents", "import", str(tmp_path), "--name", "mine/game-v0", "--image-size", "16", "--choices", "3"]
    monkeypatch.setattr(sys, "argv", command)
    cli.main()
    data = load("mine/game-v0")
    assert data.choices == (3,)
    np.testing.assert_array_equal(data.actions[: LENGTHS[0] - 1], np.eye(3)[taken[0][:-1]])
    refused(tmp_path, r"episode 0, column 'actions': row 2 has 2, where a whole number from 0 to 1", choices=2)
    refused(tmp_path, "there are choices for 2", choices=[3, 2])
    refused(tmp_path, "choices must be", choices=1.5)


@pytest.mark.parametrize(
    ("space", "taken", "choices", "expected"),
    [
        (gym.spaces.Discrete(3), np.array([0, 2, 1, 1, 0]), (3,), [0, 2, 1, 1, 0]),
        (gym.spaces.Discrete(3, start=4), np.array([4, 6, 5, 5, 4]), (3,), [0, 2, 1, 1, 0]),
        (gym.spaces.MultiDiscrete([2, 3]), np.array([[0, 2], [1, 1]] * 2 + [[1, 0]]), (2, 3), [[0, 2], [1, 1]]),
    ],
)
def test_minari_with_discrete_actions(
    space: gym.Space[Any], taken: np.ndarray, choices: tuple[int, ...], expected: list[Any]
) -> None:
    images = gym.spaces.Dict(image=image_space(24, 16, 3))
    create("their/buttons-v0", {"image": frames(6, shape=(24, 16))}, images, taken, action_space=space)
    data = import_dataset("their/buttons-v0", name="mine/buttons-v0", **SMALL)
    assert data.choices == choices
    numbers = np.atleast_2d(np.array(expected).T).T
    hot = np.concatenate([np.eye(count)[part] for count, part in zip(choices, numbers.T, strict=True)], axis=1)
    np.testing.assert_array_equal(data.actions[: len(hot)], hot)
    with pytest.raises(ValueError, match="its actions are discrete: leave action_scale out"):
        import_dataset("their/buttons-v0", name="mine/scaled-v0", action_scale=2.0, **SMALL)


def test_minari_that_cannot_be_imported() -> None:
    vector = gym.spaces.Dict(x=gym.spaces.Box(-1, 1, (2,)))
    create("their/vectors-v0", {"x": np.zeros((6, 2))}, vector)
    with pytest.raises(ValueError, match=r"their/vectors-v0, column 'pixels': it has no images"):
        import_dataset("their/vectors-v0", **SMALL)
    with pytest.raises(ValueError, match=r"no such local Minari dataset. Fetch it first: minari download"):
        import_dataset("their/missing-v0", **SMALL)


def test_the_declared_bounds_stay_and_many_actions_outside_are_refused() -> None:
    observations = {"pixels": frames(6, shape=(16, 16))}
    images = gym.spaces.Dict(pixels=image_space(16, 16, 3))
    create("their/wide-v0", observations, images, action_space=gym.spaces.Box(-3, 3, (3,), np.float32))
    data = import_dataset("their/wide-v0", name="mine/wide-v0", **SMALL)
    assert (data.action_low.tolist(), data.action_high.tolist()) == ([-3] * 3, [3] * 3)
    create("their/tight-v0", observations, images, action_space=gym.spaces.Box(-0.1, 0.1, (3,), np.float32))
    with pytest.raises(ValueError, match=r"their/tight-v0, column 'actions': .*outside the bounds of its own action"):
        import_dataset("their/tight-v0", name="mine/tight-v0", **SMALL)
    scaled = import_dataset("their/tight-v0", name="mine/scaled-v0", action_scale=0.1, **SMALL)
    assert np.abs(scaled.actions).max() <= 0.1


def test_a_space_without_bounds_gets_those_of_the_actions() -> None:
    images = frames(6, shape=(16, 16))
    free = gym.spaces.Box(np.float32([-np.inf, -2, -np.inf]), np.float32([np.inf, np.inf, 2]), dtype=np.float32)
    create("their/free-v0", {"pixels": images}, gym.spaces.Dict(pixels=image_space(16, 16, 3)), action_space=free)
    data = load("their/free-v0")
    taken = np.concatenate([actions(5, 0), actions(5, 1)])
    np.testing.assert_array_equal(data.action_low, [taken[:, 0].min(), -2, taken[:, 2].min()])
    np.testing.assert_array_equal(data.action_high, [taken[:, 0].max(), taken[:, 1].max(), 2])


# The command.


def test_the_command_detects_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    root = write_videos(tmp_path / "my runs")
    monkeypatch.setattr(sys, "argv", ["wm-agents", "import", str(root), "--image-size", "16", "--resize", "pad"])
    cli.main()
    assert f"imported/my-runs-v0: 3 episodes, {sum(LENGTHS)} frames" in capfd.readouterr().out
    assert load("imported/my-runs-v0").provenance["resize"] == "pad"


def test_the_id_of_a_foreign_environment_is_refused(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "low.hdf5")
    refused(tmp_path / "low.hdf5", "none of this library's tasks.*leave env_id out", env_id="Pendulum-v1")
