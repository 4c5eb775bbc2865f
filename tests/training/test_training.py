"""Training: it learns, it warns of collapse, and it refuses impossible options and other data."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_runs import SHORT, SHORT_IDM, TINY, learn

from wm_agents import CEMMPC, GCIDM, evaluation
from wm_agents.losses import LatentBatch
from wm_agents.losses.prediction import Prediction
from wm_agents.losses.sigreg import SIGReg
from wm_agents.models import ActionStatistics, InverseDynamicsConfig, LeWM
from wm_agents.training import CollapseWarning, TrainingConfig, train_inverse_dynamics
from wm_agents.training.probe import linear_probe_r2
from wm_agents.training.run import warmup_cosine

pytest_plugins = ["trained"]

UMAZE = "wm/PointMaze-UMaze-v0"


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
        predicted = model.predictor(z[:, :-1], model.normalize(torch.from_numpy(window.actions)))
        other = model.predictor(z[:, :-1], model.normalize(torch.from_numpy(np.roll(window.actions, 1, axis=0))))
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
    model = LeWM(TINY, ActionStatistics(small_dataset.action_low, small_dataset.action_high, mean, std)).train()
    window = small_dataset.windows(16, 3, 5, np.random.default_rng(0))
    pixels, actions = torch.from_numpy(window.pixels), model.normalize(torch.from_numpy(window.actions))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    prediction, sigreg, errors = Prediction(), SIGReg(), []
    for _ in range(80):
        z = model.encode(pixels)
        batch = LatentBatch(z, model.predictor(z[:, :-1], actions), actions, pixels, generator)
        errors.append(float(prediction(batch).detach() / z.detach().var(dim=(0, 1)).mean()))
        loss = prediction(batch) + 0.09 * sigreg(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert errors[-1] < 0.1 * errors[0]


def test_prediction_alone_collapses_and_says_so(small_dataset: Any) -> None:
    sizes: dict[str, Any] = {"steps": 60, "batch_size": 16, "frames": 3, "evaluate_every": 60}
    training = TrainingConfig(**sizes, learning_rate=3e-3, loss_weights={"prediction": 1.0})
    with pytest.warns(CollapseWarning, match=r"collapsed.*regulariser"):
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
    losses = {"train/prediction", "train/sigreg", "validation/loss", "validation/prediction", "validation/sigreg"}
    names = losses | {"latent/std", "latent/dimension", "probe/x", "probe/y", "probe/vx", "probe/vy", "probe/position"}
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


# Bad input.


def test_an_unknown_loss_term_is_refused(small_dataset: Any) -> None:
    with pytest.raises(ValueError, match=r"Unknown loss term 'sigregg'\. Did you mean 'sigreg'"):
        learn(small_dataset, training=dataclasses.replace(SHORT, loss_weights={"sigregg": 1.0}))


def test_a_window_longer_than_any_episode_is_refused(small_dataset: Any) -> None:
    with pytest.raises(ValueError, match=r"windows of 22 frames, 105 actions, but the longest .* for training has 100"):
        learn(small_dataset, training=dataclasses.replace(SHORT, frames=22))


def test_a_single_episode_cannot_be_split(small_dataset: Any) -> None:
    names = ("starts", "lengths", "episode_ids")
    one = dataclasses.replace(small_dataset, **{name: getattr(small_dataset, name)[:1] for name in names})
    with pytest.raises(ValueError, match="needs two or more"):
        learn(one)


def test_fitting_on_data_of_another_task_is_refused(trained: Any, small_dataset: Any) -> None:
    agent = GCIDM(trained.world_model, device="cpu")
    other = dataclasses.replace(small_dataset, actions=np.zeros((len(small_dataset.actions), 5), np.float32))
    with pytest.raises(ValueError, match=r"actions of size 5, the world model was trained with 2"):
        agent.fit(other)
    large = dataclasses.replace(small_dataset, pixels=np.zeros((len(small_dataset.pixels), 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="trained on 64 x 64"):
        agent.fit(large)


def test_goals_beyond_the_episode_are_fine_but_a_window_is_not(trained: Any, small_dataset: Any) -> None:
    model = InverseDynamicsConfig(width=32, max_horizon=1000)
    network, _ = train_inverse_dynamics(trained.world_model, small_dataset, model, SHORT_IDM, progress=False)
    assert network.config.max_horizon == 1000
