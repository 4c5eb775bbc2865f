"""PushT: bodies, exact states, both success tests, what the images show, and play."""

from __future__ import annotations

import goal_task
import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_agents.envs.pusht import PushT

CENTRE = np.array([256.0, 256.0])


def pose(agent=(100.0, 100.0), block=(256.0, 256.0), angle=0.0, **velocities) -> np.ndarray:
    state = np.array([*agent, *block, angle, 0, 0, 0, 0, 0], dtype=np.float64)
    for name, value in velocities.items():
        state[PushT.state_names.index(name)] = value
    return state


def shove(env: PushT, rng: np.random.Generator) -> np.ndarray:
    """An action that runs at the block and through it, into the walls."""
    state = env.get_state()
    return np.clip((env.block_centre(state) + rng.normal(0, 60, 2) - state[:2]) / 64, -1, 1)


def shoving(start: np.ndarray, steps: int, seed: int) -> np.ndarray:
    env, rng, actions = PushT(obs_type="state"), np.random.default_rng(seed), []
    env.reset(options={"state": start})
    for _ in range(steps):
        actions.append(shove(env, rng))
        env.step(actions[-1])
    return np.array(actions)


def test_both_checkers_pass():
    goal_task.check_checkers(PushT)


def test_same_seed_same_episode():
    goal_task.check_seeds(PushT, np.random.default_rng(0).uniform(-1, 1, (30, 2)))


def test_replay_is_bit_equal_in_contact_with_block_and_walls():
    env = PushT(obs_type="state")
    for seed in range(3):
        start = env.sample_state(np.random.default_rng(seed))
        states = goal_task.check_replay(PushT, start, shoving(start, 60, seed), (0, 20, 41))
        assert np.ptp(states[:, 2]) > 20
        assert (np.abs(states[:, 7:]).max(axis=0) > 0).all(), "velocities of the block are part of the state"


def test_every_state_of_the_simulator_can_be_set_back_and_saved_with_six_decimals():
    env, rng = PushT(obs_type="state"), np.random.default_rng(2)
    for _ in range(8):
        env.reset(options={"state": env.sample_state(rng)})
        for _ in range(100):
            state = env.step(shove(env, rng))[-1]["state"]
            env.validate_state(np.round(state, 6))


def test_bodies_and_dynamics_are_upstreams():
    upstream = pytest.importorskip("gym_pusht.envs.pusht").PushTEnv()
    env, rng = PushT(obs_type="state"), np.random.default_rng(0)
    errors = []
    for _ in range(10):
        start = env.sample_state(rng)
        env.reset(options={"state": start})
        upstream.reset(seed=0)
        upstream.agent.position = tuple(start[:2])
        upstream.block.angle = start[4]
        upstream.block.position = tuple(start[2:4])
        for body in (upstream.agent, upstream.block):
            upstream.space.reindex_shapes_for_body(body)
            body.velocity = (0, 0)
        upstream.block.angular_velocity = 0
        for _ in range(40):
            block = upstream.block
            motion = [*upstream.agent.velocity, *block.velocity, block.angular_velocity]
            state = np.array([*upstream.agent.position, *block.position, block.angle, *motion])
            corners = env.corners(state)
            if corners.min() < 20 or corners.max() > 490:
                break
            env.reset(options={"state": state})
            world = [block.local_to_world(v) for shape in block.shapes for v in shape.get_vertices()]
            np.testing.assert_allclose(np.array(world).min(axis=0), corners.min(axis=0), atol=1e-9)
            np.testing.assert_allclose(np.array(world).max(axis=0), corners.max(axis=0), atol=1e-9)
            np.testing.assert_allclose(env.block_centre(state), block.local_to_world(block.center_of_gravity))
            action = shove(env, rng)
            here = env.step(action)[-1]["state"]
            upstream.step(np.clip(state[:2] + 64 * action, 0, 512))
            np.testing.assert_allclose(here[:2], upstream.agent.position, atol=1e-9)
            if np.linalg.norm(here[2:4] - state[2:4]) > 1:
                errors.append(np.abs(here[2:4] - upstream.block.position).max())
    assert len(errors) > 40
    assert np.median(errors) < 0.03
    assert np.quantile(errors, 0.99) < 2


def test_actions_are_targets_relative_to_the_agent():
    env = PushT(obs_type="state")
    env.reset(options={"state": pose((100, 400)), "goal_state": pose((400, 100))})
    for _ in range(8):
        state = env.step(np.array([0.5, -1.0]))[-1]["state"]
    moved = state[:2] - [100, 400]
    assert moved[0] > 50
    np.testing.assert_allclose([state[5] / state[6], moved[0] / moved[1]], -0.5)
    env.reset(options={"state": pose((100, 400)), "goal_state": pose((400, 100))})
    target = np.array([150.0, 380.0])
    for _ in range(15):
        agent = env.get_state()[:2]
        state = env.step((target - agent) / 64)[-1]["state"]
    np.testing.assert_allclose(state[:2], target, atol=0.5)
    for _ in range(60):
        state = env.step(np.array([-5.0, 5.0]))[-1]["state"]
    np.testing.assert_allclose(state[:2], [0, 512], atol=1e-3)


