from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_agents.models import ActionStatistics, LeWM, LeWMConfig, WorldModel
from wm_agents.models.heads.gc_idm import sinusoid

both_predictors = pytest.mark.parametrize("predictor", ["mlp", "transformer"])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rollout(model: WorldModel, z: torch.Tensor, past: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """What follows the latents ``z [B, T, D]`` and the blocks between them: ``actions [B, S, H, K*A]``."""
    return model.imagine(model.remember(z, past), actions)


def predict(model: WorldModel, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
    """The next latent ``[B, D]`` from ``z [B, T, D]`` and ``actions [B, T, K*A]``, the last of which comes next."""
    return rollout(model, z, actions[:, :-1], actions[:, None, -1:])[:, 0, 0]


def images(*lead: int, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(lead))
    return torch.randint(0, 256, (*lead, size, size, 3), generator=generator, dtype=torch.uint8)


# Encoding


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3)])
def test_encode_keeps_the_leading_dimensions(world_model, lead):
    model = world_model()
    z = model.encode(images(*lead))
    assert z.shape == (*lead, 6)
    assert z.dtype == torch.float32
    assert model.encode(images(*lead)[:0] if lead else images(0)).numel() == 0
    flat = model.encode(images(*lead).reshape(-1, 16, 16, 3))
    torch.testing.assert_close(z.reshape(-1, 6), flat)
    assert len({tuple(row) for row in flat.tolist()}) == len(flat)  # different images, different latents


@pytest.mark.parametrize("encoder", ["conv", "vit"])
@pytest.mark.parametrize("image_size", [16, 24])
def test_encoders_work_at_small_sizes_and_pass_gradients(world_model, encoder, image_size):
    model = world_model(encoder=encoder, image_size=image_size).train()
    z = model.encode(images(2, 2, size=image_size))
    assert z.shape == (2, 2, 6)
    z.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.encoder.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_encode_takes_uint8_only(world_model, dtype):
    with pytest.raises(
        ValueError, match=r"must be uint8 in 0\.\.255, not torch\.\w+: pass the environment's images unchanged"
    ):
        world_model().encode(images(1).to(dtype))


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (1, 3, 16, 16), (1, 16, 16, 1), (1, 16, 8, 3), (16, 16)])
def test_encode_refuses_other_image_sizes_and_says_the_way_out(world_model, shape):
    with pytest.raises(ValueError, match=r"trained on \(16, 16, 3\): make the environment with image_size=16"):
        world_model().encode(torch.zeros(shape, dtype=torch.uint8))


def test_the_latent_of_an_image_does_not_depend_on_the_batch_in_evaluation_mode(world_model):
    model, pixels = world_model(), images(5)
    torch.testing.assert_close(model.encode(pixels)[3:4], model.encode(pixels[3:4]))


# Prediction


@both_predictors
@pytest.mark.parametrize("history", [1, 2, 3])
def test_forward_row_t_is_predict_on_the_history_up_to_t(world_model, predictor, history):
    model = world_model(predictor=predictor, history=history)
    z, actions = normal(4, 6, 6), normal(4, 6, 6, seed=1)
    rows = model.predictor(z, actions)
    assert rows.shape == (4, 6, 6)
    for t in range(6):
        start = max(0, t + 1 - history)
        torch.testing.assert_close(rows[:, t], predict(model, z[:, start : t + 1], actions[:, start : t + 1]))
        torch.testing.assert_close(rows[:, t], predict(model, z[:, : t + 1], actions[:, : t + 1]))


@both_predictors
def test_later_frames_and_actions_leave_earlier_predictions_as_they_are(world_model, predictor):
    model = world_model(predictor=predictor, history=3)
    z, actions = normal(2, 5, 6), normal(2, 5, 6, seed=1)
    rows = model.predictor(z, actions)
    for t in range(1, 5):
        later_z, later_actions = z.clone(), actions.clone()
        later_z[:, t:] += 1
        later_actions[:, t:] -= 1
        changed = model.predictor(later_z, later_actions)
        torch.testing.assert_close(changed[:, :t], rows[:, :t], rtol=0, atol=1e-6)
        assert ((changed[:, t:] - rows[:, t:]).abs().amax(dim=-1) > 1e-4).all()


@both_predictors
def test_predictions_use_every_frame_and_action_of_the_history_and_no_older(world_model, predictor):
    model = world_model(predictor=predictor, history=2)
    z, actions = normal(1, 4, 6), normal(1, 4, 6, seed=1)
    last = model.predictor(z, actions)[:, -1]
    for frame, matters in enumerate([False, False, True, True]):
        for changed in (0, 1):
            inputs = [z.clone(), actions.clone()]
            inputs[changed][:, frame] += 1
            difference = (model.predictor(*inputs)[:, -1] - last).abs().max()
            assert (difference > 1e-4) if matters else (difference < 1e-6)


