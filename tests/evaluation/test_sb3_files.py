"""Files of Stable-Baselines3 and sb3-contrib: refused unless trusted, and then evaluated as the model in memory."""

from __future__ import annotations

import base64
import json
import pickle
import zipfile

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import A2C, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from wm_agents import cli
from wm_agents.evaluation import Manifest, evaluate, is_sb3_file, load_sb3, make_manifest

UMAZE = "wm/PointMaze-UMaze-v0"


def small(**more):
    """Sizes of a policy; made anew, because SB3 writes into them."""
    return {"net_arch": [8], **more}


@pytest.fixture(scope="module")
def short() -> Manifest:
    return make_manifest(UMAZE, tasks=3, offset="random", budget=8, seed=1)


def state_env():
    return gym.make(UMAZE, obs_type="state")


def hindsight() -> SAC:
    buffer = {"n_sampled_goal": 4, "goal_selection_strategy": "future"}
    return SAC(
        "MultiInputPolicy", state_env(), replay_buffer_class=HerReplayBuffer, replay_buffer_kwargs=buffer,
        buffer_size=1000, policy_kwargs=small(), seed=0,
    )  # fmt: skip


def contrib(name: str, policy: str = "MultiInputPolicy", **options):
    kind = getattr(pytest.importorskip("sb3_contrib"), name)
    return kind(policy, state_env(), policy_kwargs=small(**options.pop("sizes", {})), seed=0, **options)


