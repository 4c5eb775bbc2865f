"""Training: it is reproducible, and it resumes to the very same weights."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_runs import SHORT, SHORT_IDM, TINY, assert_same_weights, learn, learn_actions

from wm_agents import WorldModel
from wm_agents.models import LeWMConfig
from wm_agents.tensorfile import CheckpointError, read_tensors
from wm_agents.training import TrainingConfig

pytest_plugins = ["trained"]

STATE = Path("training", "world-model.safetensors")


def in_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], Any]) -> None:
    """Call ``act`` in the middle of gradient step ``number``: the batch is drawn, the weights are not updated yet."""
    clip, calls = torch.nn.utils.clip_grad_norm_, [0]

    def patched(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            act()
        return clip(*args, **kwargs)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", patched)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def interrupt() -> None:
    raise KeyboardInterrupt


def run_into(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], Any], train: Callable[[], Any]) -> None:
    """Train, and be interrupted in the middle of ``step``."""
    with monkeypatch.context() as patch:
        in_step(patch, step, act)
        with pytest.raises(KeyboardInterrupt):
            train()


# The same seed gives the same weights.


def test_the_seed_decides_the_weights(small_dataset: Any) -> None:
    reference, _ = learn(small_dataset)
    torch.rand(7)
    np.random.rand(7)
    again, _ = learn(small_dataset)
    other, _ = learn(small_dataset, training=dataclasses.replace(SHORT, seed=1))
    assert_same_weights(reference, again)
    assert not torch.equal(next(reference.parameters()), next(other.parameters()))


def test_the_seed_decides_the_inverse_dynamics(trained: Any, small_dataset: Any) -> None:
    reference, _ = learn_actions(trained, small_dataset)
    again, _ = learn_actions(trained, small_dataset)
    other, _ = learn_actions(trained, small_dataset, dataclasses.replace(SHORT_IDM, seed=1))
    assert_same_weights(reference, again)
    assert not torch.equal(reference.head.weight, other.head.weight)


# Interrupted runs.


@pytest.fixture(scope="module", params=[0.0, 0.2], ids=["no dropout", "dropout"])
def run(request: pytest.FixtureRequest, small_dataset: Any) -> tuple[LeWMConfig, WorldModel, Any]:
    """A shape, and the weights and history of its uninterrupted run."""
    model = dataclasses.replace(TINY, dropout=request.param)
    return (model, *learn(small_dataset, model))


@pytest.mark.parametrize("step", [1, 6, 9])
def test_ctrl_c_then_resume_gives_the_uninterrupted_weights(
    run: Any, step: int, small_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, reference, history = run
    run_into(monkeypatch, step, press_ctrl_c, lambda: learn(small_dataset, model, run_dir=tmp_path))
    _, header = read_tensors(tmp_path / STATE)
    assert header["step"] == step, "the step at hand is finished, nothing that was done is lost"
    torch.rand(3)
    resumed, resumed_history = learn(small_dataset, model, run_dir=tmp_path)
    assert_same_weights(reference, resumed)
    assert resumed_history == history
    finished, _ = learn(small_dataset, model, run_dir=tmp_path)
    assert_same_weights(reference, finished)


@pytest.mark.parametrize("checkpoint_minutes", [0.0, 10.0])
def test_an_exception_within_a_step_leaves_a_state_that_resumes_exactly(
    checkpoint_minutes: float, small_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = dataclasses.replace(SHORT, checkpoint_minutes=checkpoint_minutes)
    reference, _ = learn(small_dataset, training=training)
    run_into(monkeypatch, 6, interrupt, lambda: learn(small_dataset, training=training, run_dir=tmp_path))
    state = tmp_path / STATE
    assert read_tensors(state)[1]["step"] == (4 if checkpoint_minutes else 5), "validations save, too"
    resumed, _ = learn(small_dataset, training=training, run_dir=tmp_path)
    assert_same_weights(reference, resumed)


def test_a_second_ctrl_c_interrupts_at_once_and_the_handler_is_put_back(
    small_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)

    def twice() -> None:
        press_ctrl_c()
        press_ctrl_c()

    run_into(monkeypatch, 3, twice, lambda: learn(small_dataset, run_dir=tmp_path))
    assert not (tmp_path / STATE).exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_training_works_outside_the_main_thread(small_dataset: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    training = dataclasses.replace(SHORT, steps=2)
    with ThreadPoolExecutor(1) as pool:
        _, history = pool.submit(learn, small_dataset, TINY, training).result()
    assert history["latent/std"][-1][0] == 2


@pytest.mark.parametrize("step", [5, 17])
def test_interrupted_inverse_dynamics_resume_to_the_same_weights(
    step: int, trained: Any, small_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, history = learn_actions(trained, small_dataset)
    run_into(monkeypatch, step, press_ctrl_c, lambda: learn_actions(trained, small_dataset, run_dir=tmp_path))
    assert read_tensors(tmp_path / "training" / "gc-idm.safetensors")[1]["step"] == step
    resumed, resumed_history = learn_actions(trained, small_dataset, run_dir=tmp_path)
    assert_same_weights(reference, resumed)
    assert resumed_history == history


def test_a_crash_of_the_inverse_dynamics_goes_on_from_the_last_validation(
    trained: Any, small_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, _ = learn_actions(trained, small_dataset)
    run_into(monkeypatch, 20, interrupt, lambda: learn_actions(trained, small_dataset, run_dir=tmp_path))
    assert read_tensors(tmp_path / "training" / "gc-idm.safetensors")[1]["step"] == 16
    resumed, _ = learn_actions(trained, small_dataset, run_dir=tmp_path)
    assert_same_weights(reference, resumed)


KILLED = """
import sys, torch
from wm_agents import TrainingConfig, LeWMConfig, datasets, train_world_model
torch.set_num_threads(int(sys.argv[1]))
train_world_model(datasets.load(sys.argv[2]), LeWMConfig(latent_size=8, predictor_width=32),
                  TrainingConfig(steps=60, batch_size=8, frames=3, evaluate_every=40, checkpoint_minutes=0.0),
                  run_dir=sys.argv[3], device="cpu", progress=False)
