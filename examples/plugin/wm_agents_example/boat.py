"""A boat drifts on after each push; the goal image shows where it should be."""

import gymnasium as gym
import numpy as np

from wm_agents.envs import GoalEnv
from wm_agents.envs.painting import Canvas, disc


class Boat(GoalEnv):
    """Position and velocity on a square lake; the action is a push."""

    state_names = ("x", "y", "vx", "vy")
    goal_names = ("x", "y")
    success_thresholds = {"moderate": 0.1, "strict": 0.05}
    success_tests = {"moderate": "within 0.1", "strict": "within 0.05"}

    def __init__(self, **kwargs):
        super().__init__(action_space=gym.spaces.Box(-1.0, 1.0, (2,), np.float32), **kwargs)
        self._state = np.zeros(4)

    def get_state(self):
        return self._state.copy()

    def sample_state(self, rng):
        return np.append(rng.uniform(-0.9, 0.9, 2), [0.0, 0.0])

    def achieved_goal(self, state):
        return np.asarray(state)[..., :2]

    def _set_state(self, state):
        self._state = state.copy()

    def _simulate(self, action):
        velocity = 0.9 * self._state[2:] + 0.02 * action
        self._state = np.append(np.clip(self._state[:2] + velocity, -1, 1), velocity)

    def _draw(self, state, size, goal_state=None):
        lake = Canvas(size, left=-1.1, top=1.1, extent=2.2, y_up=True, background=(30, 60, 90))
        lake.paint(disc(state[:2], 0.08), state[:2], 0.08, (240, 240, 240))
        return lake.frame()
