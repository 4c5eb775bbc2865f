"""Importers: Minari's PointMaze datasets are rendered in the maze that they are from."""

from __future__ import annotations

import gymnasium as gym
import minari
import numpy as np
import pytest
from foreign_files import MARKS, QUIET, REACHER, UMAZE
from minari.data_collector.episode_buffer import EpisodeBuffer

from wm_agents.datasets import collect, import_dataset

pytest_plugins = ["foreign_files"]
pytestmark = MARKS


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
        import_dataset(plain.name, format="d4rl-pointmaze", **QUIET)
    copy = import_dataset(plain.name, name="my/copy-v0", image_size=16, **QUIET)  # it has images: any Minari dataset
    np.testing.assert_array_equal(copy.pixels, plain.pixels)
    np.testing.assert_array_equal(copy.states, plain.states)


def test_nothing_is_downloaded() -> None:
    with pytest.raises(ValueError, match="minari download D4RL/pointmaze/large-v2"):
        import_dataset("D4RL/pointmaze/large-v2", **QUIET)