@both_predictors
@pytest.mark.parametrize("frames", [1, 3, 5])
@pytest.mark.parametrize("horizon", [1, 5])
def test_rollout_is_predict_repeated(world_model, predictor, frames, horizon):
    model = world_model(predictor=predictor, history=3)
    z, past = normal(2, frames, 6), normal(2, frames - 1, 6, seed=1)
    actions = normal(2, 4, horizon, 6, seed=2)
    imagined = rollout(model, z, past, actions)
    assert imagined.shape == (2, 4, horizon, 6)
    for b in range(2):
        for s in range(4):
            latents, blocks = [*z[b]], [*past[b]]
            for h in range(horizon):
                blocks.append(actions[b, s, h])
                latents.append(predict(model, torch.stack(latents)[None], torch.stack(blocks)[None])[0])
                torch.testing.assert_close(imagined[b, s, h], latents[-1], rtol=1e-4, atol=1e-5)


@both_predictors
@pytest.mark.parametrize("history", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2])
def test_rollout_is_forward_fed_back(world_model, predictor, history, frames):
    """``forward`` shares no loop with ``rollout``: no positions first, no last row alone, attention by torch."""
    model = world_model(predictor=predictor, history=history)
    z, past, actions = normal(2, frames, 6), normal(2, frames - 1, 6, seed=1), normal(2, 3, 4, 6, seed=2)
    imagined = rollout(model, z, past, actions)
    for s in range(3):
        seen = torch.cat([z, imagined[:, s]], dim=1)
        blocks = torch.cat([past, actions[:, s]], dim=1)
        again = model.predictor(seen[:, :-1], blocks)[:, frames - 1 :]
        torch.testing.assert_close(imagined[:, s], again, rtol=1e-4, atol=1e-5)


@both_predictors
def test_rollout_in_parts_gives_the_same_latents_and_gradients(world_model, predictor, monkeypatch):
    model = world_model(predictor=predictor)
    z, past, actions = normal(3, 2, 6), normal(3, 1, 6, seed=1), normal(3, 5, 4, 6, seed=2).requires_grad_()
    whole = rollout(model, z, past, actions)
    (slope,) = torch.autograd.grad(whole[:, :, -1].square().sum(), actions)
    monkeypatch.setattr(type(model.predictor), "rows", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)  # rows a core: parts of 4 cut through environments
    parts = rollout(model, z, past, actions)
    (again,) = torch.autograd.grad(parts[:, :, -1].square().sum(), actions)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(again, slope, rtol=1e-4, atol=1e-6)
    assert (slope.abs().amax(dim=(0, 1, 3)) > 0).all()  # every block moves the end


def test_training_sees_all_rows_of_a_rollout_at_once(world_model, monkeypatch):
    model = world_model(predictor="transformer").train()
    monkeypatch.setattr(type(model.predictor), "rows", 1)
    before = model.predictor.project[1].num_batches_tracked.item()
    rollout(model, normal(3, 2, 6), normal(3, 1, 6, seed=1), normal(3, 5, 4, 6, seed=2)).sum().backward()
    assert model.predictor.project[1].num_batches_tracked.item() == before + 4  # one batch a block


def test_transformer_ignores_actions_at_first_but_gradients_reach_them(world_model):
    model = world_model(predictor="transformer", shaken=False)
    z, actions = normal(4, 2, 6), normal(4, 2, 6, seed=1)
    predictor = model.predictor
    tokens = normal(4, 2, 16)
    for block in predictor.blocks:  # gates are zero: both branches are shut
        assert torch.equal(block(tokens, normal(4, 2, 16, seed=2)), tokens)
    assert torch.equal(model.predictor(z, actions), model.predictor(z, actions + 1))

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.predictor(z, actions).square().sum().backward()
    for block in predictor.blocks:
        assert block.modulation[1].weight.grad.abs().sum() > 0
    optimizer.step()
    assert (model.predictor(z, actions) - model.predictor(z, actions + 1)).abs().max() > 1e-4
    optimizer.zero_grad()
    model.predictor(z, actions).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in predictor.embed.parameters())


def test_mlp_predicts_a_change_of_the_last_latent(world_model):
    model = world_model()
    with torch.no_grad():
        for parameter in model.predictor.net[-1].parameters():
            parameter.zero_()
    z = normal(3, 2, 6)
    torch.testing.assert_close(model.predictor(z, normal(3, 2, 6, seed=1)), z)


