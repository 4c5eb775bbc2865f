"""Goal-reaching environments; importing this package registers the ``wm/*`` Gymnasium ids.

| id | steps | task |
|---|---|---|
| ``wm/PointMaze-UMaze-v0`` | 300 | a ball in a U of 7 cells |
| ``wm/PointMaze-Medium-v0`` | 600 | 8 x 8 cells |
| ``wm/PointMaze-Large-v0`` | 1000 | 9 x 12 cells |
| ``wm/TwoRoom-v0`` | 300 | two rooms, one door |
| ``wm/PushT-v0`` | 300 | push a T-shaped block |
| ``wm/Reacher-v0`` | 200 | turn an arm of two links |
| ``wm/Cube-Single-v0`` | 200 | a robot arm moves a cube |
| ``wm/Cube-Double-v0`` | 500 | a robot arm moves two cubes |

A process that never imports ``wm_agents`` (a worker started by ``spawn`` or ``forkserver`` from a notebook) finds an id
by its long name, ``"wm_agents:wm/TwoRoom-v0"``.

Every id takes ``obs_type``, ``image_size``, ``success``, ``goals`` and ``render_mode``: see
:class:`~wm_agents.envs.goal_env.GoalEnv`.
"""

from __future__ import annotations

if __name__ == "envs":
    raise ImportError("This package is named `wm_agents.envs`: write `import wm_agents.envs`, not `import envs`.")

from gymnasium.envs.registration import WrapperSpec, register

from wm_agents.envs.goal_env import GoalEnv
from wm_agents.envs.rendering import RendererUnavailableError, choose_backend
from wm_agents.envs.wrapped import NotRepeatableWarning, WrappedEnv
from wm_agents.envs.wrapping import register as register_wrapped
from wm_agents.envs.wrapping import wrap

# Before anything imports mujoco: it reads its backend from the process environment once, at import.
choose_backend()

# Entry points are strings: what a task stands on is imported when the task is made.
_TASKS: tuple[tuple[str, str, int, dict[str, str]], ...] = (
    ("wm/PointMaze-UMaze-v0", "pointmaze:PointMaze", 300, {"maze_map": "UMAZE"}),
    ("wm/PointMaze-Medium-v0", "pointmaze:PointMaze", 600, {"maze_map": "MEDIUM"}),
    ("wm/PointMaze-Large-v0", "pointmaze:PointMaze", 1000, {"maze_map": "LARGE"}),
    ("wm/TwoRoom-v0", "pointmaze:PointMaze", 300, {"maze_map": "TWO_ROOM"}),
    ("wm/PushT-v0", "pusht:PushT", 300, {}),
    ("wm/Reacher-v0", "reacher:Reacher", 200, {}),
    ("wm/Cube-Single-v0", "cube:CubeSingle", 200, {}),
    ("wm/Cube-Double-v0", "cube:CubeDouble", 500, {}),
)

ENV_IDS = tuple(task[0] for task in _TASKS)
"""Every environment id that this package registers."""

MAZE_IDS = tuple(task[0] for task in _TASKS if "maze_map" in task[3])
"""Those of them that are mazes: they have walls and shortest paths."""

for _id, _entry, _steps, _kwargs in _TASKS:
    register(
        id=_id,
        entry_point=f"wm_agents.envs.{_entry}",
        max_episode_steps=_steps,
        kwargs=_kwargs,
        additional_wrappers=(WrapperSpec("ExposeReward", "wm_agents.envs.goal_env:ExposeReward", kwargs={}),),
    )

__all__ = [
    "ENV_IDS",
    "MAZE_IDS",
    "GoalEnv",
    "NotRepeatableWarning",
    "RendererUnavailableError",
    "WrappedEnv",
    "choose_backend",
    "register_wrapped",
    "wrap",
]
