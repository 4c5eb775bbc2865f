"""Reacher: upstream's arm, exact states, both success tests, what the images show, and random swinging."""

from __future__ import annotations

from types import SimpleNamespace

import goal_task
import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_agents.datasets import episode_seed
from wm_agents.datasets.episodes import rollout
from wm_agents.datasets.play import PiecewiseRandom
from wm_agents.envs.reacher import LINK, WRIST_LIMIT, Reacher

FINGER, HAND, ARM = (242, 64, 38), (90, 178, 230), (217, 153, 77)


def swings(seed: int, steps: int) -> np.ndarray:
    """Full torques that change their sign now and then: the wrist runs into its limits."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.choice([-1.0, 1.0], (steps // 12 + 1, 2)), 12, axis=0)[:steps]


def test_both_checkers_pass():
    goal_task.check_checkers(Reacher)


def test_same_seed_same_episode():
    goal_task.check_seeds(Reacher, np.random.default_rng(0).uniform(-1, 1, (30, 2)))


def test_replay_is_bit_equal_at_the_limits_of_the_wrist():
    env = Reacher(obs_type="state")
    for seed in range(5):
        start = env.sample_state(np.random.default_rng(seed))
        states = goal_task.check_replay(Reacher, start, swings(seed, 200), (0, 77, 150))
        assert np.abs(states[:, 1]).max() > WRIST_LIMIT


def test_every_state_of_the_simulator_can_be_set_back_and_saved_with_six_decimals():
    env, rng = Reacher(obs_type="state"), np.random.default_rng(2)
    for seed in range(20):
        env.reset(options={"state": env.sample_state(rng)})
        for action in swings(seed, 200):
            env.validate_state(np.round(env.step(action)[-1]["state"], 6))


def test_dynamics_are_upstreams():
    suite = pytest.importorskip("dm_control.suite")
    upstream = suite.load("reacher", "hard", task_kwargs={"random": 0})
    env, rng = Reacher(obs_type="state"), np.random.default_rng(0)
    for seed in range(4):
        upstream.reset()
        start = env.sample_state(rng)
        env.reset(options={"state": start})
        with upstream.physics.reset_context():
            upstream.physics.set_state(start)
        for action in swings(seed, 150):
            state = env.step(action)[-1]["state"]
            upstream.step(action)
            np.testing.assert_allclose(state, upstream.physics.get_state(), atol=1e-6)
            finger = upstream.physics.named.data.geom_xpos["finger", :2]
            np.testing.assert_allclose(env.fingertip(state[:2]), finger, atol=1e-6)


@pytest.mark.parametrize(
    ("angles", "moderate", "strict"),
    [
        ((0.3, 1.0), True, True),
        ((0.349, 1.049), True, False),  # both errors point the same way: the fingertip is 1.4 cm off
        ((0.349, 0.951), True, True),
        ((0.351, 1.0), False, False),
        ((0.3, 1.06), False, True),  # 0.06 rad at the wrist are 0.7 cm
        ((0.3, 1.09), False, False),
        ((0.3 + 2 * np.pi, 1.0), True, True),
        ((0.26 - 6 * np.pi, 1.0), True, True),
        ((0.3 + 1.0, -1.0), False, True),  # the elbow on the other side, the fingertip in the same place
    ],
)
def test_success_tests(angles, moderate, strict):
    env = Reacher(obs_type="state")
    state, goal = np.array([*angles, 0, 0]), np.array([0.3, 1.0, 0, 0])
    for pair in ((state, goal), (goal, state)):
        found = env.successes(*pair)
        assert (bool(found["moderate"]), bool(found["strict"])) == (moderate, strict)


def test_the_wrist_is_not_periodic():
    env = Reacher(obs_type="state")
    ends = np.array([[0, WRIST_LIMIT, 0, 0], [0, -WRIST_LIMIT, 0, 0]])
    assert not env.successes(*ends)["moderate"]


def test_strict_success_must_hold_for_two_states():
    env = Reacher(obs_type="state", success="strict")
    here = np.array([0.5, 1.0, 0, 0])
    _, info = env.reset(options={"state": here, "goal_state": here})
    assert (info["success_moderate"], info["success_strict"]) == (True, False)
    _, reward, terminated, _, info = env.step(np.zeros(2))
    assert (reward, terminated, info["success_strict"]) == (0.0, True, True)
    # Fast through the goal: at 6 rad/s the fingertip is there in one state only.
    goal = [0.62, 1.0, 0, 0]
    env.reset(options={"state": [0.5, 1.0, 6.0, 0], "goal_state": goal})
    infos = [env.step(np.zeros(2)) for _ in range(5)]
    assert sum(reward == 0.0 for _, reward, *_ in infos) == 1
    assert not any(info["success_strict"] for *_, info in infos)


def test_rewards_are_vectorised_and_agree():
    env, rng = Reacher(obs_type="state"), np.random.default_rng(0)
    goals = np.stack([env.sample_state(rng) for _ in range(60)])
    goals[:, 1] *= 0.9
    states = goals + np.pad(rng.normal(0, 0.04, (60, 2)), ((0, 0), (0, 2)))
    goal_task.check_rewards(Reacher, states, goals)


def test_hindsight_rewards_are_offered_where_goals_are_observed():
    assert hasattr(goal_task.limited(Reacher, obs_type="state"), "compute_reward")
    assert not hasattr(goal_task.limited(Reacher), "compute_reward")


def test_bad_states_say_what_is_wrong():
    goal_task.check_options(
        Reacher,
        {
            "wrist": ([0, 3.2, 0, 0], "wrist at 3.2 rad.*160 degrees.*sample_state"),
            "speed": ([0, 0, 0, -90], r"velocities.*-90.*20 rad/s.*sample_state"),
        },
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_sampled_states_are_at_rest(seed):
    env = Reacher(obs_type="state")
    state = env.sample_state(np.random.default_rng(seed))
    env.reset(options={"state": env.validate_state(state)})
    np.testing.assert_allclose(env.step(np.zeros(2))[-1]["state"], state, atol=1e-9)
    assert np.linalg.norm(env.fingertip(state[:2])) <= 2 * LINK + 1e-12


# Images.


def middle_of(frame: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a colour is, as x (right) and y (up) in m from the middle of the image."""
    near = np.abs(frame.astype(int) - colour).max(axis=-1) <= 40
    row, column = np.argwhere(near).mean(axis=0) + 0.5
    return np.array([column / len(frame) - 0.5, 0.5 - row / len(frame)]) * 0.56


