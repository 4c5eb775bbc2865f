"""Play without a goal or a reward, for tasks with objects to move and for arms."""

from __future__ import annotations

from typing import Any

import numpy as np

from wm_agents.datasets.policies import Policy, name_of


class PushTPlay(Policy):
    """Push the block around: one manoeuvre after the other, each drawn independently, with its own speed.

    - A push goes around the block to a place off its side, then through a point near its middle and some way on. Half
      of the pushes are toward the middle of the square, which keeps the block away from the walls; the others go
      anywhere.
    - A walk goes to a random place, through the block if it is in the way.
    - A retreat goes straight away from the block.

    The noise level is drawn once per episode. In 150-step episodes from random starts the block moves by more than 20
    px in 49% of the windows of 25 steps (5 to 7% with random actions) and turns by more than 20 degrees in 24%. Faster
    pushes move it more and teach less: what one push did over 100 px is hard to repeat.

    Raises:
        ValueError: The task has no block.
    """

    PUSHES, WALKS = 0.75, 0.15  # shares of the manoeuvres; the rest are retreats
    STAND_OFF = (85.0, 120.0)  # where a push starts, in px from the block's centre
    BESIDE = 25.0  # standard deviation of the point a push aims at around the block's centre, in px
    OVERSHOOT = (0.0, 60.0)  # how far a push goes on beyond that point, in px
    TO_MIDDLE = 0.5  # share of pushes toward the middle
    SWERVE = 0.3  # standard deviation of their direction, in rad
    RETREAT = (60.0, 200.0)  # in px
    SPEEDS = (0.15, 0.6)  # largest action, drawn for each manoeuvre
    NOISE = (0.02, 0.05, 0.1)  # standard deviation of the action noise, one of these an episode
    ARRIVED = 20.0  # distance in px at which a point counts as reached
    PATIENCE = 25  # steps after which a manoeuvre ends wherever it is
    ARC = np.pi / 4  # largest turn about the block between two points on the way to a push

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        super().__init__(env, rng)
        if not hasattr(env, "block_centre"):
            raise ValueError(
                f"Play needs a block to push; {name_of(env)} has none. Use policy='smooth-random', which suits "
                "any task."
            )
        x_min, x_max, y_min, y_max = env.bounds
        self._corners = np.array([[x_min + 20.0, y_min + 20.0], [x_max - 20.0, y_max - 20.0]])
        self._noise = self.rng.choice(self.NOISE)
        self._way: list[np.ndarray] = []
        self._left = 0

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the action toward the next point of the manoeuvre for ``state`` of PushT."""
        agent = state[:2]
        while self._way and np.linalg.norm(self._way[0] - agent) < self.ARRIVED:
            self._way.pop(0)
        if not self._way or self._left == 0:
            self._way = [
                np.clip(point, *self._corners) for point in self._manoeuvre(agent, self.env.block_centre(state))
            ]
            self._speed = self.rng.uniform(*self.SPEEDS)
            self._left = self.PATIENCE
        self._left -= 1
        action = (self._way[0] - agent) / self.env.reach
        distance = np.linalg.norm(action)
        if distance > self._speed or len(self._way) > 1:  # it slows down at the last point only
            action *= self._speed / distance
        return self._clip(action + self._noise * self.rng.standard_normal(2))

    def _manoeuvre(self, agent: np.ndarray, block: np.ndarray) -> list[np.ndarray]:
        """Return the points to go through."""
        kind = self.rng.random()
        if kind < self.PUSHES:
            return self._push(agent, block)
        if kind < self.PUSHES + self.WALKS:
            return [self.rng.uniform(*self._corners)]
        away = agent - block
        return [agent + away / max(np.linalg.norm(away), 1.0) * self.rng.uniform(*self.RETREAT)]

    def _push(self, agent: np.ndarray, block: np.ndarray) -> list[np.ndarray]:
        direction = self.rng.uniform(-np.pi, np.pi)
        if self.rng.random() < self.TO_MIDDLE:
            to_middle = self._corners.mean(axis=0) - block
            direction = np.arctan2(to_middle[1], to_middle[0]) + self.SWERVE * self.rng.standard_normal()
        distance = self.rng.uniform(*self.STAND_OFF)
        # Around the block, the shorter way, to the side that faces away from where it is to go.
        here = np.arctan2(*(agent - block)[::-1])
        turn = (direction + np.pi - here + np.pi) % (2 * np.pi) - np.pi
        stops = max(int(np.ceil(abs(turn) / self.ARC)), 1)
        way = [block + distance * _unit(here + turn * (i + 1) / stops) for i in range(stops)]
        aim = block + self.BESIDE * self.rng.standard_normal(2)
        ahead = (aim - way[-1]) / np.linalg.norm(aim - way[-1])
        return [*way, aim + self.rng.uniform(*self.OVERSHOOT) * ahead]


class PiecewiseRandom(Policy):
    """Actions that stay constant for a while and then jump, with added noise: torques that swing an arm around.

    Each level is uniform over the action space or over its inner part. It needs only a bounded action space.
    """

    JUMP = 0.1  # probability per step of a new level
    SCALES = (0.3, 1.0)  # how much of the action space a level is drawn from
    NOISE = 0.2  # standard deviation of the noise, in half-ranges of the action space

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        super().__init__(env, rng)
        self._level = self._draw()

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the next action; ``state`` is not used."""
        if self.rng.random() < self.JUMP:
            self._level = self._draw()
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        return self._clip(middle + half * (self._level + self.NOISE * self.rng.standard_normal(self.low.shape)))

    def _draw(self) -> np.ndarray:
        return self.rng.choice(self.SCALES) * self.rng.uniform(-1.0, 1.0, self.low.shape)


def _unit(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])


class ArmReach(Policy):
    """Noisy proportional-derivative control of a planar arm towards a random position, where the episode ends.

    Its frames lead to its last one: demonstrations of far goals. Random torques seldom swing the wrist from one of its
    limits to the other. This policy does, so that the data show the long way round wherever it is the only one. Noise
    and stiffness are drawn once an episode. For tasks whose state is two angles and their velocities.

    Raises:
        ValueError: The task is no arm.
    """

    NOISE = (0.05, 0.15, 0.3)  # standard deviation of the action noise, one of these an episode
    STIFFNESS = (2.0, 6.0)  # range of the gain on the angles, per rad
    DAMPING = 0.1  # gain on the velocities, as a share of the stiffness
    ARRIVED = (0.1, 1.0)  # largest angle to the position in rad, and largest speed in rad/s: the episode ends

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        super().__init__(env, rng)
        if not hasattr(env, "fingertip"):
            raise ValueError(
                f"The reach policy needs an arm of two links; {name_of(env)} is none. Use "
                "policy='smooth-random', which suits any task."
            )
        self._noise = self.rng.choice(self.NOISE)
        self._stiffness = self.rng.uniform(*self.STIFFNESS)
        self.goal_state: np.ndarray = env.sample_state(rng)

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the action toward the position for ``state`` of the Reacher."""
        gap, speed = self._gap(state), state[2:]
        near, slow = self.ARRIVED
        self.finished = bool(np.abs(gap).max() < near and np.abs(speed).max() < slow)
        pull = gap - self.DAMPING * speed
        return self._clip(self._stiffness * pull + self._noise * self.rng.standard_normal(2))

    def _gap(self, state: np.ndarray) -> np.ndarray:
        """How far each joint has to turn, in rad; the shoulder may turn either way, the wrist has limits."""
        shoulder, wrist = self.goal_state[:2] - state[:2]
        return np.array([(shoulder + np.pi) % (2 * np.pi) - np.pi, wrist])
