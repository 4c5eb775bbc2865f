"""Learners know no kind of world model: all of them train on each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from every_learner import STAGES, tiny_gc_idm
from short_runs import assert_same_weights

from wm_agents.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from wm_agents.models import InverseDynamicsConfig
from wm_agents.registry import ENCODERS, WORLD_MODELS
from wm_agents.training import TrainingConfig, find_device, train_head, train_predictor, train_world_model
from wm_agents.training.predictor import encoder_weights

pytest_plugins = ["trained"]
pytestmark = pytest.mark.filterwarnings("ignore:latents have collapsed")

KINDS = {
    "dino-wm": {
        "backbone": "random",
        "backbone_image_size": 28,
        "token_size": 6,
        "backbone_depth": 1,
        "backbone_heads": 2,
        "predictor_width": 16,
        "predictor_depth": 1,
        "predictor_heads": 2,
    },
    "lewm": {"latent_size": 8, "predictor_width": 32},
    "patch": {"token_size": 4, "predictor_width": 16, "predictor_heads": 2},
    "public-lewm": {
        "latent_size": 6,
        "patch_size": 16,
        "encoder_depth": 1,
        "encoder_heads": 2,
        "predictor_depth": 1,
        "predictor_heads": 1,
    },
    "rssm": {"latent_size": 8, "recurrent_size": 32},
    "video-lewm": {"latent_size": 8, "predictor_width": 32, "action_width": 32},
}
TRAINING = TrainingConfig(steps=4, batch_size=8, frames=3, evaluate_every=4)


def learn(kind: str, data: Any, **options: Any) -> Any:
    shape = WORLD_MODELS.get(kind).Config(**KINDS[kind])
    model, history = train_world_model(data, shape, TRAINING, device="cpu", progress=False, **options)
    if not model.reads_actions:
        model.mapped.fill_(True)
    return model, history


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, small_dataset: Any) -> tuple[str, Any]:
    return request.param, learn(request.param, small_dataset)[0]


def test_a_stopped_training_goes_on_to_the_uninterrupted_weights(made: Any, small_dataset: Any, tmp_path: Path) -> None:
    kind, whole = made
    learn(kind, small_dataset, run_dir=tmp_path, callback=lambda _, step: step < 2)
    resumed, history = learn(kind, small_dataset, run_dir=tmp_path)
    assert_same_weights(whole, resumed)
    assert set(WORLD_MODELS.get(kind).losses) == {n.removeprefix("train/") for n in history if n.startswith("train/")}


def test_a_kinds_own_loss_is_minimised_beside_the_registered_ones(small_dataset: Any) -> None:
    start = learn("rssm", small_dataset, callback=lambda *_: False)[0]
    end, history = learn("rssm", small_dataset)
    assert {"train/kl", "train/reconstruction"} <= set(history)
    changed = {name for name, weight in end.named_parameters() if not torch.equal(weight, start.state_dict()[name])}
    assert changed == set(dict(end.named_parameters()))


def test_the_predictor_stage_trains_all_that_imagining_uses_and_nothing_else(made: Any, small_dataset: Any) -> None:
    model = made[1]
    frozen = {id(weight) for weight in encoder_weights(model.requires_grad_(True))}
    names = {name for name, weight in model.named_parameters() if id(weight) in frozen}
    assert {name for name, _ in model.named_parameters() if name.startswith("encoder.")} <= names
    refined, history = train_predictor(model, small_dataset, STAGES["predictor"][1], progress=False)
    assert len(history["validation/predictor"]) == 2
    before = dict(model.named_parameters())
    changed = {name for name, weight in refined.named_parameters() if not torch.equal(weight, before[name])}
    assert changed
    assert not changed & names
    pixels = torch.from_numpy(small_dataset.pixels[:4].copy())
    with torch.no_grad():
        assert torch.equal(model.encode(pixels), refined.encode(pixels))


@pytest.mark.parametrize("name", ["gc-idm", "temporal-distance", "imagination", "macro-actions"])
def test_heads_train_on_features(name: str, made: Any, small_dataset: Any) -> None:
    model = made[1]
    size = model.spec.feature_size
    network = tiny_gc_idm()
    given = type(network)(InverseDynamicsConfig(latent_size=size, width=32))
    shape, training = STAGES[name]
    head, _ = train_head(name, model, small_dataset, shape, training, heads={"gc-idm": given}, progress=False)
    assert head.config.latent_size == size
    head.check(model)


def test_a_device_that_is_not_there_is_an_error() -> None:
    assert find_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "cpuu", "nonsense"):
        with pytest.raises(ValueError, match=r"such device|Unknown device"):
            find_device(name)


class Backbone(torch.nn.Module):
    """Stands for weights from elsewhere: random ones of a fixed seed, with a BatchNorm's averages."""

    features, frozen, identity = 5, True, "backbone of seed 7"

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)
        self.mix = torch.nn.Linear(3, self.features)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for weight in (*self.parameters(), self.norm.running_mean):
                weight.copy_(torch.rand(weight.shape, generator=generator))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.mix(self.norm(pixels.float().mean((1, 2)) / 255)).tanh()


@pytest.mark.parametrize("kind", ["lewm", "rssm"])
def test_a_frozen_encoder_comes_out_of_a_training_as_it_went_in(
    kind: str, small_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS._entries, "backbone", Backbone)
    shape = WORLD_MODELS.get(kind).Config(**{**KINDS[kind], "encoder": "backbone"})
    model, _ = train_world_model(small_dataset, shape, TRAINING, device="cpu", progress=False)
    fresh = Backbone(64).state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in model.encoder.state_dict().items())
    save_checkpoint(Checkpoint(model), tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "model.safetensors").world_model
    pixels = torch.from_numpy(small_dataset.pixels[:4].copy())
    with torch.no_grad():
        assert torch.equal(loaded.encode(pixels), model.encode(pixels))
