"""What Stable-Baselines3's users and helpers expect of an algorithm holds for every agent."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecTransposeImage

import wm_agents
from wm_agents import CEMMPC, GCIDM, InverseDynamicsConfig, InverseDynamicsTrainingConfig
from wm_agents.agents import WorldModelAgent

sys.path.insert(0, str(Path(__file__).parent / "helpers"))
pytest_plugins = ["trained"]

UMAZE = "wm/PointMaze-UMaze-v0"
CHEAP: dict[str, Any] = {"samples": 24, "elites": 6, "iterations": 2, "horizon": 3, "device": "cpu"}
Make = Callable[..., WorldModelAgent]


def make_env(steps: int = 12, **options: Any) -> Callable[[], gym.Env]:
    # With the module's name in the id, a spawned process registers the tasks by itself.
    return lambda: Monitor(gym.make(f"wm_agents:{UMAZE}", max_episode_steps=steps, **options))


@pytest.fixture(params=["cem-mpc", "gc-idm"])
def make(request: pytest.FixtureRequest, trained: Any) -> Make:
    """Factory of each agent, cheap to run, on the session's world model."""

    def build(env: Any = None, **options: Any) -> WorldModelAgent:
        if request.param == "cem-mpc":
            return CEMMPC(trained.world_model, env, **{**CHEAP, **options})
        network = trained.agent.inverse_dynamics
        return GCIDM(trained.world_model, env, inverse_dynamics=network, **{"device": "cpu", **options})

    return build


@pytest.fixture(scope="module")
def frames() -> list[dict[str, np.ndarray]]:
    """13 consecutive observations of 3 environments, batched, under fixed random actions."""
    envs = [gym.make(UMAZE) for _ in range(3)]
    rng = np.random.default_rng(0)
    now = [env.reset(seed=10 + row)[0] for row, env in enumerate(envs)]
    recorded = []
    for _ in range(13):
        recorded.append({key: np.stack([obs[key] for obs in now]) for key in now[0]})
        now = [env.step(rng.uniform(-1, 1, 2).astype(np.float32))[0] for env in envs]
    for env in envs:
        env.close()
    return recorded


def rows(batch: dict[str, np.ndarray], chosen: Any) -> dict[str, np.ndarray]:
    return {key: value[chosen] for key, value in batch.items()}


def assert_same_state(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...], atol: float = 0.0) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=atol)


# predict.


def test_it_is_an_sb3_algorithm_with_an_sb3_policy(make: Make) -> None:
    agent = make(make_env()())
    assert isinstance(agent, BaseAlgorithm)
    assert isinstance(agent.policy, BasePolicy)
    assert agent.action_space == gym.make(UMAZE).action_space
    assert agent.observation_space == gym.make(UMAZE).observation_space
    assert agent.num_timesteps == 0
    assert agent.device == torch.device("cpu")
    assert agent.get_parameters()["policy"].keys() == agent.policy.state_dict().keys()


def test_a_single_observation_gives_what_a_batch_of_one_gives(make: Make, frames: Any) -> None:
    agent = make()
    single, state = agent.predict(rows(frames[0], 0))
    batched, batched_state = agent.predict(rows(frames[0], slice(0, 1)))
    assert single.shape == (2,)
    assert batched.shape == (1, 2)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, batched[0])
    assert_same_state(state, batched_state)
    assert isinstance(state, tuple)
    assert all(isinstance(part, np.ndarray) and len(part) == 1 for part in state)


def test_without_a_state_every_call_starts_afresh(make: Make, frames: Any) -> None:
    agent = make()
    first, _ = agent.predict(frames[0])
    for _ in range(2):
        again, state = agent.predict(frames[0], state=None)
        np.testing.assert_array_equal(again, first)
        assert agent.last_decision is not None
        assert agent.last_decision.plans == 3
    marked, marked_state = agent.predict(frames[0], state=state, episode_start=np.ones(3, dtype=bool))
    np.testing.assert_array_equal(marked, first)
    assert_same_state(marked_state, state)


