"""Cube: a robot arm with a gripper moves one or two cubes on a table to the places that the goal image shows."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import mujoco
import numpy as np
from gymnasium import spaces

from wm_agents.envs.contexts import LOCK
from wm_agents.envs.cube_scene import (
    ARM_JOINTS,
    CUBE_HALF,
    FINGER_JOINTS,
    GRIPPER,
    arm_model,
    camera,
    descriptions,
    place_markers,
    problem_of,
    scene_model,
)
from wm_agents.envs.goal_env import GoalEnv
from wm_agents.envs.rendering import FrameRenderer

_HOME = np.array([-1, -1, 1, -1, -1, 0]) * np.pi / 2  # joint angles from which a start pose is solved (OGBench)
_CLOSED = 0.8  # driver joint of a closed gripper, in rad
_ARM = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
_FINGERS = tuple(f"{side}_{part}" for side in ("right", "left") for part in ("driver", "coupler", "spring", "follower"))
_POSE, _TWIST = ("x", "y", "z", "qw", "qx", "qy", "qz"), ("x", "y", "z", "rx", "ry", "rz")


class Gripper(NamedTuple):
    """Position and posture of the gripper.

    Attributes:
        position: The point between the fingertips, float64 ``[3]`` in m.
        yaw: Rotation about the vertical in rad, -pi to pi.
        opening: 0 open to 1 closed (OGBench's name and sense).
        contact: Force on the right finger, 0 to 1 at 50 N and more.
    """

    position: np.ndarray
    yaw: float
    opening: float
    contact: float


class Cube(GoalEnv):
    """OGBench's cube tasks: a UR5e arm with a Robotiq gripper over a table with cubes of 4 cm.

    Action: where to send the point between the fingers along x, y and z (1 is 5 cm) and how to turn it about the
    vertical (1 is 0.3 rad), both from where it is, and how much to close the gripper (1 closes an open one), each in
    [-1, 1]. Differential inverse kinematics and a PD controller get 0.05 s for it and cover 43% of the way and 22% of
    the turn; under an action of zeros the arm sinks by 1.6 mm per step. This is the same in OGBench.

    State: the simulator's ``qpos`` (6 arm joints, 8 finger joints, position and quaternion of each cube), then its
    ``qvel``. It is all there is: targets are computed afresh from it in every step and the contact solver keeps nothing
    from one step to the next, so that setting a state and replaying actions gives the same states to the last bit on
    one machine. That differs from OGBench, whose solver starts from its last solution and whose controller reads a
    gripper pose that is 2 ms old. Goal: position and quaternion of each cube.

    Success, for every cube: ``moderate``, its centre within 4 cm of the goal's (OGBench and the LeWM evaluations);
    ``strict``, within 3 cm and within 15 degrees modulo the cube's 24 rotations, held for 3 steps (CLEAR-LeWM v0.5).

    Images look at the table from the front, 48 degrees from above, through a long lens (almost no perspective). Cubes
    and fingers have their own size and place; capsules stand for the arm's meshes and a box for the gripper's body.
    Dark discs lie on the table right below the fingers and each cube, because without them one image does not tell high
    from far. Shadows would show the same, but take a hundred times as long.

    Args:
        **kwargs: the options of :class:`GoalEnv`.

    Raises:
        ImportError: OGBench is not installed.
    """

    cubes: ClassVar[int]
    """How many cubes there are."""
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (Gymnasium's contract)
    success_thresholds: ClassVar[dict[str, tuple[float, float]]] = {
        "moderate": (0.04, np.inf),
        "strict": (0.03, np.radians(15.0)),
    }
    """The largest distance in m and the largest angle in rad, for each mode."""
    workspace: ClassVar[np.ndarray] = np.array([[0.25, -0.35, 0.02], [0.6, 0.35, 0.35]])
    """Where the point between the fingers can be sent: lowest and highest x, y, z in m (OGBench)."""
    arm_starts: ClassVar[np.ndarray] = np.array([[0.25, -0.35, 0.20], [0.6, 0.35, 0.35]])
    """Where it is when an episode starts: lowest and highest x, y, z in m (OGBench)."""
    cube_starts: ClassVar[np.ndarray] = np.array([[0.3, -0.3], [0.55, 0.3]])
    """Where cubes are placed: lowest and highest x, y in m (OGBench)."""
    cube_size: ClassVar[float] = 2 * CUBE_HALF
    """Side of a cube in m."""
    action_scale: ClassVar[np.ndarray] = np.array([0.05, 0.05, 0.05, 0.3, 1.0])
    """What an action of 1 asks for: x, y, z in m, yaw in rad, closing as a fraction (OGBench)."""
    step_seconds: ClassVar[float] = 0.05
    """Simulated time of a step, 25 of the simulator's (OGBench)."""
    held_steps: ClassVar[dict[str, int]] = {"strict": 3}
    success_tests: ClassVar[dict[str, str]] = {"moderate": "4 cm", "strict": "3 cm and 15 deg, held 3 steps"}
    exploration_policy: ClassVar[str] = "oracle-play"

    def __init_subclass__(cls, cubes: int) -> None:
        super().__init_subclass__()
        poses = tuple(f"cube{index}_{part}" for index in range(cubes) for part in _POSE)
        twists = tuple(f"cube{index}_{part}" for index in range(cubes) for part in _TWIST)
        cls.cubes = cubes
        cls.state_names = (*_ARM, *_FINGERS, *poses, *(f"v_{name}" for name in (*_ARM, *_FINGERS, *twists)))
        cls.goal_names = poses

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(action_space=spaces.Box(-1.0, 1.0, (5,), np.float32), **kwargs)
        descriptions()  # says what to install
        from ogbench.manipspace.controllers import DiffIKController

        self._model = scene_model(self.cubes)
        self._data = mujoco.MjData(self._model)
        self._canvas = mujoco.MjData(self._model)  # frames and checks are made here: neither touches the simulation
        self._pinch = self._model.site(f"{GRIPPER}pinch").id
        self._flange = self._model.site("ur5e/attachment_site").id
        self._right_pad = self._model.body(f"{GRIPPER}right_pad").id
        self._cube_part = slice(ARM_JOINTS + FINGER_JOINTS, self._model.nq)
        self._ik = DiffIKController(model=arm_model(), sites=["attachment_site"])
        self._flange_in_pinch = self._relative_flange()
        self._renderer = FrameRenderer(self._model, camera(self._model))

    # What the task offers on top of GoalEnv.

    def gripper(self) -> Gripper:
        """Return where the gripper is now; the simulation is not touched."""
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_rnePostConstraint(self._model, self._data)
        force = float(np.linalg.norm(self._data.cfrc_ext[self._right_pad]))
        position, yaw = self._pinch_pose(self._data)
        return Gripper(position, yaw, self._opening(), min(force / 50.0, 1.0))

    def cube_poses(self, state: np.ndarray) -> np.ndarray:
        """Return position and quaternion of each cube, ``[..., cubes, 7]``, of states ``[..., S]``."""
        state = np.asarray(state)
        return state[..., self._cube_part].reshape(*state.shape[:-1], self.cubes, 7)

    # What GoalEnv asks for.

    def get_state(self) -> np.ndarray:
        """Return ``qpos`` and ``qvel``, float64."""
        return np.concatenate([self._data.qpos, self._data.qvel])

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a state at rest, as OGBench's data collection does: the gripper open, anywhere above the table, cubes
        anywhere on it, turned about the vertical, at least 6 cm apart; float64 ``[S]``.
        """  # noqa: D205
        qpos = np.zeros(self._model.nq)
        while True:
            position, yaw = rng.uniform(*self.arm_starts), rng.uniform(-np.pi, np.pi)
            qpos[:ARM_JOINTS] = self._solve_arm(position, yaw, _HOME)
            with LOCK:
                self._canvas.qpos[:] = qpos
                mujoco.mj_kinematics(self._model, self._canvas)
                missed = np.linalg.norm(self._pinch_pose(self._canvas)[0] - position)
            if missed < 1e-3:
                break
        poses = self.cube_poses(qpos)
        while True:
            poses[:, :2] = rng.uniform(self.cube_starts[0], self.cube_starts[1], (self.cubes, 2))
            apart = np.linalg.norm(poses[:, None, :2] - poses[None, :, :2], axis=-1) + np.eye(self.cubes)
            if apart.min() >= 0.06:
                break
        turns = rng.uniform(0, 2 * np.pi, self.cubes)
        poses[:, 2], poses[:, 3], poses[:, 6] = CUBE_HALF, np.cos(turns / 2), np.sin(turns / 2)
        return np.concatenate([qpos, np.zeros(self._model.nv)])

    def achieved_goal(self, state: np.ndarray) -> np.ndarray:
        """Return the cubes' positions and quaternions ``[..., 7 cubes]`` of ``state`` ``[..., S]``."""
        return np.asarray(state)[..., self._cube_part]

    def goal_distance(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """Return the distance in m of the cube that is farthest from its goal, both ``[..., 7 cubes]``."""
        return self._errors(achieved, desired)[0].max(axis=-1)

    def reached(self, achieved: np.ndarray, desired: np.ndarray) -> dict[str, np.ndarray]:
        """Return for each mode whether every cube is near enough and, where it counts, turned the right way."""
        distance, angle = self._errors(achieved, desired)
        return {
            mode: np.all((distance <= near) & (angle <= turned), axis=-1)
            for mode, (near, turned) in self.success_thresholds.items()
        }

    def close(self) -> None:
        """Free the rendering contexts."""
        self._renderer.close()
        super().close()

    def _errors(self, achieved: np.ndarray, desired: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distance and angle of each cube, both ``[..., cubes]``."""
        a, b = (np.reshape(goal, (*np.shape(goal)[:-1], self.cubes, 7)) for goal in (achieved, desired))
        return np.linalg.norm(a[..., :3] - b[..., :3], axis=-1), cube_angle(a[..., 3:], b[..., 3:])

    def _check_state(self, name: str, state: np.ndarray) -> None:
        with LOCK:
            problem = problem_of(self._model, self._canvas, self.state_names, state)
        if problem:
            raise ValueError(f"{name} has {problem}. `env.unwrapped.sample_state(rng)` returns a valid state.")

    def _set_state(self, state: np.ndarray) -> None:
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:], self._data.qvel[:] = state[: self._model.nq], state[self._model.nq :]

    def _simulate(self, action: np.ndarray) -> None:
        data = self._data
        mujoco.mj_kinematics(self._model, data)
        position, yaw = self._pinch_pose(data)
        move = self.action_scale * action
        position = np.clip(position + move[:3], *self.workspace)
        data.ctrl[:ARM_JOINTS] = self._solve_arm(position, yaw + move[3], data.qpos[:ARM_JOINTS])
        data.ctrl[ARM_JOINTS] = 255.0 * np.clip(self._opening() + move[4], 0.0, 1.0)
        data.qacc_warmstart[:] = 0.0  # no solver history: the state is all there is
        mujoco.mj_step(self._model, data, nstep=round(self.step_seconds / self._model.opt.timestep))

    def _draw(self, state: np.ndarray, size: int, goal_state: np.ndarray | None = None) -> np.ndarray:
        canvas = self._canvas
        goals = None if goal_state is None else self.cube_poses(goal_state)
        with LOCK:
            canvas.qpos[:] = state[: self._model.nq]
            mujoco.mj_kinematics(self._model, canvas)
            mujoco.mj_camlight(self._model, canvas)
            place_markers(self._model, canvas, canvas.site_xpos[self._pinch], self.cube_poses(state), goals)
            return self._renderer.render(canvas, size, markers=goal_state is not None)

    # The controller.

    def _opening(self) -> float:
        return float(np.clip(self._data.qpos[ARM_JOINTS] / _CLOSED, 0.0, 1.0))

    def _pinch_pose(self, data: mujoco.MjData) -> tuple[np.ndarray, float]:
        rotation = data.site_xmat[self._pinch]
        return data.site_xpos[self._pinch].copy(), float(np.arctan2(rotation[3], rotation[0]))

    def _relative_flange(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rotation and translation of the arm's flange as the point between the fingers sees it."""
        mujoco.mj_kinematics(self._model, self._canvas)
        (pinch, flange), places = self._canvas.site_xmat[[self._pinch, self._flange]].reshape(2, 3, 3), self._canvas
        return pinch.T @ flange, pinch.T @ (places.site_xpos[self._flange] - places.site_xpos[self._pinch])

    def _solve_arm(self, position: np.ndarray, yaw: float, joints: np.ndarray) -> np.ndarray:
        """Return arm joints near ``joints`` that put the fingers, pointing down and turned by ``yaw``, there."""
        c, s = np.cos(yaw), np.sin(yaw)
        rotation = np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])
        turn, shift = self._flange_in_pinch
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, (rotation @ turn).ravel())
        return self._ik.solve(pos=position + rotation @ shift, quat=quaternion, curr_qpos=joints)


