"""What Stable-Baselines3's users do out of habit works, or is refused with a reason."""

from __future__ import annotations

import functools
import os
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import EvalCallback, StopTrainingOnNoModelImprovement
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
from tiny_agents import AGENTS, act, images, tiny_heads

import wm_agents
from wm_agents.agents import GCIDM, list_checkpoints
from wm_agents.agents.fitting import AnotherTaskWarning

pytest_plugins = ["tiny_agents"]
UMAZE, REACHER = "wm/PointMaze-UMaze-v0", "wm/Reacher-v0"


class Small(gym.Env):
    """An environment that fits the tiny world model."""

    def __init__(self):
        image = spaces.Box(0, 255, (16, 16, 3), np.uint8)
        self.observation_space = spaces.Dict(pixels=image, goal_pixels=image)
        self.action_space = spaces.Box(np.float32([-1, -0.5]), np.float32([0.5, 2]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {key: value[0] for key, value in images(1).items()}, {}

    def step(self, action):
        return self.reset()[0], 0.0, False, False, {}


@pytest.fixture(scope="module", autouse=True)
def small_id():
    for name in ("tests/Small-v0", "tests/Other-v0"):
        gym.register(name, Small, max_episode_steps=5)
    yield
    for name in ("tests/Small-v0", "tests/Other-v0"):
        del gym.registry[name]


# Environments


def test_environments_may_be_given_by_id_and_are_monitored(build):
    agent = build("gc-idm", env="tests/Small-v0")
    assert agent.get_env().num_envs == 1
    assert agent.get_env().env_is_wrapped(Monitor) == [True]
    agent.set_env("tests/Small-v0")
    assert agent.get_env().get_attr("spec")[0].id == "tests/Small-v0"
    vec = VecMonitor(DummyVecEnv([lambda: gym.make("tests/Small-v0")] * 3))
    agent.set_env(vec)
    assert agent.get_env() is vec
    assert agent.n_envs == 3
    for env in (None, 3, gym.make_vec("CartPole-v1", num_envs=2)):
        with pytest.raises(ValueError, match="env must be an environment, its id, or a VecEnv"):
            agent.set_env(env)
    with pytest.raises(ValueError, match=r"env='tests/Smal-v0' cannot be made: .* Did you mean"):
        agent.set_env("tests/Smal-v0")
    assert agent.get_env() is vec


def warned(act):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        act()
    return [w for w in said if w.category is AnotherTaskWarning]


ENVS = {
    "id": (lambda name: name, True),
    "env": (gym.make, True),
    "wrapped": (lambda name: gym.wrappers.TimeLimit(Monitor(gym.make(name)), 3), True),
    "vec": (lambda name: DummyVecEnv([lambda: gym.make(name)] * 2), True),
    "vec monitor": (lambda name: VecMonitor(DummyVecEnv([lambda: gym.make(name)])), True),
    "no spec": (lambda name: Small(), False),
}


@pytest.mark.parametrize("how", ENVS)
def test_an_environment_of_another_task_is_warned_of_once(how, build, tmp_path):
    make, known = ENVS[how]
    agent = build("gc-idm")
    agent.env_id = "some_module:tests/Small-v0"
    agent.save(tmp_path / "agent")
    for task, count in (("tests/Small-v0", 0), ("tests/Other-v0", int(known))):
        for use in (
            lambda env: GCIDM.load(tmp_path / "agent", env=env),
            lambda env: wm_agents.load(tmp_path / "agent", env=env),
            agent.set_env,
        ):
            said = warned(functools.partial(use, make(task)))
            assert len(said) == count
            assert all("trained for tests/Small-v0 and now acts in tests/Other-v0" in str(w.message) for w in said)


def test_umaze_on_reacher_is_warned_of():
    assert len(warned(lambda: wm_agents.load("pointmaze-umaze/gc-idm", env=gym.make(REACHER)))) == 1
    assert not warned(lambda: wm_agents.load("pointmaze-umaze/gc-idm", env=gym.make(f"wm_agents:{UMAZE}")))


# Parameters


@pytest.mark.parametrize("name", AGENTS)
def test_parameters_go_from_agent_to_agent(name, build, tiny, world_model, tmp_path):
    model = world_model(seed=2)
    other = build(name, world_model=model, heads=tiny_heads(model, seed=2))
    other.save(tmp_path / "other")
    expected = act(other)
    for given in (other.get_parameters(), tmp_path / "other", str(tmp_path / "other.zip")):
        fresh = world_model()
        used = {head: tiny_heads(fresh)[head] for head in AGENTS[name][2]}
        agent = build(name, world_model=fresh, heads=used)
        before = act(agent)
        with pytest.raises(ValueError, match="these weights are not this agent's"):
            agent.set_parameters({"policy": {"nothing": torch.zeros(1)}})
        np.testing.assert_array_equal(act(agent), before)
        agent.set_parameters(given)
        np.testing.assert_allclose(act(agent), expected, atol=1e-6)


def test_parameters_that_do_not_fit_the_heads_are_refused(build, world_model):
    model = world_model()
    agent = build("cem", world_model=model, heads=tiny_heads(model))
    before = act(agent)
    stranger = build("cem", world_model=world_model(seed=1), heads=[])
    with pytest.raises(ValueError, match="made on another world model"):
        agent.set_parameters(stranger.get_parameters())
    np.testing.assert_array_equal(act(agent), before)


# Files


@pytest.mark.parametrize("name", ["a b", "ünï/çødé", "x" * 240, "agent_v1.5", "best_model"])
@pytest.mark.parametrize("suffix", ["", ".zip", ".safetensors"])
@pytest.mark.parametrize("kind", [str, Path])
def test_names_of_files(name, suffix, kind, build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agent = build("gc-idm")
    agent.save(kind(name + suffix))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.relative_to(tmp_path) for path in written] == [Path(name + (suffix or ".zip"))]
    for given in (name, name + suffix, written[0]):
        for load in (GCIDM.load, wm_agents.load):
            np.testing.assert_array_equal(act(load(kind(given), device="cpu")), act(agent))


def test_equal_agents_are_equal_files(build, tmp_path):
    for name in ("one", "two"):
        build("gc-idm").save(tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_failed_save_keeps_the_old_file(build, tmp_path, monkeypatch):
    agent = build("gc-idm")
    for name in ("agent.zip", "agent.safetensors"):
        agent.save(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    agent.provenance = {"thing": object()}
    with pytest.raises(TypeError, match="cannot be stored"):
        agent.save(tmp_path / "agent.zip")

    def denied(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    agent.provenance = {}
    monkeypatch.setattr(os, "replace", denied)
    for name in before:
        with pytest.raises(PermissionError):
            agent.save(tmp_path / name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_sb3s_arguments_of_load(build, tmp_path, capsys):
    build("gc-idm").save(tmp_path / "agent")
    for load in (GCIDM.load, wm_agents.load):
        agent = load(tmp_path / "agent", print_system_info=True, custom_objects=None, force_reset=True, device="cpu")
        assert "Stable-Baselines3" in capsys.readouterr().out
        np.testing.assert_array_equal(act(agent), act(build("gc-idm")))
        assert load(tmp_path / "agent", custom_objects={"lr_schedule": 0.0, "seed": 5}, device="cpu").seed == 5


def test_what_a_file_has_no_say_in(build, tmp_path):
    agent = build("gc-idm")
    agent.stored_options = {}
    agent.options = lambda: {
        "env": "CartPole-v1",
        "tensorboard_log": str(tmp_path / "log"),
        "device": "meta",
        "seed": 5,
    }
    agent.save(tmp_path / "agent")
    loaded = wm_agents.load(tmp_path / "agent", device="cpu")
    assert (loaded.get_env(), loaded.tensorboard_log, loaded.device.type, loaded.seed) == (None, None, "cpu", 5)
    assert not (tmp_path / "log").exists()


def test_an_agent_leaves_no_files_behind(build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    act(build("cem"), steps=2)
    assert not list(tmp_path.iterdir())
    logger = configure(None, [])
    agent = build("cem")
    agent.set_logger(logger)
    assert agent.logger is logger


# Names


def test_a_task_alone_is_no_agent_but_a_file_may_be(build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"names a task: say which agent, for example .*pointmaze-umaze/gc-idm"):
        wm_agents.load("pointmaze-umaze")
    agent = build("cem")
    for name in ("pointmaze-umaze/gc-idm", "pointmaze-umaze/gc-idm.safetensors", "pointmaze-umaze/mine", "pusht"):
        agent.save(name)
    (tmp_path / "tworoom" / "gc-idm").mkdir(parents=True)
    assert wm_agents.load("pointmaze-umaze/gc-idm").env_id == UMAZE, "what ships is not shadowed"
    assert wm_agents.load("tworoom/gc-idm").name == "gc-idm"
    assert wm_agents.load("pusht", agent="gc-idm").env_id == "wm/PushT-v0"
    for path in ("pointmaze-umaze/gc-idm.zip", "pointmaze-umaze/gc-idm.safetensors", "pointmaze-umaze/mine", "pusht"):
        assert wm_agents.load(path).world_model.spec.image_size == 16, path
    assert wm_agents.load(Path("pusht")).world_model.spec.image_size == 16


@pytest.mark.parametrize("name", ["", ".", "/", "..", "no/such", "gc-idm", "pointmaze-umaze/", "pointmaze-umaze/gcidm"])
def test_unknown_names_are_refused_in_words(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"Unknown agent|names a task"):
        wm_agents.load(name)


def test_aliases_of_agents():
    assert wm_agents.load("pointmaze-umaze/cem-mpc").name == "cem"
    assert wm_agents.load("pointmaze-umaze", agent="cem-mpc").name == "cem"
    assert wm_agents.load("pointmaze-umaze/cem", agent="cem-mpc").name == "cem"
    with pytest.raises(ValueError, match="already names the agent 'gc-idm': leave out agent='cem'"):
        wm_agents.load("pointmaze-umaze/gc-idm", agent="cem")
    assert "pointmaze-umaze/cem" in list_checkpoints()
    assert "pointmaze-umaze/cem-mpc" not in list_checkpoints()


def test_callbacks_that_stop_write_where_sb3s_users_look(build, tmp_path):
    agent = build("gc-idm", env="tests/Small-v0")
    stop = StopTrainingOnNoModelImprovement(max_no_improvement_evals=1, verbose=0)
    callback = EvalCallback(
        DummyVecEnv([lambda: Monitor(gym.make("tests/Small-v0"))]),
        n_eval_episodes=1,
        eval_freq=1,
        callback_after_eval=stop,
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    hooks = agent._init_callback(callback)
    hooks.on_training_start({}, {})
    assert [hooks.on_step() for _ in range(3)] == [True, True, False]
    assert (tmp_path / "best_model.zip").is_file()
    np.testing.assert_array_equal(act(GCIDM.load(tmp_path / "best_model", device="cpu")), act(agent))
