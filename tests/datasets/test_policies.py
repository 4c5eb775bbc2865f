from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_agents.datasets import POLICIES, default_policy, episode_seed, rollout_states
from wm_agents.datasets.episodes import rollout
from wm_agents.envs import ENV_IDS, MAZE_IDS
from wm_agents.envs.pointmaze import PointMaze

ENV_ID = "wm/PointMaze-UMaze-v0"
TASKS = {
    "arrange": "wm/PushT-v0",
    "oracle-arrange": "wm/Cube-Double-v0",
    "oracle-play": "wm/Cube-Double-v0",
    "piecewise-random": "wm/Reacher-v0",
    "play": "wm/PushT-v0",
    "random-play": "wm/Cube-Single-v0",
    "reach": "wm/Reacher-v0",
    "smooth-random": "wm/Reacher-v0",
    "uniform-random": ENV_ID,
    "waypoint": ENV_ID,
}
"""For every policy a task that it is for."""
ENDING = ("arrange", "oracle-arrange", "reach")
"""Policies whose episodes end where they arrive."""


@pytest.fixture(scope="module")
def env() -> Iterator[gym.Env]:
    env = gym.make(ENV_ID, obs_type="state")
    yield env
    env.close()


def test_every_policy_has_a_task() -> None:
    assert {*TASKS, "curious"} == set(POLICIES), "curious only collects"


