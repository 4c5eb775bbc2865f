"""The world-model contract, checked on every kind."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_kinds import BLOCK, CONFIGS, SHAPES, close, images, make, normal
from torch import nn

from wm_agents.agents import GCIDM, MPC
from wm_agents.agents.search import in_bf16
from wm_agents.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from wm_agents.losses import LearnedLossTerm, make_losses
from wm_agents.models import InverseDynamics, InverseDynamicsConfig
from wm_agents.models.patch import PatchConfig
from wm_agents.models.rssm import RSSMConfig

every_kind = pytest.mark.parametrize("kind", CONFIGS)


def search(model):
    return MPC(model, planner="cem", horizon=3, samples=8, elites=2, iterations=2)


def amortised(model):
    head = InverseDynamics(InverseDynamicsConfig(latent_size=model.spec.feature_size, width=8)).eval()
    head.stamp(model)
    return GCIDM(model, heads=[head])


def seen(model, frames, n=2, seed=0):
    """The state of n environments after some frames."""
    latents = normal(n, frames, *model.spec.shape, seed=seed)
    return model.remember(latents, normal(n, max(frames - 1, 0), BLOCK, seed=seed + 1))


def rows(state, index):
    return {name: values[index] for name, values in state.items()}


def joined(*states):
    return {name: torch.cat([state[name] for state in states]) for name in states[0]}


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
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert not [name for name, weight in trained.items() if weight.grad is None or not weight.grad.any()]
    assert trained.keys() == dict(model.named_parameters()).keys() or not model.reads_actions or model.encoder.frozen


@every_kind
def test_what_is_learnt_is_what_is_imagined(kind):
    """Row t of the training's predictions, in evaluation mode, is a block imagined after t frames."""
    model = make(kind)
    if not model.reads_actions:
        pytest.skip("it learns with what it infers from the frames that follow")
    frames, actions = images(2, 4), normal(2, 3, BLOCK)
    batch = model.learn(frames, actions, torch.Generator())
    z = model.encode(frames)
    close(batch.z, model.features(z))
    for t in range(3):
        state = model.remember(z[:, : t + 1], actions[:, :t])
        close(batch.predicted[:, t], model.features(model.latent(model.advance(state, actions[:, t]))))


@every_kind
def test_a_few_frames_are_learnt_by_heart(kind):
    model = make(kind).train()
    terms = make_losses(model.losses, model.losses)
    frames, actions = images(8, 4), normal(8, 3, BLOCK)
    for term in terms.values():
        if isinstance(term, LearnedLossTerm):
            term.prepare(model.spec, frames.flatten(0, 1))
    parts = [model, *(term for term in terms.values() if isinstance(term, nn.Module))]
    optimizer = torch.optim.AdamW([weight for part in parts for weight in part.parameters()], lr=3e-3)
    course = []
    for step in range(40):
        batch = model.learn(frames, actions, torch.Generator().manual_seed(step))
        found = {name: terms[name](batch) if name in terms else batch.own[name] for name in model.losses}
        loss = sum(weight * found[name] for name, weight in model.losses.items())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.append(loss.item())
    assert sum(course[-5:]) < 0.7 * sum(course[:5])
    assert batch.z.flatten(0, 1).std(0).mean() > 0.1


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
@torch.no_grad()  # with gradients, torch takes another way through a ViT
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
@pytest.mark.parametrize("act", [search, amortised])
def test_agents_act_on_it(kind, act):
    agent = act(make(kind))
    memory = None
    for step in range(8):
        shown = {"pixels": images(2, seed=step).numpy(), "goal_pixels": images(2, seed=9).numpy()}
        actions, memory = agent.predict(shown, memory)
        assert actions.shape == (2, 2)
        assert (abs(actions) <= 1).all()
    alone, _ = agent.predict({name: values[1] for name, values in shown.items()})
    assert alone.shape == (2,)


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
    ],
)
def test_wrong_shapes_of_networks_are_refused(config, wrong, message):
    with pytest.raises(ValueError, match=message):
        config(**wrong)
