"""A goal environment of 16 x 16 pixels that costs almost nothing: a dot is pushed to its place in the goal image."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

MOVES = np.array([(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)])


class DotGoals(gym.Env):
    """A dot on a field.

    Args:
        actions: "box" for pushes along both axes, "discrete" for four directions, "multi" for one of three per axis.
        limit: Steps of an episode; None: it never ends.
        ends: Whether it ends at the goal.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, actions: str = "box", limit: int | None = 12, ends: bool = True) -> None:
        image = spaces.Box(0, 255, (16, 16, 3), np.uint8)
        self.observation_space = spaces.Dict(pixels=image, goal_pixels=image)
        self.action_space = {
            "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
            "discrete": spaces.Discrete(4),
            "multi": spaces.MultiDiscrete([3, 3]),
        }[actions]
        self.kind, self.limit, self.ends = actions, limit, ends

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at, self.goal, self.steps = self.np_random.uniform(2, 13, 2), self.np_random.uniform(2, 13, 2), 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        push = {
            "box": lambda: np.asarray(action),
            "discrete": lambda: MOVES[int(action)],
            "multi": lambda: action - 1.0,
        }
        self.at = np.clip(self.at + 1.5 * push[self.kind](), 2, 13)
        self.steps += 1
        reached = bool(np.abs(self.at - self.goal).max() < 2)
        over = self.limit is not None and self.steps >= self.limit
        return self._observation(), reached - 1.0, reached and self.ends, over, {"is_success": reached}

    def render(self) -> np.ndarray:
        return np.repeat(np.repeat(self._image(self.at), 4, 0), 4, 1)

    def _observation(self) -> dict[str, np.ndarray]:
        return {"pixels": self._image(self.at), "goal_pixels": self._image(self.goal)}

    @staticmethod
    def _image(at: np.ndarray) -> np.ndarray:
        image = np.full((16, 16, 3), 30, np.uint8)
        row, column = np.rint(at).astype(int)
        image[row - 1 : row + 2, column - 1 : column + 2] = (220, 120, 60)
        return image
