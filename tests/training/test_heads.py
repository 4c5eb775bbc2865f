"""Training on frozen latents: the temporal distance and the predictor's rollouts."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wm_agents import datasets
from wm_agents.models import (
    ActionStatistics,
    InverseDynamics,
    InverseDynamicsConfig,
    LeWM,
    TemporalDistance,
    TemporalDistanceConfig,
)
from wm_agents.training import (
    ImaginationTrainingConfig,
    InverseDynamicsTrainingConfig,
    PredictorTrainingConfig,
    TemporalDistanceTrainingConfig,
    encode_frames,
    train_inverse_dynamics,
    train_predictor,
    train_temporal_distance,
)
from wm_agents.training.imagination import ImaginationLearner
from wm_agents.training.latents import encode_views
from wm_agents.training.symmetry import VIEWS, view_actions
from wm_agents.training.temporal_distance import imagine

pytest_plugins = ["trained"]


def test_the_temporal_distance_is_a_metric() -> None:
    torch.manual_seed(0)
    distance = TemporalDistance(TemporalDistanceConfig(latent_size=5))
    a, b, c = torch.randn(3, 50, 5)
    assert distance(a, a).max() < 0.1
    torch.testing.assert_close(distance(a, b), distance(b, a))
    assert (distance(a, c) <= distance(a, b) + distance(b, c) + 1e-4).all()


def test_it_learns_how_many_steps_lie_between_frames(trained: Any, small_dataset: Any) -> None:
    training = TemporalDistanceTrainingConfig(steps=400, batch_size=256, evaluate_every=200)
    network, history = train_temporal_distance(
        trained.world_model, small_dataset, TemporalDistanceConfig(width=64, max_steps=60), training, progress=False
    )
    curve = [value for _, value in history["validation/temporal_distance"]]
    assert len(curve) == 2
    assert not network.training
    pairs = small_dataset.split(0.1)[1].hindsight(2000, 60, np.random.default_rng(0))
    latents = encode_frames(trained.world_model, small_dataset, progress=False)
    with torch.no_grad():
        guess = network(latents[torch.from_numpy(pairs.frame)], latents[torch.from_numpy(pairs.goal)]).numpy()
    assert np.corrcoef(guess, pairs.steps)[0, 1] > 0.6
    assert guess[pairs.steps <= 5].mean() < 0.4 * guess[pairs.steps >= 40].mean()


def test_frames_are_encoded_once_for_each_encoder(trained: Any, small_dataset: Any) -> None:
    model = copy.deepcopy(trained.world_model)
    first = encode_frames(model, small_dataset, progress=False)
    assert encode_frames(model, small_dataset, progress=False).data_ptr() == first.data_ptr()
    views = encode_views(model, small_dataset, True, progress=False)
    torch.testing.assert_close(views[0], first, rtol=0, atol=0)
    assert not torch.equal(views[1], first)
    copied = encode_views(trained.world_model, small_dataset, True, progress=False)
    assert copied.data_ptr() == views.data_ptr(), "a copy encodes the same"
    assert encode_frames(model, small_dataset, progress=False).data_ptr() == views.data_ptr()
    with torch.no_grad():
        next(model.projector.buffers()).add_(0.5)
    changed = encode_frames(model, small_dataset, progress=False)
    assert not torch.equal(changed, first)
    another = encode_frames(model, dataclasses.replace(small_dataset), progress=False)
    assert another.data_ptr() != changed.data_ptr()


def test_imagining_is_rolling_out_the_recorded_actions(trained: Any, small_dataset: Any) -> None:
    model, k = trained.world_model, 5
    latents = encode_frames(model, small_dataset, progress=False)
    first = int(small_dataset.starts[3])
    frames = np.array([first + 2, first + 4, first + 37, first + 60])  # the first two have too short a past
    got = imagine(model, small_dataset, latents, frames, 4)
    torch.testing.assert_close(got[:2], latents[torch.from_numpy(frames[:2])])
    for row, start in ((2, first + 37 - 4 * k), (3, first + 60 - 4 * k)):
        z = torch.stack([latents[start - k], latents[start]])[None]
        blocks = model.normalize(torch.from_numpy(small_dataset.actions[start - k : start + 4 * k]).reshape(1, 5, 10))
        with torch.no_grad():
            expected = model.imagine(model.remember(z, blocks[:, :1]), blocks[:, None, 1:])[0, 0, -1]
        torch.testing.assert_close(got[row], expected)


def test_the_predictor_improves_on_rollouts_and_the_encoder_stays(
    trained: Any, small_dataset: Any, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in trained.world_model.state_dict().items()}
    training = PredictorTrainingConfig(steps=150, batch_size=64, blocks=4, evaluate_every=50)
    refined, history = train_predictor(trained.world_model, small_dataset, training, run_dir=tmp_path, progress=False)
    for name, value in trained.world_model.state_dict().items():
        assert torch.equal(value, before[name]), "the given world model is not changed"
        if not name.startswith("predictor."):
            assert torch.equal(value, refined.state_dict()[name])
    untouched = PredictorTrainingConfig(steps=1, learning_rate=1e-12, batch_size=64, blocks=4)
    _, start = train_predictor(trained.world_model, small_dataset, untouched, progress=False)
    assert history["validation/predictor"][-1][1] < 0.9 * start["validation/predictor"][-1][1]
    again, _ = train_predictor(trained.world_model, small_dataset, training, run_dir=tmp_path, progress=False)
    for name, value in again.state_dict().items():
        assert torch.equal(value, refined.state_dict()[name]), "a finished run is loaded, not repeated"


def test_the_predictor_learns_from_all_views_of_the_data(trained: Any, small_dataset: Any) -> None:
    training = PredictorTrainingConfig(steps=100, batch_size=64, blocks=3)
    both = dataclasses.replace(training, square_symmetry=True)
    (plain, _), (viewed, _) = (
        train_predictor(trained.world_model, small_dataset, options, progress=False) for options in (training, both)
    )
    error = np.zeros((2, VIEWS))
    start = small_dataset.segments(256, 15, np.random.default_rng(0))
    for view in range(VIEWS):
        latents = encode_views(trained.world_model, small_dataset, True, progress=False)[view]
        actions = small_dataset.actions[start[:, None] + np.arange(15)]
        blocks = torch.from_numpy(view_actions(actions, np.full(256, view)).reshape(256, 1, 3, -1))
        for row, model in enumerate((plain, viewed)):
            with torch.no_grad():
                state = model.remember(latents[start][:, None], blocks[:, 0, :0])
                imagined = model.imagine(state, model.normalize(blocks))[:, 0]
            error[row, view] = float((imagined - latents[start[:, None] + 5 * np.arange(1, 4)]).square().mean())
    assert error[1, 1:].mean() < 0.8 * error[0, 1:].mean()


def test_gc_idm_learns_from_all_views_of_the_data(trained: Any, small_dataset: Any) -> None:
    errors = []
    for symmetry in (False, True):
        training = InverseDynamicsTrainingConfig(steps=300, batch_size=256, square_symmetry=symmetry)
        network, _ = train_inverse_dynamics(
            trained.world_model, small_dataset, InverseDynamicsConfig(width=64, lag=0), training, progress=False
        )
        pairs = small_dataset.hindsight(512, 10, np.random.default_rng(0))
        found = []
        for view in range(1, VIEWS):
            latents = encode_views(trained.world_model, small_dataset, True, progress=False)[view]
            z, goal = latents[pairs.frame], latents[pairs.goal]
            with torch.no_grad():
                acted = network(z, z, goal, torch.from_numpy(pairs.steps)).numpy()
            taken = view_actions(pairs.actions[:, None], np.full(512, view))[:, 0]
            found.append(np.square(acted - taken).mean())
        errors.append(np.mean(found))
    assert errors[1] < 0.8 * errors[0]


def test_gc_idm_embeds_now_and_goal_alike() -> None:
    torch.manual_seed(0)
    network = InverseDynamics(InverseDynamicsConfig(latent_size=6, width=16, embedding=4, dropout=0.0)).eval()
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters()}
    assert shapes["embed.0.weight"] == (8, 6)
    assert shapes["body.0.weight"] == (16, 12)
    z, before, goal = torch.randn(3, 5, 6)
    steps = torch.full((5,), 7)
    torch.nn.init.normal_(network.head.weight)
    acted = network(z, before, goal, steps)
    acted.sum().backward()
    assert all(weight.grad is not None for weight in network.embed.parameters())
    assert not torch.allclose(acted, network(z, before, goal.flip(0), steps))
    plain = InverseDynamics(InverseDynamicsConfig(latent_size=6, width=16))
    assert not any(name.startswith("embed") for name in plain.state_dict()), "files of earlier versions still fit"
    with pytest.raises(ValueError, match="embedding"):
        InverseDynamicsConfig(embedding=-1)


@pytest.mark.parametrize("practice", [False, True])
def test_practice_in_imagination_reads_all_views(trained: Any, small_dataset: Any, practice: bool) -> None:
    network = InverseDynamics(InverseDynamicsConfig(latent_size=trained.world_model.config.latent_size, width=32))
    network.stamp(trained.world_model)
    training = ImaginationTrainingConfig(steps=2, batch_size=16, blocks=2, square_symmetry=practice)
    learner = ImaginationLearner(
        trained.world_model, small_dataset, training=training, heads={"gc-idm": network}, progress=False
    )
    assert len(learner.latents) == (VIEWS if practice else 1)
    learner.fit(progress=False)
    assert not all(torch.equal(a, b) for a, b in zip(network.parameters(), learner.result.parameters(), strict=True))


def test_symmetry_needs_motions_along_the_image(trained: Any, small_dataset: Any) -> None:
    arm = dataclasses.replace(small_dataset, actions=np.zeros((len(small_dataset.actions), 5), np.float32))
    config = dataclasses.replace(trained.world_model.config, action_size=5)
    statistics = ActionStatistics(*(value * np.ones(5) for value in (-1, 1, 0, 1)))
    with pytest.raises(ValueError, match="square_symmetry needs two continuous actions"):
        train_predictor(LeWM(config, statistics), arm, PredictorTrainingConfig(square_symmetry=True), progress=False)
    training = InverseDynamicsTrainingConfig(square_symmetry=True)
    with pytest.raises(ValueError, match="square_symmetry needs two continuous actions"):
        train_inverse_dynamics(LeWM(config, statistics), arm, training=training, progress=False)


def test_rollouts_longer_than_the_episodes_are_refused(trained: Any, small_dataset: Any) -> None:
    with pytest.raises(
        ValueError, match=r"predictor learns from rollouts of 25 blocks, 130 actions, but the longest .* has 100"
    ):
        train_predictor(trained.world_model, small_dataset, PredictorTrainingConfig(steps=1, blocks=25), progress=False)


def test_joined_datasets_read_like_their_parts(small_dataset: Any) -> None:
    first, second = small_dataset.split(0.3)
    both = datasets.concatenate([first, second])
    assert len(both) == len(small_dataset)
    assert both.frames == small_dataset.frames
    n = len(small_dataset.pixels)
    index = np.array([[0, n - 1], [n, 2 * n - 1]])
    np.testing.assert_array_equal(both.pixels[index], np.stack([small_dataset.pixels[[0, n - 1]]] * 2))
    np.testing.assert_array_equal(both.pixels[n + 3], small_dataset.pixels[3])
    assert set(both.frame_indices()) == {*first.frame_indices(), *(second.frame_indices() + n)}
    pairs = both.hindsight(500, 30, np.random.default_rng(0))
    np.testing.assert_array_equal(both.actions[pairs.frame], pairs.actions)
    batch = both.windows(50, 3, 5, np.random.default_rng(0))
    assert batch.pixels.shape == (50, 3, 64, 64, 3)
    assert both.provenance["sha256"] != small_dataset.provenance["sha256"]


def test_only_datasets_of_one_task_are_joined(small_dataset: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        datasets.concatenate([])
    with pytest.raises(ValueError, match="their task differs"):
        datasets.concatenate([small_dataset, dataclasses.replace(small_dataset, env_id="wm/TwoRoom-v0")])