"""


def test_a_killed_process_leaves_a_state_that_resumes_exactly(
    data_root: Path, small_dataset: Any, tmp_path: Path
) -> None:
    training = TrainingConfig(steps=60, batch_size=8, frames=3, evaluate_every=40, checkpoint_minutes=0.0)
    state = tmp_path / STATE
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(torch.get_num_threads()), small_dataset.name, str(tmp_path)],
        env={**os.environ, "MINARI_DATASETS_PATH": str(data_root)},
    )
    try:
        deadline = time.monotonic() + 60
        while not state.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None, "the process ended before it could be killed"
    finally:
        process.kill()
        process.wait()
    assert 0 < read_tensors(state)[1]["step"] < 60
    resumed, _ = learn(small_dataset, training=training, run_dir=tmp_path)
    reference, _ = learn(small_dataset, training=training)
    assert_same_weights(reference, resumed)


@pytest.fixture
def unfinished(small_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of a run that was interrupted in its second step."""
    run_into(monkeypatch, 2, press_ctrl_c, lambda: learn(small_dataset, run_dir=tmp_path))
    return tmp_path / STATE


def test_resuming_with_other_options_is_refused_and_names_them(small_dataset: Any, unfinished: Path) -> None:
    before = unfinished.read_bytes()
    faster, weights = dataclasses.replace(SHORT, learning_rate=0.01), {"prediction": 1.0, "sigreg": 0.1}
    refusals: list[tuple[str, dict[str, Any]]] = [
        (r"training\.learning_rate \(0\.001 there, 0\.01 here\)", {"training": faster}),
        (r"model\.latent_size \(8 there, 9 here\)", {"model": dataclasses.replace(TINY, latent_size=9)}),
        (r"training\.loss_weights \(None there", {"training": dataclasses.replace(SHORT, loss_weights=weights)}),
    ]
    for message, options in refusals:
        with pytest.raises(CheckpointError, match=message) as caught:
            learn(small_dataset, run_dir=unfinished.parents[1], **options)
        assert "same options to resume" in str(caught.value)
        assert "batch_size" not in str(caught.value), "only what differs is named"
    other = dataclasses.replace(small_dataset, provenance={**small_dataset.provenance, "sha256": "0" * 64})
    with pytest.raises(CheckpointError, match=r"differs in data \("):
        learn(other, run_dir=unfinished.parents[1])
    assert unfinished.read_bytes() == before


def test_a_damaged_state_is_an_error_not_a_new_start(small_dataset: Any, unfinished: Path) -> None:
    good = unfinished.read_bytes()
    flipped = bytearray(good)
    flipped[-100] ^= 1
    for damaged in (good[: len(good) // 2], b"", bytes(flipped)):
        unfinished.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"world-model\.safetensors.*(damaged|SHA-256)"):
            learn(small_dataset, run_dir=unfinished.parents[1])
        assert unfinished.read_bytes() == damaged


def test_another_checkpoint_in_place_of_the_state_is_an_error(trained: Any, small_dataset: Any, tmp_path: Path) -> None:
    (tmp_path / STATE).parent.mkdir()
    (tmp_path / STATE).write_bytes(trained.file.read_bytes())
    with pytest.raises(CheckpointError, match="no training state"):
        learn(small_dataset, run_dir=tmp_path)


def test_a_full_disk_leaves_the_previous_state_intact(
    small_dataset: Any, unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = unfinished.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            learn(small_dataset, run_dir=unfinished.parents[1])
    assert unfinished.read_bytes() == before
    assert os.listdir(unfinished.parent) == [unfinished.name]
    reference, _ = learn(small_dataset)
    resumed, _ = learn(small_dataset, run_dir=unfinished.parents[1])
    assert_same_weights(reference, resumed)
