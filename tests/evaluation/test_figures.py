"""Figures: paths in a maze, and curves of a training."""

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
from chaser import UMAZE

from wm_agents.evaluation import maze_figure, save_figure, training_figure

pytest_plugins = ["chaser"]


def test_maze_figure(result, manifest, tmp_path):
    env = gym.make(UMAZE)
    solved = result.outcomes.moderate > 0
    figure = maze_figure(env, result.paths, manifest.starts, manifest.goals, solved, title="UMaze")
    (axes,) = figure.axes
    assert len(axes.lines) == 3 * len(manifest)
    x, y = axes.lines[0].get_data()
    np.testing.assert_array_equal(np.stack([x, y], axis=1), result.paths[0][:, :2])
    save_figure(figure, tmp_path / "maze.png")
    assert iio.imread(tmp_path / "maze.png").std() > 0
    with pytest.raises(ValueError, match=r"\.png"):
        save_figure(figure, tmp_path / "maze.docx")
    with pytest.raises(ValueError, match="one path, start"):
        maze_figure(env, result.paths[:3], manifest.starts, manifest.goals, solved)
    env.close()


def test_training_figure(tmp_path):
    curve = [(step, 1 / (1 + step)) for step in range(50)]
    history = {"train/loss": curve, "validation/loss": [*curve, (60, float("nan"))], "probe_r2": [(0, 0.5)]}
    figure = training_figure(history, title="training")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "probe r2"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]
    save_figure(figure, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").stat().st_size > 0
    with pytest.raises(ValueError, match="no finite"):
        training_figure({"loss": [(0, float("inf"))]})
