"""What holds for every stage of training, whatever it trains."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from every_learner import SHORT, STAGES, tiny_gc_idm, tiny_world_model, train
from short_runs import assert_same_weights

from wm_agents.registry import HEADS, LEARNERS
from wm_agents.tensorfile import CheckpointError, read_tensors
from wm_agents.training import DivergedError, PredictorTrainingConfig, learner_of, train_head, train_predictor
from wm_agents.training.graph import GraphLearner
from wm_agents.training.learner import Learner

pytest_plugins = ["trained"]
pytestmark = pytest.mark.filterwarnings("ignore:latents have collapsed")  # after 6 steps

every_stage = pytest.mark.parametrize("name", STAGES)
every_loop = pytest.mark.parametrize("name", [name for name in STAGES if name != "graph"])
every_latent_stage = pytest.mark.parametrize("name", [name for name in STAGES if name != "world-model"])


@pytest.fixture(scope="module")
def data(small_dataset: Any) -> Any:
    """Eight episodes, one of them held out."""
    names = ("starts", "lengths", "episode_ids")
    return dataclasses.replace(small_dataset, **{name: getattr(small_dataset, name)[:8] for name in names})


@pytest.fixture(scope="module")
def model(data: Any) -> Any:
    return tiny_world_model(data)


@pytest.fixture(autouse=True, scope="module")
def _small_validations() -> Any:
    """Validations on fewer samples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wm_agents.training.learner.VALIDATION_SAMPLES", 64)
        yield


def test_every_shipped_stage_is_tested_here() -> None:
    trained = [name for name in HEADS if HEADS.get(name).learner is not None]
    names = {*trained, *LEARNERS} - {"action-maps"}  # test_video.py has it
    assert {name for name in names if learner_of(name).__module__.startswith("wm_agents.")} == set(STAGES)
    with pytest.raises(ValueError, match=r"Unknown stage of training 'world-modle'. Did you mean 'world-model'"):
        learner_of("world-modle")


# The same arguments give the same weights.


@every_stage
def test_two_threads_train_the_same_weights_every_time(name: str, model: Any, data: Any) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, again = (train(name, model, data, {"batch_size": 512} if name == "gc-idm" else None) for _ in "12")
    finally:
        torch.set_num_threads(before)
    assert_same_weights(first, again)


@every_loop
def test_a_stopped_run_goes_on_to_the_uninterrupted_weights(name: str, model: Any, data: Any, tmp_path: Path) -> None:
    whole = train(name, model, data)
    stopped = train(name, model, data, run_dir=tmp_path, callback=lambda _, step: step < 2)
    header = read_tensors(tmp_path / "training" / f"{name}.safetensors")[1]
    assert (header["step"], header["finished"]) == (2, False)
    torch.rand(3)
    resumed = train(name, model, data, run_dir=tmp_path)
    assert_same_weights(whole, resumed)
    assert any(not torch.equal(a, b) for a, b in zip(stopped.parameters(), resumed.parameters(), strict=True))
    assert read_tensors(tmp_path / "training" / f"{name}.safetensors")[1]["finished"]
    assert_same_weights(whole, train(name, model, data, run_dir=tmp_path))


@every_stage
def test_the_callers_modes_change_nothing(name: str, model: Any, data: Any) -> None:
    heads = {"gc-idm": tiny_gc_idm()}
    expected = train(name, model, data, heads=heads)
    data = dataclasses.replace(data)  # whose frames are not encoded yet
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            found = train(name, model, data, heads=heads)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert not torch.are_deterministic_algorithms_enabled()
    assert_same_weights(expected, found)


def test_dropout_is_on_from_the_first_step(model: Any, data: Any) -> None:
    def first_loss(dropout: float) -> float:
        given = copy.deepcopy(model)
        for part in given.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = dropout
        training = PredictorTrainingConfig(**{**SHORT, "steps": 1}, blocks=3)
        return train_predictor(given, data, training, progress=False)[1]["train/predictor"][0][1]

    assert first_loss(0.9) != first_loss(0.0)


# What is given stays as it was.


@every_latent_stage
def test_what_is_given_is_not_changed(name: str, data: Any) -> None:
    given, head = tiny_world_model(data), tiny_gc_idm()
    given.train()
    given.encoder.eval()
    given.predictor.requires_grad_(False)
    head.train()
    parts = [*given.modules(), *head.modules()]
    modes = [part.training for part in parts]
    flags = [weight.requires_grad for part in (given, head) for weight in part.parameters()]
    before = copy.deepcopy(given), copy.deepcopy(head)
    made = train(name, given, data, heads={"gc-idm": head})
    assert [part.training for part in parts] == modes
    assert [weight.requires_grad for part in (given, head) for weight in part.parameters()] == flags
    assert_same_weights(before[0], given)
    assert_same_weights(before[1], head)
    assert made not in (given, head)
    assert not any(part.training for part in made.modules())


# A run in the directory of another is refused.


@every_loop
def test_a_run_that_depends_on_other_weights_or_data_is_refused(
    name: str, model: Any, data: Any, tmp_path: Path
) -> None:
    train(name, model, data, run_dir=tmp_path)
    subset = data.split(0.5)[0]
    with pytest.raises(CheckpointError, match=r"differs in data \("):
        train(name, model, subset, run_dir=tmp_path)
    if name != "world-model":
        with pytest.raises(CheckpointError, match=r"differs in world model \("):
            train(name, tiny_world_model(data, seed=1), data, run_dir=tmp_path)
    if name == "imagination":
        with pytest.raises(CheckpointError, match=r"differs in gc-idm \("):
            train(name, model, data, run_dir=tmp_path, heads={"gc-idm": tiny_gc_idm(seed=1)})
    else:
        train(name, model, data, run_dir=tmp_path)  # what it does not read may differ


