"""Exploration of the cube tasks: OGBench's scripted pick-and-place with noise, and play without a plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from wm_agents.datasets.policies import Policy, name_of


class OraclePlay(Policy):
    """OGBench's scripted oracles carry one cube after another to random places, without end.

    An episode has one of two oracles: ``CubePlanOracle`` follows a trajectory with smooth noise (``play`` data);
    ``CubeMarkovOracle`` reacts to each state, and its actions get Gaussian noise (``noisy`` data). When a cube has
    been delivered, or the oracle gives up after 200 steps, a cube that carries no other and a new place are drawn: on
    another cube half of the time if there are two, otherwise anywhere on the table, turned at random (OGBench,
    ``CubeEnv.set_new_target``). ``goal_state`` is the state with that cube in its place and the arm elsewhere above.

    Raises:
        ValueError: The task has no cubes.
    """

    PLAN = 0.7  # share of episodes with the plan oracle
    PLAN_NOISE = 0.1  # noise of its trajectories, OGBench's default
    MARKOV_NOISE = 0.4  # largest standard deviation of the other's action noise, drawn uniformly once an episode
    STACK = 0.5  # share of targets on another cube
    UNDER = 0.02  # a cube carries another whose centre is higher and no farther than this to the side, in m

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        super().__init__(env, rng)
        _require_cubes(env)
        self.goal_state: np.ndarray | None = None
        self._noise = 0.0
        self._oracle = self._make_oracle()
        self._step = 0
        self._target = 0

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the oracle's noisy action; ``state`` is where the task is now."""
        if self.goal_state is None or self._oracle.done:
            self._start(state)
        action = self._oracle.select_action(None, self._observe(state))
        self._step += 1
        return self._clip(action + self._noise * self.rng.standard_normal(len(action)))

    def _start(self, state: np.ndarray) -> None:
        """Choose the next goal, and plan the way there."""
        self.goal_state = self._new_goal(state)
        with _numpy_seeded(self.rng):
            self._oracle.reset(None, self._observe(state))

    def _make_oracle(self) -> Any:
        from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle
        from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle

        stand_in = SimpleNamespace(  # what the oracles ask of OGBench's environment
            _control_timestep=self.env.step_seconds,
            _arm_sampling_bounds=self.env.arm_starts,
            normalize_action=lambda action: np.clip(action / self.env.action_scale, -1.0, 1.0),
        )
        stand_in.unwrapped = stand_in
        if self.rng.random() < self.PLAN:
            return CubePlanOracle(env=stand_in, noise=self.PLAN_NOISE)
        self._noise = self.rng.uniform(0.0, self.MARKOV_NOISE)
        return CubeMarkovOracle(env=stand_in)

    def _new_goal(self, state: np.ndarray) -> np.ndarray:
        """Choose a cube and where it should go; return the state in which it is there."""
        now = self.env.cube_poses(state)
        free = [index for index, pose in enumerate(now) if not self._carries_another(pose, now)]
        self._target = int(self.rng.choice(free))
        others = [index for index in free if index != self._target]
        goal = self.env.sample_state(self.rng)
        poses = self.env.cube_poses(goal)  # a view
        turned = poses[self._target].copy()
        poses[:] = now
        poses[self._target] = turned
        if others and self.rng.random() < self.STACK:
            poses[self._target, :3] = now[self.rng.choice(others), :3] + [0.0, 0.0, self.env.cube_size]
        return goal

    def _carries_another(self, pose: np.ndarray, poses: np.ndarray) -> bool:
        higher = poses[:, 2] > pose[2]
        return bool((higher & (np.linalg.norm(poses[:, :2] - pose[:2], axis=1) < self.UNDER)).any())

    def _observe(self, state: np.ndarray) -> dict[str, Any]:
        """Return what the oracles look up in OGBench's info."""
        assert self.goal_state is not None
        gripper, poses, target = self.env.gripper(), self.env.cube_poses(state), self._target
        there = self.env.cube_poses(self.goal_state)[target]
        return {
            "time": np.array([self._step * self.env.step_seconds]),
            "proprio/effector_pos": gripper.position,
            "proprio/effector_yaw": np.array([gripper.yaw]),
            "proprio/gripper_opening": np.array([gripper.opening]),
            "proprio/gripper_contact": gripper.contact,
            "privileged/target_block": target,
            f"privileged/block_{target}_pos": poses[target, :3],
            f"privileged/block_{target}_yaw": np.array([_yaw(poses[target])]),
            "privileged/target_block_pos": there[:3],
            "privileged/target_block_yaw": np.array([_yaw(there)]),
        }


