"""Training: it learns, it warns of collapse, it is reproducible, and it resumes to the very same weights."""

from __future__ import annotations

import dataclasses
import errno
import itertools
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

from wm_agents import (
    CEMMPC,
    GCIDM,
    InverseDynamicsConfig,
    InverseDynamicsTrainingConfig,
    TrainingConfig,
    WorldModel,
    WorldModelConfig,
    evaluation,
    train_world_model,
)
from wm_agents.checkpoint import CheckpointError, read_tensors
from wm_agents.losses import LatentBatch
from wm_agents.losses.prediction import Prediction
from wm_agents.losses.sigreg import SIGReg
from wm_agents.models.world_model import ActionStatistics
from wm_agents.training import train_inverse_dynamics
from wm_agents.training.common import TrainingState, warmup_cosine
from wm_agents.training.probe import linear_probe_r2
from wm_agents.training.world_model import CollapseWarning

sys.path.insert(0, str(Path(__file__).parent / "helpers"))
pytest_plugins = ["trained"]

UMAZE = "wm/PointMaze-UMaze-v0"
TINY = WorldModelConfig(latent_size=8, predictor_width=32)
SHORT = TrainingConfig(steps=9, batch_size=8, frames=3, evaluate_every=4)
TINY_IDM = InverseDynamicsConfig(width=32)
SHORT_IDM = InverseDynamicsTrainingConfig(steps=30, batch_size=32, evaluate_every=8)


def learn(dataset: Any, model: WorldModelConfig = TINY, training: TrainingConfig = SHORT, **options: Any) -> Any:
    return train_world_model(dataset, model, training, device="cpu", progress=False, **options)


def learn_actions(trained: Any, dataset: Any, training: InverseDynamicsTrainingConfig = SHORT_IDM, **options: Any):
    return train_inverse_dynamics(trained.world_model, dataset, TINY_IDM, training, progress=False, **options)


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    different = [name for name, value in one.state_dict().items() if not torch.equal(value, other.state_dict()[name])]
    assert not different


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


# It learns.


def test_the_latents_hold_the_position(trained: Any) -> None:
    steps, values = zip(*trained.history["probe/position"], strict=True)
    assert steps == (100, 200)
    assert values[-1] > 0.9
    assert min(trained.history["probe/x"][-1][1], trained.history["probe/y"][-1][1]) > 0.9


def test_the_trained_model_beats_copying_the_last_frame_and_has_spread(trained: Any, small_dataset: Any) -> None:
    _, validation = small_dataset.split()
    window = validation.windows(512, 3, 5, np.random.default_rng(9))
    model = trained.world_model
    with torch.no_grad():
        z = model.encode(torch.from_numpy(window.pixels))
        predicted = model(z[:, :-1], model.normalize(torch.from_numpy(window.actions)))
        other = model(z[:, :-1], model.normalize(torch.from_numpy(np.roll(window.actions, 1, axis=0))))
    error = (predicted - z[:, 1:]).square().mean()
    assert error < 0.8 * (z[:, :-1] - z[:, 1:]).square().mean()
    assert error < 0.9 * (other - z[:, 1:]).square().mean(), "the prediction must depend on the actions"
    spread = z.flatten(0, 1).std(dim=0)
    assert spread.mean() > 0.6
    assert spread.min() > 0.3


def test_batch_statistics_and_their_moving_averages_agree(trained: Any, small_dataset: Any) -> None:
    window = small_dataset.windows(256, 2, 5, np.random.default_rng(4))
    model = trained.world_model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        usual = model.encode(torch.from_numpy(window.pixels))
        model.projector.train()
        of_the_batch = model.encode(torch.from_numpy(window.pixels))
        model.eval()
        model.load_state_dict(before)
    assert (usual - of_the_batch).square().mean() < 0.02 * usual.square().mean()


def test_gc_idm_reaches_held_out_goals_far_above_the_floors(trained: Any) -> None:
    manifest = evaluation.make_manifest(UMAZE, tasks=24, offset=100, budget=120, seed=1)
    result = evaluation.evaluate(trained.agent, manifest, num_envs=24, progress=False)
    success = (result.outcomes.moderate > 0).mean()
    floor = max((outcomes.moderate > 0).mean() for outcomes in result.floors.values())
    assert floor < 0.45
    assert success > floor + 0.2


