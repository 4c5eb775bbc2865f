"""Checkpoints: what ships, what is saved, what is damaged, and what is hostile."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.save_util import load_from_zip_file

import wm_agents
from wm_agents import CEMMPC, GCIDM, evaluation, list_checkpoints
from wm_agents.agents import loading
from wm_agents.checkpoint import Checkpoint, CheckpointError, load_heads, save_checkpoint, save_heads
from wm_agents.models import AssessmentConfig, AssessmentHead
from wm_agents.recipes import recipe
from wm_agents.registry import PLANNERS

pytest_plugins = ["trained"]

UMAZE = "wm/PointMaze-UMaze-v0"
SHIPPED = list_checkpoints()
LIBRARY = Path(loading.__file__).parent.parent / "checkpoints"


# What ships.


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_agent_loads_and_acts(name: str) -> None:
    agent = wm_agents.load(name, device="cpu")
    assert agent.name == name.partition("/")[2]
    assert agent.env_id.removeprefix("wm/").rpartition("-v")[0].lower() == name.partition("/")[0]
    env = gym.make(agent.env_id)
    agent = wm_agents.load(name, env=env, device="cpu")
    observation, _ = env.reset(seed=0)
    action, _ = agent.predict(observation)
    assert env.action_space.contains(action)
    assert {"seed", "command", "versions", "dataset"} <= set(agent.provenance)
    env.close()


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.endswith("gc-idm")])
def test_a_shipped_gc_idm_reaches_its_goals(name: str) -> None:
    agent = wm_agents.load(name, device="cpu")
    made = recipe(agent.env_id)
    manifest = evaluation.make_manifest(
        agent.env_id, tasks=8, offset=made.offset, budget=made.budget, seed=11, policy=made.policy
    )
    result = evaluation.evaluate(agent, manifest, num_envs=8, progress=False)
    solved, by_chance = (result.outcomes.moderate > 0).sum(), (result.floors["random"].moderate > 0).sum()
    assert solved >= (6 if made.task != "pusht" else by_chance + 2)  # there search is the better agent


def test_what_is_listed_is_there_and_nothing_else() -> None:
    files = {path.name for path in LIBRARY.glob("*.safetensors")}
    assert files == set(loading._digests())
    tasks = set(loading.shipped())
    assert {name.partition("/")[0] for name in SHIPPED} == tasks
    assert files - {f"{task}.safetensors" for task in tasks} <= {
        loading.CALIBRATION.format(task=task) for task in tasks
    }
    for name, digest in loading._digests().items():
        assert hashlib.sha256((LIBRARY / name).read_bytes()).hexdigest() == digest
    assert sum(path.stat().st_size for path in LIBRARY.glob("*.safetensors")) < 45e6


@pytest.fixture
def library(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-in for the package's checkpoints: one task, ``pointmaze-umaze``."""
    data = trained.file.read_bytes()
    (tmp_path / "pointmaze-umaze.safetensors").write_bytes(data)
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(data).hexdigest()}  pointmaze-umaze.safetensors\n")
    monkeypatch.setattr(loading.resources, "files", lambda _: tmp_path)
    return tmp_path


def test_agents_of_a_task_share_one_file(library: Path, trained: Any) -> None:
    assert list_checkpoints() == [f"pointmaze-umaze/{name}" for name in sorted({*PLANNERS, "gc-idm"})]
    search = wm_agents.load("pointmaze-umaze/cem-mpc", horizon=3, samples=40, device="cpu")
    policy = wm_agents.load("pointmaze-umaze/gc-idm", device="cpu")
    assert isinstance(search, CEMMPC)
    assert isinstance(policy, GCIDM)
    assert search.settings.horizon == 3
    assert search.env_id == policy.env_id == UMAZE
    assert torch.equal(next(search.world_model.parameters()), next(trained.world_model.parameters()))


def test_a_damaged_shipped_file_is_refused(library: Path) -> None:
    file = library / "pointmaze-umaze.safetensors"
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[-5] ^= 1
    for damaged in (bytes(flipped), good[:-1000], b""):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"pointmaze-umaze\.safetensors is missing or damaged: install"):
            wm_agents.load("pointmaze-umaze/gc-idm")
    file.unlink()
    with pytest.raises(CheckpointError, match="missing or damaged"):
        wm_agents.load("pointmaze-umaze/gc-idm")


def test_a_replaced_shipped_file_is_refused_though_it_is_whole(library: Path, trained: Any) -> None:
    agent = GCIDM(trained.world_model, inverse_dynamics=trained.agent.inverse_dynamics, horizon=1)
    agent.save(library / "pointmaze-umaze.safetensors")
    with pytest.raises(CheckpointError, match="missing or damaged"):
        wm_agents.load("pointmaze-umaze/gc-idm")


def test_unknown_names_say_what_exists(library: Path) -> None:
    cases = [
        ("pointmaze-umaze/gcidm", "Did you mean 'pointmaze-umaze/gc-idm'"),
        ("pointmaze-umase/gc-idm", "Did you mean 'pointmaze-umaze/gc-idm'"),
        ("pointmaze-umaze", "names a task: say which agent"),
        ("", "Known: pointmaze-umaze/cem"),
        ("quite/another", r"give the path of a \.safetensors or \.zip file"),
    ]
    for name, message in cases:
        with pytest.raises(ValueError, match=message):
            wm_agents.load(name)
    with pytest.raises(ValueError, match=r"already names the agent 'gc-idm': leave out agent='cem-mpc'"):
        wm_agents.load("pointmaze-umaze/gc-idm", agent="cem-mpc")


# Files.


