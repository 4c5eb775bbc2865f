"""Pytest plugin: a simple agent that reaches its goals, ten tasks for it, and how it fares on them."""

import gymnasium as gym
import numpy as np
import pytest

from wm_agents.evaluation import evaluate, make_manifest

UMAZE = "wm/PointMaze-UMaze-v0"


def space_of(obs_type, **options):
    env = gym.make(UMAZE, obs_type=obs_type, **options)
    env.close()
    return env.observation_space


class Chaser:
    """Pushes straight towards the goal, from the observations of ``obs_type``, and checks what it is handed."""

    def __init__(self, obs_type="state", gain=6.0, damping=2.0):
        self.observation_space = space_of(obs_type)
        self.gain, self.damping = gain, damping
        self.seeds, self.rows, self.starts = [], [], []

    def set_random_seed(self, seed):
        self.seeds.append(seed)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        rows = len(episode_start)
        self.rows.append(rows)
        assert episode_start.all() or not episode_start.any(), "tasks begin together"
        self.starts.append(bool(episode_start[0]))
        assert deterministic
        assert set(observation) == set(self.observation_space.spaces)
        if "pixels" in observation:
            here, there = ball(observation["pixels"]), ball(observation["goal_pixels"])
        else:
            here, there = observation["achieved_goal"], observation["desired_goal"]
        # The memory: the goal and the position seen before. Rows must follow their environment.
        if state is None:
            assert episode_start.all()
            before, goal = here, there
        else:
            before, goal = state
            assert before.shape == (rows, 2)
            np.testing.assert_array_equal(goal[~episode_start], there[~episode_start])
            before = np.where(episode_start[:, None], here, before)
        action = self.gain * (there - here) - 10 * self.damping * (here - before)
        return np.clip(action, -1, 1).astype(np.float32), (here, there)


def ball(images):
    """Return the centre of the red ball, in units of half an image, y upwards."""
    colours = images.astype(np.int32)
    red = (colours[..., 0] > 150) & (colours[..., 1] < 110)
    assert red.any(axis=(1, 2)).all()
    axis = np.linspace(-1, 1, images.shape[1])
    x = (red * axis[None, None, :]).sum(axis=(1, 2)) / red.sum(axis=(1, 2))
    y = (red * -axis[None, :, None]).sum(axis=(1, 2)) / red.sum(axis=(1, 2))
    return np.stack([x, y], axis=1)


@pytest.fixture(scope="session")
def manifest():
    return make_manifest(UMAZE, tasks=10, offset=25, budget=40, seed=3)


@pytest.fixture(scope="session")
def result(manifest):
    return evaluate(Chaser("pixels"), manifest, num_envs=4, seed=1, video=[2, 0], progress=False, name="chaser")