def test_a_head_that_is_missing_or_of_another_world_model_is_named(model: Any, data: Any) -> None:
    with pytest.raises(ValueError, match="imagination reads the head 'gc-idm': train it first"):
        train("imagination", model, data, heads={})
    stranger = tiny_gc_idm()
    stranger.fingerprint.add_(1.0)
    with pytest.raises(ValueError, match="gc-idm head was made on another world model"):
        train("imagination", model, data, heads={"gc-idm": stranger})


@pytest.mark.parametrize("name", ["predictor", "imagination"])
def test_a_network_that_is_trained_further_keeps_its_shape(name: str, model: Any, data: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} trains a network further"):
        train_head(name, model, data, STAGES["gc-idm"][0], heads={"gc-idm": tiny_gc_idm()}, progress=False)


def test_a_world_model_is_not_trained_on_latents(model: Any, data: Any) -> None:
    with pytest.raises(ValueError, match="use train_world_model"):
        train_head("world-model", model, data)


# Divergence.


@every_loop
@pytest.mark.parametrize("broken", ["loss", "gradient", "validation"])
def test_a_run_that_diverges_says_so_and_keeps_the_last_good_state(
    name: str, broken: str, model: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, calls = learner_of(name), [0]
    loss, validate = kind.loss, kind.validate

    def bad_loss(self: Learner, data: Any, *rest: Any) -> Any:
        value, parts = loss(self, data, *rest)
        calls[0] += data is self.train_data
        if calls[0] < 3 or data is not self.train_data:
            return value, parts
        if broken == "loss":
            return value * math.nan, parts
        return (value + 0 * (value - value.detach()).abs().sqrt(), parts) if broken == "gradient" else (value, parts)

    def bad_validation(self: Learner) -> dict[str, float]:
        bad = broken == "validation" and calls[0] >= 3
        return {key: math.inf if bad else value for key, value in validate(self).items()}

    monkeypatch.setattr(kind, "loss", bad_loss)
    monkeypatch.setattr(kind, "validate", bad_validation)
    with pytest.raises(DivergedError, match=rf"training of {name} diverged: .* at step 3. Lower the learning rate"):
        train(name, model, data, {"evaluate_every": 1}, run_dir=tmp_path)
    tensors, header = read_tensors(tmp_path / "training" / f"{name}.safetensors")
    assert header["step"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in tensors.values() if value.is_floating_point())


def test_a_learning_rate_far_too_large_is_no_silent_failure(model: Any, data: Any) -> None:
    with pytest.raises(DivergedError):
        train("world-model", model, data, {"learning_rate": 1e3, "steps": 40})


# Data.


@every_stage
def test_held_out_episodes_that_are_too_short_are_found_before_anything_is_encoded(
    name: str, model: Any, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = data.lengths.copy()
    lengths[np.isin(data.episode_ids, data.split(0.1)[1].episode_ids)] = 4
    data = dataclasses.replace(data, lengths=lengths)
    if name in (
        "gc-idm",
        "steps-to-goal",
        "temporal-distance",
        "denoiser",
        "graph",
        "viewer",
    ):  # they learn from single steps
        train(name, model, data)
        return
    monkeypatch.setattr("wm_agents.training.learner.encode_frames", None)
    what = r"actions, but the longest episode of wm/small/waypoint-v0 that is kept for validation has 4"
    with pytest.raises(ValueError, match=rf"{name} learns from .*, \d+ {what}"):
        train(name, model, data)


@every_stage
def test_episodes_of_exactly_the_needed_length_do(name: str, model: Any, data: Any) -> None:
    learner = learner_of(name).__new__(learner_of(name))
    learner.world_model, (learner.model, learner.config) = model, STAGES[name]
    needed = learner.needs()[0]
    if name == "graph":  # which must find ways that are taken more than once, too
        needed = 40
    train(name, model, dataclasses.replace(data, lengths=np.full_like(data.lengths, needed)))


@every_stage
def test_images_and_actions_are_all_that_training_needs(name: str, model: Any, data: Any) -> None:
    frames = len(data.pixels)
    data = dataclasses.replace(data, states=np.zeros((frames, 0)), state_names=(), env_id="", provenance={})
    made = train(name, model, data)
    if name == "graph":
        assert (made.config.state_size, made.states.shape[1]) == (0, 0)


def test_a_graph_has_no_loss() -> None:
    with pytest.raises(NotImplementedError):
        GraphLearner.loss(None, None, 1, None, None)  # type: ignore[arg-type]


# Data without simulator states, which only probes and pictures of graphs need.


@every_stage
def test_every_stage_learns_without_states(name: str, model: Any, data: Any) -> None:
    bare = dataclasses.replace(data, states=np.zeros((len(data.states), 0)), state_names=(), env_id="")
    made = train(name, model, bare)
    if name == "graph":
        assert made.states.shape == (len(made.frames), 0)
    else:
        assert_same_weights(made, train(name, model, data))


# Data larger than the memory.


def test_latents_in_a_file_and_in_memory_give_the_same(
    model: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = {name: train(name, model, data) for name in ("gc-idm", "graph")}
    monkeypatch.setattr("wm_agents.training.latents.LARGE", 0)
    monkeypatch.setattr("wm_agents.training.graph.PART", 100)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *args, **options: tmp_path)
    copied = dataclasses.replace(data)  # latents are kept with the data that they are of
    for name, made in in_memory.items():
        found = train(name, model, copied)
        assert_same_weights(made, found)
    assert not list(tmp_path.iterdir()), "the file has no name"
