"""PointMaze: push a ball through a maze seen from above, to the place that the goal image shows."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import mujoco
import numpy as np
from gymnasium import spaces
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from wm_agents.envs.contexts import LOCK
from wm_agents.envs.goal_env import GoalEnv
from wm_agents.envs.rendering import HIDDEN_GROUP, FrameRenderer
from wm_agents.registry import did_you_mean

MAZES: dict[str, tuple[str, ...]] = {
    "UMAZE": ("#####", "#   #", "### #", "#   #", "#####"),
    "MEDIUM": ("########", "#  ##  #", "#  #   #", "##   ###", "#  #   #", "# #  # #", "#   #  #", "########"),
    "LARGE": (
        "############",
        "#    #     #",
        "# ## # # # #",
        "#      #   #",
        "# #### ### #",
        "#  # #     #",
        "## # # # ###",
        "#  #   #   #",
        "############",
    ),
    "TWO_ROOM": ("#######", "#  #  #", "#  #  #", "#     #", "#  #  #", "#  #  #", "#######"),
}
"""The layouts, row by row from the top of the image; ``#`` is a wall."""

BALL_RADIUS = 0.1
MAX_SPEED = 5.0
_DEPTH = 0.08  # how deep a ball at full speed gets into a wall for a moment; such states are the simulator's own
_FLOOR, _WALL, _BALL, _TARGET = (0.92, 0.92, 0.88, 1), (0.16, 0.2, 0.28, 1), (0.9, 0.25, 0.1, 1), (0.1, 0.7, 0.3, 0.5)


