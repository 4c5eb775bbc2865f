"""Agents of other libraries: states of any layout, normalised observations, environments without goals, long ids."""

from __future__ import annotations

import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from chaser import UMAZE

from wm_agents.agents.fitting import AnotherTaskWarning
from wm_agents.evaluation import Manifest, evaluate, floors, make_manifest

pytest_plugins = ["chaser"]


@pytest.fixture(scope="module")
def short() -> Manifest:
    return make_manifest(UMAZE, tasks=7, offset="random", budget=40, seed=1)


class Recurrent:
    """Heads for the goal, and checks that its memory follows the environments; ``layout`` shapes the memory."""

    def __init__(self, layout: str) -> None:
        self.layout = layout
        self.observation_space = gym.make(UMAZE, obs_type="state").observation_space

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        goal = observation["desired_goal"].astype(np.float64)
        if state is not None:
            before = self.unpack(state)
            np.testing.assert_array_equal(before[~episode_start], goal[~episode_start])
        actions = np.clip(6 * (goal - observation["achieved_goal"]), -1, 1).astype(np.float32)
        return actions, self.pack(goal)

    def pack(self, goal):
        if self.layout == "dict":
            return {"goal": goal}
        if self.layout == "nested":
            return ((goal.T,), [goal])
        layers = {"rows": None, "one layer": 1, "two layers": 2, "three layers": 3}[self.layout]
        memory = goal if layers is None else np.repeat(goal[None], layers, axis=0)
        return memory, memory.copy()

    def unpack(self, state):
        if self.layout == "dict":
            return state["goal"]
        if self.layout == "nested":
            return state[1][0]
        return state[0] if self.layout == "rows" else state[0][-1]


@pytest.mark.parametrize("num_envs", [1, 2, 3])
@pytest.mark.parametrize("layout", ["rows", "one layer", "two layers", "three layers", "dict", "nested"])
def test_states_of_any_layout_follow_their_environments(short, layout, num_envs):
    expected = evaluate(Recurrent("rows"), short, num_envs=1, progress=False)
    assert len({len(path) for path in expected.paths}) > 1, "tasks must end at different steps"
    found = evaluate(Recurrent(layout), short, num_envs=num_envs, progress=False)
    np.testing.assert_array_equal(found.outcomes.moderate, expected.outcomes.moderate)
    for path, same in zip(found.paths, expected.paths, strict=True):
        np.testing.assert_array_equal(path, same)


@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent_ppo_is_evaluated_whatever_the_number_of_environments(short, layers):
    contrib = pytest.importorskip("sb3_contrib")
    env = gym.make(UMAZE, obs_type="state")
    sizes = {"n_lstm_layers": layers, "lstm_hidden_size": 3, "net_arch": [8]}
    agent = contrib.RecurrentPPO("MultiInputLstmPolicy", env, n_steps=8, policy_kwargs=sizes, seed=0)
    runs = [evaluate(agent, short, num_envs=n, progress=False) for n in (1, 2, 3)]
    for other in runs[1:]:
        for path, same in zip(other.paths, runs[0].paths, strict=True):
            np.testing.assert_allclose(path, same, atol=1e-4)


def normalised_ppo(**options):
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    venv = VecNormalize(make_vec_env(UMAZE, env_kwargs={"obs_type": "state"}), **options)
    agent = PPO("MultiInputPolicy", venv, n_steps=16, batch_size=16, seed=0)
    agent.learn(16)
    return agent, venv


def observations_of(agent, manifest):
    """Return the first observation that the agent sees, and the result."""
    seen, predict = [], agent.predict
    agent.predict = lambda observation, *rest, **options: (
        seen.append(observation),
        predict(observation, *rest, **options),
    )[1]
    return (result := evaluate(agent, manifest, progress=False)) and seen[0], result


