"""Importers: small files in each foreign layout, made here, and what is wrong with bad ones."""

from __future__ import annotations

import json
import os
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import imageio.v3 as iio
import minari
import numpy as np
import pytest
from filelock import FileLock
from minari.data_collector.episode_buffer import EpisodeBuffer

from wm_agents import cli
from wm_agents.datasets import IMPORT_FORMATS, collect, import_dataset, importing, load, rollout_states
from wm_agents.datasets.episodes import episode_seed
from wm_agents.datasets.import_sources import replay_error, shrink
from wm_agents.datasets.import_tables import LeWMTable, OGBenchTable

UMAZE, CUBE, PUSHT, REACHER = "wm/PointMaze-UMaze-v0", "wm/Cube-Single-v0", "wm/PushT-v0", "wm/Reacher-v0"
pytestmark = pytest.mark.filterwarnings("ignore:`:UserWarning:minari")  # on authors and links, of the tests' own data
QUIET: dict[str, Any] = {"progress": False}
LENGTHS = (6, 4)  # rows of the two episodes of most files here


@pytest.fixture(autouse=True)
def datasets_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "minari"
    root.mkdir()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    return root


def lewm_columns(lengths: tuple[int, ...] = LENGTHS, side: int = 32) -> dict[str, np.ndarray]:
    """Random frames, actions (NaN in the last row of an episode, as in the public files) and proprioception."""
    rng, rows = np.random.default_rng(0), sum(lengths)
    ends = np.cumsum(lengths)
    action = rng.uniform(-2, 2, (rows, 2)).astype(np.float32)
    action[ends - 1] = np.nan
    return {
        "pixels": rng.integers(0, 256, (rows, side, side, 3), dtype=np.uint8),
        "action": action,
        "proprio": rng.normal(size=(rows, 4)),
        "ep_len": np.array(lengths, dtype=np.int32),
        "ep_offset": (ends - lengths).astype(np.int64),
    }


def write_h5(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file.create_dataset(name, data=values, **(options if np.ndim(values) > 1 else {}))
    return path


def rollouts(env_id: str, steps: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    with gym.make(env_id, obs_type="state") as env:
        policy = env.unwrapped.exploration_policy
        return [rollout_states(env, policy, n, episode_seed("collect", 0, i)) for i, n in enumerate(steps)]


def state_columns(env_id: str, positions: int) -> dict[str, np.ndarray]:
    """States and actions of a task of this library as rows; the last row of an episode has an action to drop."""
    episodes = rollouts(env_id, tuple(length - 1 for length in LENGTHS))
    states = np.concatenate([states for states, _ in episodes]).astype(np.float32)
    actions = np.concatenate([np.concatenate([actions, np.ones_like(actions[:1])]) for _, actions in episodes])
    return {"actions": actions, "qpos": states[:, :positions], "qvel": states[:, positions:]}


@pytest.fixture(scope="module")
def cube_columns() -> dict[str, np.ndarray]:
    """What OGBench writes: float32 rows, the last of each episode marked."""
    columns = state_columns(CUBE, 21)
    terminals = np.zeros(sum(LENGTHS), dtype=bool)
    terminals[np.cumsum(LENGTHS) - 1] = True
    return {"observations": np.zeros((sum(LENGTHS), 28), np.float32), "terminals": terminals, **columns}


@pytest.fixture
def cube_file(cube_columns: dict[str, np.ndarray], tmp_path: Path) -> Path:
    path = tmp_path / "cube-single-play-v0.npz"
    np.savez_compressed(path, **cube_columns)  # type: ignore[arg-type]
    return path


def leftovers(root: Path) -> list[str]:
    """Everything below the datasets' root but what Minari keeps about namespaces."""
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "namespace" not in path.name]


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


# Minari's PointMaze.


def pointmaze(name: str, layout: str = "UMaze", mazes: bool = True) -> str:
    """Record upstream's PointMaze into a local Minari dataset, as D4RL/pointmaze has it."""
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)
    env = gym.make(f"PointMaze_{layout}-v3", continuing_task=True, reset_target=True)
    if mazes:
        env.spec.kwargs["maze_map"] = env.unwrapped.maze.maze_map
    else:
        env.spec.kwargs.pop("maze_map", None)
    env.action_space.seed(0)
    buffers = []
    for index, steps in enumerate((9, 5)):
        observations = [env.reset(seed=index)[0]]
        actions = [env.action_space.sample() for _ in range(steps)]
        observations += [env.step(action)[0] for action in actions]
        keys = ("observation", "achieved_goal", "desired_goal")
        buffers.append(
            EpisodeBuffer(
                id=index,
                observations={key: np.array([each[key] for each in observations]) for key in keys},
                actions=np.array(actions),
                rewards=np.zeros(steps),
                terminations=np.zeros(steps, dtype=bool),
                truncations=np.arange(steps) == steps - 1,
                infos={},
            )
        )
    minari.create_dataset_from_buffers(name, buffer=buffers, env=env, data_format="hdf5")
    env.close()
    return name


