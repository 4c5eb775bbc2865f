"""Small environments of nobody's, for tests of what is made of them: a dot on a field, drawn by hand."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Dot(gym.Env):
    """A dot that is pushed about; the observation is where it is.

    Args:
        render_mode: None or "rgb_array".
        shape: Height and width of the images.
        kind: Of the images: "rgb", "rgba", "gray", "float", "none", "black", "growing", "nan".
        actions: The action space; a Box of two pushes by default. Discrete ones push along the axes.
        seeded: Whether the seed fixes the episode.
        ends: Steps after which the environment terminates.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(
        self,
        render_mode: str | None = None,
        shape: tuple[int, int] = (48, 48),
        kind: str = "rgb",
        actions: spaces.Space | None = None,
        seeded: bool = True,
        ends: int | None = None,
    ) -> None:
        self.render_mode, self.shape, self.kind, self.seeded, self.ends = render_mode, shape, kind, seeded, ends
        self.action_space = actions or spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._drawn = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        rng = self.np_random if self.seeded else np.random.default_rng()
        self._at, self._steps = rng.uniform(-0.5, 0.5, 2), 0
        return self._at.astype(np.float32), {"far": False}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if isinstance(self.action_space, spaces.Discrete):
            push = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)][int(action) % 4])
        elif isinstance(self.action_space, spaces.Box):
            push = np.ravel(action)[:2]
        else:
            push = np.asarray(action)[:2] - 1
        self._at = np.clip(self._at + 0.1 * push, -0.9, 0.9)
        self._steps += 1
        over = self.ends is not None and self._steps >= self.ends
        return self._at.astype(np.float32), 1.0, over, False, {"far": bool(np.abs(self._at).max() > 0.8)}

    def render(self) -> Any:
        if self.kind == "none":
            return None
        self._drawn += 1
        height, width = self.shape if self.kind != "growing" else (self.shape[0] + self._drawn // 40, self.shape[1])
        rows, columns = np.mgrid[0:height, 0:width]
        y, x = (self._at[1] + 1) / 2 * height, (self._at[0] + 1) / 2 * width
        near = np.hypot(rows - y, columns - x) < 4
        image = np.full((height, width), 40, np.uint8)
        image[near] = 220
        if self.kind == "black":
            return np.zeros((height, width, 3), np.uint8)
        if self.kind == "gray":
            return image
        if self.kind in ("float", "nan"):
            return np.where(near, np.nan if self.kind == "nan" else 0.9, 0.1).astype(np.float32)[..., None]
        channels = 4 if self.kind == "rgba" else 3
        return np.repeat(image[..., None], channels, axis=-1)
