"""The library works with the packages it builds on: `make lowest` runs this with the lowest versions it allows."""

from __future__ import annotations

import subprocess
import sys

import gymnasium as gym
import minari
import numpy as np
import pytest
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv

import wm_agents

# One task of every simulator.
TASKS = ("PointMaze-UMaze", "PushT", "Reacher", "Cube-Single")


@pytest.mark.parametrize("task", TASKS)
def test_environment_resets_steps_and_renders(task):
    env = gym.make(f"wm/{task}-v0", obs_type="pixels_state", render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["pixels"].std() > 1, "the image shows something"
    again, _ = env.reset(seed=0)
    for key, value in observation.items():
        np.testing.assert_array_equal(value, again[key])
    observation, *_, info = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)
    assert "is_success" in info
    assert env.render().dtype == np.uint8
    check_env(gym.make(f"wm/{task}-v0"), warn=False)
    env.close()


@pytest.mark.parametrize("name", ["pointmaze-umaze/gc-idm", "pointmaze-umaze/cem-mpc", "reacher/gc-idm"])
def test_shipped_agent_predicts(name):
    agent = wm_agents.load(name)
    env = gym.make(agent.env_id)
    action, _ = agent.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(action)
    env.close()


def test_stable_baselines3_evaluates_saves_and_loads(tmp_path):
    def make():
        return gym.make("wm/PointMaze-UMaze-v0", max_episode_steps=20)

    agent = wm_agents.load("pointmaze-umaze/gc-idm", env=DummyVecEnv([make, make]))
    rewards, lengths = evaluate_policy(agent, agent.get_env(), n_eval_episodes=2, return_episode_rewards=True)
    assert len(rewards) == len(lengths) == 2
    agent.save(tmp_path / "agent")
    loaded = type(agent).load(tmp_path / "agent", env=make())
    observation = {key: value[0] for key, value in agent.get_env().reset().items()}
    np.testing.assert_allclose(loaded.predict(observation)[0], agent.predict(observation)[0], atol=1e-5)


def test_logger_writes_for_tensorboard(tmp_path):
    logger = configure(str(tmp_path), ["tensorboard"])
    logger.record("loss", 1.0)
    logger.dump(1)
    logger.close()
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_dataset_is_collected_loaded_and_opened_by_minari(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    collected = wm_agents.datasets.collect(
        "wm/PointMaze-UMaze-v0", episodes=3, steps=10, name="test/small-v0", progress=False
    )
    loaded = wm_agents.datasets.load("test/small-v0")
    assert loaded.name == collected.name
    episodes = list(minari.load_dataset("test/small-v0").iterate_episodes())
    assert len(episodes) == 3
    assert all(len(episode.actions) == 10 for episode in episodes)


def test_video_and_command_line(tmp_path):
    command = [sys.executable, "-m", "wm_agents.cli", "evaluate", "pointmaze-umaze/gc-idm"]
    command += ["--tasks", "2", "--budget", "10", "--video", "agent.mp4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "agent.mp4").stat().st_size > 1000