@settings(max_examples=30, deadline=None)
@given(shoulder=st.floats(-10, 10), wrist=st.floats(-WRIST_LIMIT, WRIST_LIMIT))
def test_image_shows_the_posture(shoulder, wrist):
    env = Reacher()
    frame = env.render_state(np.array([shoulder, wrist, 0, 0]), 128)
    tip = env.fingertip([shoulder, wrist])
    np.testing.assert_allclose(middle_of(frame, FINGER), tip, atol=0.002)
    wrist_at = LINK * np.array([np.cos(shoulder), np.sin(shoulder)])
    along = tip - wrist_at
    offset = middle_of(frame, HAND) - wrist_at  # on the line from wrist to fingertip, about half way
    assert abs(along[0] * offset[1] - along[1] * offset[0]) / LINK < 0.004
    assert 0.2 < offset @ along / LINK**2 < 0.6
    if abs(wrist) < 2:
        offset = middle_of(frame, ARM)
        assert abs(wrist_at[0] * offset[1] - wrist_at[1] * offset[0]) / LINK < 0.006


def test_a_full_turn_looks_the_same_and_a_twentieth_of_a_radian_does_not():
    env = Reacher()
    frame = env.render_state(np.array([0.4, 0.5, 0, 0]))
    np.testing.assert_array_equal(frame, env.render_state(np.array([0.4, 0.5, 3, -3])))
    again = env.render_state(np.array([0.4 + 2 * np.pi, 0.5, 0, 0])).astype(int)
    assert np.abs(frame - again).max() <= 1
    for nearby in ([0.45, 0.5, 0, 0], [0.4, 0.55, 0, 0]):
        assert np.abs(frame - env.render_state(np.array(nearby)).astype(int)).max() > 20


