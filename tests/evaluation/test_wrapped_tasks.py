"""Recording and evaluating in environments that the library does not know: goals by replaying, floors, ends."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from dot_env import Dot
from gymnasium import spaces

from wm_agents import datasets, evaluation
from wm_agents.envs import NotRepeatableWarning, register_wrapped
from wm_agents.evaluation.environments import open_env

SIZE = 32


def registered(name, made=Dot, **options):
    env_id = f"dots/{name}-v0"
    register_wrapped(env_id, functools.partial(made, "rgb_array", **options), image_size=SIZE, goal_steps=12)
    return env_id


class Chaser:
    """Pushes the dot that it sees towards the dot of the goal image."""

    observation_space = spaces.Dict(
        {key: spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8) for key in ("pixels", "goal_pixels")}
    )

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        images = zip(observation["pixels"], observation["goal_pixels"], strict=True)
        gap = [middle(goal) - middle(now) for now, goal in images]
        return np.clip(np.array(gap, np.float32) / 4, -1, 1), None


def middle(image):
    rows, columns = np.nonzero(image[..., 0] > 100)
    return np.array([columns.mean(), rows.mean()])


def test_tasks_are_goals_of_held_out_rollouts():
    env_id = registered("tasks")
    tasks = evaluation.make_manifest(env_id, tasks=6, offset="random", budget=30)
    assert tasks == evaluation.make_manifest(env_id, tasks=6, offset="random", budget=30)
    assert tasks != evaluation.make_manifest(env_id, tasks=6, offset="random", budget=30, seed=1)
    assert tasks == evaluation.Manifest.from_json(tasks.to_json())
    assert (tasks.starts[:, 1] == 0).all()
    assert (tasks.starts[:, 0] == tasks.goals[:, 0]).all()
    assert ((tasks.goals[:, 1] >= 1) & (tasks.goals[:, 1] <= 12)).all()
    assert tasks.policy == "smooth-random"
    later = evaluation.make_manifest(env_id, tasks=6, offset=5, budget=30)
    assert (later.goals[:, 1] - later.starts[:, 1] == 5).all()
    assert later.starts[:, 1].any()


def test_goals_beyond_every_episode_are_refused():
    env_id = registered("brief", ends=8)
    with pytest.raises(ValueError, match="end too early for goals 9 steps away: use a smaller offset"):
        evaluation.make_manifest(env_id, tasks=2, offset=9, budget=30)


def test_an_agent_that_sees_the_way_beats_the_floors():
    env_id = registered("chased")
    tasks = evaluation.make_manifest(env_id, tasks=8, offset="random", budget=30)
    result = evaluation.evaluate(Chaser(), tasks, num_envs=3, video=2, progress=False)
    assert result.success_rate == 1
    assert result.floors["noop"].success_rate() == 0
    assert result.floors["random"].success_rate() < 0.7
    assert result.notes[0].startswith("success: numbers 0, 1 of the observation")
    assert len(evaluation.film_strip(result.recordings).axes) == 14
    short = dataclasses.replace(result.recordings[0], success_step=2)
    shown = [axes.get_title() for axes in evaluation.film_strip([short]).axes if axes.get_visible()]
    assert shown == ["step 0", "step 1", "step 2", "goal"], "no frame is shown twice"
    alone = evaluation.evaluate(Chaser(), tasks, num_envs=1, progress=False)
    assert alone.outcomes.to_dict() == result.outcomes.to_dict()


def test_an_environment_that_ends_ends_the_task():
    env_id = registered("ending", ends=14)
    tasks = evaluation.make_manifest(env_id, tasks=3, offset="random", budget=40)

    class Still(Chaser):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return np.zeros((len(observation["pixels"]), 2), np.float32), None

    result = evaluation.evaluate(Still(), tasks, progress=False)
    assert result.success_rate == 0
    assert [len(actions) for actions in result.actions] == [14, 14, 14]


def test_goals_that_doing_nothing_reaches_are_left_out():
    class Drifting(Dot):
        def step(self, action):
            return super().step(np.asarray(action) + np.array([0.5, 0.0]))

    env_id = registered("drifting", Drifting)
    tasks = evaluation.make_manifest(env_id, tasks=6, offset="random", budget=24)
    assert evaluation.floors(tasks)["noop"].success_rate() == 0


def test_a_seed_that_fixes_nothing_is_told():
    env_id = registered("unseeded", seeded=False)
    with pytest.warns(NotRepeatableWarning, match="do not repeat"):
        evaluation.make_manifest(env_id, tasks=2, offset="random", budget=10)


def test_episodes_are_recorded(monkeypatch, tmp_path):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env_id = registered("recorded", ends=9)
    options = {"episodes": 3, "steps": 20, "image_size": SIZE, "progress": False}
    data = datasets.collect(env_id, **options)
    assert data.name == "wm/dots/recorded-v0/smooth-random-v0"
    assert data.lengths.tolist() == [9, 9, 9]
    assert data.state_names == ("observation_0", "observation_1")
    env = open_env(env_id, image_size=SIZE)
    assert data.pixels.shape[1:] == env.observation_space["pixels"].shape
    again = datasets.collect(env_id, **options, name="other/recorded-v0", workers=2)
    assert again.provenance["sha256"] == data.provenance["sha256"]


def test_what_is_registered_by_an_id_is_recorded_in_several_processes(monkeypatch, tmp_path):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    register_wrapped("dots/pendulum-v0", "Pendulum-v1", image_size=SIZE)
    options = {"episodes": 2, "steps": 3, "image_size": SIZE, "progress": False}
    apart = datasets.collect("dots/pendulum-v0", **options, workers=2)
    here = datasets.collect("dots/pendulum-v0", **options, workers=1, name="other/pendulum-v0")
    assert apart.provenance["sha256"] == here.provenance["sha256"]


def test_episodes_of_one_action_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env_id = registered("short", ends=1)
    with pytest.raises(ValueError, match="end after one action"):
        datasets.collect(env_id, episodes=1, steps=5, image_size=SIZE, workers=1, progress=False)
