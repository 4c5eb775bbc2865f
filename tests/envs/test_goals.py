"""What ``goals`` draws: any goal, or one that is so many steps away in a held-out episode."""

from __future__ import annotations

import copy
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.seeding import np_random
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.evaluation import evaluate_policy

import wm_agents
from wm_agents.envs import ENV_IDS
from wm_agents.envs.pointmaze import PointMaze
from wm_agents.evaluation import make_manifest

UMAZE = "wm/PointMaze-UMaze-v0"


def drawn(env: gym.Env, **arguments) -> tuple[np.ndarray, np.ndarray]:
    info = env.reset(**arguments)[1]
    return info["state"], info["goal_state"]


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_near_goals_are_the_tasks_of_the_tables(env_id):
    env = gym.make(env_id, obs_type="state", goals="near")
    start, goal = drawn(env, seed=5)
    again = gym.make(env_id, goals=25)  # another kind of observation and another history
    again.reset(seed=1)
    np.testing.assert_array_equal(drawn(again, seed=5), (start, goal))
    task = make_manifest(env_id, tasks=1, offset=25, budget=50, seed=int(np_random(5)[0].integers(2**32)))
    np.testing.assert_allclose(start, task.starts[0], atol=1e-6)
    np.testing.assert_allclose(goal, task.goals[0], atol=1e-6)
    assert not np.array_equal(drawn(again), (start, goal)), "the next episode has another task"
    env.close()
    again.close()


def test_any_is_the_default_and_draws_states_at_rest():
    default, named = (drawn(gym.make(UMAZE, **options), seed=2) for options in ({}, {"goals": "any"}))
    np.testing.assert_array_equal(default, named)
    assert not np.any([state[2:] for state in default])


@pytest.mark.parametrize(("goals", "budget"), [("near", 50), (30, 60)])
def test_an_episode_ends_after_twice_the_distance(goals, budget):
    env = gym.make(UMAZE, obs_type="state", goals=goals)
    env.reset(seed=0, options={"state": np.array([-1, -1, 0, 0]), "goal_state": np.array([-1, 1, 0, 0])})
    for _ in range(2):  # the count begins anew
        ends = [env.step(np.zeros(2))[2:4] for _ in range(budget)]
        assert ends == [(False, False)] * (budget - 1) + [(False, True)]
        env.reset(options={"state": np.array([-1, -1, 0, 0]), "goal_state": np.array([-1, 1, 0, 0])})
    limited = gym.make(UMAZE, obs_type="state", goals=goals, max_episode_steps=10)
    limited.reset(seed=0)
    assert [limited.step(np.zeros(2))[3] for _ in range(10)][-1]


def test_options_set_what_they_name_and_the_rest_is_random():
    env = gym.make(UMAZE, obs_type="state", goals="near")
    here = np.array([-1.0, -1.0, 0.0, 0.0])
    np.testing.assert_array_equal(drawn(env, seed=0, options={"state": here})[0], here)
    np.testing.assert_array_equal(drawn(env, seed=0, options={"goal_state": here})[1], here)
    np.testing.assert_array_equal(drawn(env, options={"state": here, "goal_state": here}), (here, here))


def test_a_copy_draws_what_the_original_does():
    env = gym.make(UMAZE, obs_type="state", goals="near")
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    np.testing.assert_array_equal(drawn(env), drawn(twin))
    assert not np.array_equal(drawn(env), drawn(gym.make(UMAZE, goals="near"), seed=0))


def test_checkers_accept_it():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for obs_type in ("pixels", "state"):
            check_env(gym.make(UMAZE, obs_type=obs_type, goals="near").unwrapped, skip_render_check=True)
            sb3_check_env(gym.make(UMAZE, obs_type=obs_type, goals=40))


def test_a_task_that_is_not_registered_draws_from_the_beginning_of_an_episode():
    env = PointMaze(obs_type="state", goals="near")
    start, goal = drawn(env, seed=0)
    assert not start[2:].any()
    assert goal[2:].any()


@pytest.mark.parametrize(
    ("goals", "message"),
    [
        ("nera", "Did you mean 'near'.*number of steps"),
        ("random", "Known: any, near"),
        (0, "at least 1, not 0"),
        (-5, "at least 1, not -5"),
        (float("nan"), "whole number.*not nan"),
        (25.5, "whole number.*not 25.5"),
        (True, "whole number.*not True"),
        (None, "whole number.*not None"),
    ],
)
def test_bad_goals_name_the_way_out(goals, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        gym.make(UMAZE, goals=goals)


def test_goals_beyond_an_episode_and_goals_that_are_always_reached_are_errors():
    with pytest.raises(ValueError, match=r"301 is longer than an episode.*300 steps.*at most 300"):
        gym.make(UMAZE, goals=301).reset(seed=0)
    with pytest.raises(ValueError, match=r"unsolved at the start.*larger offset"):
        gym.make(UMAZE, obs_type="state", goals=1).reset(seed=0)


def test_evaluate_policy_shows_the_success_of_the_tables():
    """The table has 97% at 25/50: of 12, two failures are allowed."""
    env = gym.make(UMAZE, goals="near")
    solved: list[bool] = []
    evaluate_policy(
        wm_agents.load("pointmaze-umaze/gc-idm"),
        env,
        n_eval_episodes=12,
        callback=lambda local, _: solved.append(local["info"]["is_success"]) if local["done"] else None,
        warn=False,
    )
    assert len(solved) == 12
    assert sum(solved) >= 10
