"""What Stable-Baselines3's users expect of an algorithm's ``predict`` holds for every agent."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from sb3_agents import UMAZE, Make, make_env
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage

from wm_agents import GCIDM, MPC
from wm_agents.agents import WorldModelAgent

pytest_plugins = ["trained", "sb3_agents"]


def rows(batch: dict[str, np.ndarray], chosen: Any) -> dict[str, np.ndarray]:
    return {key: value[chosen] for key, value in batch.items()}


def assert_same_state(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...], atol: float = 0.0) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=atol)


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
    going_on, kept_state = agent.predict(frames[3], state=state, episode_start=np.zeros(3, dtype=bool))
    fresh, fresh_state = agent.predict(frames[3])
    others = [0, 2]
    np.testing.assert_allclose(mixed[others], going_on[others], atol=1e-5)
    np.testing.assert_allclose(mixed[1], fresh[1], atol=1e-5)
    for part, kept, new in zip(mixed_state, kept_state, fresh_state, strict=True):
        np.testing.assert_allclose(part[others], kept[others], atol=1e-4)
        np.testing.assert_allclose(part[1], new[1], atol=1e-4)


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
    encode = agent.world_model.encode
    monkeypatch.setattr(agent.world_model, "encode", lambda pixels: encoded.append(len(pixels)) or encode(pixels))
    every_step = not isinstance(agent, MPC)
    _, state = agent.predict(frames[0])
    assert encoded == [3, 3], "goals, then frames"
    encoded.clear()
    _, state = agent.predict(frames[1], state=state)
    assert encoded == ([3] if every_step else []), "search looks at frames between blocks only"
    encoded.clear()
    changed = {**frames[2], "goal_pixels": frames[2]["goal_pixels"].copy()}
    changed["goal_pixels"][1] = frames[0]["pixels"][0]
    _, after = agent.predict(changed, state=state)
    assert encoded == [1, 3 if every_step else 1], "a search looks for a way to the new goal at once"
    now = encode(torch.from_numpy(frames[0]["pixels"][:1])).numpy()
    np.testing.assert_allclose(after["goal"][1], now[0], atol=1e-5)
    np.testing.assert_array_equal(after["goal"][[0, 2]], state["goal"][[0, 2]])


def test_actions_follow_the_goal(make: Make, frames: Any) -> None:
    agent = make()
    swapped = {**frames[0], "goal_pixels": frames[0]["goal_pixels"][[1, 2, 0]]}
    assert np.abs(agent.predict(frames[0])[0] - agent.predict(swapped)[0]).max() > 0.05


def test_a_new_goal_is_headed_for_at_once(make: Make, frames: Any) -> None:
    """What was meant for the old goal, a plan or a countdown, is gone, in the rows where the goal changed."""
    agent = make()
    state = None
    for time in range(3):
        _, state = agent.predict(frames[time], state=state)
    changed = {**frames[3], "goal_pixels": frames[3]["goal_pixels"].copy()}
    changed["goal_pixels"][1] = frames[0]["pixels"][2]
    actions, after = agent.predict(changed, state=state)
    kept, _ = agent.predict(frames[3], state=state)
    np.testing.assert_allclose(actions[[0, 2]], kept[[0, 2]], atol=1e-4)
    assert np.abs(actions[1] - kept[1]).max() > 1e-3
    for name in {"elapsed", "own.step", "own.age", "own.low.step"} & set(after.names):
        assert after[name].tolist() == [4, 1, 4], name
    if not isinstance(agent, GCIDM):  # a search begins anew; GC-IDM goes on with the velocity that it has seen
        fresh, _ = agent.predict(changed)
        np.testing.assert_allclose(actions[1], fresh[1], atol=1e-4)


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
