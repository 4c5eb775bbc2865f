"""Importers: what they refuse, and what an interrupted or repeated import leaves."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from foreign_files import CUBE, MARKS, QUIET, REACHER, lewm_columns, write_h5

from wm_agents.datasets import import_dataset, importing, load
from wm_agents.datasets.import_tables import LeWMTable

pytest_plugins = ["foreign_files"]
pytestmark = MARKS


def leftovers(root: Path) -> list[str]:
    """Everything below the datasets' root but what Minari keeps about namespaces."""
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "namespace" not in path.name]


# What is refused.


def changed(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return columns with some replaced; those replaced by None are left out."""
    return lambda columns: {key: value for key, value in {**columns, **changes}.items() if value is not None}


def nan_at(row: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(columns: dict[str, Any]) -> dict[str, Any]:
        columns["action"][row] = np.nan
        return columns

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(action=None), r"column 'action': Unknown column 'action'.*Known: ep_len"),
        (changed(ep_len=None), r"column 'ep_len': Unknown column"),
        (changed(ep_offset=None), r"column 'ep_offset': Unknown column"),
        (changed(pixels=None), r"no images to keep.*pass env_id"),
        (changed(ep_len=np.array([6, 5])), r"episode 1, column 'action': it has 10 rows, the episodes 11"),
        (changed(ep_len=np.array([6])), r"column 'ep_offset': it has 2 entries, ep_len 1"),
        (changed(ep_offset=np.array([0, 5])), r"episode 1, column 'ep_offset': it starts at row 5"),
        (changed(ep_len=np.array([6.0, 4.0])), r"column 'ep_len': it is float64"),
        (changed(action=np.zeros((9, 2))), r"episode 1, column 'action': it has 9 rows"),
        (changed(proprio=np.zeros((11, 4))), r"column 'proprio': it has 11 rows"),
        (changed(action=np.zeros(10)), r"column 'action': it is float64 \(10,\)"),
        (changed(pixels=np.full((10, 32, 32, 3), 7.0)), r"episode 0, column 'pixels': frame 0 .* floats from 7 to 7"),
        (changed(pixels=np.full((10, 32, 32, 3), np.nan)), r"episode 0, column 'pixels': frame 0 .* NaN"),
        (changed(pixels=np.zeros((10, 32, 32, 3), int)), r"episode 0, column 'pixels': frame 0 .* it is int64"),
        (changed(pixels=np.zeros((10, 32, 24, 5), np.uint8)), r"column 'pixels': it is \(10, 32, 24, 5\)"),
        (changed(pixels=np.array([b"jpeg"] * 10)), r"column 'pixels': .*encoded images \(JPEG, PNG\) are not read"),
        (changed(pixels=np.zeros((10, 8, 8, 3), np.uint8)), r"column 'pixels': its images are 8 px, less than"),
        (changed(ep_len=np.array([], int), ep_offset=np.array([], int)), r"it has no episodes"),
        (changed(ep_len=np.array([8, 2]), ep_offset=np.array([0, 8])), r"NaN or infinite|two actions"),
        (nan_at(2), r"episode 0, column 'action': row 2 is NaN"),
        (nan_at(6), r"episode 1, column 'action': row 0 is NaN.*Move them up by a row"),
    ],
)
def test_bad_tables(tmp_path: Path, datasets_path: Path, change: Any, message: str) -> None:
    path = write_h5(tmp_path / "bad.h5", change(lewm_columns()))
    with pytest.raises(ValueError, match=rf"(?s)bad\.h5.*{message}"):
        import_dataset(path, image_size=16, **QUIET)
    assert not leftovers(datasets_path)


def test_short_episodes_are_refused_or_left_out(tmp_path: Path) -> None:
    columns = lewm_columns((6, 2, 4))
    path = write_h5(tmp_path / "short.h5", columns)
    with pytest.raises(ValueError, match=r"short\.h5, episode 1: it has 2 row\(s\)"):
        import_dataset(path, image_size=16, **QUIET)
    data = import_dataset(path, image_size=16, skip_invalid=True, **QUIET)
    assert data.lengths.tolist() == [5, 3]
    assert (data.provenance["episodes"], data.provenance["skipped"]) == (2, 1)
    np.testing.assert_array_equal(data.actions[6:9], columns["action"][8:11])


def test_data_of_another_task(tmp_path: Path, cube_file: Path) -> None:
    path = write_h5(tmp_path / "a.h5", lewm_columns())
    with pytest.raises(ValueError, match=r"a\.h5, column 'actions': its actions have 2 numbers, .*Cube-Single-v0 5"):
        import_dataset(path, env_id=CUBE, image_size=16, **QUIET)
    with pytest.raises(ValueError, match=r"a\.h5, column 'state': rendering takes a column with the task's states"):
        import_dataset(path, env_id=REACHER, frames="rendered", image_size=16, **QUIET)
    with pytest.raises(ValueError, match=r"npz, column 'qpos \+ qvel': its states have another size .*another task"):
        import_dataset(cube_file, env_id="wm/Cube-Double-v0", **QUIET)
    with pytest.raises(ValueError, match="Did you mean 'wm/Cube-Single-v0'"):
        import_dataset(cube_file, env_id="wm/Cube-Singel-v0", **QUIET)


def test_a_state_outside_the_limits(cube_columns: dict[str, np.ndarray], tmp_path: Path, datasets_path: Path) -> None:
    qpos = cube_columns["qpos"].copy()
    qpos[8, 14] = 3.0  # the cube's x, in m
    path = tmp_path / "cube-single-bad-v0.npz"
    np.savez(path, **{**cube_columns, "qpos": qpos})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"bad-v0\.npz, episode 1, column 'state': row 2 has a cube at .*skip_invalid"):
        import_dataset(path, image_size=16, **QUIET)
    assert not leftovers(datasets_path)
    data = import_dataset(path, image_size=16, skip_invalid=True, **QUIET)
    assert (len(data), data.provenance["skipped"]) == (1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(terminals=None), r"column 'terminals': Unknown column"),
        (changed(qvel=None), r"column 'state': rendering takes a column with the task's states"),
        (changed(observations=None), r"column 'observations': Unknown column"),
        (changed(terminals=np.zeros(10, bool)), r"episode 0, column 'terminals': the last of its 10 rows"),
        (changed(actions=np.zeros((9, 5))), r"episode 1, column 'actions': it has 9 rows"),
        (changed(observations=np.full((10, 32, 32, 3), 2.0)), r"episode 0, column 'pixels': frame 0 .* floats from 2"),
        (changed(qpos=np.full((10, 21), np.nan)), r"episode 0, column 'qpos \+ qvel': row 0 is NaN"),
        (changed(actions=np.array([{}] * 10)), r"column 'actions': it holds pickled objects"),
    ],
)
def test_bad_npz(cube_columns: dict[str, Any], tmp_path: Path, datasets_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "cube-single-bad-v0.npz"
    np.savez(path, **change(cube_columns))
    with pytest.raises(ValueError, match=rf"bad-v0\.npz.*{message}"):
        import_dataset(path, image_size=16, **QUIET)
    assert not leftovers(datasets_path)


def test_pickles_are_never_opened(cube_columns: dict[str, Any], tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(ran),)

    for column in ("observations", "actions", "terminals", "qpos"):
        path = tmp_path / f"cube-single-{column}-v0.npz"
        np.savez(path, **{**cube_columns, column: np.array([Hostile()] * 10)}, allow_pickle=True)
        with pytest.raises(ValueError, match=rf"column '{column}': it holds pickled objects"):
            import_dataset(path, **QUIET)
    assert not ran.exists()


def test_files_that_are_something_else_or_cut_short(tmp_path: Path, cube_file: Path) -> None:
    whole = write_h5(tmp_path / "whole.h5", lewm_columns()).read_bytes()
    files = {
        "text.h5": (b"not at all", "it is no HDF5 file"),
        "cut.h5": (whole[: len(whole) // 2], "cut short or damaged"),
        "text.npz": (b"not at all", "it is no npz file"),
        "cut.npz": (cube_file.read_bytes()[:-200], "it is no npz file, cut short"),
        "a.parquet": (b"PAR1", "a table of its own has no episodes; give the folder"),
        "a.bin": (b"what", "its format is not recognised. What can be imported: d4rl-pointmaze"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: .*{message}"):
            import_dataset(tmp_path / name, **QUIET)
    for name in ("none.h5", "none.npz", "none"):
        with pytest.raises(ValueError, match=rf"{name}: there is no such file"):
            import_dataset(tmp_path / name, **QUIET)


def test_damage_inside_an_archive_names_the_episode(tmp_path: Path) -> None:
    images = np.zeros((10, 32, 32, 3), np.uint8)
    path = tmp_path / "hurt.npz"
    np.savez(path, observations=images, actions=np.zeros((10, 2)), terminals=np.arange(10) == 9)
    content = bytearray(path.read_bytes())
    content[20_000] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"hurt\.npz, episode 0, column 'observations': it cannot be read \(Bad CRC"):
        import_dataset(path, image_size=16, **QUIET)


def test_sizes_that_do_not_fit_are_damage(cube_columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "cube-single-long-v0.npz"
    np.savez(path, **{key: value for key, value in cube_columns.items() if key != "actions"})
    header = json.dumps({"descr": "<f4", "fortran_order": False, "shape": [10**12, 5]}).replace("false", "False")
    header = header.replace("[", "(").replace("]", ")").ljust(117) + "\n"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("actions.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(ValueError, match=r"column 'actions': its size does not fit its shape \(1000000000000, 5\)"):
        import_dataset(path, **QUIET)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "lewm-hdf"}, "Did you mean 'lewm-hdf5'"),
        ({"frames": "store"}, "Did you mean 'stored'"),
        ({"image_size": 4}, "image_size must be a whole number from 16 to 2048"),
        ({"episodes": 0}, "episodes must be a whole number of at least 1"),
        ({"name": "no version"}, "name-v<number>"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    path = write_h5(tmp_path / "a.h5", lewm_columns())
    with pytest.raises(ValueError, match=message):
        import_dataset(path, **{**QUIET, "image_size": 16, **arguments})


# Interruptions and names.


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_import_leaves_nothing(
    tmp_path: Path, datasets_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    path = write_h5(tmp_path / "a.h5", lewm_columns())
    read = LeWMTable.read

    def stop(self: LeWMTable, index: int, *, pixels: bool) -> Any:
        if index == 1 and pixels:
            raise error
        return read(self, index, pixels=pixels)

    with monkeypatch.context() as patch:
        patch.setattr(LeWMTable, "read", stop)
        with pytest.raises(type(error) if isinstance(error, OSError) else error):
            import_dataset(path, image_size=16, **QUIET)
    assert not leftovers(datasets_path)
    first = import_dataset(path, image_size=16, **QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(LeWMTable, "read", stop)
        with pytest.raises(type(error) if isinstance(error, OSError) else error):
            import_dataset(path, image_size=32, overwrite=True, **QUIET)
    assert load(first.name).provenance == first.provenance


def test_the_same_call_loads_and_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_h5(tmp_path / "a.h5", lewm_columns())
    first = import_dataset(path, image_size=16, **QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(importing, "write_episodes", None)
        assert import_dataset(path, image_size=16, **QUIET).provenance == first.provenance
    with pytest.raises(ValueError, match=r"already exists.*image_size 16 instead of 32.*overwrite=True"):
        import_dataset(path, image_size=32, **QUIET)
    write_h5(path, {**lewm_columns(), "proprio": np.zeros((10, 4))})
    with pytest.raises(ValueError, match=r"already exists, made with source_sha256"):
        import_dataset(path, image_size=16, **QUIET)
    assert not import_dataset(path, image_size=16, overwrite=True, **QUIET).states.any()


def test_two_imports_of_one_dataset_do_not_mix(tmp_path: Path, datasets_path: Path) -> None:
    folder = datasets_path / "imported/.a-v0.import"
    folder.mkdir(parents=True)
    path = write_h5(tmp_path / "a.h5", lewm_columns())
    with FileLock(folder / "lock"), pytest.raises(RuntimeError, match="Another process"):
        import_dataset(path, image_size=16, **QUIET)
