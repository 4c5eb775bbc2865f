"""What is particular to the world model of patch tokens: the grid, and encoders whose weights stay."""

from __future__ import annotations

import pytest
import torch
from tiny_kinds import BLOCK, images, make, normal
from torch import nn

from wm_agents.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from wm_agents.models.patch import ConvGrid
from wm_agents.registry import ENCODERS


@pytest.mark.parametrize(("size", "tokens"), [(16, 1), (32, 4), (64, 16)])
def test_a_frame_is_a_grid_of_tokens(size, tokens):
    encoder = ConvGrid(size)
    assert encoder.tokens == tokens
    assert encoder(images(2, size=size)).shape == (2, tokens, encoder.features)


def test_tokens_see_their_surroundings():
    """A token of the first row and column changes with the corner of the frame, and not with the corner opposite."""
    encoder, frame = ConvGrid(64).eval(), torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    norms = [module for module in encoder.modules() if isinstance(module, nn.GroupNorm)]
    for norm in norms:  # which looks at the whole grid
        norm.forward = lambda x: x
    changed = frame.clone()
    changed[:, :4, :4] = 255
    moved = (encoder(changed) - encoder(frame)).abs().amax(-1)[0]
    assert moved[0] > 0
    assert moved[15] == 0


def test_an_encoder_without_tokens_is_refused():
    with pytest.raises(ValueError, match=r"'conv' gives one vector per frame"):
        make("patch", encoder="conv")


class Backbone(nn.Module):
    """Stands for weights from elsewhere: random ones of a fixed seed, a BatchNorm, and two by two tokens."""

    features, tokens, frozen = 5, 4, True
    seed = 7

    def __init__(self, image_size):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.mix = nn.Linear(3, self.features, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(normal(self.features, 3, seed=self.seed))
        self.identity = f"backbone of seed {self.seed}"

    def forward(self, pixels):
        quarters = pixels.float().div(255).unflatten(2, (2, -1)).unflatten(1, (2, -1)).mean((2, 4)).flatten(1, 2)
        return self.mix(self.norm(quarters.flatten(0, 1))).unflatten(0, (len(pixels), 4)).tanh()


class OtherBackbone(Backbone):
    seed = 8


@pytest.fixture
def backbone(monkeypatch):
    monkeypatch.setitem(ENCODERS._entries, "backbone", Backbone)


@pytest.mark.usefixtures("backbone")
def test_a_frozen_encoder_is_not_trained():
    model = make("patch", encoder="backbone").train()
    assert model.training
    assert model.projector.training
    assert not any(part.training for part in model.encoder.modules())
    assert not any(weight.requires_grad for weight in model.encoder.parameters())
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1)
    batch = model.learn(images(5, 4), normal(5, 3, BLOCK), torch.Generator())
    (batch.predicted - batch.z[:, 1:]).square().mean().backward()
    optimizer.step()
    assert all(weight.grad is not None and weight.grad.any() for weight in trained)
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.usefixtures("backbone")
def test_a_file_names_the_weights_of_a_frozen_encoder_and_does_not_hold_them(monkeypatch, tmp_path):
    path = tmp_path / "model.safetensors"
    model = make("patch", encoder="backbone")
    save_checkpoint(Checkpoint(model), path)
    loaded = load_checkpoint(path).world_model
    assert torch.equal(loaded.encode(images(3)), model.encode(images(3)))
    assert b"world_model.encoder." not in path.read_bytes()
    monkeypatch.setitem(ENCODERS._entries, "backbone", OtherBackbone)
    with pytest.raises(
        CheckpointError, match="'backbone of seed 7', the one that is installed has 'backbone of seed 8'"
    ):
        load_checkpoint(path)