def test_predict_is_a_function_of_its_arguments(make: Make, frames: Any) -> None:
    agent = make()
    state = None
    for time in range(7):
        observation = {key: value.copy() for key, value in frames[time].items()}
        before = None if state is None else tuple(part.copy() for part in state)
        torch.rand(1)
        first = agent.predict(observation, state=state)
        second = agent.predict(observation, state=state)
        np.testing.assert_array_equal(first[0], second[0])
        assert_same_state(first[1], second[1])
        if before is not None:
            assert_same_state(before, state)
        for key, value in frames[time].items():
            np.testing.assert_array_equal(observation[key], value)
        state = first[1]


def test_episode_start_resets_the_marked_rows_only(make: Make, frames: Any) -> None:
    agent = make()
    state = None
    for time in range(3):
        _, state = agent.predict(frames[time], state=state)
    mixed, mixed_state = agent.predict(frames[3], state=state, episode_start=np.array([False, True, False]))
    carried, carried_state = agent.predict(frames[3], state=state, episode_start=np.zeros(3, dtype=bool))
    fresh, fresh_state = agent.predict(frames[3])
    others = [0, 2]
    np.testing.assert_allclose(mixed[others], carried[others], atol=1e-6)
    np.testing.assert_allclose(mixed[1], fresh[1], atol=1e-6)
    for part, kept, new in zip(mixed_state, carried_state, fresh_state, strict=True):
        np.testing.assert_allclose(part[others], kept[others], atol=1e-5)
        np.testing.assert_allclose(part[1], new[1], atol=1e-5)


def test_a_batch_acts_as_each_environment_would_alone(make: Make, frames: Any) -> None:
    agent = make()
    starts = np.zeros((13, 3), dtype=bool)
    starts[[0, 0, 0, 4, 7, 7, 11], [0, 1, 2, 1, 2, 0, 1]] = True
    together, state = [], None
    for time, batch in enumerate(frames):
        actions, state = agent.predict(batch, state=state, episode_start=starts[time])
        together.append(actions)
    for row in range(3):
        alone = None
        for time, batch in enumerate(frames):
            one = rows(batch, slice(row, row + 1))
            actions, alone = agent.predict(one, state=alone, episode_start=starts[time, row : row + 1])
            np.testing.assert_allclose(actions[0], together[time][row], atol=1e-3, err_msg=f"row {row}, step {time}")
    assert np.ptp(together) > 0.1


def test_a_goal_is_encoded_once_and_again_when_it_changes(make: Make, frames: Any, monkeypatch: Any) -> None:
    agent = make()
    encoded: list[int] = []
    encode = agent.policy.encode
    monkeypatch.setattr(agent.policy, "encode", lambda pixels: encoded.append(len(pixels)) or encode(pixels))
    every_step = isinstance(agent, GCIDM)
    _, state = agent.predict(frames[0])
    assert encoded == [3, 3], "goals, then frames"
    encoded.clear()
    _, state = agent.predict(frames[1], state=state)
    assert encoded == ([3] if every_step else []), "search looks at frames between blocks only"
    encoded.clear()
    changed = {**frames[2], "goal_pixels": frames[2]["goal_pixels"].copy()}
    changed["goal_pixels"][1] = frames[0]["pixels"][0]
    _, after = agent.predict(changed, state=state)
    assert encoded == ([1, 3] if every_step else [1])
    np.testing.assert_allclose(after[1][1], encode(frames[0]["pixels"][:1])[0], atol=1e-5)
    np.testing.assert_array_equal(after[1][[0, 2]], state[1][[0, 2]])


def test_actions_follow_the_goal(make: Make, frames: Any) -> None:
    agent = make()
    swapped = {**frames[0], "goal_pixels": frames[0]["goal_pixels"][[1, 2, 0]]}
    assert np.abs(agent.predict(frames[0])[0] - agent.predict(swapped)[0]).max() > 0.05


