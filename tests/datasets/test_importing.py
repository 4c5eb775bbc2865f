"""Importers: small files in each foreign layout, made here, become datasets."""

from __future__ import annotations

import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v3 as iio
import minari
import numpy as np
import pytest
from foreign_files import CUBE, LENGTHS, MARKS, PUSHT, QUIET, REACHER, UMAZE, lewm_columns, rollouts, write_h5

from wm_agents import cli
from wm_agents.datasets import IMPORT_FORMATS, collect, import_dataset, import_job, load
from wm_agents.datasets.checks import SquareFrames
from wm_agents.datasets.import_sources import replay_error
from wm_agents.datasets.import_tables import OGBenchTable

pytest_plugins = ["foreign_files"]
pytestmark = MARKS


# HDF5 in LeWM's layout.


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "chunks": True}])
def test_frames_and_actions_of_a_file_without_a_task(tmp_path: Path, options: dict[str, Any]) -> None:
    columns = lewm_columns()
    path = write_h5(tmp_path / "Two Rooms.h5", columns, **options)
    data = import_dataset(path, image_size=16, **QUIET)
    assert (data.name, data.env_id) == ("imported/two-rooms-v0", "")
    assert data.lengths.tolist() == [5, 3]
    averages = columns["pixels"].reshape(10, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(data.pixels.astype(float) - averages).max() <= 0.501
    np.testing.assert_array_equal(data.actions, np.nan_to_num(columns["action"], nan=0.0))
    np.testing.assert_array_equal(data.states, columns["proprio"])
    np.testing.assert_array_equal(data.action_low, np.nanmin(columns["action"], axis=0))
    np.testing.assert_array_equal(data.action_high, np.nanmax(columns["action"], axis=0))
    window = data.windows(8, frames=2, block=2, rng=np.random.default_rng(0))
    assert window.pixels.shape == (8, 2, 16, 16, 3)
    assert window.actions.shape == (8, 1, 4)
    plain = minari.load_dataset(data.name)
    assert plain.total_steps == 8
    assert not plain[0].rewards.any()


def test_channels_may_come_first_and_equal_sizes_are_kept(tmp_path: Path) -> None:
    columns = lewm_columns()
    first = write_h5(tmp_path / "first.h5", {**columns, "pixels": np.moveaxis(columns["pixels"], -1, 1)})
    data = import_dataset(first, image_size=32, episodes=1, **QUIET)
    assert len(data) == 1
    np.testing.assert_array_equal(data.pixels, columns["pixels"][:6])


def test_card_and_preview(tmp_path: Path, datasets_path: Path) -> None:
    path = write_h5(tmp_path / "a.h5", lewm_columns())
    card = import_dataset(path, image_size=16, **QUIET).provenance
    assert card["source"] == "a.h5"
    assert len(card["source_sha256"]) == 64
    assert (card["format"], card["frames"], card["episodes"], card["skipped"]) == ("lewm-hdf5", "stored", 2, 0)
    assert {"python", "minari", "wm_agents"} <= set(card["versions"])
    image = iio.imread(datasets_path / "imported/a-v0" / card["preview"])
    assert image.shape == (2 * 16, 8 * 16, 3)
    np.testing.assert_array_equal(image[16:, -16:], load("imported/a-v0").pixels[-1])


def test_collected_data_have_a_preview_too(datasets_path: Path) -> None:
    data = collect(UMAZE, episodes=6, steps=20, image_size=16, workers=1, **QUIET)
    image = iio.imread(datasets_path / data.name / data.provenance["preview"])
    assert image.shape == (4 * 16, 8 * 16, 3)
    np.testing.assert_array_equal(image[:16, :16], data.pixels[0])


def test_reacher_of_dm_control_is_rendered_from_its_states(tmp_path: Path) -> None:
    from dm_control import suite

    env, rng = suite.load("reacher", "easy", task_kwargs={"random": 0}), np.random.default_rng(0)
    rows: dict[str, list[np.ndarray]] = {"action": [], "qpos": [], "qvel": []}
    env.reset()
    for _ in range(12):
        rows["action"].append(rng.uniform(-1, 1, 2))
        rows["qpos"].append(env.physics.data.qpos.copy())
        rows["qvel"].append(env.physics.data.qvel.copy())
        env.step(rows["action"][-1])
    path = write_h5(tmp_path / "reacher.h5", {**rows, "ep_len": [12], "ep_offset": [0]})
    data = import_dataset(path, env_id=REACHER, image_size=32, **QUIET)
    assert (data.name, data.env_id) == ("wm/reacher/reacher-v0", REACHER)
    assert data.provenance["frames"] == "rendered"
    assert data.provenance["replay_error"] < 1e-3
    np.testing.assert_allclose(data.actions[:11], rows["action"][:11], atol=1e-7)
    with gym.make(REACHER) as reacher:
        assert data.state_names == reacher.unwrapped.state_names
        for frame in (0, 7, 11):
            np.testing.assert_array_equal(data.states[frame], [*rows["qpos"][frame], *rows["qvel"][frame]])
            drawn = reacher.unwrapped.render_state(data.states[frame], size=32)
            np.testing.assert_array_equal(data.pixels[frame], drawn)


def pusht_columns(rows: int = 40) -> dict[str, np.ndarray]:
    """gym-pusht, pushed about with relative actions of 100 px, states of 7 numbers: as LeWM's file has them."""
    from gym_pusht.envs.pusht import PushTEnv

    env, rng = PushTEnv(obs_type="state"), np.random.default_rng(3)
    env.reset(seed=4)
    states, actions = [], []
    for _ in range(rows):
        agent, block = env.agent, env.block
        states.append([*agent.position, *block.position, block.angle % (2 * np.pi), *agent.velocity])
        toward = np.array(block.position) - np.array(agent.position)
        actions.append(np.clip(toward / 300 + rng.normal(0, 0.2, 2), -0.6, 0.6))
        env.step(np.array(agent.position) + 100 * actions[-1])
    return {
        "action": np.array(actions),
        "state": np.array(states),
        "pixels": rng.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8),
        "ep_len": np.array([rows]),
        "ep_offset": np.array([0]),
    }