MODELS = {
    "SAC": hindsight,
    "TD3": lambda: TD3("MultiInputPolicy", state_env(), buffer_size=10, policy_kwargs=small(), seed=0),
    "PPO": lambda: PPO("MultiInputPolicy", state_env(), policy_kwargs=small(), seed=0),
    "A2C": lambda: A2C("MultiInputPolicy", state_env(), policy_kwargs=small(), seed=0),
    "TQC": lambda: contrib("TQC", buffer_size=10),
    "TRPO": lambda: contrib("TRPO"),
    "RecurrentPPO": lambda: contrib("RecurrentPPO", "MultiInputLstmPolicy", sizes={"lstm_hidden_size": 3}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_trusted_file_acts_like_its_model(name, short, tmp_path):
    model = MODELS[name]()
    model.save(tmp_path / "model")
    found = load_sb3(tmp_path / "model.zip", trust=True, device="cpu")
    assert type(found).__name__ == name
    runs = [evaluate(agent, short, num_envs=2, progress=False).paths for agent in (model, found)]
    for path, same in zip(*runs, strict=True):
        np.testing.assert_allclose(path, same, atol=1e-6)


def test_images_are_given_in_the_size_that_a_model_was_trained_on(short, tmp_path):
    env = gym.make(UMAZE, image_size=40)
    PPO("MultiInputPolicy", env, n_steps=2, batch_size=2, policy_kwargs=small(), seed=0).save(tmp_path / "eyes.zip")
    found = load_sb3(tmp_path / "eyes.zip", trust=True)
    assert evaluate(found, short, progress=False).num_envs == 3


class Trap:
    """A pickle that leaves a mark where it is opened."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return self.mark.touch, ()


def test_without_trust_nothing_is_executed(tmp_path):
    mark = tmp_path / "mark"
    trap = {":type:": "x", ":serialized:": base64.b64encode(pickle.dumps(Trap(mark))).decode()}
    path = tmp_path / "trap.zip"
    with zipfile.ZipFile(path, "w") as archive:
        policy = {**trap, "__module__": "stable_baselines3.sac.policies"}
        archive.writestr("data", json.dumps({"policy_class": policy, "_last_obs": trap}))
        archive.writestr("policy.pth", b"")
    assert is_sb3_file(path)
    with pytest.raises(ValueError, match="--trust") as refused:
        load_sb3(path)
    assert "\n" not in str(refused.value)
    assert not mark.exists()
    with pytest.raises(ValueError, match=r"trap.zip cannot be opened as SAC"):
        load_sb3(path, trust=True)
    assert mark.exists()


def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path):
    path = tmp_path / "own.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps({"policy_class": {"__module__": "mine.policies"}}))
        archive.writestr("policy.pth", b"")
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("data", "{")
        archive.writestr("policy.pth", b"")
    (tmp_path / "text.zip").write_text("no archive")
    for call, message in (
        (lambda: load_sb3(path, trust=True), "which algorithm"),
        (lambda: load_sb3(path, trust=True, algorithm="SAK"), "Did you mean 'SAC'"),
        (lambda: load_sb3(damaged, trust=True), "damaged"),
        (lambda: load_sb3(tmp_path / "text.zip", trust=True), "no model of Stable-Baselines3"),
        (lambda: load_sb3(tmp_path / "none.zip", trust=True), "there is no file"),
        (lambda: evaluate(str(path), make_manifest(UMAZE, tasks=1, offset="random", budget=5)), "load_sb3"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def normalised(tmp_path_factory):
    """PPO and SAC trained under VecNormalize, as files, with their statistics."""
    folder = tmp_path_factory.mktemp("normalised")
    for name, kind, options in (
        ("ppo", PPO, {"n_steps": 16, "batch_size": 16}),
        ("sac", SAC, {"learning_starts": 1000, "buffer_size": 100}),
    ):
        venv = VecNormalize(make_vec_env(UMAZE, env_kwargs={"obs_type": "state"}))
        kind("MultiInputPolicy", venv, policy_kwargs=small(), seed=0, **options).learn(16).save(folder / name)
        venv.save(str(folder / f"{name}.pkl"))
    return folder


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_statistics_of_vec_normalize_come_with_the_model(name, normalised, short):
    model = load_sb3(normalised / f"{name}.zip", trust=True, vec_normalize=normalised / f"{name}.pkl")
    assert "normalised with the statistics" in evaluate(model, short, progress=False).notes[0]


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_statistics_that_are_missing_are_missed(name, normalised, short):
    model = load_sb3(normalised / f"{name}.zip", trust=True)
    with pytest.warns(UserWarning, match="trained under VecNormalize"):
        result = evaluate(model, short, progress=False)
    assert "raw observations" in result.notes[0]


def test_other_files_are_no_statistics(normalised, tmp_path):
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1]))
    for file, message in ((tmp_path / "list.pkl", "holds a list"), (normalised / "ppo.zip", "cannot be opened")):
        with pytest.raises(ValueError, match=message):
            load_sb3(normalised / "ppo.zip", trust=True, vec_normalize=file)


def test_a_class_a_path_without_suffix_and_statistics_in_memory_are_taken(tmp_path, short):
    class Mine(PPO):
        """A user's algorithm."""

    venv = VecNormalize(make_vec_env(UMAZE, env_kwargs={"obs_type": "state"}))
    PPO("MultiInputPolicy", venv, n_steps=2, batch_size=2, policy_kwargs=small(), seed=0).save(tmp_path / "mine")
    assert is_sb3_file(tmp_path / "mine")
    found = load_sb3(tmp_path / "mine", trust=True, algorithm=Mine, vec_normalize=venv)
    assert type(found) is Mine
    assert "statistics" in evaluate(found, short, progress=False).notes[0]


def test_the_command_evaluates_a_trusted_file(tmp_path, monkeypatch, capsys):
    file = tmp_path / "mine.zip"
    hindsight().save(file)

    def command(*words: str) -> None:
        monkeypatch.setattr("sys.argv", ["wm-agents", "evaluate", str(file), *words])
        cli.main()

    for words, message in (
        (["--task", UMAZE], "--trust"),
        (["--trust"], "--task"),
        (["--trust", "--task", UMAZE, "--options", "horizon=3"], "--options are not"),
    ):
        with pytest.raises(SystemExit):
            command(*words)
        assert message in capsys.readouterr().err
    command("--trust", "--task", UMAZE, "--tasks", "2", "--budget", "5", "--json", str(tmp_path / "found.json"))
    assert json.loads((tmp_path / "found.json").read_text())["agent"] == "mine (SAC)"