def test_pointmaze_is_rendered_in_the_maze_with_the_same_map() -> None:
    name = pointmaze("D4RL/pointmaze/umaze-v2")
    data = import_dataset(name, image_size=32, **QUIET)
    assert (data.name, data.env_id) == ("wm/pointmaze-umaze/d4rl-pointmaze-umaze-v0", UMAZE)
    assert data.provenance["source"] == name
    assert data.provenance["replay_error"] < 1e-3
    with gym.make(UMAZE) as env:
        for episode, start in zip(minari.load_dataset(name).iterate_episodes(), data.starts, strict=True):
            last = start + len(episode.actions)
            np.testing.assert_array_equal(data.states[start : last + 1], episode.observations["observation"])
            np.testing.assert_array_equal(data.actions[start:last], episode.actions)
            drawn = env.unwrapped.render_state(data.states[last], size=32)
            np.testing.assert_array_equal(data.pixels[last], drawn)


def test_other_mazes_are_refused() -> None:
    open_maze = pointmaze("D4RL/pointmaze/open-v2", "Open")
    with pytest.raises(ValueError, match=r"pointmaze/open-v2: no task .*#######.*UMaze, Medium and Large"):
        import_dataset(open_maze, **QUIET)
    with pytest.raises(ValueError, match=r"open-v2: its maze is not that of the task: #+ / .* instead of #"):
        import_dataset(open_maze, env_id=UMAZE, **QUIET)
    with pytest.raises(ValueError, match=r"pass env_id of one of the wm/PointMaze"):
        import_dataset(open_maze, env_id=REACHER, **QUIET)
    plain = collect(UMAZE, name="my/pointmaze-v0", episodes=1, steps=4, image_size=16, workers=1, **QUIET)
    with pytest.raises(ValueError, match="it is no dataset of PointMaze"):
        import_dataset(plain.name, **QUIET)


def test_nothing_is_downloaded() -> None:
    with pytest.raises(ValueError, match="minari download D4RL/pointmaze/large-v2"):
        import_dataset("D4RL/pointmaze/large-v2", **QUIET)


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
        (changed(pixels=np.zeros((10, 32, 32, 3))), r"column 'pixels': it is float64; images must be uint8"),
        (changed(pixels=np.zeros((10, 32, 24, 3), np.uint8)), r"column 'pixels': its images are 32 x 24"),
        (changed(pixels=np.zeros((10, 32, 32), np.uint8)), r"column 'pixels': it is \(10, 32, 32\)"),
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
        (changed(observations=np.zeros((10, 32, 32, 3))), r"column 'observations': it is float64; images"),
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
        "a.parquet": (b"PAR1", "LeRobot's tables hold no images"),
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
        ({"image_size": 4}, "image_size is 16 to 2048"),
        ({"episodes": 0}, "episodes at least 1"),
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


# The parts.


def test_replay_tells_right_actions_from_wrong_ones() -> None:
    (states, actions), *_ = rollouts(PUSHT, (60,))
    before, after = states[:-1], states[1:]
    assert replay_error(PUSHT, before, actions, after) == 0
    assert replay_error(PUSHT, before, 0.64 * actions, after) > importing.MAX_REPLAY_ERROR
    assert replay_error(PUSHT, before[1:], actions[:-1], after[1:]) > importing.MAX_REPLAY_ERROR
    assert replay_error(PUSHT, np.full((2, 10), np.nan), actions[:2], after[:2]) == 0, "nothing that could be replayed"


def test_shrinking_averages_areas() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    small = shrink(frames, 32)
    assert (
        np.abs(small.astype(float) - frames.reshape(2, 32, 7, 32, 7, 3).mean(axis=(2, 4))).max() < 1
    )  # rounded once a direction
    assert shrink(np.full((1, 224, 224, 3), 77, np.uint8), 64).tolist() == np.full((1, 64, 64, 3), 77).tolist()


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