def test_pusht_has_its_actions_rescaled_and_its_state_completed(tmp_path: Path) -> None:
    columns = pusht_columns()
    path = write_h5(tmp_path / "pusht_expert_train.h5", columns)
    data = import_dataset(path, env_id=PUSHT, frames="rendered", image_size=32, **QUIET)
    np.testing.assert_allclose(data.actions[:-1], columns["action"][:-1] * 100 / 64, rtol=1e-6)
    np.testing.assert_array_equal(data.states[:, :4], columns["state"][:, :4])
    np.testing.assert_array_equal(data.states[:, 5:7], columns["state"][:, 5:7])
    assert not data.states[:, 7:].any()
    assert np.abs(np.diff(data.states[:, 4])).max() < 1, "angles are not wrapped"
    assert data.provenance["action_scale"] == 100 / 64
    assert data.provenance["replay_error"] < 0.05
    with gym.make(PUSHT) as env:
        drawn = env.unwrapped.render_state(data.states[20], size=32)
    np.testing.assert_array_equal(data.pixels[20], drawn)
    with pytest.raises(
        ValueError, match=r"pusht_expert_train\.h5, column 'actions': .*does not do what .*action_scale"
    ):
        import_dataset(path, env_id=PUSHT, name="wm/wrong-v0", action_scale=1.0, image_size=32, **QUIET)
    kept = import_dataset(path, env_id=PUSHT, name="wm/kept-v0", image_size=32, **QUIET)
    np.testing.assert_array_equal(kept.pixels, columns["pixels"])


def test_few_actions_beyond_the_bounds_are_clipped_and_many_refused(tmp_path: Path) -> None:
    columns = {"pixels": np.zeros((202, 16, 16, 3), np.uint8), "ep_len": [202], "ep_offset": [0]}
    action = np.zeros((202, 2))
    action[7] = 3.0
    path = write_h5(tmp_path / "a.h5", {**columns, "action": action})
    data = import_dataset(path, env_id=REACHER, image_size=16, **QUIET)
    assert data.actions[7].tolist() == [1, 1]
    assert data.provenance["clipped_actions"] == pytest.approx(1 / 201)
    action[:9] = 3.0
    path = write_h5(tmp_path / "b.h5", {**columns, "action": action})
    with pytest.raises(ValueError, match=r"b\.h5, column 'actions': 4\.5% of the actions .*lie outside the bounds"):
        import_dataset(path, env_id=REACHER, image_size=16, **QUIET)