class OracleArrange(OraclePlay):
    """The oracles of :class:`OraclePlay` bring every cube to a random place, one after the other, and the episode ends.

    All places are drawn at its start, so its frames lead to its last one: demonstrations of far goals. The arm ends
    anywhere above the table.
    """

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        super().__init__(env, rng)
        self._places = env.sample_state(rng)
        self._next = 0

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the oracle's noisy action; the episode is over with the last cube's."""
        action = super().act(state)
        self.finished = self._oracle.done and self._next == len(self.env.cube_poses(state))
        return action

    def _new_goal(self, state: np.ndarray) -> np.ndarray:
        goal, self._target = self._places.copy(), self._next
        poses = self.env.cube_poses(goal)  # a view
        poses[self._next + 1 :] = self.env.cube_poses(state)[self._next + 1 :]  # their turn comes later
        self._next += 1
        return goal


class RandomPlay(Policy):
    """The gripper wanders between random points, most of them at a cube, and opens and closes at random.

    It pushes cubes around and sometimes picks one up. The noise level is drawn once per episode.

    Raises:
        ValueError: The task has no cubes.
    """

    NOISE = (0.05, 0.2, 0.4)  # standard deviation of the action noise, one of these an episode
    AT_CUBE = 0.7  # share of points at a cube
    AIM = 0.02  # standard deviation of where such a point is, in m to either side
    HEIGHTS = (0.0, 0.04)  # and above the cube's centre, in m
    PATIENCE = (8, 25)  # steps until the next point at the latest, drawn uniformly
    ARRIVED = 0.01  # distance at which a point counts as reached, in m
    SQUEEZE = 0.08  # probability per step that the fingers change between opening and closing
    GAIN = 0.5  # share of the way that an action asks for

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        super().__init__(env, rng)
        _require_cubes(env)
        self._noise = self.rng.choice(self.NOISE)
        self._closing = -1.0
        self._left = 0
        self._point, self._turn = np.zeros(3), 0.0

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the next action toward the current point; ``state`` is where the task is now."""
        gripper = self.env.gripper()
        if self._left == 0 or np.linalg.norm(self._point - gripper.position) < self.ARRIVED:
            self._new_point(state)
        self._left -= 1
        if self.rng.random() < self.SQUEEZE:
            self._closing = -self._closing
        way = [*self.GAIN * (self._point - gripper.position), self._turn, self._closing]
        return self._clip(np.array(way) / self.env.action_scale + self._noise * self.rng.standard_normal(5))

    def _new_point(self, state: np.ndarray) -> None:
        self._left = int(self.rng.integers(*self.PATIENCE))
        self._turn = self.rng.uniform(-0.1, 0.1)
        self._point = self.rng.uniform(*self.env.workspace)
        if self.rng.random() < self.AT_CUBE:
            centre = self.rng.choice(self.env.cube_poses(state))[:3]
            aside = self.AIM * self.rng.standard_normal(2)
            self._point = centre + np.append(aside, self.rng.uniform(*self.HEIGHTS))


def _require_cubes(env: Any) -> None:
    if not hasattr(env, "cube_poses"):
        raise ValueError(
            "Oracles and random play need a robot arm and cubes (wm/Cube-Single-v0, wm/Cube-Double-v0); "
            f"{name_of(env)} has none. Use policy='smooth-random', which suits any task."
        )


def _yaw(pose: np.ndarray) -> float:
    """Return the rotation about the vertical, -pi to pi, of a position and quaternion ``[7]``."""
    w, x, y, z = pose[3:]
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


@contextmanager
def _numpy_seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed numpy's global generator from ``rng`` for code that draws from it, and restore it afterwards."""
    before = np.random.get_state()
    np.random.seed(rng.integers(2**32, dtype=np.uint32))
    try:
        yield
    finally:
        np.random.set_state(before)
