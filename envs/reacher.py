"""Reacher: turn a two-link arm, seen from above, into the posture that the goal image shows."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces

from wm_agents.envs.goal_env import GoalEnv
from wm_agents.envs.painting import Canvas, Colour, capsule, disc

LINK = 0.12
"""Length of either link in m: from the shoulder to the wrist, and from the wrist to the middle of the fingertip."""
WRIST_LIMIT = float(np.deg2rad(160))
_SLACK = 0.3  # rad that the wrist gives beyond its limit for a moment; such states are the simulator's own
_MAX_SPEED = 20.0  # rad/s; full torques, turned at random, reach 7.4
_EXTENT = 0.56  # side of the square that images show, in m
_RADIUS = 0.017  # with which the links are drawn, in m; upstream's are 0.01
_FLOOR, _SOCKET, _GHOST = (41, 51, 71), (120, 132, 145), (70, 150, 90)
_ARM, _HAND, _FINGER = (217, 153, 77), (90, 178, 230), (242, 64, 38)


class Reacher(GoalEnv):
    """An arm of two links of 12 cm in the plane, moved by torques at its shoulder and wrist; dm_control's model.

    State: ``(shoulder_angle, wrist_angle, v_shoulder_angle, v_wrist_angle)`` in rad and rad/s; the shoulder turns
    freely and its angle is never wrapped, the wrist's ends at 160 degrees to either side. Goal: both angles. Action:
    the torques, each in [-1, 1] times 0.05 Nm, for 0.02 s. The state is complete: setting one and replaying actions
    gives the same states to the last bit. dm_control's own task, a ball for the fingertip to touch, is left out.

    Success (as the evaluations of LeWorldModel and their audit, CLEAR-LeWM v0.5, have it):

    - ``moderate``: both angles within 0.05 rad of the goal's, the shoulder's modulo a full turn;
    - ``strict``: the fingertip within 1 cm of the goal's, in 2 states in a row.

    Neither includes the other: two postures have the same fingertip, and 0.05 rad at the shoulder moves it up to 1.2
    cm.

    Images look straight down, x to the right and y up; the shoulder is in the middle. To be clear at 64
    pixels, the links have different colours and are drawn 1.7 times as thick as they are, with the hand above the arm.
    No target and no walls are drawn, and no OpenGL is needed.

    Args:
        **kwargs: the options of :class:`GoalEnv`.

    Raises:
        ImportError: dm_control is not installed.
    """

    state_names: ClassVar[tuple[str, ...]] = ("shoulder_angle", "wrist_angle", "v_shoulder_angle", "v_wrist_angle")
    goal_names: ClassVar[tuple[str, ...]] = ("shoulder_angle", "wrist_angle")
    success_thresholds: ClassVar[dict[str, float]] = {"moderate": 0.05, "strict": 0.01}
    """Largest error of either angle in rad (moderate), and largest distance of the fingertip in m (strict)."""
    held_steps: ClassVar[dict[str, int]] = {"strict": 2}
    success_tests: ClassVar[dict[str, str]] = {"moderate": "joints 0.05 rad", "strict": "fingertip 1 cm, held 2 steps"}
    exploration_policy: ClassVar[str] = "piecewise-random"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(action_space=spaces.Box(-1.0, 1.0, (2,), np.float32), **kwargs)
        self._model = _model()
        self._data = mujoco.MjData(self._model)

    def fingertip(self, angles: np.ndarray) -> np.ndarray:
        """Return where the fingertip is, ``[..., 2]`` in m from the shoulder, for angles ``[..., 2]`` in rad."""
        angles = np.asarray(angles)
        shoulder, hand = angles[..., 0], angles[..., 0] + angles[..., 1]
        return LINK * np.stack([np.cos(shoulder) + np.cos(hand), np.sin(shoulder) + np.sin(hand)], axis=-1)

    def get_state(self) -> np.ndarray:
        """Return both angles and their velocities, float64 ``[4]``."""
        return np.concatenate([self._data.qpos, self._data.qvel])

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """Draw an arm at rest, both angles uniform, float64 ``[4]``."""
        return np.array([rng.uniform(-np.pi, np.pi), rng.uniform(-WRIST_LIMIT, WRIST_LIMIT), 0.0, 0.0])

    def achieved_goal(self, state: np.ndarray) -> np.ndarray:
        """Return both angles ``[..., 2]`` of ``state`` ``[..., 4]``."""
        return np.asarray(state)[..., :2]

    def reached(self, achieved: np.ndarray, desired: np.ndarray) -> dict[str, np.ndarray]:
        """Return for each success mode whether ``achieved`` is at ``desired``, both ``[..., 2]``; bool ``[...]``."""
        shoulder = np.abs((achieved[..., 0] - desired[..., 0] + np.pi) % (2 * np.pi) - np.pi)
        wrist = np.abs(achieved[..., 1] - desired[..., 1])
        apart = np.linalg.norm(self.fingertip(achieved) - self.fingertip(desired), axis=-1)
        error = {"moderate": np.maximum(shoulder, wrist), "strict": apart}
        return {mode: error[mode] <= threshold for mode, threshold in self.success_thresholds.items()}

    def _check_state(self, name: str, state: np.ndarray) -> None:
        way_out = "`env.unwrapped.sample_state(rng)` returns a valid state."
        if abs(state[1]) > WRIST_LIMIT + _SLACK:
            raise ValueError(
                f"{name} has the wrist at {state[1]:.6g} rad; it turns by at most {WRIST_LIMIT:.4g} to either side "
                f"(160 degrees, and a little more under load). {way_out}"
            )
        if (np.abs(state[2:]) > _MAX_SPEED).any():
            raise ValueError(f"{name} has velocities {state[2:]}, at most {_MAX_SPEED:g} rad/s are possible. {way_out}")

    def _set_state(self, state: np.ndarray) -> None:
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:], self._data.qvel[:] = state[:2], state[2:]

    def _simulate(self, action: np.ndarray) -> None:
        self._data.ctrl[:] = action
        mujoco.mj_step(self._model, self._data)

    def _draw(self, state: np.ndarray, size: int, goal_state: np.ndarray | None = None) -> np.ndarray:
        canvas = _empty(size).copy()
        if goal_state is not None:
            self._paint(canvas, goal_state, (_GHOST, _GHOST, _GHOST))
        self._paint(canvas, state, (_ARM, _HAND, _FINGER))
        return canvas.frame()

    def _paint(self, canvas: Canvas, state: np.ndarray, colours: tuple[Colour, Colour, Colour]) -> None:
        """Draw arm, hand and fingertip of ``state`` in these colours, each over the one before."""
        shoulder = np.zeros(2)
        wrist = LINK * np.array([np.cos(state[0]), np.sin(state[0])])
        tip = self.fingertip(state[:2])
        for start, end, colour in ((shoulder, wrist, colours[0]), (wrist, tip, colours[1])):
            canvas.paint(capsule(start, end, _RADIUS), (start + end) / 2, LINK / 2 + _RADIUS, colour)
        canvas.paint(disc(tip, 1.2 * _RADIUS), tip, 1.2 * _RADIUS, colours[2])


@functools.cache
def _model() -> mujoco.MjModel:
    """Return upstream's model; nothing ever changes it, so environments share it."""
    package = find_spec("dm_control")  # located, not imported: that takes a second
    if package is None or package.origin is None:
        raise ImportError("Reacher needs dm_control: pip install 'dm-control>=1.0.20'.")
    model = mujoco.MjModel.from_xml_path(str(Path(package.origin).parent / "suite" / "reacher.xml"))
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_WARMSTART  # no solver history: the state is all there is
    return model


@functools.lru_cache(maxsize=8)
def _empty(size: int) -> Canvas:
    """Return a canvas with the shoulder's socket."""
    canvas = Canvas(size, left=-_EXTENT / 2, top=_EXTENT / 2, extent=_EXTENT, y_up=True, background=_FLOOR)
    canvas.paint(disc((0.0, 0.0), 1.5 * _RADIUS), (0.0, 0.0), 1.5 * _RADIUS, _SOCKET)
    return canvas
