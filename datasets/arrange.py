"""Scripted pushes that bring PushT's block, and then the agent, to random places: demonstrations of far goals."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse.csgraph import dijkstra

from wm_agents.datasets.policies import Policy, name_of


class PushTArrange(Policy):
    """Push the block to a random pose, go to a random place, and end the episode there.

    The block has no friction with the ground and does not slide on, so a push at a point of its outline moves it along
    one known twist: along the normal there, turning with the lever arm over the squared radius of gyration. The policy
    chooses the point whose twist takes away most of what is left of the way in ``(x, y, radius of gyration * angle)``,
    goes there around the block, pushes until other points do much better, and chooses again. ``goal_state`` is where it
    is heading.

    Speed and noise are drawn once per episode.

    Raises:
        ValueError: The task has no block.
    """

    SPEEDS = (0.8, 1.0)  # largest action
    NOISE = (0.02, 0.05, 0.15)  # standard deviation of the action noise, one of these an episode
    PLACED, LOOSE = 8.0, 14.0  # px: a block this near its place is done; once done, it may be this far
    ARRIVED = (14.0, 10.0)  # px, of the block and of the agent: the episode ends
    STAND_OFF = 10.0  # px from the rim of the agent to the block, where a push starts
    ASIDE = 10.0  # px from the line of a push within which it goes on
    LEAD = 1.3  # how far a push aims, over what is left: the agent lags behind where it is sent
    KEEP = 0.35  # a push goes on while it takes away this share of the way that is left
    TRAVEL = 0.1  # px of progress that one px on the way to a push must bring
    CLEAR = 2.0  # px between agent and block on the way around it
    WAY_POINTS = 14  # places on a straight way where it is tested

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        super().__init__(env, rng)
        if not hasattr(env, "outline"):
            raise ValueError(
                f"The arrange policy needs PushT's block; {name_of(env)} has none. Use policy='smooth-random', "
                "which suits any task."
            )
        self._noise = self.rng.choice(self.NOISE)
        self._speed = self.rng.uniform(*self.SPEEDS)
        self._points, self._normals = env.outline()
        lever = self._points[:, 0] * self._normals[:, 1] - self._points[:, 1] * self._normals[:, 0]
        twists = np.concatenate([self._normals, lever[:, None] / env.gyration_radius], axis=1)
        self._effort = np.linalg.norm(twists, axis=1)
        self._twists = twists / self._effort[:, None]
        self._detours = env.detours()
        self._contact: int | None = None
        self._placed = False
        self.goal_state: np.ndarray = env.sample_state(rng)

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the next action of the push, or of the way to it, for ``state`` of PushT."""
        target, speed = self._target(state)
        action = (target - state[:2]) / self.env.reach
        distance, fastest = float(np.linalg.norm(action)), min(self._speed, speed)
        if distance > fastest:
            action *= fastest / distance
        placed, here = self.ARRIVED
        apart = np.linalg.norm(state[:2] - self.goal_state[:2])
        self.finished = bool(np.linalg.norm(self._left(state)) < placed and apart < here)
        return self._clip(action + self._noise * self.rng.standard_normal(2))

    def _left(self, state: np.ndarray) -> np.ndarray:
        """What is left of the block's way: x, y, and the angle times the radius of gyration, in px."""
        way = self.env.block_centre(self.goal_state) - self.env.block_centre(state)
        turn = (self.goal_state[4] - state[4] + np.pi) % (2 * np.pi) - np.pi
        return np.array([*way, self.env.gyration_radius * turn])

    def _target(self, state: np.ndarray) -> tuple[np.ndarray, float]:
        """Where to go now, and the largest action on the way."""
        left, centre, angle = self._left(state), self.env.block_centre(state), state[4]
        size = float(np.linalg.norm(left))
        self._placed = size < (self.LOOSE if self._placed else self.PLACED)
        if self._placed:
            self._contact = None
            return self._around(state, self.goal_state[:2]), np.inf
        gains = self._twists @ np.array([*_turned(left[:2], -angle), left[2]])
        normals = _turned(self._normals, angle)
        touching = centre + _turned(self._points, angle) - normals * self.env.agent_radius
        if self._contact is None or gains[self._contact] < max(1.0, self.KEEP * size):
            starts = touching - normals * self.STAND_OFF
            inside = ((starts > self._low) & (starts < self._high)).all(axis=1)
            cost = self.TRAVEL * min(1.0, size / 60.0) * np.linalg.norm(starts - state[:2], axis=1)
            self._contact = int(np.argmax(np.where(inside, gains - cost, -np.inf)))
        normal, touch = normals[self._contact], touching[self._contact]
        along = float((state[:2] - touch) @ normal)
        aside = np.linalg.norm(state[:2] - touch - along * normal)
        if aside < self.ASIDE and -40.0 < along < 12.0:  # right before the contact, or pushing
            ahead = self.LEAD * max(gains[self._contact], 0.0) / self._effort[self._contact]
            ahead = min(ahead, self._speed * self.env.reach)
            return touch + normal * ahead, max(0.03, (max(-along, 0.0) + ahead) / self.env.reach + 0.02)
        start = touch - normal * self.STAND_OFF
        if np.linalg.norm(state[:2] - start) < 8.0:
            return touch - normal * self.CLEAR, np.inf
        return self._around(state, start), np.inf

    @property
    def _low(self) -> float:
        return self.env.bounds[0] + 3.0

    @property
    def _high(self) -> float:
        return self.env.bounds[1] - 3.0

    def _around(self, state: np.ndarray, to: np.ndarray) -> np.ndarray:
        """The next point of the shortest way to ``to`` that keeps clear of the block."""
        agent = state[:2]
        if self._free(state, agent[None], to[None])[0]:
            return to
        points = self.env.block_centre(state) + _turned(self._detours, state[4])
        points = points[((points > self._low) & (points < self._high)).all(axis=1)]
        points = np.concatenate([agent[None], to[None], points[self._gap(state, points) > self.CLEAR]])
        one, other = np.triu_indices(len(points), 1)
        lengths = np.zeros((len(points), len(points)))
        free = self._free(state, points[one], points[other])
        lengths[one, other] = np.where(free, np.linalg.norm(points[one] - points[other], axis=1), 0.0)
        to_goal, following = dijkstra(lengths, directed=False, indices=1, return_predecessors=True)
        if np.isfinite(to_goal[0]):
            return points[following[0]]
        # Squeezed in somewhere: away from the block.
        gaps = self._gap(state, agent + 2.0 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]))
        away = np.array([gaps[0] - gaps[1], gaps[2] - gaps[3]])
        return np.clip(agent + 20.0 * away / max(float(np.linalg.norm(away)), 1e-6), self._low, self._high)

    def _free(self, state: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Whether straight ways between points ``[K, 2]`` keep clear of the block, bool ``[K]``.

        Ends may be nearer to the block than ``CLEAR``: a push starts and ends there.
        """
        share = np.linspace(0.0, 1.0, self.WAY_POINTS)[:, None]
        gaps = self._gap(state, one[:, None] + (other - one)[:, None] * share)
        ends = np.minimum(gaps[:, :1], gaps[:, -1:])
        return (gaps[:, 1:] > np.minimum(self.CLEAR, ends - 0.5)).all(axis=1)

    def _gap(self, state: np.ndarray, agents: np.ndarray) -> np.ndarray:
        """Distance ``[...]`` to the block of an agent at ``agents [..., 2]``, in px."""
        states = np.empty((*agents.shape[:-1], len(state)))
        states[...] = state
        states[..., :2] = agents
        return self.env.gap(states)


def _turned(vectors: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return vectors @ np.array([[c, s], [-s, c]])