@both_predictors
def test_same_seed_same_weights(world_model, predictor):
    first, again, other = (world_model(predictor=predictor, shaken=False, seed=seed) for seed in (1, 1, 2))
    for (name, value), same in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(value, same), name
    assert any(
        not torch.equal(value, different)
        for value, different in zip(first.state_dict().values(), other.state_dict().values(), strict=True)
    )


# Actions

ONE_ACTION = st.tuples(st.floats(-5, 5), st.floats(0, 4), st.floats(-3, 3), st.floats(0.05, 3))  # low, width, mean, std


def with_actions(dimensions: list[tuple[float, float, float, float]], block: int) -> LeWM:
    low, width, mean, std = (np.array(column) for column in zip(*dimensions, strict=True))
    config = LeWMConfig(
        image_size=16, action_size=len(low), action_block=block, latent_size=2, predictor_width=4, predictor_depth=1
    )
    return LeWM(config, ActionStatistics(low, low + width, mean, std))


@settings(max_examples=30, deadline=None)
@given(st.lists(ONE_ACTION, min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 1000))
def test_normalize_and_denormalize_are_inverse_inside_the_bounds(dimensions, block, seed):
    model = with_actions(dimensions, block)
    rng = np.random.default_rng(seed)
    low, high = (bound.repeat(block) for bound in (model.action_low, model.action_high))
    raw = low + torch.tensor(rng.random((7, len(low))), dtype=torch.float32) * (high - low)
    torch.testing.assert_close(model.denormalize(model.normalize(raw)), raw, rtol=1e-4, atol=1e-4)
    primitive = raw[:, : model.config.action_size]
    torch.testing.assert_close(model.normalize(raw)[:, : model.config.action_size], model.normalize(primitive))


@settings(max_examples=30, deadline=None)
@given(st.lists(ONE_ACTION, min_size=1, max_size=3), st.integers(1, 3), st.floats(width=32, allow_nan=False))
def test_denormalize_never_leaves_the_bounds(dimensions, block, value):
    model = with_actions(dimensions, block)
    size = model.config.block_size
    for z_scores in (torch.full((2, size), value), value * normal(2, size), *model.block_bounds()):
        raw = model.denormalize(torch.nan_to_num(z_scores)).reshape(-1, block, model.config.action_size)
        assert (raw >= model.action_low).all()
        assert (raw <= model.action_high).all()


def test_normalize_is_the_z_score(world_model):
    model = world_model(action_block=2)  # mean -0.1, 0.2; std 0.3, 0.7
    z_scores = model.normalize(torch.tensor([0.2, 0.9, -0.4, -0.5]))
    assert z_scores.tolist() == pytest.approx([1, 1, -1, -1], rel=1e-5)


def test_block_bounds_are_the_action_bounds_normalised_and_repeated(world_model):
    model = world_model(action_block=2)  # bounds -1..0.5 and -0.5..2
    low, high = model.block_bounds()
    assert low.tolist() == pytest.approx(2 * [-0.9 / 0.3, -0.7 / 0.7], rel=1e-5)
    assert high.tolist() == pytest.approx(2 * [0.6 / 0.3, 1.8 / 0.7], rel=1e-5)
    torch.testing.assert_close(model.denormalize(high), model.action_high.repeat(2))


def test_action_statistics_of_another_size_are_refused():
    three = np.ones(3)
    with pytest.raises(ValueError, match=r"action low has shape \(3,\), expected \(2,\)"):
        LeWM(LeWMConfig(), ActionStatistics(three, three, three, three))


# Configuration


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("encoder", "con", r"Unknown encoder 'con'\. Did you mean 'conv'\? Known: conv,"),
        ("predictor", "transformr", r"Unknown predictor 'transformr'\. Did you mean 'transformer'\? Known: mlp"),
    ],
)
def test_unknown_networks_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        LeWMConfig(**{field: value})


@pytest.mark.parametrize(("encoder", "size", "message"), [("vit", 20, "multiple of"), ("conv", 8, "at least 16")])
def test_image_sizes_that_the_encoder_cannot_take_are_refused(world_model, encoder, size, message):
    with pytest.raises(ValueError, match=rf"image_size {size} .*{message}"):
        world_model(encoder=encoder, image_size=size)


# Inverse dynamics


def test_inverse_dynamics_shapes_and_gradients(inverse_dynamics):
    model = inverse_dynamics(action_size=3).train()
    z, goal = normal(5, 6), normal(5, 6, seed=1)
    actions = model(z, normal(5, 6, seed=2), goal, torch.tensor([0, 1, 2, 40, 50]))
    assert actions.shape == (5, 3)
    actions.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_horizon_has_no_effect_at_first_but_gradients_reach_it(inverse_dynamics):
    model = inverse_dynamics(shaken=False)
    z, goal = normal(4, 6), normal(4, 6, seed=1)
    unknown, near, far = (model(z, z, goal, torch.full((4,), steps)) for steps in (0, 1, 50))
    assert torch.equal(near, far)
    assert torch.equal(near, unknown)
    near.square().sum().backward()
    assert model.modulation.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("max_horizon", [10, 50])