def test_a_squeezed_block_comes_back():
    env, rng = PushT(obs_type="state"), np.random.default_rng(0)
    for _ in range(6):
        env.reset(options={"state": env.sample_state(rng)})
        for _ in range(60):
            env.step(shove(env, rng))
        for _ in range(20):  # off the block, then to the middle
            state = env.get_state()
            away = state[:2] - env.block_centre(state)
            away = away if np.linalg.norm(away) < 150 else CENTRE - state[:2]
            env.step(away / max(np.linalg.norm(away), 1.0))
        corners = env.corners(env.get_state())
        assert corners.min() > 6
        assert corners.max() < 505


@pytest.mark.parametrize(
    ("change", "moderate", "strict"),
    [
        ({}, True, True),
        ({"agent": (119, 100)}, True, True),
        ({"agent": (121, 100)}, False, True),
        ({"agent": (400, 400)}, False, True),
        ({"block": (265, 256)}, True, True),
        ({"block": (267, 256)}, True, False),
        ({"block": (268, 272)}, True, False),
        ({"block": (277, 256)}, False, False),
        ({"agent": (115, 100), "block": (271, 256)}, False, False),  # 15 and 15 px are 21 px as one vector
        ({"angle": np.deg2rad(9)}, True, True),
        ({"angle": np.deg2rad(-11)}, True, False),
        ({"angle": np.deg2rad(21)}, False, False),
        ({"angle": np.deg2rad(-355)}, True, True),
        ({"angle": np.deg2rad(729)}, True, True),
    ],
)
def test_success_tests(change, moderate, strict):
    env = PushT(obs_type="state")
    found = env.successes(pose(**change), pose())
    assert (bool(found["moderate"]), bool(found["strict"])) == (moderate, strict)
    swapped = env.successes(pose(), pose(**change))
    assert {key: bool(value) for key, value in swapped.items()} == {key: bool(value) for key, value in found.items()}


def test_strict_success_must_hold_for_three_states():
    env = PushT(obs_type="state", success="strict")
    _, info = env.reset(options={"state": pose(), "goal_state": pose((400, 400), (260, 256))})
    seen = [info["success_strict"]]
    rewards = []
    for _ in range(4):
        _, reward, terminated, _, info = env.step(np.zeros(2))
        assert terminated == info["success_strict"]
        assert not info["success_moderate"]
        seen.append(info["success_strict"])
        rewards.append(reward)
    assert seen == [False, False, True, True, True]
    assert rewards == [0.0] * 4, "the reward judges single states, as hindsight relabelling must"
    _, info = env.reset(options={"state": pose(), "goal_state": pose((400, 400), (260, 256))})
    assert not info["success_strict"], "the count begins again"


def test_success_that_is_interrupted_counts_from_zero():
    env = PushT(obs_type="state")
    # The agent pushes the block through the goal: at the goal for a state or two, then past it.
    env.reset(options={"state": pose((256, 420), (256, 256)), "goal_state": pose((50, 50), (256, 190))})
    held = [env.successes(env.get_state(), env._goal_state)["strict"]]
    strict = []
    for _ in range(12):
        info = env.step(np.array([0.0, -1.0]))[-1]
        held.append(bool(env.successes(info["state"], info["goal_state"])["strict"]))
        strict.append(info["success_strict"])
    assert 0 < sum(held) < 3
    assert not any(strict)


def test_rewards_are_vectorised_and_agree():
    env, rng = PushT(obs_type="state"), np.random.default_rng(0)
    goals = np.stack([env.sample_state(rng) for _ in range(60)])
    states = goals + np.pad(rng.normal(0, [6, 6, 6, 6, 0.15], (60, 5)), ((0, 0), (0, 5)))
    goal_task.check_rewards(PushT, states, goals)


def test_hindsight_replay_runs():
    goal_task.check_hindsight(PushT)