class PointMaze(GoalEnv):
    """A ball of radius 0.1 m, pushed by a force, in a maze of cells of 1 m; Gymnasium-Robotics' model and dynamics.

    State ``(x, y, vx, vy)`` in m and m/s; goal ``(x, y)``; action: the force along x and y, each in [-1, 1]. The
    state is complete: setting one and replaying actions gives the same states to the last bit. Success: within 0.45 m
    of the goal (``moderate``, the radius of Gymnasium-Robotics) or 0.3 m (``strict``).

    Images look straight down without perspective, +x to the right and +y up (row 0 of the image is the largest y).
    They show the maze up to the middle of its outer walls. The ball is drawn with a radius of a twentieth of the image,
    above the walls, so that it is easy to see in every maze and never hidden; its physical radius stays 0.1 m.

    Args:
        maze_map: A name in :data:`MAZES`, or rows of 0 (free) and 1 (wall), the outer cells all walls.
        **kwargs: the options of :class:`GoalEnv`.

    Raises:
        ValueError: The maze is unknown, ragged, open to the outside, or its free cells are not connected.
    """

    state_names: ClassVar[tuple[str, ...]] = ("x", "y", "vx", "vy")
    goal_names: ClassVar[tuple[str, ...]] = ("x", "y")
    success_thresholds: ClassVar[dict[str, float]] = {"moderate": 0.45, "strict": 0.3}
    success_tests: ClassVar[dict[str, str]] = {mode: f"within {far:g} m" for mode, far in success_thresholds.items()}
    exploration_policy: ClassVar[str] = "waypoint"
    cell_size: ClassVar[float] = 1.0
    """Side of a cell in m."""

    def __init__(self, maze_map: str | Sequence[Sequence[int]] = "UMAZE", **kwargs: Any) -> None:
        super().__init__(action_space=spaces.Box(-1.0, 1.0, (2,), np.float32), **kwargs)
        self.maze_map = _parse_maze(maze_map)
        self._rows, self._columns = self.maze_map.shape
        self._free_cells = np.argwhere(self.maze_map == 0)
        if (self._steps_to(self._free_cells[0])[self.maze_map == 0] < 0).any():
            raise ValueError("maze_map must connect all its free cells: a goal could be out of reach.")
        self._walls = self.cell_to_xy(np.argwhere(self.maze_map == 1))
        extent = max(self._rows, self._columns) - 1.0  # half of the outer walls on either side
        self._model = self._build_model(extent)
        self._data = mujoco.MjData(self._model)
        self._canvas = mujoco.MjData(self._model)  # frames are drawn from here: drawing never touches the simulation
        self._target_site = self._model.site("target").id
        camera = mujoco.MjvCamera()
        camera.orthographic = 1
        camera.azimuth, camera.elevation, camera.distance = 90, -90, 4 * extent
        self._renderer = FrameRenderer(self._model, camera)

    # The maze.

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The outer edges of the maze, ``(x_min, x_max, y_min, y_max)`` in m."""
        x, y = self._columns / 2 * self.cell_size, self._rows / 2 * self.cell_size
        return -x, x, -y, y

    def walls(self) -> np.ndarray:
        """Return the centres of the wall cells, float64 ``[n, 2]``; each is a square of side ``cell_size``."""
        return self._walls.copy()

    def cell_to_xy(self, cell: np.ndarray) -> np.ndarray:
        """Return the centres ``[..., 2]`` in m of cells ``[..., 2]`` given as (row, column), row 0 at the top."""
        cell = np.asarray(cell)
        x = (cell[..., 1] + 0.5 - self._columns / 2) * self.cell_size
        y = (self._rows / 2 - cell[..., 0] - 0.5) * self.cell_size
        return np.stack([x, y], axis=-1)

    def xy_to_cell(self, xy: np.ndarray) -> np.ndarray:
        """Return the cells ``[..., 2]`` (row, column) that hold the positions ``xy`` ``[..., 2]``; int64, unclipped."""
        xy = np.asarray(xy)
        row = np.floor(self._rows / 2 - xy[..., 1] / self.cell_size)
        column = np.floor(xy[..., 0] / self.cell_size + self._columns / 2)
        return np.stack([row, column], axis=-1).astype(np.int64)

    def shortest_path(self, xy_from: np.ndarray, xy_to: np.ndarray) -> np.ndarray:
        """Return waypoints of a shortest path through free cells, float64 ``[n, 2]``, n >= 1.

        They are the centres of the cells to cross after the cell of ``xy_from``; the last one is ``xy_to`` instead of a
        centre. A straight line from each to the next stays in free cells.

        Raises:
            ValueError: One of the positions is not in a free cell.
        """
        cell, last = (self.xy_to_cell(xy) for xy in (xy_from, xy_to))
        for xy, c in ((xy_from, cell), (xy_to, last)):
            if not self._is_free(c):
                raise ValueError(f"{np.asarray(xy)} is not in a free cell of the maze; its bounds are {self.bounds}.")
        steps = self._steps_to(last)
        way = []
        while steps[tuple(cell)] > 1:
            cell = next(c for c in self._neighbours(cell) if steps[tuple(c)] == steps[tuple(cell)] - 1)
            way.append(self.cell_to_xy(cell))
        return np.array([*way, np.asarray(xy_to, dtype=np.float64)])

    def _is_free(self, cell: np.ndarray) -> bool:
        row, column = cell
        return 0 <= row < self._rows and 0 <= column < self._columns and self.maze_map[row, column] == 0

    def _neighbours(self, cell: np.ndarray) -> list[np.ndarray]:
        around = (cell + np.array(step) for step in ((0, 1), (1, 0), (0, -1), (-1, 0)))
        return [c for c in around if self._is_free(c)]

    def _steps_to(self, cell: np.ndarray) -> np.ndarray:
        """Return the number of cells from each cell to ``cell``; -1 where there is no way."""
        free, cells = self.maze_map == 0, np.arange(self.maze_map.size).reshape(self.maze_map.shape)
        across, down = free[:, :-1] & free[:, 1:], free[:-1] & free[1:]
        first = np.concatenate([cells[:, :-1][across], cells[:-1][down]])
        second = np.concatenate([cells[:, 1:][across], cells[1:][down]])
        ways = csr_matrix((np.ones(len(first)), (first, second)), shape=(cells.size, cells.size))
        steps = dijkstra(ways, directed=False, unweighted=True, indices=cells[tuple(cell)])
        return np.where(np.isfinite(steps), steps, -1).reshape(cells.shape)

    # What GoalEnv asks for.

    def get_state(self) -> np.ndarray:
        """Return ``(x, y, vx, vy)``, float64."""
        return np.concatenate([self._data.qpos, self._data.qvel])

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a ball at rest, uniform over the places at least half a ball's radius off any wall; float64 ``[4]``."""
        while True:
            cell = self._free_cells[rng.integers(len(self._free_cells))]
            xy = self.cell_to_xy(cell) + rng.uniform(-0.5, 0.5, 2) * self.cell_size
            if self._clearance(xy) >= 1.5 * BALL_RADIUS:
                return np.concatenate([xy, np.zeros(2)])

    def achieved_goal(self, state: np.ndarray) -> np.ndarray:
        """Return the positions ``[..., 2]`` of ``state`` ``[..., 4]``."""
        return np.asarray(state)[..., :2]

    def close(self) -> None:
        """Free the rendering contexts."""
        self._renderer.close()
        super().close()

    def _clearance(self, xy: np.ndarray) -> float:
        """Return the distance in m from ``xy`` to the nearest wall; 0 inside a wall."""
        outside = np.maximum(np.abs(xy - self._walls) - self.cell_size / 2, 0.0)
        return float(np.linalg.norm(outside, axis=-1).min())

    def _check_state(self, name: str, state: np.ndarray) -> None:
        way_out = "`env.unwrapped.sample_state(rng)` returns a free state."
        if not self._is_free(self.xy_to_cell(state[:2])) or self._clearance(state[:2]) < BALL_RADIUS - _DEPTH:
            raise ValueError(
                f"{name} puts the ball (radius {BALL_RADIUS} m) at {state[:2]}, into a wall or outside the maze, "
                f"whose bounds are {self.bounds}. {way_out}"
            )
        if (np.abs(state[2:]) > 2 * MAX_SPEED).any():
            raise ValueError(f"{name} has velocity {state[2:]}; the ball moves at most at {MAX_SPEED} m/s. {way_out}")

    def _set_state(self, state: np.ndarray) -> None:
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:], self._data.qvel[:] = state[:2], state[2:]

    def _simulate(self, action: np.ndarray) -> None:
        np.clip(self._data.qvel, -MAX_SPEED, MAX_SPEED, out=self._data.qvel)
        self._data.ctrl[:] = action
        mujoco.mj_step(self._model, self._data)

    def _draw(self, state: np.ndarray, size: int, goal_state: np.ndarray | None = None) -> np.ndarray:
        with LOCK:
            self._canvas.qpos[:] = state[:2]
            mujoco.mj_kinematics(self._model, self._canvas)
            if goal_state is not None:
                self._canvas.site_xpos[self._target_site] = *goal_state[:2], 0.5
            return self._renderer.render(self._canvas, size, markers=goal_state is not None)

    def _build_model(self, extent: float) -> mujoco.MjModel:
        """Return upstream's ball with this maze's walls, dressed for a view of ``extent`` m from above."""
        spec = mujoco.MjSpec.from_string(_ball_model())
        world = spec.worldbody
        half = self.cell_size / 2
        for x, y in self._walls:
            world.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[x, y, 0.2],
                size=[half, half, 0.2],
                contype=1,
                conaffinity=1,
                group=HIDDEN_GROUP,
            )
        # What is drawn: a wall-coloured ground, the free cells as flat tiles, a large ball.
        spec.geom("ground").group = HIDDEN_GROUP
        tiles = [(np.zeros(2), np.full(2, extent), -0.1, _WALL)]
        tiles += [(centre, size, 0.0, _FLOOR) for centre, size in self._tiles()]
        for (x, y), (width, height), z, colour in tiles:
            world.add_geom(
                type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[x, y, z - 0.5],
                size=[width / 2, height / 2, 0.01],
                rgba=colour,
                contype=0,
                conaffinity=0,
            )
        ball = spec.site("particle_site")
        ball.size, ball.rgba, ball.pos = [extent / 20] * 3, _BALL, [0, 0, 1]
        world.add_site(
            name="target",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[self.success_thresholds["moderate"], 0.01, 0],
            rgba=_TARGET,
            group=HIDDEN_GROUP,
        )
        light = spec.visual.headlight
        light.ambient, light.diffuse, light.specular = [0.4] * 3, [0.6] * 3, [0.0] * 3
        model = spec.compile()
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_WARMSTART  # no solver history: the state is all there is
        model.vis.global_.orthographic = 1
        model.vis.global_.fovy = extent
        return model

    def _tiles(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return rectangles (centre, size) that cover the free cells once: runs of a row, merged over equal rows."""
        runs: list[list[int]] = []  # first row, last row, first column, last column
        for row in range(self._rows):
            edges = np.flatnonzero(np.diff(np.pad(self.maze_map[row] == 0, 1).astype(int)))
            for first, end in edges.reshape(-1, 2):
                above = next((r for r in runs if r[1:] == [row - 1, first, end - 1]), None)
                if above:
                    above[1] = row
                else:
                    runs.append([row, row, int(first), int(end) - 1])
        corners = [self.cell_to_xy(np.array([[r[0], r[2]], [r[1], r[3]]])) for r in runs]
        return [(c.mean(axis=0), np.abs(c[1] - c[0]) + self.cell_size) for c in corners]


def _parse_maze(maze_map: str | Sequence[Sequence[int]]) -> np.ndarray:
    """Return the maze as int64 ``[rows, columns]``, 1 for a wall."""
    if isinstance(maze_map, str):
        if maze_map not in MAZES:
            raise ValueError(did_you_mean("maze", maze_map, MAZES))
        return np.array([[int(cell == "#") for cell in row] for row in MAZES[maze_map]])
    if len({len(row) for row in maze_map}) != 1:
        raise ValueError("maze_map must have rows of one length.")
    maze = np.array(maze_map)
    if maze.ndim != 2 or not np.isin(maze, (0, 1)).all():
        raise ValueError("maze_map must be rows of 0 (free) and 1 (wall).")
    if not (maze[[0, -1]].all() and maze[:, [0, -1]].all() and (maze == 0).sum() >= 2):
        raise ValueError("maze_map must have walls (1) all around and at least two free cells (0) inside.")
    return maze.astype(np.int64)


def _ball_model() -> str:
    """Return Gymnasium-Robotics' model of the ball, as XML without textures, which load slowly and are not visible."""
    package = find_spec("gymnasium_robotics")  # located, not imported: that would bring its own environments
    if package is None or package.origin is None:
        raise ImportError("PointMaze needs gymnasium-robotics: pip install 'gymnasium-robotics>=1.4'.")
    root = ElementTree.parse(Path(package.origin).parent / "envs" / "assets" / "point" / "point.xml").getroot()
    for assets in root.findall("asset"):
        root.remove(assets)
    for geom in root.iter("geom"):
        geom.attrib.pop("material", None)
    return ElementTree.tostring(root, encoding="unicode")
