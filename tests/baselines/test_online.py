"""Online baselines: SB3 trains them; runs go on after a kill, without a pickle being opened."""

from __future__ import annotations

import dataclasses
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch

from wm_agents.baselines import ONLINE, Settings, load, make, settings, train
from wm_agents.baselines import online as module
from wm_agents.envs import ENV_IDS, register_wrapped
from wm_agents.evaluation import evaluate, make_manifest

REACHER = "wm/Reacher-v0"
UMAZE = "wm/PointMaze-UMaze-v0"
SHORT = "short/UMaze-v0"
TINY = {"policy_kwargs": {"net_arch": [8]}, "batch_size": 8}


@pytest.fixture(autouse=True)
def short_episodes():
    """A maze whose episodes end after ten steps, so that hindsight replay can begin early."""
    spec = gym.spec(UMAZE)
    gym.register(
        SHORT,
        spec.entry_point,
        max_episode_steps=10,
        kwargs=dict(spec.kwargs),
        additional_wrappers=spec.additional_wrappers,
    )
    yield
    gym.registry.pop(SHORT)


def tiny(name: str, **options) -> Settings:
    how = settings(name, SHORT)
    return dataclasses.replace(how, options={**how.options, **TINY, **options})


def test_every_task_has_settings_with_a_source():
    for env_id in ENV_IDS:
        for name in ONLINE:
            how = settings(name, env_id)
            assert how.source
            assert how.hindsight == name.endswith("-her")
            assert how.obs_type == ("pixels" if name.endswith("-pixels") else "state")
    assert settings("sac-her", REACHER).options["gamma"] == 0.95
    assert settings("sac-her", "wm/PushT-v0").options["batch_size"] == 2048
    with pytest.raises(ValueError, match="Did you mean 'sac-her'"):
        settings("sac-hr", REACHER)


@pytest.mark.parametrize("name", ["sac-her", "td3-her", "tqc-her", "ppo"])
def test_models_on_the_way_are_kept_and_act(name, tmp_path):
    if name == "tqc-her":
        pytest.importorskip("sb3_contrib")
    how = tiny(name, **({"n_steps": 8} if name == "ppo" else {}))
    points = train(name, SHORT, tmp_path, steps=40, points=2, how=how, device="cpu", progress=False)
    assert len(points) == 2
    assert 20 <= points[0].steps < points[1].steps
    assert points[1].steps >= 40
    assert 0 < points[0].seconds < points[1].seconds
    manifest = make_manifest(UMAZE, tasks=2, offset="random", budget=4)
    first, last = (evaluate(load(point.path, how, SHORT), manifest, progress=False) for point in points)
    assert any((one != other).any() for one, other in zip(first.actions, last.actions, strict=True))


def test_images_are_learned_from_too(tmp_path):
    env_kwargs = gym.spec(SHORT).kwargs
    env_kwargs["image_size"] = 40
    how = tiny("sac-pixels", train_freq=4, gradient_steps=1)
    points = train("sac-pixels", SHORT, tmp_path, steps=12, points=1, how=how, device="cpu", progress=False)
    assert set(load(points[0].path, how, SHORT).observation_space.spaces) == {"pixels", "goal_pixels"}


def test_a_killed_run_goes_on_from_its_last_save_without_opening_a_pickle(tmp_path, monkeypatch):
    save, restore = module._Saved.save, module._Saved.restore
    rows, found = [], []

    def killed(self, model, *rest):
        save(self, model, *rest)
        rows.append(model.replay_buffer.pos)
        raise RuntimeError("killed")

    def noted(self, model):
        restore(self, model)
        entropy = float(model.log_ent_coef.detach())
        found.append((model.num_timesteps, model._n_updates > 0, entropy != 0.0, model.replay_buffer.pos))

    def run(steps=48):
        return train("sac-her", SHORT, tmp_path, steps=steps, points=2, how=tiny("sac-her"), progress=False)

    monkeypatch.setattr(module._Saved, "save", killed)
    with pytest.raises(RuntimeError, match="killed"):
        run()
    monkeypatch.setattr(module._Saved, "save", save)
    monkeypatch.setattr(module._Saved, "restore", noted)
    monkeypatch.setattr("cloudpickle.loads", lambda *_: pytest.fail("a pickle was opened"))
    points = run()
    assert [point.steps for point in points] == [24, 48]
    assert found == [(24, True, True, rows[0])]
    assert run() == points, "a complete run is not trained again"
    assert len(found) == 1
    with pytest.raises(ValueError, match="another run"):
        run(50)


def test_the_replay_buffer_comes_back_as_it_was():
    model = make(tiny("sac-her"), SHORT, steps=25, device="cpu")
    model.learn(23)
    tensors, numbers = module.buffer_tensors(model.replay_buffer)
    other = make(tiny("sac-her"), SHORT, steps=25, device="cpu").replay_buffer
    module.fill_buffer(other, tensors, numbers)
    buffer = model.replay_buffer
    assert other.pos == buffer.pos
    np.testing.assert_array_equal(other.actions, buffer.actions)
    np.testing.assert_array_equal(other.observations["desired_goal"], buffer.observations["desired_goal"])
    assert (other.ep_length[:23] > 0).all(), "the unfinished episode counts as ended"
    assert isinstance(other.full, bool)
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())


def test_the_models_file_is_sb3s_own(tmp_path):
    points = train(
        "ppo",
        SHORT,
        tmp_path,
        steps=16,
        points=1,
        how=dataclasses.replace(tiny("ppo", n_steps=8), n_envs=2),
        progress=False,
    )
    with zipfile.ZipFile(points[0].path) as archive:
        assert {"data", "policy.pth"} <= set(archive.namelist())


@pytest.mark.parametrize(
    ("name", "env_id", "steps", "message"),
    [
        ("sac-her", SHORT, 5, "before it learns"),
        ("sac-her", "wrapped/CartPole", 40, r"wrapped/CartPole gives \['goal_pixels', 'pixels'\]"),
        ("sac-pixels", "wrapped/CartPole", 40, "takes continuous actions"),
        ("ppo", "CartPole-v1", 40, "CartPole-v1 cannot be made with obs_type='state'"),
        ("sac-her", REACHER, 10**9, "replay buffer of 1,000,000 transitions takes"),
    ],
)
def test_what_cannot_be_trained_is_said_before_training(name, env_id, steps, message, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 10_000}[name])
    if env_id.startswith("wrapped"):
        register_wrapped("wrapped/CartPole", "CartPole-v1")
    with pytest.raises(ValueError, match=message) as error:
        train(name, env_id, tmp_path / "refused", steps=steps, progress=False)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "refused").exists()
    gym.registry.pop("wrapped/CartPole", None)