def test_observations_are_normalised_as_in_training(short):
    agent, venv = normalised_ppo()
    venv.obs_rms["observation"].mean[:] = 100.0
    before = venv.obs_rms["observation"].count
    seen, result = observations_of(agent, short)
    assert seen["observation"].max() == -venv.clip_obs
    assert venv.obs_rms["observation"].count == before, "statistics belong to the training"
    assert "VecNormalize" in result.to_dict()["notes"][0]


def test_rewards_alone_leave_observations_as_they_are(short):
    agent, _ = normalised_ppo(norm_obs=False)
    seen, result = observations_of(agent, short)
    np.testing.assert_allclose(seen["observation"][0], short.starts[0], atol=1e-5)
    assert result.notes == []


def test_statistics_that_do_not_fit_are_named(short):
    agent, venv = normalised_ppo()
    venv.obs_rms["observation"].mean = np.zeros(9)
    with pytest.warns(UserWarning, match="not normalised"):
        evaluate(agent, short, progress=False)


def test_an_agent_without_normalisation_is_left_in_peace(short):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluate(Recurrent("rows"), short, progress=False).notes == []


def test_observations_of_other_shapes_are_named(short):
    class Stacked(Recurrent):
        def __init__(self, shape):
            images = gym.spaces.Box(0, 255, shape, np.uint8)
            self.observation_space = gym.spaces.Dict({"pixels": images, "goal_pixels": images})

    for shape in ((64, 64, 12), (12, 64, 64)):
        with pytest.raises(ValueError, match="without stacked frames"):
            evaluate(Stacked(shape), short, progress=False)
    agent = Recurrent("rows")
    agent.observation_space = gym.make("wm/PushT-v0", obs_type="state").observation_space
    with pytest.raises(ValueError, match="the task it was trained on"):
        evaluate(agent, short, progress=False)


def test_actions_and_tasks_other_than_those_of_the_training_are_noticed(short):
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv

    def model(env):
        return PPO("MultiInputPolicy", env, n_steps=2, batch_size=2, seed=0)

    env = gym.make(UMAZE, obs_type="state")
    with pytest.raises(ValueError, match="without wrappers that change actions"):
        evaluate(model(gym.wrappers.RescaleAction(env, np.float32(-0.5), np.float32(0.5))), short, progress=False)
    with pytest.warns(AnotherTaskWarning, match="trained for wm/Reacher-v0 and now acts in wm/PointMaze-UMaze-v0"):
        evaluate(model(gym.make("wm/Reacher-v0", obs_type="state")), short, progress=False)
    workers = {"vec_env_cls": SubprocVecEnv, "vec_env_kwargs": {"start_method": "fork"}}
    closed = model(make_vec_env(UMAZE, 2, env_kwargs={"obs_type": "state"}, **workers))
    closed.env.close()
    assert evaluate(closed, short, progress=False).notes == []


def test_long_ids_import_their_module(tmp_path, monkeypatch):
    (tmp_path / "rooms_of_mine.py").write_text(
        "import gymnasium as gym\n"
        "gym.register('mine/Room-v0', 'wm_agents.envs.pointmaze:PointMaze', max_episode_steps=50,\n"
        "             kwargs=dict(gym.spec('wm/PointMaze-UMaze-v0').kwargs))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    manifest = make_manifest("rooms_of_mine:mine/Room-v0", tasks=2, offset=10, budget=5)
    assert "rooms_of_mine" in sys.modules
    assert set(floors(manifest)) == {"random", "noop"}
    assert evaluate(Recurrent("rows"), manifest, progress=False).to_dict()["task"] == "mine/room-v0"
    known = make_manifest(f"wm_agents:{UMAZE}", tasks=2, offset=10, budget=5)
    np.testing.assert_array_equal(known.starts, make_manifest(UMAZE, tasks=2, offset=10, budget=5).starts)
    for wrong, message in (("no_such_module:a/B-v0", "cannot import the module"), (f"wm_agents:{UMAZE}9", "Did you")):
        with pytest.raises(ValueError, match=message) as error:
            make_manifest(wrong, tasks=2)
        assert "\n" not in str(error.value)
