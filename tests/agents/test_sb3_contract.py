"""What Stable-Baselines3's helpers expect of an algorithm holds for every agent."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_agents import UMAZE, Make, make_env
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from wm_agents import GCIDM, InverseDynamicsConfig, InverseDynamicsTrainingConfig

pytest_plugins = ["trained", "sb3_agents"]


# SB3's helpers.


def test_evaluate_policy_on_every_kind_of_environment(make: Make) -> None:
    results = []
    for env in (make_env()(), DummyVecEnv([make_env()] * 2), SubprocVecEnv([make_env()] * 2, start_method="spawn")):
        agent = make(env)
        agent.get_env().seed(7)
        rewards, lengths = evaluate_policy(agent, agent.get_env(), n_eval_episodes=4, return_episode_rewards=True)
        assert len(rewards) == len(lengths) == 4
        assert all(1 <= length <= 12 for length in lengths)
        assert all(-length <= reward <= 1 - length for reward, length in zip(rewards, lengths, strict=True))
        results.append(rewards)
        agent.get_env().close()
    assert results[1] == results[2], "in one process or in several, the same episodes"


def test_environments_of_any_number_can_be_set(make: Make) -> None:
    agent = make()
    assert agent.get_env() is None
    agent.set_env(make_env()())
    assert agent.get_env().num_envs == 1
    vec = DummyVecEnv([make_env()] * 3)
    agent.set_env(vec)
    assert agent.get_env() is vec
    assert agent.n_envs == 3
    assert make(UMAZE).get_env().num_envs == 1, "an id works too"


def test_device_and_logger(make: Make, tmp_path: Path) -> None:
    agent = make()
    assert next(agent.policy.parameters()).device.type == "cpu"
    assert agent.logger is not None
    logger = configure(str(tmp_path), ["csv"])
    agent.set_logger(logger)
    assert agent.logger is logger
    with pytest.raises(ValueError, match="Unknown device 'nonsense'"):
        make(device="nonsense")


QUICK = InverseDynamicsTrainingConfig(steps=40, batch_size=64, evaluate_every=20)


NARROW = InverseDynamicsConfig(width=32)


def test_eval_callback_follows_a_fit_and_keeps_the_best_model(
    trained: Any, small_dataset: Any, tmp_path: Path, frames: Any
) -> None:
    def fit(folder: Path) -> tuple[GCIDM, EvalCallback]:
        agent = GCIDM(trained.world_model, make_env()(), device="cpu")
        evaluation = DummyVecEnv([make_env(), make_env()])
        evaluation.seed(3)
        callback = EvalCallback(
            evaluation,
            n_eval_episodes=2,
            eval_freq=20,
            log_path=str(folder),
            best_model_save_path=str(folder),
            verbose=0,
        )
        agent.fit(small_dataset, model=NARROW, training=QUICK, callback=callback)
        return agent, callback

    agent, callback = fit(tmp_path / "one")
    assert agent.num_timesteps == 40
    assert callback.num_timesteps == 40
    log = np.load(tmp_path / "one" / "evaluations.npz")
    assert log["timesteps"].tolist() == [20, 40]
    assert log["successes"].shape == (2, 2)
    assert (tmp_path / "one" / "best_model.zip").is_file(), "where SB3's users look"
    best = GCIDM.load(tmp_path / "one" / "best_model", env=make_env()())
    assert best.predict(frames[0])[0].shape == (3, 2)
    again, _ = fit(tmp_path / "two")
    np.testing.assert_array_equal(np.load(tmp_path / "two" / "evaluations.npz")["results"], log["results"])
    assert all(map(torch.equal, agent.inverse_dynamics.parameters(), again.inverse_dynamics.parameters()))
    plain = GCIDM(trained.world_model, device="cpu").fit(small_dataset, model=NARROW, training=QUICK)
    assert all(map(torch.equal, agent.inverse_dynamics.parameters(), plain.inverse_dynamics.parameters())), (
        "watching a fit must not change it"
    )
    assert not plain.inverse_dynamics.training


def test_checkpoint_callback_writes_zip_files_that_load(
    trained: Any, small_dataset: Any, tmp_path: Path, frames: Any
) -> None:
    agent = GCIDM(trained.world_model, make_env()(), device="cpu")
    agent.fit(small_dataset, model=NARROW, training=QUICK, callback=CheckpointCallback(20, str(tmp_path)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rl_model_20_steps.zip", "rl_model_40_steps.zip"]
    early, late = (GCIDM.load(tmp_path / f"rl_model_{step}_steps.zip") for step in (20, 40))
    np.testing.assert_array_equal(late.predict(frames[0])[0], agent.predict(frames[0])[0])
    assert np.abs(early.predict(frames[0])[0] - agent.predict(frames[0])[0]).max() > 0


def test_a_callback_is_told_of_start_and_end_and_can_stop(trained: Any, small_dataset: Any) -> None:
    class Recorder(BaseCallback):
        calls: list[str]

        def _init_callback(self) -> None:
            self.calls = []

        def _on_training_start(self) -> None:
            self.calls.append(f"start of {self.locals['total_timesteps']}")

        def _on_step(self) -> bool:
            self.calls.append(f"step {self.num_timesteps}")
            return self.num_timesteps < 3

        def _on_training_end(self) -> None:
            self.calls.append("end")

    agent, recorder = GCIDM(trained.world_model, make_env()(), device="cpu"), Recorder()
    agent.fit(small_dataset, model=NARROW, training=QUICK, callback=[recorder])
    assert recorder.calls == ["start of 40", "step 1", "step 2", "step 3", "end"]
    threshold = EvalCallback(
        make_env()(),
        callback_on_new_best=StopTrainingOnRewardThreshold(-1000, verbose=0),
        n_eval_episodes=1,
        eval_freq=5,
        verbose=0,
    )
    agent.fit(small_dataset, model=NARROW, training=QUICK, callback=threshold)
    assert agent.num_timesteps == 5


# The RL baseline.


def test_sb3s_own_algorithm_with_hindsight_runs_on_the_state_observations() -> None:
    env = gym.make(UMAZE, obs_type="state", max_episode_steps=15)
    model = SAC(
        "MultiInputPolicy",
        env,
        replay_buffer_class=HerReplayBuffer,
        learning_starts=32,
        batch_size=16,
        seed=0,
        replay_buffer_kwargs={"n_sampled_goal": 4},
        policy_kwargs={"net_arch": [16, 16]},
        device="cpu",
    )
    before = [value.clone() for value in model.policy.actor.parameters()]
    model.learn(60)
    assert model.num_timesteps == 60
    assert any(not torch.equal(old, new) for old, new in zip(before, model.policy.actor.parameters(), strict=True))
    sample = model.replay_buffer.sample(64)
    assert set(np.unique(sample.rewards.numpy())) == {-1.0, 0.0}, "relabelled goals must be rewarded"
    mean, _ = evaluate_policy(model, Monitor(env), n_eval_episodes=2)
    assert -15 <= mean <= 0
    assert isinstance(env.observation_space, spaces.Dict)


def test_a_second_fit_replaces_what_is_known_of_the_first(trained: Any, small_dataset: Any) -> None:
    other = dataclasses.replace(small_dataset, provenance={"name": "other"})
    agent = GCIDM(trained.world_model, device="cpu")
    agent.provenance = {"dataset": {"name": "the world model's"}, "measured": {"validation/gc_idm": 0.1}}
    known = dict(agent.provenance)
    for seed, data in enumerate((small_dataset, other)):
        agent.fit(data, model=NARROW, training=dataclasses.replace(QUICK, steps=2, seed=seed))
        assert agent.provenance["dataset"] == data.provenance
        assert agent.provenance["seed"] == seed
        assert agent.provenance["world_model"] == known
        assert "measured" not in agent.provenance
