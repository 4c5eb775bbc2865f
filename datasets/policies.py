"""Exploration policies. They see the simulator's state and the image, no reward, and only need to cover the task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator

from wm_agents.envs.foreign import find_spec


def default_policy(env_id: str) -> str:
    """Return the name of the policy that collects a task's data by default: the one its class names, or smooth-random.

    Raises:
        ValueError: No such task is registered.
    """
    entry: Any = find_spec(env_id).entry_point
    task = load_env_creator(entry) if isinstance(entry, str) else entry
    return getattr(task, "exploration_policy", "smooth-random")


def name_of(env: Any) -> str:
    """What messages call an unwrapped task: its id, or its class where it was made without one."""
    spec = getattr(env, "spec", None)
    return spec.id if spec is not None else type(env).__name__


class Policy(ABC):
    """Behaviour in one episode.

    A class whose episodes depend on one another has a class method ``record`` in addition, with the arguments of
    :func:`wm_agents.datasets.recording.record` without ``workers``, which records the missing ones in order; and
    ``settings``, JSON types by name, which the dataset keeps.

    Args:
        env: The unwrapped task.
        rng: The only source of randomness.

    Attributes:
        discrete: Whether actions are whole numbers; from ``low`` to ``high``, as continuous ones are.
        goal_state: float64 ``[S]``, the state that the policy is heading for, or None if it has no goal.
        pixels: uint8 ``[H, W, C]``, the present image; None where the task shows none.
        finished: Whether the episode ends with the action that was given last.
    """

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        self.env = env
        self.rng = rng
        space = env.action_space
        self.discrete = not isinstance(space, gym.spaces.Box)
        choices = np.asarray(space.nvec if hasattr(space, "nvec") else getattr(space, "n", 1))
        self.low = np.asarray(0 * choices if self.discrete else space.low, dtype=np.float64)
        self.high = np.asarray(choices - 1 if self.discrete else space.high, dtype=np.float64)
        self.goal_state: np.ndarray | None = None
        self.pixels: np.ndarray | None = None
        self.finished = False

    @abstractmethod
    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the action (float32 ``[A]``, environment units, inside the bounds) for ``state`` (``[S]``).

        Discrete actions are int64, of the shape of the action space.
        """

    def _uniform(self) -> np.ndarray:
        if self.discrete:
            return np.asarray(self.rng.integers(self.low.astype(np.int64), self.high.astype(np.int64), endpoint=True))
        return self._clip(self.rng.uniform(self.low, self.high))

    def _clip(self, action: np.ndarray) -> np.ndarray:
        return np.clip(action, self.low, self.high).astype(np.float32)


class UniformRandom(Policy):
    """Every action is drawn independently and uniformly from the action space."""

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return a uniform action; ``state`` is not used."""
        return self._uniform()


class SmoothRandom(Policy):
    """Ornstein-Uhlenbeck noise whose scale and memory change from time to time.

    Slow, strong stretches carry the agent far, quick and weak ones cover the neighbourhood. It needs only a
    bounded action space. A discrete action is repeated with probability 1/2, and otherwise drawn afresh.
    """

    SCALES = (0.3, 0.7, 1.2)  # standard deviation, in half-ranges of the action space
    MEMORIES = (5.0, 20.0, 60.0)  # steps over which the noise forgets itself
    CHANGE = 0.02  # probability per step of new scale and memory
    REPEAT = 0.5  # probability of the same discrete action once more

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        super().__init__(env, rng)
        self._change()
        self._noise = self.rng.standard_normal(self.low.shape)
        self._last = self._uniform() if self.discrete else None

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the next action of the noise process; ``state`` is not used."""
        if self._last is not None:
            self._last = self._last if self.rng.random() < self.REPEAT else self._uniform()
            return self._last
        if self.rng.random() < self.CHANGE:
            self._change()
        keep = np.exp(-1.0 / self._memory)
        self._noise = keep * self._noise + np.sqrt(1.0 - keep**2) * self.rng.standard_normal(self.low.shape)
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        return self._clip(middle + half * self._scale * self._noise)

    def _change(self) -> None:
        self._scale = self.rng.choice(self.SCALES)
        self._memory = self.rng.choice(self.MEMORIES)


class Waypoint(Policy):
    """Noisy proportional-derivative control along shortest paths to random free states of a point maze.

    A new goal is drawn on arrival, or with a small probability at every step, so that paths are cut short anywhere.
    Each path keeps its own lane, an offset from the cells' centres, so that cells are covered up to their walls. The
    noise level is drawn once per episode. For tasks whose state is ``(x, y, vx, vy)`` and that have
    ``shortest_path``, ``sample_state`` and ``cell_size``.

    Raises:
        ValueError: The task has no shortest paths.
    """

    NOISE = (0.1, 0.3, 0.5)  # standard deviation of the action noise, one of these an episode
    STIFFNESS, DAMPING = 4.0, 0.35
    REDRAW = 0.005  # probability per step of a new goal
    ARRIVED = 0.2  # distance to the goal, in cells
    LANE = 0.35  # largest offset of a path from the cells' centres along x and y, in cells
    PASSED = 0.3  # distance at which a waypoint on the way counts as reached, in cells
    LOST = 1.6  # distance to the next waypoint from which the path is planned afresh, in cells

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        super().__init__(env, rng)
        if not hasattr(env, "shortest_path"):
            raise ValueError(
                f"The waypoint policy needs a maze with shortest paths; {name_of(env)} has none. "
                "Use policy='smooth-random'."
            )
        self._cell = float(env.cell_size)
        self._noise = self.rng.choice(self.NOISE)
        self._path = np.empty((0, 2))

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the action toward the next waypoint for ``state`` = ``(x, y, vx, vy)``."""
        position, velocity = state[:2], state[2:4]
        if self.goal_state is None or self._near(position, self.goal_state[:2], self.ARRIVED) or self._redraw():
            self.goal_state = self.env.sample_state(self.rng)
            self._plan(position, self.goal_state[:2])
        while len(self._path) > 1 and self._near(position, self._path[0], self.PASSED):
            self._path = self._path[1:]
        if not self._near(position, self._path[0], self.LOST):
            self._plan(position, self.goal_state[:2])
        noise = self._noise * self.rng.standard_normal(2)
        return self._clip(self.STIFFNESS * (self._path[0] - position) - self.DAMPING * velocity + noise)

    def _plan(self, position: np.ndarray, goal: np.ndarray) -> None:
        self._path = self.env.shortest_path(position, goal)
        self._path[:-1] += self.rng.uniform(-self.LANE, self.LANE, 2) * self._cell

    def _redraw(self) -> bool:
        return self.rng.random() < self.REDRAW

    def _near(self, a: np.ndarray, b: np.ndarray, cells: float) -> bool:
        return bool(np.hypot(a[0] - b[0], a[1] - b[1]) < cells * self._cell)