def test_horizon_matters_and_is_clamped(inverse_dynamics, max_horizon):
    model = inverse_dynamics(max_horizon=max_horizon)
    z, goal = normal(1, 6).expand(4, -1), normal(1, 6, seed=1).expand(4, -1)
    steps = torch.tensor([max_horizon - 1, max_horizon, max_horizon + 1, 100 * max_horizon])
    before, at, above, far = model(z, z, goal, steps)
    assert (before - at).abs().max() > 1e-4
    torch.testing.assert_close(above, at)
    torch.testing.assert_close(far, at)
    torch.testing.assert_close(model(z, z, goal, steps.float()), model(z, z, goal, steps))


def test_zero_steps_stand_for_an_unknown_distance(inverse_dynamics):
    model = inverse_dynamics()
    z, goal = normal(1, 6), normal(1, 6, seed=1)
    steps = torch.arange(51)
    actions = model(z.expand(51, -1), z.expand(51, -1), goal.expand(51, -1), steps)
    assert (actions[1:] - actions[0]).abs().amax(dim=-1).min() > 1e-4
    with torch.no_grad():
        model.unknown += 1
    moved = (model(z.expand(51, -1), z.expand(51, -1), goal.expand(51, -1), steps) - actions).abs().amax(dim=-1)
    assert moved[0] > 1e-4
    assert moved[1:].max() == 0


def test_every_row_of_a_batch_has_its_own_horizon(inverse_dynamics):
    model = inverse_dynamics()
    z, goal, steps = normal(6, 6), normal(6, 6, seed=1), torch.tensor([30, 0, 7, 30, 80, 1])
    together = model(z, z, goal, steps)
    for row in range(6):
        alone = model(z[row : row + 1], z[row : row + 1], goal[row : row + 1], steps[row : row + 1])
        torch.testing.assert_close(alone[0], together[row])


def test_modulations_kept_for_control_follow_the_weights(inverse_dynamics):
    model, other = inverse_dynamics().eval(), inverse_dynamics(seed=1).eval()
    inputs = normal(51, 6), normal(51, 6, seed=1), normal(51, 6, seed=2), torch.arange(51)
    with torch.no_grad():
        first = model(*inputs)
        kept = model._table
        assert torch.equal(model(*inputs), first)
        assert model._table is kept
        model.load_state_dict(other.state_dict())
        assert torch.equal(model(*inputs), other(*inputs))
        assert not torch.equal(model(*inputs), first)
        copied = copy.deepcopy(model)
        for weight, known in zip(copied._weights, model._weights, strict=True):
            for _ in range(known._version):  # as often as the original's: the count alone tells nothing
                weight.zero_()
        assert not torch.equal(copied(*inputs), model(*inputs))
    assert model(*inputs).requires_grad
    assert "_table" not in model.state_dict()


def test_inverse_dynamics_reads_latent_and_goal_apart(inverse_dynamics):
    model = inverse_dynamics()
    z, goal, steps = normal(1, 6), normal(1, 6, seed=1), torch.tensor([5])
    assert (model(z, z, goal, steps) - model(goal, goal, z, steps)).abs().max() > 1e-4


def test_the_earlier_frame_shows_velocity_unless_lag_is_zero(inverse_dynamics):
    z, before, goal, steps = normal(2, 6), normal(2, 6, seed=1), normal(2, 6, seed=2), torch.tensor([5, 0])
    sees, blind = inverse_dynamics(lag=5), inverse_dynamics(lag=0)
    assert (sees(z, before, goal, steps) - sees(z, z, goal, steps)).abs().amax(dim=1).min() > 1e-4
    assert torch.equal(blind(z, before, goal, steps), blind(z, z, goal, steps))


def test_sinusoid_tells_neighbouring_horizons_apart():
    embedded = sinusoid(torch.arange(51) / 50)
    assert embedded.shape == (51, 64)
    distances = torch.cdist(embedded, embedded) + 10 * torch.eye(51)
    assert distances.min() > 0.5
    assert sinusoid(torch.tensor([0.25])).squeeze()[[0, 31, 32, 63]].tolist() == pytest.approx(
        [np.sin(0.25), np.sin(25), np.cos(0.25), np.cos(25)], rel=1e-4
    )


def test_same_seed_same_inverse_dynamics(inverse_dynamics):
    first, again = inverse_dynamics(shaken=False, seed=1), inverse_dynamics(shaken=False, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