def test_small_images_are_area_averages_of_large_ones():
    env, rng = Reacher(), np.random.default_rng(0)
    for _ in range(10):
        state = env.sample_state(rng)
        small, large = env.render_state(state, 64).astype(float), env.render_state(state, 1024).astype(float)
        averaged = large.reshape(64, 16, 64, 16, 3).mean(axis=(1, 3))
        assert np.abs(small - averaged).mean() < 0.3
        assert np.abs(small - averaged).max() < 60


def test_images():
    goal_task.check_images(Reacher, np.array([0.4, -1.2, 1.0, 0.0]), np.array([1.0, 0.5]))


def test_render_shows_the_goal_to_people():
    env = Reacher(obs_type="state", render_mode="rgb_array")
    goal = np.array([np.pi / 2, 0, 0, 0])
    env.reset(options={"state": [0, 0, 0, 0], "goal_state": goal})
    frame = env.render()
    green = np.abs(middle_of(frame, (70, 150, 90)) - [0, LINK])
    assert green.max() < 0.02
    np.testing.assert_allclose(middle_of(frame, FINGER), [2 * LINK, 0], atol=0.002)


def test_several_open_at_once():
    goal_task.check_many(Reacher)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_worker_processes(start_method):
    goal_task.check_workers(Reacher, start_method)


def test_gym_make_with_a_budget():
    env = gym.make("wm/Reacher-v0", obs_type="state", max_episode_steps=3)
    env.reset(seed=0)
    assert [env.step(np.zeros(2, np.float32))[3] for _ in range(3)] == [False, False, True]


# Exploration.


@pytest.mark.parametrize("policy", ["piecewise-random", "smooth-random"])
def test_random_policies_cover_every_posture(policy):
    env = Reacher(obs_type="state")
    states = np.concatenate([rollout(env, policy, 100, episode_seed("collect", 0, i)).states for i in range(50)])
    shoulder, wrist = states[:, 0] % (2 * np.pi), np.clip(states[:, 1], -WRIST_LIMIT, WRIST_LIMIT - 1e-9)
    cells = set(zip((shoulder * 8 / (2 * np.pi)).astype(int), ((wrist / WRIST_LIMIT + 1) * 4).astype(int), strict=True))
    assert len(cells) >= 62
    assert np.abs(states[:, 2:]).mean() > 1


def test_piecewise_random_stays_and_jumps():
    space = gym.spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32))
    policy = PiecewiseRandom(SimpleNamespace(action_space=space), np.random.default_rng(0))
    policy.NOISE = 0.0
    actions = np.array([policy.act(np.zeros(4)) for _ in range(4000)])
    assert all(space.contains(action) for action in actions[:100])
    jumps = (np.diff(actions, axis=0) != 0).any(axis=1)
    assert 0.08 < jumps.mean() < 0.12
    np.testing.assert_allclose(actions.mean(axis=0), [0, 5], atol=0.4)
    assert np.ptp(actions, axis=0).min() > 3.6


def test_piecewise_random_repeats():
    env = Reacher(obs_type="state")
    first, again, other = (rollout(env, "piecewise-random", 40, episode_seed("collect", 1, i)) for i in (4, 4, 5))
    np.testing.assert_array_equal(first.states, again.states)
    assert (first.actions != other.actions).any()
    assert np.abs(first.actions).max() <= 1