class CubeSingle(Cube, cubes=1):
    """One cube; see :class:`Cube`."""


class CubeDouble(Cube, cubes=2):
    """Two cubes, red and blue; see :class:`Cube`."""


def cube_angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the smallest angle in rad, 0 to 1.1, that turns ``a`` into ``b`` up to a cube's 24 rotations.

    With ``r`` the quaternion between them, those rotations make its real part any of ``r_i``, ``(r_i +- r_j) / sqrt 2``
    or ``(+-r_0 +- r_1 +- r_2 +- r_3) / 2``; the largest in size belongs to the smallest angle.

    Args:
        a: Unit quaternions (w, x, y, z), ``[..., 4]``.
        b: The same.

    Returns:
        ``[...]``.
    """
    w, x, y, z = np.moveaxis(np.asarray(a), -1, 0)
    p, q, r, s = np.moveaxis(np.asarray(b), -1, 0)
    between = [w * p + x * q + y * r + z * s, w * q - x * p - y * s + z * r, w * r + x * s - y * p - z * q]
    between.append(w * s - x * r + y * q - z * p)
    parts = np.sort(np.abs(np.stack(between, axis=-1)), axis=-1)
    largest, second = parts[..., 3], parts[..., 2]
    best = np.maximum.reduce([largest, (largest + second) / np.sqrt(2.0), parts.sum(axis=-1) / 2.0])
    length = np.linalg.norm(parts, axis=-1)
    return 2.0 * np.arccos(np.clip(best / np.maximum(length, 1e-9), 0.0, 1.0))
