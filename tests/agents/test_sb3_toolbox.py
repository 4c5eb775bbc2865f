"""SB3's tools work with every kind of agent, in its own style of checks, or are refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from dot_goals import DotGoals
from sb3_learning import KINDS, SHAPE, make_agent, vec
from stable_baselines3.common.callbacks import (
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

import wm_agents
from wm_agents import GCIDM, InverseDynamicsConfig, InverseDynamicsTrainingConfig
from wm_agents.envs import ENV_IDS

pytest_plugins = ["trained"]


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


# Agents and environments, as in SB3's test_run, test_predict and test_deterministic.


@pytest.mark.parametrize("actions", ["box", "discrete", "multi"])
def test_predict_and_evaluate(name: str, actions: str) -> None:
    if actions != "box" and name == "gradient":
        pytest.skip("gradients need continuous actions")
    for env in (DotGoals(actions), vec(actions), vec(actions, 2)):
        agent = make_agent(name, env)
        observation = agent.get_env().reset()
        chosen, _ = agent.predict(observation)
        assert chosen.shape[0] == agent.get_env().num_envs
        assert all(agent.action_space.contains(action) for action in chosen)
        single, _ = agent.predict({key: value[0] for key, value in observation.items()})
        assert agent.action_space.contains(single)
        rewards, lengths = evaluate_policy(agent, agent.get_env(), 3, return_episode_rewards=True)
        assert len(rewards) == 3
        assert max(lengths) <= 12


def test_deterministic_and_sampled_actions(name: str) -> None:
    agent = make_agent(name, vec("box"))
    observation = agent.get_env().reset()
    agent.set_random_seed(7)
    plain = [agent.predict(observation, None, deterministic=True)[0] for _ in range(3)]
    np.testing.assert_array_equal(plain, plain[:1] * 3)
    sampled = [agent.predict(observation, None, deterministic=False)[0] for _ in range(3)]
    assert len({action.tobytes() for action in sampled}) == 3
    agent.set_random_seed(7)
    np.testing.assert_array_equal([agent.predict(observation, None, deterministic=False)[0] for _ in range(3)], sampled)
    agent.policy.noise = 0.0
    np.testing.assert_array_equal(agent.predict(observation, None, deterministic=False)[0], plain[0])


def test_discrete_actions_are_sampled_with_the_noises_probability() -> None:
    agent = make_agent("gc-idm", vec("discrete"))
    observation = agent.get_env().reset()
    best = agent.predict(observation, None)[0]
    agent.policy.noise = 0.4
    drawn = np.array([agent.predict(observation, None, deterministic=False)[0] for _ in range(400)])
    assert 0.62 < (drawn == best).mean() < 0.78, "0.6, and a quarter of the random ones"


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_sb3s_check_of_environments(env_id: str) -> None:
    for obs_type in ("state", "pixels"):
        env = gym.make(env_id, obs_type=obs_type)
        check_env(env, warn=False)
        env.close()


# Wrappers.


def test_wrappers_that_leave_images_alone_work(name: str) -> None:
    for wrap in (VecTransposeImage, VecMonitor, VecCheckNan, lambda env: VecNormalize(env, norm_obs=False)):
        agent = make_agent(name, wrap(vec("box", 2)))
        agent.learn(70)
        assert agent.num_timesteps == 70
        evaluate_policy(agent, agent.get_env(), 2, warn=False)


def test_wrappers_that_have_no_meaning_are_refused_with_a_reason() -> None:
    trained = make_agent("gc-idm", vec("box"))
    for wrapped, said in (
        (VecFrameStack(vec("box"), 2), "VecFrameStack has no meaning here"),
        (VecMonitor(VecFrameStack(vec("box"), 2)), "VecFrameStack has no meaning here"),
        (VecNormalize(vec("box"), norm_obs_keys=["pixels"]), "VecNormalize has no meaning for images"),
    ):
        for use in (
            trained.set_env,
            lambda env: GCIDM(trained.world_model, env, heads=trained.heads),
            lambda env: GCIDM(SHAPE, env),
        ):
            with pytest.raises(ValueError, match=said):
                use(wrapped)


def test_videos(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    env = VecVideoRecorder(vec("box"), str(tmp_path), lambda step: step == 0, video_length=5)
    agent = make_agent("gc-idm", env)
    evaluate_policy(agent, env, 1, warn=False)
    env.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]


def test_worker_processes() -> None:
    env = SubprocVecEnv([lambda: Monitor(DotGoals())] * 2, start_method="fork")
    agent = make_agent("gc-idm", env).learn(70)
    assert agent.replay_buffer.dataset().lengths.sum() == 70
    env.close()


# Callbacks.


def evaluation(**options: Any) -> EvalCallback:
    return EvalCallback(vec("box"), n_eval_episodes=2, eval_freq=20, verbose=0, warn=False, **options)


def test_callbacks_that_evaluate_save_and_stop(name: str, tmp_path: Path) -> None:
    agent = make_agent(name, vec("box"))
    never = StopTrainingOnRewardThreshold(1.0, verbose=0)
    keep = CheckpointCallback(60, str(tmp_path), save_replay_buffer=True)
    best = evaluation(best_model_save_path=str(tmp_path), log_path=str(tmp_path), callback_on_new_best=never)
    agent.learn(130, callback=[best, keep])
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [20, 40, 60, 80, 100, 120]
    files = {path.name for path in tmp_path.iterdir()}
    saved = {f"rl_model_{at}_steps.zip" for at in (60, 120)}
    buffers = {f"rl_model_replay_buffer_{at}_steps.safetensors" for at in (60, 120)}
    assert files == {"best_model.zip", "evaluations.npz", *saved, *buffers}
    for file in ("best_model", "rl_model_120_steps"):
        loaded = type(agent).load(tmp_path / file, env=vec("box"), device="cpu")
        assert agent.action_space.contains(loaded.predict(loaded.get_env().reset())[0][0])
    loaded.load_replay_buffer(tmp_path / "rl_model_replay_buffer_120_steps")
    assert loaded.num_timesteps == 120


@pytest.mark.parametrize(
    ("callback", "steps"),
    [
        (lambda: evaluation(callback_on_new_best=StopTrainingOnRewardThreshold(-1000, verbose=0)), 20),
        (lambda: evaluation(callback_after_eval=StopTrainingOnNoModelImprovement(0, 10**6, verbose=0)), 130),
        (lambda: StopTrainingOnMaxEpisodes(1), 12),
    ],
)
def test_callbacks_that_stop(callback: Any, steps: int) -> None:
    agent = make_agent("gc-idm", vec("box", ends=False))
    agent.learn(130, callback=callback())
    assert agent.num_timesteps == steps


def test_logs_on_demand_in_learn_and_in_fit(trained: Any, small_dataset: Any, tmp_path: Path) -> None:
    agent = make_agent("gc-idm", vec("box"))
    agent.set_logger(configure(str(tmp_path / "learn"), ["csv"]))
    agent.learn(130, log_interval=None, callback=LogEveryNTimesteps(40))
    rows = (tmp_path / "learn" / "progress.csv").read_text().splitlines()
    assert len(rows) == 1 + 3
    assert "rollout/ep_rew_mean" in rows[0]
    fitted = GCIDM(trained.world_model, device="cpu")
    fitted.set_logger(configure(str(tmp_path / "fit"), ["csv"]))
    training = InverseDynamicsTrainingConfig(steps=20, batch_size=16, evaluate_every=20)
    fitted.set_env("wm/PointMaze-UMaze-v0")
    fitted.fit(small_dataset, model=InverseDynamicsConfig(width=16), training=training, callback=LogEveryNTimesteps(8))
    text = (tmp_path / "fit" / "progress.csv").read_text()
    assert "time/total_timesteps" in text
    assert "train/gc_idm" in text


def test_events_every_n_steps() -> None:
    agent, seen = make_agent("gc-idm", vec("box", 2)), []

    class Note(StopTrainingOnMaxEpisodes):
        def _on_step(self) -> bool:
            seen.append(self.model.num_timesteps)
            return True

    agent.learn(70, callback=EveryNTimesteps(20, Note(1)))
    assert seen == [20, 40, 60]


# Files and parameters.


def test_load_takes_sb3s_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_agent("cem", vec("box")).save(tmp_path / "agent")
    replaced = {"samples": 5, "lr_schedule": 0.0, "clip_range": 0.1}
    agent = wm_agents.load(tmp_path / "agent", custom_objects=replaced, print_system_info=True, device="cpu")
    assert "Stable-Baselines3" in capsys.readouterr().out
    assert agent.settings.planner_options["samples"] == 5, "it replaces a stored option; the others have no effect"
    again = wm_agents.load(tmp_path / "agent", custom_objects=replaced, samples=6, device="cpu")
    assert again.settings.planner_options["samples"] == 6


def test_parameters_go_to_another_agent(name: str) -> None:
    one, other = make_agent(name, vec("box"), seed=1), make_agent(name, vec("box"), seed=2)
    one.learn(70)
    other.world_model.load_state_dict(one.world_model.state_dict())
    for head, network in one.heads.items():
        other.heads[head].stamp(other.world_model)
        network.check(other.world_model)
    other.set_parameters(one.get_parameters())
    for key, value in one.get_parameters()["policy"].items():
        assert torch.equal(other.get_parameters()["policy"][key], value)


def test_an_env_by_id_resets_what_learn_goes_on_from() -> None:
    gym.register("tests/Dots-v0", DotGoals)
    try:
        agent = make_agent("gc-idm", DummyVecEnv([DotGoals])).learn(70)
        agent.set_env("tests/Dots-v0")
        assert agent._last_obs is None
        agent.learn(20, reset_num_timesteps=False)
        assert agent.num_timesteps == 90
    finally:
        del gym.registry["tests/Dots-v0"]
