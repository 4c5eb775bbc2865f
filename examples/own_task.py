"""Your own task, a boat that drifts on after each push: define, register, record, train, evaluate.

Expect two thirds of the goals reached (at random: a fifth), after minutes on two CPU cores; few with ``--fast``.

    python examples/own_task.py [--fast]
"""

import sys

import gymnasium as gym
import numpy as np

from wm_agents import GCIDM, TrainingConfig, datasets, evaluation, train_world_model
from wm_agents.envs import GoalEnv
from wm_agents.envs.painting import Canvas, disc


class Drift(GoalEnv):
    state_names, goal_names = ("x", "y", "vx", "vy"), ("x", "y")
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

    def _draw(self, state, size, goal_state=None):  # goal_state is for people only
        lake = Canvas(size, left=-1.1, top=1.1, extent=2.2, y_up=True, background=(30, 60, 90))
        lake.paint(disc(state[:2], 0.08), state[:2], 0.08, (240, 240, 240))
        return lake.frame()


gym.register("my/Drift-v0", f"{__name__}:Drift", max_episode_steps=200)

if __name__ == "__main__":
    fast = "--fast" in sys.argv
    size = {"episodes": 4 if fast else 150, "steps": 200, "workers": 1}  # other processes would not know the id
    data = datasets.collect("my/Drift-v0", name=f"my/drift-{size['episodes']}-v0", **size)
    world_model, _ = train_world_model(data, training=TrainingConfig(steps=10 if fast else 800))
    agent = GCIDM(world_model, verbose=1).fit(data)
    tasks = evaluation.make_manifest("my/Drift-v0", tasks=5 if fast else 50, offset="random", budget=150)
    random = evaluation.floors(tasks)["random"]
    print(f"solved {evaluation.evaluate(agent, tasks).success_rate:.0%}, random actions {random.success_rate():.0%}")
