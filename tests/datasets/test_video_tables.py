"""Tables beside videos as spreadsheets, loggers and people write them: read as they are meant, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foreign_files import MARKS, QUIET
from foreign_folders import (
    LENGTHS,
    actions,
    frames,
    write_lerobot_v2,
    write_lerobot_v3,
    write_parquet,
    write_video,
    write_videos,
)
from pyarrow import parquet

from wm_agents.datasets import import_dataset

pytest_plugins = ["foreign_files"]
pytestmark = MARKS


def imported(root: Path, **options):
    return import_dataset(root, name="mine/tables-v0", **{"image_size": 16, **QUIET, **options})


def refused(root: Path, message: str, **options) -> None:
    with pytest.raises(ValueError, match=message) as error:
        imported(root, **options)
    assert "\n" not in str(error.value)


def rewritten(text: str, kind: str) -> bytes:
    """The text of a csv file as another program would have written it."""
    lines = [line.split(",") for line in text.splitlines()]
    changed = {
        "byte order mark": "\ufeff" + text,
        "semicolons": text.replace(",", ";"),
        "semicolons, decimal commas": text.replace(",", ";").replace(".", ","),
        "tabs": text.replace(",", "\t"),
        "quoted": "\n".join(",".join(f'"{cell}"' for cell in line) for line in lines),
        "empty lines": text.replace("\n", "\n\n"),
        "windows": text.replace("\n", "\r\n"),
        "columns in another order": "\n".join(",".join(line[::-1]) for line in lines),
    }[kind]
    return changed.encode()


KINDS = ["byte order mark", "semicolons", "semicolons, decimal commas", "tabs", "quoted", "empty lines", "windows"]


@pytest.mark.parametrize("kind", [*KINDS, "columns in another order"])
def test_csv_files_of_other_programs(tmp_path, kind):
    root = write_videos(tmp_path / "videos")
    table = root / "b.csv"
    table.write_bytes(rewritten(table.read_text(), kind))
    data = imported(root)
    np.testing.assert_allclose(data.actions[data.starts[1] :][:6], actions(LENGTHS[1], 1)[:-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:1], r"b\.csv: it has no rows"),
        (lambda lines: [], r"b\.csv: it is empty"),
        (lambda lines: lines[1:], r"b\.csv: its first line has numbers and no names"),
        (lambda lines: [lines[0].replace("action_1", "action_0"), *lines[1:]], "two of its columns have one name"),
        (lambda lines: [lines[0].replace("action", "joint"), *lines[1:]], r"columns are joint_0.*first video action_0"),
        (lambda lines: [lines[0], *lines[:0:-1]], r"column 'time': it does not grow from row 0 to row 1: sort"),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], r"column 'time': it does not grow from row 2"),
        (lambda lines: [*lines[:3], lines[2], *lines[4:]], r"column 'time': it does not grow from row 1"),
        (lambda lines: [*lines[:3], "0.2,,1,1", *lines[4:]], r"column 'action_0': row 2 is empty"),
        (lambda lines: [*lines[:3], "0.2,left,1,1", *lines[4:]], r"column 'action_0': row 2 is 'left'"),
    ],
)
def test_csv_files_that_are_not_meant_so(tmp_path, change, message):
    root = write_videos(tmp_path / "videos")
    (root / "b.csv").write_text("\n".join(change((root / "b.csv").read_text().splitlines())))
    refused(root, message)


@pytest.mark.parametrize("name", ["Frame", "frame_number", "Time (s)", "timestamp_ms", "step", "", "Unnamed: 0"])
@pytest.mark.parametrize("action", ["joint", "Action "])
def test_columns_that_count_are_no_actions(tmp_path, name, action):
    root = write_videos(tmp_path / "videos")
    for table in root.glob("*.csv"):
        table.write_text(table.read_text().replace("time,", f"{name},", 1).replace("action", action))
    assert np.allclose(imported(root).actions[: LENGTHS[0] - 1], actions(LENGTHS[0])[:-1])


def test_columns_that_are_no_actions_may_hold_text(tmp_path):
    root = write_videos(tmp_path / "videos")
    for table in root.glob("*.csv"):
        header, *rows = table.read_text().splitlines()
        table.write_text("\n".join([f"{header},label,Time", *(f"{row},go,10:00" for row in rows)]))
    assert imported(root).actions.shape[1] == 3
    (root / "b.csv").write_text((root / "b.csv").read_text().replace("action", "joint"))
    refused(root, r"b\.csv, episode 1, column 'label': row 0 is 'go', which is no number. Text may be", overwrite=True)


@pytest.mark.parametrize(
    ("start", "column", "row"),
    [
        ("run ", "episode", "{}"),
        ("", "video", "{}"),
        ("", "Video", "./{}.mp4"),
        ("x,", "video", "my videos\\x,{}.mp4"),
        ("", "episode", "{}"),
    ],
)
def test_one_table_for_videos_that_are_numbered(tmp_path, start, column, row):
    (tmp_path / "videos").mkdir()
    lines = [f"{column};action"]
    first = 1 if column == "video" else 0
    for video in range(first, first + 11):  # 10 comes after 9, not after 1
        write_video(tmp_path / "videos" / f"{start}{video}.mp4", np.full((5, 32, 32, 3), 20 * video, np.uint8))
        lines += [f"{row.format(video)};{video},5"] * 5
    (tmp_path / "videos" / "actions.csv").write_text("\n".join(lines))
    data = imported(tmp_path / "videos")
    shown = data.pixels[data.starts].mean(axis=(1, 2, 3)) / 20
    assert np.allclose(data.actions[data.starts, 0] - 0.5, shown, atol=0.3)
    assert np.allclose(shown, np.arange(first, first + 11), atol=0.3)


def test_a_folder_with_other_things_in_it(tmp_path):
    root = write_videos(tmp_path / "videos")
    (root / "._a.mp4").write_bytes(b"of macOS")
    (root / "old.mp4").mkdir()
    (root / "notes.txt").write_text("x")
    assert len(imported(root)) == 3
    refused(root, "none of its videos has 'front' in its name", pixels="front")
    refused(root, "skip_invalid must be True or False", skip_invalid="yes")
    (root / "c.mp4").unlink()
    with pytest.warns(UserWarning, match=r"no video belongs to c\.csv"):
        assert len(imported(root, overwrite=True)) == 2


def test_videos_of_another_aspect(tmp_path):
    root = write_videos(tmp_path / "videos")
    write_video(root / "b.mp4", frames(LENGTHS[1], shape=(48, 48)))
    refused(root, "episode 1, column 'pixels': its frames are 48 x 48 pixels, those of the first episode 48 x 64")
    assert len(imported(root, skip_invalid=True)) == 2


@pytest.mark.parametrize("write", [write_lerobot_v2, write_lerobot_v3])
@pytest.mark.parametrize("change", ["shuffled", "doubled"])
def test_rows_of_lerobot_that_do_not_follow_each_other(tmp_path, write, change):
    root = write(tmp_path / "robot")
    table = sorted((root / "data").rglob("*.parquet"))[0]
    columns = parquet.read_table(table).to_pydict()
    order = list(range(len(columns["timestamp"])))
    order[4], order[5] = (5, 4) if change == "shuffled" else (4, 4)
    write_parquet(table, {name: [values[row] for row in order] for name, values in columns.items()})
    refused(root, r"episode 0, column 'timestamp': row \d is at .* missing, doubled, or in another order")