def test_cem_reaches_more_goals_than_standing_still(trained: Any) -> None:
    manifest = evaluation.make_manifest(UMAZE, tasks=16, offset="random", budget=150, seed=1)
    agent = CEMMPC(trained.world_model, device="cpu", samples=64, elites=8, iterations=4)
    result = evaluation.evaluate(agent, manifest, num_envs=16, progress=False)
    assert (result.floors["noop"].moderate > 0).mean() == 0
    assert (result.outcomes.moderate > 0).mean() >= 0.2


def test_one_batch_can_be_learnt_by_heart(small_dataset: Any) -> None:
    torch.manual_seed(0)
    mean, std = small_dataset.action_mean_std()
    model = WorldModel(TINY, ActionStatistics(small_dataset.action_low, small_dataset.action_high, mean, std)).train()
    window = small_dataset.windows(16, 3, 5, np.random.default_rng(0))
    pixels, actions = torch.from_numpy(window.pixels), model.normalize(torch.from_numpy(window.actions))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    prediction, sigreg, errors = Prediction(), SIGReg(), []
    for _ in range(80):
        z = model.encode(pixels)
        batch = LatentBatch(z, model(z[:, :-1], actions), actions, pixels, generator)
        errors.append(float(prediction(batch).detach() / z.detach().var(dim=(0, 1)).mean()))
        loss = prediction(batch) + 0.09 * sigreg(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert errors[-1] < 0.1 * errors[0]


def test_prediction_alone_collapses_and_says_so(small_dataset: Any) -> None:
    training = TrainingConfig(steps=60, batch_size=16, frames=3, evaluate_every=60, learning_rate=3e-3,
                              loss_weights={"prediction": 1.0})  # fmt: skip
    with pytest.warns(CollapseWarning, match=r"collapsed at step 60.*regulariser"):
        _, history = learn(small_dataset, training=training)
    assert history["latent/std"][-1][1] < 0.1
    assert "validation/sigreg" not in history


@pytest.mark.filterwarnings("error::wm_agents.training.world_model.CollapseWarning")
def test_the_first_steps_of_a_healthy_run_are_no_collapse(small_dataset: Any) -> None:
    _, history = learn(small_dataset)
    assert history["latent/std"][0][1] < 0.1, "BatchNorm's moving averages lag: this alone must not alarm"


def test_history_and_logger_have_every_metric(small_dataset: Any, tmp_path: Path) -> None:
    from stable_baselines3.common.logger import configure

    _, history = learn(small_dataset, logger=configure(str(tmp_path), ["csv"]))
    names = {"train/prediction", "train/sigreg", "validation/loss", "validation/prediction", "validation/sigreg",
             "latent/std", "probe/x", "probe/y", "probe/vx", "probe/vy", "probe/position"}  # fmt: skip
    assert set(history) == names
    assert all([step for step, _ in points] == [4, 8, 9] for points in history.values())
    assert names <= set((tmp_path / "progress.csv").read_text().splitlines()[0].split(","))


def test_probe_recovers_a_linear_map_and_nothing_from_noise() -> None:
    rng = np.random.default_rng(0)
    z, test = rng.normal(size=(400, 5)), rng.normal(size=(200, 5))
    mix, constant = rng.normal(size=(5, 2)), np.ones((400, 1))
    states = np.concatenate([z @ mix, rng.normal(size=(400, 1)), constant], axis=1)
    truth = np.concatenate([test @ mix, rng.normal(size=(200, 1)), constant[:200]], axis=1)
    r2 = linear_probe_r2(torch.from_numpy(z), states, torch.from_numpy(test), truth)
    assert (r2[:2] > 0.999).all()
    assert r2[2] < 0.1
    assert r2[3] == 0


def test_schedule_warms_up_and_decays() -> None:
    factors = [warmup_cosine(step, 100, 10, final=0.01) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[10:]))
    assert factors[55] == pytest.approx(0.01 + 0.99 / 2)
    assert factors[100] == pytest.approx(0.01)


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
def run(request: pytest.FixtureRequest, small_dataset: Any) -> tuple[WorldModelConfig, WorldModel, Any]:
    """A shape, and the weights and history of its uninterrupted run."""
    model = dataclasses.replace(TINY, dropout=request.param)
    return (model, *learn(small_dataset, model))