@pytest.mark.parametrize("name", TASKS)
def test_same_seed_same_episode(name: str) -> None:
    env = gym.make(TASKS[name], obs_type="state")
    first = rollout_states(env, name, 60, episode_seed("collect", 3, 5))
    again = rollout_states(env, name, 60, episode_seed("collect", 3, 5))
    other = rollout_states(env, name, 60, episode_seed("collect", 3, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("name", TASKS)
def test_episode_has_the_promised_shapes_and_bounds(name: str) -> None:
    env = gym.make(TASKS[name], obs_type="state")
    states, actions = rollout_states(env, name, 50, episode_seed("evaluate", 0, 0))
    taken = len(actions)
    assert taken == 50 or (name in ENDING and 2 <= taken < 50)
    assert states.shape == (taken + 1, *env.observation_space["observation"].shape)
    assert states.dtype == np.float64
    assert actions.shape == (taken, *env.action_space.shape)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1
    assert np.abs(actions).max() > 0


@given(
    low=st.lists(st.floats(-500, 0, width=32), min_size=1, max_size=5),
    width=st.floats(0.125, 1000, width=32),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_random_policies_stay_inside_any_bounds(low: list[float], width: float, seed: int) -> None:
    bottom = np.asarray(low, dtype=np.float32)
    space = gym.spaces.Box(bottom, bottom + np.float32(width), dtype=np.float32)
    for name in ("piecewise-random", "smooth-random", "uniform-random"):
        policy = POLICIES.get(name)(SimpleNamespace(action_space=space), np.random.default_rng(seed))
        for _ in range(20):
            assert space.contains(policy.act(np.zeros(4)))


def test_states_are_those_of_the_episode_with_pixels(env: gym.Env) -> None:
    with gym.make(ENV_ID, obs_type="pixels", image_size=32) as pixels_env:
        episode = rollout(pixels_env, "waypoint", 30, episode_seed("collect", 0, 0))
        assert episode.pixels is not None
        for step in (0, 17, 30):
            assert np.array_equal(episode.pixels[step], pixels_env.unwrapped.render_state(episode.states[step]))
    states, actions = rollout_states(env, "waypoint", 30, episode_seed("collect", 0, 0))
    assert np.array_equal(states, episode.states)
    assert np.array_equal(actions, episode.actions)


def test_goal_states_are_where_the_waypoint_policy_heads(env: gym.Env) -> None:
    episode = rollout(env, "waypoint", 400, episode_seed("collect", 0, 1))
    assert np.isfinite(episode.goal_states).all()
    assert len(np.unique(episode.goal_states, axis=0)) > 1
    assert np.array_equal(episode.goal_states[-1], episode.goal_states[-2])
    assert np.linalg.norm(episode.states[:, :2] - episode.goal_states[:, :2], axis=1).min() < 0.25


def test_goal_states_of_an_aimless_policy_are_the_environments(env: gym.Env) -> None:
    episode = rollout(env, "smooth-random", 40, episode_seed("collect", 0, 1))
    assert len(np.unique(episode.goal_states, axis=0)) == 1


@pytest.mark.parametrize(
    ("env_id", "policy", "episodes"),
    [(ENV_ID, "smooth-random", 40), (ENV_ID, "waypoint", 40), ("wm/TwoRoom-v0", "waypoint", 40)],
)
def test_policies_cover_the_maze(env_id: str, policy: str, episodes: int) -> None:
    with gym.make(env_id, obs_type="state") as env:
        runs = [rollout_states(env, policy, 300, episode_seed("collect", 0, index))[0] for index in range(episodes)]
        visited = {tuple(cell) for cell in np.floor(np.concatenate(runs)[:, :2] / 0.5).astype(int)}
        rng = np.random.default_rng(0)
        free = {tuple(np.floor(env.unwrapped.sample_state(rng)[:2] / 0.5).astype(int)) for _ in range(3000)}
        assert len(free & visited) >= 0.97 * len(free)


def test_smooth_random_is_correlated_in_time_and_uniform_is_not(env: gym.Env) -> None:
    def correlation(policy: str) -> float:
        actions = [rollout_states(env, policy, 300, episode_seed("collect", 1, index))[1] for index in range(5)]
        before, after = (np.concatenate([part[s] for part in actions]).ravel() for s in (slice(-1), slice(1, None)))
        return float(np.corrcoef(before, after)[0, 1])

    assert correlation("smooth-random") > 0.8
    assert abs(correlation("uniform-random")) < 0.1


def test_goals_and_time_limits_do_not_end_an_episode() -> None:
    with gym.make(ENV_ID, obs_type="state", max_episode_steps=10) as env:
        states, _ = rollout_states(env, "waypoint", 350, episode_seed("collect", 0, 0))
    assert len(states) == 351
    assert len(np.unique(states, axis=0)) > 300


def test_seeds_of_training_and_evaluation_never_meet() -> None:
    seeds = [
        tuple(episode_seed(kind, seed, episode).generate_state(4))
        for kind in ("collect", "evaluate")
        for seed in range(4)
        for episode in range(50)
    ]
    assert len(set(seeds)) == len(seeds)


def test_bad_seeds_and_names_say_what_exists() -> None:
    with pytest.raises(ValueError, match="Did you mean 'evaluate'"):
        episode_seed("evaluation", 0, 0)
    with pytest.raises(ValueError, match="count from 0"):
        episode_seed("collect", -1, 0)
    with pytest.raises(ValueError, match="Did you mean 'waypoint'"):
        POLICIES.get("waypoints")


@pytest.mark.parametrize(
    "name", ["arrange", "oracle-arrange", "oracle-play", "play", "random-play", "reach", "waypoint"]
)
def test_policies_that_need_something_of_a_task_say_so(name: str) -> None:
    space = gym.spaces.Box(-1, 1, (2,))
    with pytest.raises(ValueError, match=r"SimpleNamespace .*smooth-random"):
        POLICIES.get(name)(SimpleNamespace(action_space=space), np.random.default_rng(0))
    named: Any = SimpleNamespace(action_space=space, spec=SimpleNamespace(id="their/Task-v3"))
    with pytest.raises(ValueError, match=r"their/Task-v3 .*smooth-random"):
        POLICIES.get(name)(named, np.random.default_rng(0))


def test_default_policy_is_the_tasks_own() -> None:
    found = {env_id: default_policy(env_id) for env_id in ENV_IDS}
    assert found == {
        **dict.fromkeys(MAZE_IDS, "waypoint"),
        "wm/PushT-v0": "play",
        "wm/Reacher-v0": "piecewise-random",
        "wm/Cube-Single-v0": "oracle-play",
        "wm/Cube-Double-v0": "oracle-play",
    }
    assert default_policy(f"wm_agents:{ENV_ID}") == "waypoint"
    assert default_policy("CartPole-v1") == "smooth-random"
    with pytest.raises(ValueError, match="Did you mean 'wm/PushT-v0'"):
        default_policy("wm/Pusht-v0")


def test_a_task_of_ones_own_inherits_or_names_its_policy() -> None:
    class Mine(PointMaze):
        exploration_policy = "uniform-random"

    gym.register("test/Maze-v0", "wm_agents.envs.pointmaze:PointMaze", kwargs={"maze_map": "LARGE"})
    gym.register("test/Mine-v0", Mine)
    assert default_policy("test/Maze-v0") == "waypoint"
    assert default_policy("test/Mine-v0") == "uniform-random"


def test_reach_swings_the_wrist_from_limit_to_limit_and_ends_where_it_arrives() -> None:
    env = gym.make("wm/Reacher-v0", obs_type="state")
    wrist, arrived = [], 0
    for index in range(12):
        episode = rollout(env, "reach", 200, episode_seed("collect", 1, index))
        wrist.extend(episode.states[:, 1])
        assert len(np.unique(episode.goal_states, axis=0)) == 1
        if len(episode.actions) < 200:
            shoulder, other = episode.states[-2, :2] - episode.goal_states[-1, :2]
            assert max(abs(np.sin(shoulder / 2)) * 2, abs(other)) < 0.1
            assert np.abs(episode.states[-2, 2:]).max() < 1.0
            arrived += 1
    assert min(wrist) < -2
    assert max(wrist) > 2
    assert arrived >= 6


def test_reach_is_for_arms(env: gym.Env) -> None:
    with pytest.raises(ValueError, match="needs an arm"):
        POLICIES.get("reach")(env.unwrapped, np.random.default_rng(0))


def test_arrange_brings_block_and_agent_to_their_places_and_ends() -> None:
    env = gym.make("wm/PushT-v0", obs_type="state")
    for index in range(6):
        episode = rollout(env, "arrange", 300, episode_seed("collect", 1, index))
        apart = env.unwrapped.reached(episode.states[-1, :5], episode.goal_states[-1, :5])
        assert len(episode.actions) < 300
        assert apart["moderate"]
        assert (episode.goal_states == episode.goal_states[0]).all()


def test_arrange_is_for_a_block_to_push(env: gym.Env) -> None:
    with pytest.raises(ValueError, match="needs PushT's block"):
        POLICIES.get("arrange")(env.unwrapped, np.random.default_rng(0))


def test_oracle_arrange_brings_every_cube_to_its_place_and_ends() -> None:
    env = gym.make("wm/Cube-Double-v0", obs_type="state")
    task = env.unwrapped
    far = []
    for index in range(8):
        episode = rollout(env, "oracle-arrange", 400, episode_seed("collect", 1, index))
        assert len(episode.actions) < 400
        end, goal = (task.achieved_goal(states[-1]) for states in (episode.states, episode.goal_states))
        far.append(task.goal_distance(end, goal))
    assert sorted(far)[4] < 0.04, "most oracles deliver both cubes"