# OGBench.


def test_cube_is_rendered_from_qpos_and_qvel(cube_columns: dict[str, np.ndarray], cube_file: Path) -> None:
    data = import_dataset(cube_file, image_size=32, **QUIET)
    assert (data.name, data.env_id) == ("wm/cube-single/cube-single-play-v0", CUBE)
    assert data.lengths.tolist() == [5, 3]
    assert data.provenance["replay_error"] < 1e-3
    np.testing.assert_array_equal(data.actions[:5], cube_columns["actions"][:5])
    assert not data.actions[[5, 9]].any()
    np.testing.assert_array_equal(data.states, np.hstack([cube_columns["qpos"], cube_columns["qvel"]]))
    with gym.make(CUBE) as env:
        for frame in (0, 6):
            drawn = env.unwrapped.render_state(data.states[frame], size=32)
            np.testing.assert_array_equal(data.pixels[frame], drawn)


def test_images_of_the_visual_datasets_are_taken_as_they_are(cube_columns: dict[str, Any], tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (sum(LENGTHS), 64, 64, 3), dtype=np.uint8)
    path = tmp_path / "visual-cube-single-play-v0.npz"
    np.savez_compressed(path, **{**cube_columns, "observations": images})
    data = import_dataset(path, **QUIET)
    assert data.env_id == CUBE
    np.testing.assert_array_equal(data.pixels, images)
    other = tmp_path / "visual-puzzle-3x3-play-v0.npz"
    np.savez_compressed(other, **{**cube_columns, "observations": images})
    assert import_dataset(other, **QUIET).name == "imported/visual-puzzle-3x3-play-v0"


def test_npz_rows_are_read_in_any_order_and_never_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile.ZipExtFile, "MAX_SEEK_READ", 1 << 16)  # the library's 16 MiB would hide it
    rows = 1000
    images = np.random.default_rng(0).integers(0, 2, (rows, 32, 32, 3), dtype=np.uint8)  # 3 MB
    terminals = np.arange(rows) % 50 == 49
    path = tmp_path / "a.npz"
    np.savez_compressed(path, observations=images, actions=np.zeros((rows, 2)), terminals=terminals)
    tracemalloc.start()
    table = OGBenchTable(str(path), None)
    for index in (0, 1, 18, 3):
        frames = table.read(index, pixels=True).pixels
        np.testing.assert_array_equal(frames, images[50 * index : 50 * (index + 1)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    table.close()
    assert peak < images.nbytes / 2


# The parts.


def test_replay_tells_right_actions_from_wrong_ones() -> None:
    (states, actions), *_ = rollouts(PUSHT, (60,))
    before, after = states[:-1], states[1:]
    assert replay_error(PUSHT, before, actions, after) == 0
    assert replay_error(PUSHT, before, 0.64 * actions, after) > import_job.MAX_REPLAY_ERROR
    assert replay_error(PUSHT, before[1:], actions[:-1], after[1:]) > import_job.MAX_REPLAY_ERROR
    assert replay_error(PUSHT, np.full((2, 10), np.nan), actions[:2], after[:2]) == 0, "nothing that could be replayed"


def test_shrinking_averages_areas() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    small = SquareFrames(32, "stretch").of(frames)
    assert (
        np.abs(small.astype(float) - frames.reshape(2, 32, 7, 32, 7, 3).mean(axis=(2, 4))).max() < 1
    )  # rounded once a direction
    assert (
        SquareFrames(64, "stretch").of(np.full((1, 224, 224, 3), 77, np.uint8)).tolist()
        == np.full((1, 64, 64, 3), 77).tolist()
    )


def test_every_format_says_what_it_is() -> None:
    for name in IMPORT_FORMATS:
        assert IMPORT_FORMATS.get(name).described_as
        assert not IMPORT_FORMATS.get(name).recognises("/nowhere/a.bin")


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_h5(tmp_path / "a.h5", lewm_columns())
    monkeypatch.setattr(sys, "argv", ["wm-agents", "import", str(path), "--image-size", "16", "--name", "my/a-v0"])
    cli.main()
    assert "my/a-v0: 2 episodes, 10 frames" in capfd.readouterr().out
    monkeypatch.setattr(sys, "argv", ["wm-agents", "import", str(path), "--env-id", "cube-single"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "error: " in capfd.readouterr().err