def test_actions_never_leave_the_action_space(make: Make) -> None:
    agent, rng, state = make(), np.random.default_rng(0), None
    for _ in range(12):
        noise = {key: rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8) for key in ("pixels", "goal_pixels")}
        actions, state = agent.predict(noise, state=state)
        assert all(agent.action_space.contains(action) for action in actions)


def test_channels_first_images_give_the_same_actions(make: Make, frames: Any) -> None:
    agent = make()
    expected, _ = agent.predict(frames[0])
    moved = {key: np.ascontiguousarray(np.moveaxis(value, -1, -3)) for key, value in frames[0].items()}
    np.testing.assert_array_equal(agent.predict(moved)[0], expected)
    np.testing.assert_array_equal(agent.predict(rows(moved, 1))[0], agent.predict(rows(frames[0], 1))[0])
    env = VecTransposeImage(DummyVecEnv([make_env()]))
    agent.set_env(env)
    action, _ = agent.predict(env.reset())
    assert action.shape == (1, 2)
    env.close()


def test_other_observation_keys_are_ignored(make: Make) -> None:
    env = gym.make(UMAZE, obs_type="pixels_state")
    agent = make(env)
    observation, _ = env.reset(seed=0)
    only = {key: observation[key] for key in ("pixels", "goal_pixels")}
    np.testing.assert_array_equal(agent.predict(observation)[0], agent.predict(only)[0])


def test_the_same_seed_gives_the_same_episode(make: Make) -> None:
    def play(agent: WorldModelAgent) -> list[np.ndarray]:
        env = gym.make(UMAZE, max_episode_steps=12)
        observation, _ = env.reset(seed=5)
        state, actions, done = None, [], False
        while not done:
            action, state = agent.predict(observation, state=state, deterministic=True)
            observation, _, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
            actions.append(action)
        env.close()
        return actions

    first, second = play(make(seed=3)), play(make(seed=3))
    assert len(first) == 12
    np.testing.assert_array_equal(first, second)
    agent = make(seed=0)
    agent.set_random_seed(3)
    np.testing.assert_array_equal(play(agent), first)


def test_the_hook_of_sb3s_policies_decides_too(make: Make, frames: Any) -> None:
    agent = make()
    tensors, _ = agent.policy.obs_to_tensor(frames[0])
    np.testing.assert_array_equal(agent.policy._predict(tensors).numpy(), agent.predict(frames[0])[0])


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


def test_learn_says_what_to_call_instead(make: Make) -> None:
    with pytest.raises(TypeError, match=r"learns offline.*train_world_model\(dataset\).*GCIDM\.fit\(dataset\)"):
        make(make_env()()).learn(total_timesteps=10)


def test_device_and_logger(make: Make, tmp_path: Path) -> None:
    agent = make()
    assert next(agent.policy.parameters()).device.type == "cpu"
    assert agent.logger is not None
    logger = configure(str(tmp_path), ["csv"])
    agent.set_logger(logger)
    assert agent.logger is logger
    with pytest.raises(RuntimeError):
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
            evaluation, n_eval_episodes=2, eval_freq=20, log_path=str(folder), best_model_save_path=str(folder),
            verbose=0,
        )  # fmt: skip
        agent.fit(small_dataset, model=NARROW, training=QUICK, callback=callback)
        return agent, callback

    agent, callback = fit(tmp_path / "one")
    assert agent.num_timesteps == 40
    assert callback.num_timesteps == 40
    log = np.load(tmp_path / "one" / "evaluations.npz")
    assert log["timesteps"].tolist() == [20, 40]
    assert log["successes"].shape == (2, 2)
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
        make_env()(), callback_on_new_best=StopTrainingOnRewardThreshold(-1000, verbose=0), n_eval_episodes=1,
        eval_freq=5, verbose=0,
    )  # fmt: skip
    agent.fit(small_dataset, model=NARROW, training=QUICK, callback=threshold)
    assert agent.num_timesteps == 5