def test_bad_states_say_what_is_wrong():
    goal_task.check_options(
        PushT,
        {
            "agent": (pose((-40, 100)), "agent outside.*sample_state"),
            "block": (pose(block=(700, 100)), "block outside.*sample_state"),
            "speed": (pose(v_agent_x=9e3), "speed.*9000.*sample_state"),
            "spin": (pose(v_block_angle=-500), "spin.*500.*sample_state"),
        },
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_sampled_states_are_at_rest_and_touch_nothing(seed):
    env = PushT(obs_type="state")
    state = env.sample_state(np.random.default_rng(seed))
    env.validate_state(state)
    env.reset(options={"state": state})
    assert env.gap(state) > 0
    np.testing.assert_allclose(env.step(np.zeros(2))[-1]["state"], state, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(x=st.floats(-1, 1), y=st.floats(-1, 1), angle=st.floats(-20, 20))
def test_gap_is_the_distance_to_the_block(x, y, angle):
    env = PushT(obs_type="state")
    state = pose((256 + 200 * x, 256 + 200 * y), (256, 256), angle)
    # Every point of the T's two bars on a grid of 1 px.
    bars = [np.mgrid[-60:61, 0:31].reshape(2, -1).T, np.mgrid[-15:16, 0:121].reshape(2, -1).T]
    points = np.concatenate(bars)
    c, s = np.cos(angle), np.sin(angle)
    world = points @ np.array([[c, s], [-s, c]]) + [256, 256]
    nearest = np.linalg.norm(world - state[:2], axis=1).min() - 15
    gap = float(env.gap(state))
    assert gap <= nearest + 1e-9
    assert abs(gap - nearest) < 1 or gap < -14


# Images.


def coloured(frame: np.ndarray, colour: tuple[int, int, int], within: int = 30) -> np.ndarray:
    return (np.abs(frame.astype(int) - colour).max(axis=-1) <= within).astype(float)


@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi / 2, -2.5])
def test_image_shows_agent_and_block_where_they_are(angle):
    env = PushT()
    for agent, block in (((100.0, 380.0), (256.0, 200.0)), ((430.0, 60.0), (200.0, 330.0))):
        state = pose(agent, block, angle)
        frame = env.render_state(state, 256)
        rows, columns = np.argwhere(coloured(frame, (65, 105, 225))).T
        np.testing.assert_allclose([columns.mean() * 2 + 1, rows.mean() * 2 + 1], agent, atol=0.6)
        assert abs(len(rows) * 4 - np.pi * 15**2) < 70
        rows, columns = np.argwhere(coloured(frame, (119, 136, 153))).T
        # Centre of area of the T, which is not its centre of mass (upstream's is the mean of its bars' centres).
        area = np.array([0.0, (3600 * 15 + 2700 * 75) / 6300])
        offset = [np.cos(angle) * area[0] - np.sin(angle) * area[1], np.sin(angle) * area[0] + np.cos(angle) * area[1]]
        np.testing.assert_allclose([columns.mean() * 2 + 1, rows.mean() * 2 + 1], np.add(block, offset), atol=1.5)
        assert abs(len(rows) * 4 - 6300) < 400


def test_small_images_are_area_averages_of_large_ones():
    env, rng = PushT(), np.random.default_rng(0)
    for _ in range(10):
        state = env.sample_state(rng)
        small, large = env.render_state(state, 64).astype(float), env.render_state(state, 1024).astype(float)
        averaged = large.reshape(64, 16, 64, 16, 3).mean(axis=(1, 3))
        assert np.abs(small - averaged).mean() < 0.3
        assert np.abs(small - averaged).max() < 50


def test_a_fraction_of_a_pixel_is_seen():
    env = PushT()
    frames = [env.render_state(pose((100 + dx, 100), (256 + dx, 256))) for dx in (0, 2, 4)]
    assert (frames[0] != frames[1]).any()
    assert (frames[1] != frames[2]).any()


def test_agent_is_drawn_over_the_block_and_walls_are_grey():
    frame = PushT().render_state(pose((256, 270), (256, 256)), 256)
    assert coloured(frame, (65, 105, 225)).sum() * 4 > 600
    np.testing.assert_array_equal(frame[2, 128], [211, 211, 211])
    np.testing.assert_array_equal(frame[64, 64], [255, 255, 255])


def test_images():
    goal_task.check_images(PushT, pose(), np.array([1.0, 0.5]))


def test_render_shows_the_goal_to_people():
    env = PushT(obs_type="state", render_mode="rgb_array")
    env.reset(options={"state": pose(), "goal_state": pose((400, 400), (380, 120))})
    frame = env.render()
    green = coloured(frame, (144, 238, 144), 5)
    assert abs(green.sum() * (512 / 480) ** 2 - 6300) < 400


def test_several_open_at_once():
    goal_task.check_many(PushT)


def test_worker_processes():
    goal_task.check_workers(PushT, "fork")


def test_gym_make_with_a_budget():
    env = gym.make("wm/PushT-v0", obs_type="state", max_episode_steps=3)
    env.reset(seed=0)
    assert [env.step(np.zeros(2, np.float32))[3] for _ in range(3)] == [False, False, True]


def test_outline_lies_on_the_block_and_its_normals_point_inward():
    env = PushT(obs_type="state")
    points, normals = env.outline(spacing=10.0)
    states = np.zeros((len(points), 10))
    states[:, 2:4] = 256.0
    touching = env.block_centre(states) + points - env.agent_radius * normals
    for apart in (0.5, 0.0):
        states[:, :2] = touching - apart * normals
        assert np.allclose(env.gap(states), apart, atol=1e-6)
    states[:, :2] = touching + normals
    assert (env.gap(states) < 0).all()
