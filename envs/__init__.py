"""Goal-reaching environments; importing this package registers the ``wm/*`` Gymnasium ids.

| id | steps | maze |
|---|---|---|
| ``wm/PointMaze-UMaze-v0`` | 300 | a U of 7 cells |
| ``wm/PointMaze-Medium-v0`` | 600 | 8 x 8 cells |
| ``wm/PointMaze-Large-v0`` | 1000 | 9 x 12 cells |
| ``wm/TwoRoom-v0`` | 300 | two rooms, one door |

A process that never imports ``wm_agents`` (a worker started by ``spawn`` or ``forkserver`` from a notebook) finds an id
by its long name, ``"wm_agents:wm/TwoRoom-v0"``.

Every id takes ``obs_type``, ``image_size``, ``success`` and ``render_mode``: see
:class:`~wm_agents.envs.goal_env.GoalEnv`.
"""

from __future__ import annotations

if __name__ == "envs":
    raise ImportError("This package is named `wm_agents.envs`: write `import wm_agents.envs`, not `import envs`.")

from gymnasium.envs.registration import WrapperSpec, register

from wm_agents.envs.goal_env import GoalEnv
from wm_agents.envs.rendering import RendererUnavailableError, choose_backend

# Before anything imports mujoco: it reads its backend from the process environment once, at import.
choose_backend()

ENV_IDS = ("wm/PointMaze-UMaze-v0", "wm/PointMaze-Medium-v0", "wm/PointMaze-Large-v0", "wm/TwoRoom-v0")
"""Every environment id that this package registers."""

for _id, _maze, _steps in zip(ENV_IDS, ("UMAZE", "MEDIUM", "LARGE", "TWO_ROOM"), (300, 600, 1000, 300), strict=True):
    register(
        id=_id,
        entry_point="wm_agents.envs.pointmaze:PointMaze",
        max_episode_steps=_steps,
        kwargs={"maze_map": _maze},
        additional_wrappers=(WrapperSpec("ExposeReward", "wm_agents.envs.goal_env:ExposeReward", kwargs={}),),
    )

__all__ = ["ENV_IDS", "GoalEnv", "RendererUnavailableError", "choose_backend"]
