"""World models from video: neither encoder nor latent actions depend on actions, and few labels give them meaning."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from every_learner import tiny_world_model
from short_runs import assert_same_weights

from wm_agents import GCIDM, MPC, load, train_world_model
from wm_agents.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from wm_agents.models.video_lewm import VideoLeWM, VideoLeWMConfig
from wm_agents.training import (
    ActionMapsTrainingConfig,
    InverseDynamicsTrainingConfig,
    TrainingConfig,
    infer_actions,
    train_action_maps,
    train_head,
)
from wm_agents.training.video import latent_actions

pytest_plugins = ["trained"]
pytestmark = pytest.mark.filterwarnings("ignore:latents have collapsed")

SHAPE = VideoLeWMConfig(latent_size=8, predictor_width=32, action_width=32)
TRAINING = TrainingConfig(steps=6, batch_size=16, frames=3, evaluate_every=3)
MAPS = ActionMapsTrainingConfig(steps=60, batch_size=64, evaluate_every=30)


def on_video(data: Any, **changes: Any) -> Any:
    training = dataclasses.replace(TRAINING, **changes)
    return train_world_model(data, SHAPE, training, device="cpu", progress=False)[0]


def episodes(data: Any, *chosen: int) -> Any:
    rows = list(chosen)
    names = ("starts", "lengths", "episode_ids")
    return dataclasses.replace(data, **{name: getattr(data, name)[rows] for name in names})


@pytest.fixture(scope="module")
def video_model(small_dataset: Any) -> Any:
    return on_video(small_dataset)


@pytest.fixture(scope="module")
def mapped(video_model: Any, small_dataset: Any) -> Any:
    return train_action_maps(video_model, episodes(small_dataset, 0, 1, 2), MAPS, progress=False)[0]


def test_the_encoder_and_the_latent_actions_never_see_an_action(video_model: Any, small_dataset: Any) -> None:
    garbage = np.random.default_rng(3).uniform(-1, 1, small_dataset.actions.shape).astype(np.float32)
    other = on_video(dataclasses.replace(small_dataset, actions=garbage))
    for name, weight in video_model.named_parameters():
        assert torch.equal(weight, other.state_dict()[name]), name
    frames = torch.from_numpy(small_dataset.pixels[:20].copy())
    with torch.no_grad():
        z, again = video_model.encode(frames), other.encode(frames)
        assert torch.equal(z, again)
        inferred = video_model.infer(z[:10], z[5:15], z[10:])
        assert torch.equal(inferred, other.infer(again[:10], again[5:15], again[10:]))
    still = on_video(dataclasses.replace(small_dataset, actions=np.zeros_like(garbage)))  # a video without actions
    assert torch.equal(still.encode(frames), z)


def test_the_maps_change_nothing_but_themselves_and_the_statistics(video_model: Any, mapped: Any) -> None:
    changed = {
        name.split(".")[0]
        for name, value in mapped.state_dict().items()
        if not torch.equal(value, video_model.state_dict()[name])
    }
    assert {"to_block", "to_latent", "mapped"} <= changed
    assert changed <= {"to_block", "to_latent", "mapped", "action_mean", "action_std"}
    assert not any(weight.requires_grad for weight in mapped.parameters())


def test_the_maps_learn_and_give_the_same_weights_every_time(video_model: Any, small_dataset: Any) -> None:
    labelled = episodes(small_dataset, 0, 1, 2)
    first, history = train_action_maps(video_model, labelled, MAPS, progress=False)
    assert history["train/to_latent"][-1][1] < history["train/to_latent"][0][1]
    assert_same_weights(first, train_action_maps(video_model, labelled, MAPS, progress=False)[0])


@pytest.mark.parametrize("steps", [100, 30, 11])
def test_a_single_labelled_episode_is_enough(video_model: Any, small_dataset: Any, steps: int) -> None:
    one = episodes(small_dataset, 4)
    one = dataclasses.replace(one, lengths=np.minimum(one.lengths, steps))
    known = train_action_maps(video_model, one, MAPS, progress=False)[0]
    torch.testing.assert_close(known.action_low, torch.from_numpy(small_dataset.action_low))
    assert infer_actions(known, small_dataset, progress=False).actions.shape == small_dataset.actions.shape


def test_inferred_actions_are_the_mean_over_the_blocks_that_contain_them(mapped: Any, small_dataset: Any) -> None:
    video = episodes(small_dataset, 5, 7)
    found = infer_actions(mapped, video, progress=False)
    k, start, last = 5, int(video.starts[1]), int(video.lengths[1])
    with torch.no_grad():
        latents = mapped.encode(torch.from_numpy(small_dataset.pixels.copy()))
        frames = start + np.arange(last - k + 1)
        parts = latent_actions(mapped, video, latents, frames)
        blocks = mapped.denormalize(mapped.decode(*parts)).reshape(-1, k, 2).numpy()
    for step in (0, 3, 20, last - 1):
        covering = [(step - back, back) for back in range(k) if 0 <= step - back <= last - k]
        expected = np.mean([blocks[frame, back] for frame, back in covering], axis=0)
        np.testing.assert_allclose(found.actions[start + step], expected, atol=1e-5)
    assert not found.actions[start + last].any()
    garbage = dataclasses.replace(video, actions=np.full_like(video.actions, 0.5))
    assert np.array_equal(infer_actions(mapped, garbage, progress=False).actions, found.actions)


def test_the_agents_act_and_their_files_keep_the_maps(mapped: Any, small_dataset: Any, tmp_path: Path) -> None:
    inferred = infer_actions(mapped, small_dataset, progress=False)
    training = InverseDynamicsTrainingConfig(steps=5, batch_size=32, evaluate_every=5)
    head = train_head("gc-idm", mapped, inferred, training=training, progress=False)[0]
    agent = GCIDM(mapped, heads=[head], seed=0)
    image = small_dataset.pixels[:1].copy()
    observation = {"pixels": image, "goal_pixels": small_dataset.pixels[50:51].copy()}
    action, _ = agent.predict(observation, deterministic=True)
    assert action.shape == (1, 2)
    agent.save(tmp_path / "agent.safetensors")
    loaded = load(tmp_path / "agent.safetensors")
    assert np.array_equal(loaded.predict(observation, deterministic=True)[0], action)
    assert_same_weights(loaded.world_model, mapped)
    search = MPC(loaded.world_model, planner="cem", horizon=3, samples=8, elites=2, iterations=2, seed=0)
    plan, _ = search.predict(observation, deterministic=True)
    assert (np.abs(plan) <= 1).all()


def test_imagining_follows_latent_actions(mapped: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    z, blocks = torch.randn(2, 2, 8, generator=generator), torch.randn(2, 1, 3, 10, generator=generator)
    state = mapped.remember(z, torch.randn(2, 1, 10, generator=generator))
    with torch.no_grad():
        imagined = mapped.imagine(state, blocks)[:, 0]
        u = mapped.translate(z[:, 0], z[:, 1], blocks[:, 0, 0])
        past = mapped.infer(z[:, 0], z[:, 0], z[:, 1])
        expected = mapped.predictor(z, torch.stack([past, u], dim=1))[:, -1]
    torch.testing.assert_close(imagined[:, 0], expected)


def test_mistakes(video_model: Any, mapped: Any, small_dataset: Any, tmp_path: Path) -> None:
    few = episodes(small_dataset, 0, 1)
    with pytest.raises(ValueError, match=r"LeWM has no latent actions: train a world model on video first"):
        train_action_maps(tiny_world_model(small_dataset), few, MAPS, progress=False)
    with pytest.raises(ValueError, match=r"LeWM has no latent actions"):
        infer_actions(tiny_world_model(small_dataset), few, progress=False)
    with pytest.raises(ValueError, match=r"knows no real actions yet: call train_action_maps"):
        infer_actions(video_model, few, progress=False)
    save_checkpoint(Checkpoint(video_model), tmp_path / "video.safetensors")
    unmapped = load_checkpoint(tmp_path / "video.safetensors").world_model
    assert isinstance(unmapped, VideoLeWM)
    with pytest.raises(ValueError, match=r"knows no real actions yet: call train_action_maps"):
        unmapped.imagine(unmapped.initial(1), torch.zeros(1, 2, 1, 10))
    with pytest.raises(ValueError, match=r"the data must be a dataset, not str"):
        infer_actions(mapped, "wm/small/waypoint-v0", progress=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"the data must be a dataset, not str"):
        train_action_maps(video_model, "wm/small/waypoint-v0", progress=False)  # type: ignore[arg-type]
    still = dataclasses.replace(few, actions=np.zeros_like(few.actions))
    with pytest.raises(ValueError, match=r"action-maps learns from actions, and those of .* never change"):
        train_action_maps(video_model, still, MAPS, progress=False)
    with pytest.raises(ValueError, match=r"episode 1 of .* has 3 actions, and a latent action stands for 5"):
        infer_actions(mapped, dataclasses.replace(few, lengths=np.array([100, 3])), progress=False)
    with pytest.raises(ValueError, match=r"video-lewm learns from windows of at least 3 frames: set frames=3"):
        on_video(small_dataset, frames=2)
    for term in ("inverse_dynamics", "rollout", "variable_length"):
        with pytest.raises(
            ValueError, match=rf"the loss term '{term}' reads actions, and VideoLeWM is trained without"
        ):
            on_video(small_dataset, loss_weights={"prediction": 1.0, term: 1.0})
    with pytest.raises(ValueError, match=r"latent_action_size"):
        VideoLeWMConfig(latent_action_size=0)