# save and load.


@pytest.mark.parametrize("name", ["agent", "agent.safetensors", "agent.zip", "agent_v1.5", "deeper/folder/agent"])
def test_a_saved_agent_acts_the_same(make: Make, frames: Any, tmp_path: Path, name: str) -> None:
    agent = make(seed=4)
    agent.env_id = UMAZE
    agent.save(tmp_path / name)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.suffix for path in written] == [".zip" if name.endswith(".zip") else ".safetensors"]
    for loaded in (
        type(agent).load(tmp_path / name),
        type(agent).load(str(tmp_path / name), env=make_env()(), device="cpu"),
        wm_agents.load(tmp_path / name),
        wm_agents.load(written[0]),
    ):
        assert type(loaded) is type(agent)
        assert loaded.options() == agent.options()
        assert loaded.env_id == UMAZE
        mine = yours = None
        for batch in frames[:7]:
            expected, mine = agent.predict(batch, state=mine)
            actions, yours = loaded.predict(batch, state=yours)
            np.testing.assert_array_equal(actions, expected)


def test_saving_over_a_zip_is_atomic(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained.agent.save(tmp_path / "agent.zip")
    before = (tmp_path / "agent.zip").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            trained.agent.save(tmp_path / "agent.zip")
    assert (tmp_path / "agent.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["agent.zip"]


def test_options_given_to_load_override_the_stored_ones(trained: Any, tmp_path: Path) -> None:
    CEMMPC(trained.world_model, **{**CHEAP, "receding_horizon": 2}, objective="terminal").save(tmp_path / "cem")
    stored = CEMMPC.load(tmp_path / "cem")
    assert (stored.receding_horizon, stored.objective) == (2, "terminal")
    assert stored.planner_options == {"horizon": 3, "samples": 24, "elites": 6, "iterations": 2}
    changed = CEMMPC.load(tmp_path / "cem", env=make_env()(), samples=50, seed=9)
    assert changed.planner_options["samples"] == 50
    assert changed.policy.planner.samples == 50
    assert changed.policy.seed == 9
    assert changed.receding_horizon == 2
    with pytest.raises(ValueError, match="receding_horizon must lie in"):
        CEMMPC.load(tmp_path / "cem", horizon=1)


def test_save_refuses_what_it_cannot_do(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exclude and include"):
        trained.agent.save(tmp_path / "agent", exclude=["policy"])
    with pytest.raises(ValueError, match="give a path"):
        trained.agent.save(io.BytesIO())
    assert not list(tmp_path.iterdir())


# The RL baseline.


def test_sb3s_own_algorithm_with_hindsight_runs_on_the_state_observations() -> None:
    env = gym.make(UMAZE, obs_type="state", max_episode_steps=15)
    model = SAC(
        "MultiInputPolicy", env, replay_buffer_class=HerReplayBuffer, learning_starts=32, batch_size=16, seed=0,
        replay_buffer_kwargs={"n_sampled_goal": 4}, policy_kwargs={"net_arch": [16, 16]}, device="cpu",
    )  # fmt: skip
    before = [value.clone() for value in model.policy.actor.parameters()]
    model.learn(60)
    assert model.num_timesteps == 60
    assert any(not torch.equal(old, new) for old, new in zip(before, model.policy.actor.parameters(), strict=True))
    sample = model.replay_buffer.sample(64)
    assert set(np.unique(sample.rewards.numpy())) == {-1.0, 0.0}, "relabelled goals must be rewarded"
    mean, _ = evaluate_policy(model, Monitor(env), n_eval_episodes=2)
    assert -15 <= mean <= 0
    assert isinstance(env.observation_space, spaces.Dict)