def test_a_path_may_name_the_agent(trained: Any, tmp_path: Path) -> None:
    assert isinstance(wm_agents.load(trained.file), GCIDM)
    assert isinstance(wm_agents.load(str(trained.file), agent="cem-mpc", iterations=2), CEMMPC)
    assert isinstance(wm_agents.load(trained.file, agent="cem"), CEMMPC)
    with pytest.raises(ValueError, match="Unknown agent 'cem-mcp'"):
        wm_agents.load(trained.file, agent="cem-mcp")
    save_checkpoint(Checkpoint(trained.world_model), tmp_path / "model.safetensors")
    assert isinstance(wm_agents.load(tmp_path / "model.safetensors"), CEMMPC), "a bare world model can be searched"
    with pytest.raises(CheckpointError, match="fit one first"):
        wm_agents.load(tmp_path / "model.safetensors", agent="gc-idm")


def test_missing_files_are_named(tmp_path: Path) -> None:
    for name in ("nothing.safetensors", "nothing.zip"):
        with pytest.raises(CheckpointError, match=rf"there is no checkpoint file at .*{name}"):
            wm_agents.load(tmp_path / name)
        with pytest.raises(CheckpointError, match=name):
            GCIDM.load(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"nothing\.zip"):
        GCIDM.load(tmp_path / "nothing")


@pytest.mark.parametrize("suffix", [".safetensors", ".zip"])
def test_a_damaged_file_is_refused(suffix: str, trained: Any, tmp_path: Path) -> None:
    path = tmp_path / f"agent{suffix}"
    trained.agent.save(path)
    good = path.read_bytes()
    for position in (400, 2000, len(good) // 2, len(good) - 2000):
        damaged = bytearray(good)
        damaged[position] ^= 0x55
        path.write_bytes(bytes(damaged))
        with pytest.raises(CheckpointError, match=rf"agent{suffix}|agent\.safetensors"):
            wm_agents.load(path)
    for length in (0, 7, 300, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(CheckpointError):
            wm_agents.load(path)
    path.write_bytes(good)
    wm_agents.load(path)


# Hostile files.


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def hostile_zip(path: Path, trace: Path, **members: bytes) -> Path:
    pickled = base64.b64encode(cloudpickle.dumps(Evil(trace))).decode()
    data = {"policy_class": {":type:": "<class 'abc.ABCMeta'>", ":serialized:": pickled}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(data))
        archive.writestr("_stable_baselines3_version", "2.7.0")
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return path


def test_the_hostile_file_is_a_real_one(tmp_path: Path) -> None:
    load_from_zip_file(hostile_zip(tmp_path / "evil.zip", tmp_path / "executed"), device="cpu")
    assert (tmp_path / "executed").exists(), "the tests below prove nothing otherwise"


def test_no_archive_is_ever_unpickled(trained: Any, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    evil = hostile_zip(tmp_path / "evil.zip", trace)
    pickled = cloudpickle.dumps(Evil(trace))
    inside = hostile_zip(tmp_path / "inside.zip", trace, agent__safetensors=pickled)
    beside = hostile_zip(tmp_path / "beside.zip", trace, agent__safetensors=trained.file.read_bytes())
    bare, torch_file = tmp_path / "bare.safetensors", tmp_path / "torch.safetensors"
    bare.write_bytes(pickled)
    torch.save({"weights": torch.zeros(3), "more": Evil(trace)}, torch_file)
    for path in (evil, inside, bare, torch_file):
        for read in (wm_agents.load, GCIDM.load, CEMMPC.load):
            with pytest.raises(CheckpointError, match=path.stem if path.suffix != ".zip" else ".*"):
                read(path)
    assert isinstance(wm_agents.load(beside), GCIDM), "what is ours is read, what lies beside it is left alone"
    assert not trace.exists()


def test_an_agent_of_sb3_itself_gets_a_clear_error(tmp_path: Path) -> None:
    PPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, device="cpu").save(tmp_path / "ppo")
    with pytest.raises(CheckpointError, match=r"ppo\.zip is a zip archive without .*a model of Stable-Baselines3"):
        wm_agents.load(tmp_path / "ppo.zip")


def test_saved_weights_are_those_of_the_agent(trained: Any, tmp_path: Path) -> None:
    trained.agent.save(tmp_path / "agent")
    loaded = GCIDM.load(tmp_path / "agent", device="cpu")
    for mine, other in (
        (trained.world_model, loaded.world_model),
        (trained.agent.inverse_dynamics, loaded.inverse_dynamics),
    ):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in mine.state_dict().items())
    assert not loaded.world_model.training
    assert not loaded.inverse_dynamics.training
    assert not any(parameter.requires_grad for parameter in loaded.world_model.parameters())
    np.testing.assert_array_equal(loaded.action_space.high, [1, 1])


def test_a_calibration_lies_beside_its_checkpoint(library: Path, trained: Any) -> None:
    assert "assessment" not in wm_agents.load("pointmaze-umaze/gc-idm", device="cpu").heads
    head = AssessmentHead(AssessmentConfig(trained.world_model.spec.feature_size, agents=("gc-idm",), options=("{}",)))
    head.stamp(trained.world_model)
    file = library / "pointmaze-umaze.assessment.safetensors"
    save_heads({"assessment": head}, file)
    sums = library / "SHA256SUMS"
    sums.write_text(sums.read_text() + f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
    assert list(loading.shipped()) == ["pointmaze-umaze"], "a calibration is no task"
    agent = wm_agents.load("pointmaze-umaze/gc-idm", device="cpu")
    assert agent.heads["assessment"].config == head.config
    other = copy.deepcopy(trained.world_model)
    with torch.no_grad():
        for weights in other.encoder.parameters():
            weights.mul_(3.0).add_(0.1)
    with pytest.raises(CheckpointError, match="another world model"):
        load_heads(file, other)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="missing or damaged"):
        wm_agents.load("pointmaze-umaze/gc-idm")
