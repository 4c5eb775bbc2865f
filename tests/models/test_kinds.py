"""The world-model contract, checked on every kind; and what is particular to patch tokens and to the RSSM."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from wm_agents.agents.search import in_bf16
from wm_agents.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from wm_agents.models import ActionStatistics, LeWMConfig
from wm_agents.models.patch import ConvGrid, PatchConfig
from wm_agents.models.rssm import RSSMConfig
from wm_agents.registry import ENCODERS, WORLD_MODELS

SIZE, BLOCK = 32, 6
SMALL = {"image_size": SIZE, "action_block": BLOCK // 2}
CONFIGS = {
    "lewm": LeWMConfig(**SMALL, latent_size=6, predictor_width=16),
    "patch": PatchConfig(**SMALL, token_size=3, predictor_width=8, predictor_heads=2),
    "rssm": RSSMConfig(**SMALL, latent_size=6, recurrent_size=16),
}
SHAPES = {"lewm": (6,), "patch": (4, 3), "rssm": (6,)}
ACTIONS = ActionStatistics(-np.ones(2), np.ones(2), np.array([-0.1, 0.2]), np.array([0.3, 0.7]))
every_kind = pytest.mark.parametrize("kind", CONFIGS)


def make(kind, **changes):
    """A tiny model whose weights and BatchNorm averages are off their initial values, in evaluation mode."""
    torch.manual_seed(0)
    model = WORLD_MODELS.get(kind)(dataclasses.replace(CONFIGS[kind], **changes), ACTIONS)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape) * weight.requires_grad
    model.train()
    model.encode(images(40))
    return model.eval()


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(*lead, size=SIZE, seed=0):
    return torch.randint(
        0, 256, (*lead, size, size, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def seen(model, frames, n=2, seed=0):
    """The state of n environments after some frames."""
    latents = normal(n, frames, *model.spec.shape, seed=seed)
    return model.remember(latents, normal(n, max(frames - 1, 0), BLOCK, seed=seed + 1))


def rows(state, index):
    return {name: values[index] for name, values in state.items()}


def joined(*states):
    return {name: torch.cat([state[name] for state in states]) for name in states[0]}


def close(one, other, tolerance=1e-5):
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


# The contract


@every_kind
@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,)])
def test_encode_features_and_back(kind, lead):
    model = make(kind)
    z = model.encode(images(*lead))
    assert model.spec.shape == SHAPES[kind]
    assert z.shape == (*lead, *SHAPES[kind])
    assert z.dtype == torch.float32
    features = model.features(z)
    assert features.shape == (*lead, model.spec.feature_size)
    assert torch.equal(model.unflatten(features), z)


@every_kind
def test_a_latent_depends_on_its_frame_alone(kind):
    model, frames = make(kind), images(4)
    z = model.encode(frames)
    assert torch.equal(model.encode(frames), z)
    close(model.encode(frames[2]), z[2])
    close(model.encode(frames[[3, 1]]), z[[3, 1]])
    assert (z[0] - z[1]).abs().max() > 1e-3


@every_kind
def test_states_have_a_row_per_environment(kind):
    model = make(kind)
    blank = {name: values.shape for name, values in model.initial(3).items()}
    assert all(shape[0] == 3 for shape in blank.values())
    for state in (seen(model, 1, 3), seen(model, 4, 3), model.advance(seen(model, 2, 3), normal(3, BLOCK))):
        assert {name: values.shape for name, values in state.items()} == blank
        assert model.latent(state).shape == model.previous(state).shape == (3, *SHAPES[kind])
        for name, values in state.items():
            assert values.dtype == model.initial(3)[name].dtype


@every_kind
def test_now_and_one_block_ago(kind):
    model = make(kind)
    latents = normal(2, 3, *SHAPES[kind])
    state = model.observe(model.initial(2), latents[:, 0], normal(2, BLOCK))
    assert torch.equal(model.latent(state), latents[:, 0])
    assert torch.equal(model.previous(state), latents[:, 0])  # no frame yet before the first
    state = model.observe(state, latents[:, 1], normal(2, BLOCK))
    assert torch.equal(model.latent(state), latents[:, 1])
    assert torch.equal(model.previous(state), latents[:, 0])
    ahead = model.advance(state, normal(2, BLOCK))
    assert torch.equal(model.previous(ahead), latents[:, 1])
    corrected = model.observe(ahead, latents[:, 2], normal(2, BLOCK))  # a frame after an imagined block
    assert torch.equal(model.latent(corrected), latents[:, 2])
    assert torch.equal(model.previous(corrected), model.latent(ahead))


@every_kind
def test_the_block_before_the_first_frame_is_ignored(kind):
    model, latent = make(kind), normal(2, *SHAPES[kind])
    states = [model.observe(model.initial(2), latent, normal(2, BLOCK, seed=seed)) for seed in (1, 2)]
    actions = normal(2, 3, 4, BLOCK)
    close(*(model.imagine(state, actions) for state in states))


@every_kind
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_imagine_is_advance_again_and_again(kind, frames):
    model, actions = make(kind), normal(2, 3, 4, BLOCK)
    state = seen(model, frames)
    imagined = model.imagine(state, actions)
    assert imagined.shape == (2, 3, 4, *SHAPES[kind])
    assert imagined.dtype == torch.float32
    for sample in range(3):
        now = state
        for h in range(4):
            now = model.advance(now, actions[:, sample, h])
            close(imagined[:, sample, h], model.latent(now))


@every_kind
def test_the_past_matters_and_so_do_the_actions(kind):
    model, actions = make(kind), normal(2, 1, 2, BLOCK)
    state = seen(model, 3)
    alone = model.observe(model.initial(2), model.latent(state), normal(2, BLOCK))
    imagined = model.imagine(state, actions)
    assert (imagined - model.imagine(alone, actions)).abs().max() > 1e-4
    assert (imagined - model.imagine(state, -actions)).abs().max() > 1e-4


@every_kind
def test_environments_do_not_disturb_each_other_whatever_each_has_seen(kind):
    model = make(kind)
    mixed = joined(seen(model, 3, 1), seen(model, 1, 2, seed=5), seen(model, 7, 1, seed=9))
    actions = normal(4, 3, 4, BLOCK)
    imagined = model.imagine(mixed, actions)
    ahead = model.advance(mixed, actions[:, 0, 0])
    observed = model.observe(mixed, normal(4, *SHAPES[kind]), actions[:, 0, 0])
    for row in range(4):
        one, part = rows(mixed, [row]), actions[[row]]
        close(imagined[[row]], model.imagine(one, part))
        close(model.latent(ahead)[[row]], model.latent(model.advance(one, part[:, 0, 0])))
        alone = model.observe(one, normal(4, *SHAPES[kind])[[row]], part[:, 0, 0])
        close(model.imagine(rows(observed, [row]), part), model.imagine(alone, part))
    order = [2, 0, 3, 1]
    close(model.imagine(rows(mixed, order), actions[order]), imagined[order])


@every_kind
def test_gradients_flow_from_imagined_latents_to_every_action_before_them(kind):
    model = make(kind)
    actions = normal(2, 3, 4, BLOCK).requires_grad_()
    model.imagine(seen(model, 2), actions)[:, :, 2].square().sum().backward()
    assert (actions.grad[:, :, :3].abs().amax(-1) > 0).all()
    assert not actions.grad[:, :, 3].any()


@every_kind
def test_learning_reaches_every_weight(kind):
    model = make(kind).train()
    frames, actions = images(5, 4), normal(5, 3, BLOCK)
    batch = model.learn(frames, actions, torch.Generator().manual_seed(0))
    size = model.spec.feature_size
    assert batch.z.shape == (5, 4, size)
    assert batch.predicted.shape == (5, 3, size)
    assert batch.shape == model.spec.shape
    own = {name for name in model.losses if name in batch.own}
    assert own == set(batch.own)
    ((batch.predicted - batch.z[:, 1:]).square().mean() + sum(batch.own.values())).backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not idle


@every_kind
def test_what_is_learnt_is_what_is_imagined(kind, monkeypatch):
    """Row t of the training's predictions, in evaluation mode and without noise, is a block imagined after t frames."""
    model = make(kind)
    frames, actions = images(2, 4), normal(2, 3, BLOCK)
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(*shape))
    batch = model.learn(frames, actions, torch.Generator())
    z = model.encode(frames)
    close(batch.z, model.features(z))
    for t in range(3):
        state = model.remember(z[:, : t + 1], actions[:, :t])
        close(batch.predicted[:, t], model.features(model.latent(model.advance(state, actions[:, t]))))