@pytest.mark.parametrize("step", [1, 6, 9])
def test_ctrl_c_then_resume_gives_the_uninterrupted_weights(
    run: Any, step: int, small_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, reference, history = run
    run_into(monkeypatch, step, press_ctrl_c, lambda: learn(small_dataset, model, run_dir=tmp_path))
    _, header = read_tensors(tmp_path / "training.safetensors")
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
    state = tmp_path / "training.safetensors"
    assert state.exists() == (checkpoint_minutes == 0)
    if state.exists():
        assert read_tensors(state)[1]["step"] == 5
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
    assert not (tmp_path / "training.safetensors").exists()
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
    assert read_tensors(tmp_path / "inverse-dynamics.safetensors")[1]["step"] == step
    resumed, resumed_history = learn_actions(trained, small_dataset, run_dir=tmp_path)
    assert_same_weights(reference, resumed)
    assert resumed_history == history


def test_a_crash_of_the_inverse_dynamics_goes_on_from_the_last_validation(
    trained: Any, small_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, _ = learn_actions(trained, small_dataset)
    run_into(monkeypatch, 20, interrupt, lambda: learn_actions(trained, small_dataset, run_dir=tmp_path))
    assert read_tensors(tmp_path / "inverse-dynamics.safetensors")[1]["step"] == 16
    resumed, _ = learn_actions(trained, small_dataset, run_dir=tmp_path)
    assert_same_weights(reference, resumed)


KILLED = """
import sys, torch
from wm_agents import TrainingConfig, WorldModelConfig, datasets, train_world_model
torch.set_num_threads(int(sys.argv[1]))
train_world_model(datasets.load(sys.argv[2]), WorldModelConfig(latent_size=8, predictor_width=32),
                  TrainingConfig(steps=60, batch_size=8, frames=3, evaluate_every=40, checkpoint_minutes=0.0),
                  run_dir=sys.argv[3], device="cpu", progress=False)
"""


def test_a_killed_process_leaves_a_state_that_resumes_exactly(
    data_root: Path, small_dataset: Any, tmp_path: Path
) -> None:
    training = TrainingConfig(steps=60, batch_size=8, frames=3, evaluate_every=40, checkpoint_minutes=0.0)
    state = tmp_path / "training.safetensors"
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
    return tmp_path / "training.safetensors"


def test_resuming_with_other_options_is_refused_and_names_them(small_dataset: Any, unfinished: Path) -> None:
    before = unfinished.read_bytes()
    refusals: list[tuple[str, dict[str, Any]]] = [
        (r"training\.learning_rate \(0\.001 there, 0\.01 here\)",
         {"training": dataclasses.replace(SHORT, learning_rate=0.01)}),
        (r"model\.latent_size \(8 there, 9 here\)", {"model": dataclasses.replace(TINY, latent_size=9)}),
        (r"training\.loss_weights\.sigreg",
         {"training": dataclasses.replace(SHORT, loss_weights={"prediction": 1.0, "sigreg": 0.1})}),
    ]  # fmt: skip
    for message, options in refusals:
        with pytest.raises(CheckpointError, match=message) as caught:
            learn(small_dataset, run_dir=unfinished.parent, **options)
        assert "same options to resume" in str(caught.value)
        assert "batch_size" not in str(caught.value), "only what differs is named"
    other = dataclasses.replace(small_dataset, provenance={**small_dataset.provenance, "sha256": "0" * 64})
    with pytest.raises(CheckpointError, match=r"differs in data \("):
        learn(other, run_dir=unfinished.parent)
    assert unfinished.read_bytes() == before


def test_a_number_that_differs_by_rounding_does_not_stop_a_resume(tmp_path: Path) -> None:
    def state(latents: float) -> TrainingState:
        return TrainingState(tmp_path / "state.safetensors", {"latents": latents})

    model, rng, generator = torch.nn.Linear(2, 2), np.random.default_rng(0), torch.Generator()
    parts = (model, torch.optim.AdamW(model.parameters()), rng, generator)
    state(67656.205).save(3, *parts, {})
    assert state(67656.208).restore(*parts)[0] == 3, "another number of threads sums in another order"
    with pytest.raises(CheckpointError, match="differs in latents"):
        state(67657.0).restore(*parts)


def test_a_damaged_state_is_an_error_not_a_new_start(small_dataset: Any, unfinished: Path) -> None:
    good = unfinished.read_bytes()
    flipped = bytearray(good)
    flipped[-100] ^= 1
    for damaged in (good[: len(good) // 2], b"", bytes(flipped)):
        unfinished.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"training\.safetensors.*(damaged|SHA-256)"):
            learn(small_dataset, run_dir=unfinished.parent)
        assert unfinished.read_bytes() == damaged


def test_another_checkpoint_in_place_of_the_state_is_an_error(trained: Any, small_dataset: Any, tmp_path: Path) -> None:
    (tmp_path / "training.safetensors").write_bytes(trained.file.read_bytes())
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
            learn(small_dataset, run_dir=unfinished.parent)
    assert unfinished.read_bytes() == before
    assert os.listdir(unfinished.parent) == [unfinished.name]
    reference, _ = learn(small_dataset)
    resumed, _ = learn(small_dataset, run_dir=unfinished.parent)
    assert_same_weights(reference, resumed)


# Bad input.


def test_impossible_options_are_refused(small_dataset: Any) -> None:
    for options in ({"steps": 0}, {"batch_size": 1}, {"frames": 1}):
        with pytest.raises(ValueError, match="at least"):
            TrainingConfig(**options)
    with pytest.raises(ValueError, match="loss_weights is empty"):
        TrainingConfig(loss_weights={})
    with pytest.raises(ValueError, match="at least 1"):
        InverseDynamicsTrainingConfig(steps=0)
    with pytest.raises(ValueError, match="max_horizon must be at least 1"):
        InverseDynamicsConfig(max_horizon=0)
    with pytest.raises(ValueError, match=r"Unknown loss term 'sigregg'\. Did you mean 'sigreg'"):
        learn(small_dataset, training=dataclasses.replace(SHORT, loss_weights={"sigregg": 1.0}))


def test_a_window_longer_than_any_episode_is_refused(small_dataset: Any) -> None:
    with pytest.raises(ValueError, match=r"No episode of .* holds 22 frames, 5 steps apart.*has 100 actions"):
        learn(small_dataset, training=dataclasses.replace(SHORT, frames=22))


def test_a_single_episode_cannot_be_split(small_dataset: Any) -> None:
    one = dataclasses.replace(
        small_dataset, starts=small_dataset.starts[:1], lengths=small_dataset.lengths[:1],
        episode_ids=small_dataset.episode_ids[:1],
    )  # fmt: skip
    with pytest.raises(ValueError, match="needs two or more"):
        learn(one)


def test_fitting_on_data_of_another_task_is_refused(trained: Any, small_dataset: Any) -> None:
    agent = GCIDM(trained.world_model, device="cpu")
    other = dataclasses.replace(small_dataset, actions=np.zeros((len(small_dataset.actions), 5), np.float32))
    with pytest.raises(ValueError, match=r"actions of size 5, the world model was trained with 2"):
        agent.fit(other)
    large = dataclasses.replace(small_dataset, pixels=np.zeros((len(small_dataset.pixels), 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="image_size=64"):
        agent.fit(large)


def test_goals_beyond_the_episode_are_fine_but_a_window_is_not(trained: Any, small_dataset: Any) -> None:
    model = InverseDynamicsConfig(width=32, max_horizon=1000)
    network, _ = train_inverse_dynamics(trained.world_model, small_dataset, model, SHORT_IDM, progress=False)
    assert network.config.max_horizon == 1000
