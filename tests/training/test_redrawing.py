"""The second lesson of embeddings: the place and the looks of the largest object."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wm_agents.envs.pusht import PushT
from wm_agents.losses.reconstruction import shrink
from wm_agents.models import InverseDynamicsConfig
from wm_agents.training import InverseDynamicsTrainingConfig, train_inverse_dynamics
from wm_agents.training.gc_idm import InverseDynamicsLearner
from wm_agents.training.redrawing import Redrawing

pytest_plugins = ["trained"]

ENV = PushT(obs_type="state")
MODEL = InverseDynamicsConfig(width=32, embedding=8)
TRAINING = InverseDynamicsTrainingConfig(steps=12, batch_size=32, evaluate_every=6, redraw=0.5)


def states(number: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([ENV.sample_state(rng) for _ in range(number)])


def drawn(states: np.ndarray) -> np.ndarray:
    return np.stack([ENV._draw(state, 64) for state in states])


def test_it_finds_the_block_and_not_the_agent() -> None:
    shown = states(200)
    found, _ = Redrawing(8, drawn(shown)).find(shrink(torch.from_numpy(drawn(shown))))
    centre = ENV.block_centre(shown) / 256 - 1
    assert np.abs(found.numpy() - centre).max() < 20 / 256, "within a sixth of its width"


def test_the_drawing_shows_the_angle_wherever_the_block_is() -> None:
    lesson = Redrawing(8, drawn(states(200)))

    def drawing(x: float, angle: float) -> torch.Tensor:
        state = np.array([60.0, 450.0, x, 200.0, angle, *np.zeros(5)])
        return lesson.find(shrink(torch.from_numpy(drawn(state[None]))))[1]

    here = drawing(200.0, 0.5)
    moved, turned = (drawing(290.0, 0.5) - here).abs().mean(), (drawing(200.0, 1.2) - here).abs().mean()
    assert turned > 4 * moved


def test_a_layer_that_says_the_mean_has_an_error_of_two() -> None:
    pixels = drawn(states(300))
    lesson = Redrawing(8, pixels)
    torch.nn.init.zeros_(lesson.layer.weight)
    torch.nn.init.zeros_(lesson.layer.bias)
    error = lesson(torch.zeros(300, 8), torch.from_numpy(pixels)).item()
    assert 1.8 < error < 2.1


def test_frames_without_an_object_give_a_finite_lesson() -> None:
    empty = np.full((10, 64, 64, 3), 7, np.uint8)
    assert torch.isfinite(Redrawing(8, empty)(torch.zeros(10, 8), torch.from_numpy(empty)))


def test_training_with_it_resumes_and_leaves_a_plain_head(trained: Any, small_dataset: Any, tmp_path: Path) -> None:
    whole, history = train_inverse_dynamics(trained.world_model, small_dataset, MODEL, TRAINING, progress=False)
    assert len(history["train/redraw"]) == 2
    assert set(whole.state_dict()) == set(type(whole)(whole.config).state_dict())

    def stop(_: Any, step: int) -> bool:
        return step < 6

    options: dict[str, Any] = {"run_dir": tmp_path, "progress": False}
    train_inverse_dynamics(trained.world_model, small_dataset, MODEL, TRAINING, callback=stop, **options)
    for _ in range(2):  # the second call loads what is finished
        resumed, _ = train_inverse_dynamics(trained.world_model, small_dataset, MODEL, TRAINING, **options)
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_the_lesson_teaches_the_embedding(trained: Any, small_dataset: Any) -> None:
    learner = InverseDynamicsLearner(trained.world_model, small_dataset, MODEL, TRAINING, progress=False)
    learner.module = learner.build()
    learner.module.train()
    rng, generator = np.random.default_rng(0), torch.Generator()
    value, parts = learner.loss(learner.train_data, 32, rng, generator)
    torch.testing.assert_close(value, parts["gc_idm"] + 0.5 * parts["redraw"])
    parts["redraw"].backward()
    assert all(weight.grad.abs().sum() > 0 for weight in learner.result.embed.parameters() if weight.grad is not None)
    assert next(learner.result.embed.parameters()).grad is not None
    learner.module.eval()
    assert set(learner.loss(learner.validation_data, 32, rng, generator)[1]) == {"gc_idm"}


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="redraw"):
        InverseDynamicsTrainingConfig(redraw=-1.0)


def test_it_needs_an_embedding(trained: Any, small_dataset: Any) -> None:
    without = dataclasses.replace(MODEL, embedding=0)
    with pytest.raises(ValueError, match=r"redraw .* InverseDynamicsConfig\(embedding=128\)"):
        train_inverse_dynamics(trained.world_model, small_dataset, without, TRAINING, progress=False)