@every_kind
def test_bf16_imagines_much_the_same(kind):
    model, actions = make(kind), normal(2, 3, 2, BLOCK)
    state = seen(model, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        rough = in_bf16(model).imagine(state, actions)
    exact = model.imagine(state, actions)
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()
    assert model.encode(images(1)).dtype == torch.float32


@every_kind
def test_copies_and_files_hold_the_same_model(kind, tmp_path):
    model, actions = make(kind), normal(2, 3, 2, BLOCK)
    state = seen(model, 3)
    save_checkpoint(Checkpoint(model), tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "model.safetensors").world_model
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    for other in (loaded, copy.deepcopy(model)):
        assert torch.equal(other.encode(images(3)), model.encode(images(3)))
        assert torch.equal(other.imagine(state, actions), model.imagine(state, actions))
        for name, values in model.state_dict().items():
            assert torch.equal(other.state_dict()[name], values), name


@every_kind
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (images(2).float(), r"must be uint8 in 0\.\.255"),
        (images(2, size=16), r"trained on \(32, 32, 3\): make the environment with image_size=32"),
    ],
)
def test_wrong_images_are_refused(kind, wrong, message):
    with pytest.raises(ValueError, match=message):
        make(kind).encode(wrong)


@pytest.mark.parametrize(
    ("config", "wrong", "message"),
    [
        (PatchConfig, {"token_size": 0}, "token_size must be a whole number of at least 1"),
        (PatchConfig, {"history": 1.5}, "history must be a whole number"),
        (PatchConfig, {"encoder": "conv-gird"}, "Did you mean 'conv-grid'"),
        (PatchConfig, {"predictor_heads": 3}, "must be a multiple of predictor_heads 3"),
        (RSSMConfig, {"latent_size": True}, "latent_size must be a whole number"),
        (RSSMConfig, {"free_nats": -1.0}, "free_nats must be a finite number, at least 0"),
        (RSSMConfig, {"representation_scale": float("nan")}, "representation_scale must be a finite number"),
        (RSSMConfig, {"encoder": "con"}, "Did you mean 'conv'"),
        (RSSMConfig, {"image_size": 60}, "must be a multiple of 8"),
    ],
)
def test_wrong_shapes_of_networks_are_refused(config, wrong, message):
    with pytest.raises(ValueError, match=message):
        config(**wrong)


# Patch tokens


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


# RSSM


def test_the_latent_holds_the_picture_and_training_samples_around_it():
    model = make("rssm").train()
    frames, actions = images(5, 4), normal(5, 3, BLOCK)
    batch, again = (model.learn(frames, actions, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    close(batch.z, model.encode(frames))
    assert torch.equal(batch.z, again.z)
    assert set(batch.own) == {"kl", "reconstruction"}
    assert batch.own["reconstruction"] != again.own["reconstruction"]


def test_free_nats_let_the_divergence_be():
    model = make("rssm", free_nats=1e6).train()
    batch = model.learn(images(5, 4), normal(5, 3, BLOCK), torch.Generator())
    assert batch.own["kl"].item() == pytest.approx(1.1e6)
    batch.own["kl"].backward()
    assert not any(weight.grad is not None and weight.grad.any() for weight in model.parameters())
