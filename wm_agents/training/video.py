"""Actions for video: two maps between latent and real actions, learned from the few episodes that have labels."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from wm_agents.models import WorldModel
from wm_agents.models.heads import evaluating
from wm_agents.models.video_lewm import UNMAPPED, VideoLeWM
from wm_agents.training.checks import actions_change
from wm_agents.training.device import own_modes
from wm_agents.training.latents import check_dataset_fits, encode_frames
from wm_agents.training.learner import LatentLearner, LearnerConfig, Loss, weights_hash
from wm_agents.training.state import History

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

PIECES = 10
"""A single labelled episode is cut into so many, or fewer if it is short, so that one can be held out."""


@dataclass(frozen=True)
class ActionMapsTrainingConfig(LearnerConfig):
    """How the maps are trained: :class:`LearnerConfig` on single blocks, with more weight decay for little data."""

    steps: int = 1000
    batch_size: int = 256
    weight_decay: float = 1e-2


class ActionMapsLearner(LatentLearner):
    """A copy of a :class:`VideoLeWM` that learns which real actions its latent actions stand for, and the reverse.

    Only the two maps and the statistics of actions change. Encoder, inverse network and predictor stay.
    """

    name = "action-maps"
    Training = ActionMapsTrainingConfig

    def __init__(self, world_model: WorldModel, dataset: TrajectoryDataset, *args: Any, **options: Any) -> None:
        super().__init__(world_model, _cut(dataset, world_model.spec.action_block), *args, **options)

    def needs(self) -> tuple[int, str]:
        block = self.world_model.spec.action_block
        return block, f"blocks of {block} actions"

    def check(self) -> None:
        super().check()
        check_video(self.world_model)
        if not actions_change(self.dataset):
            raise ValueError(f"action-maps learns from actions, and those of {self.dataset.name} never change.")

    def build(self) -> nn.Module:
        model = copy.deepcopy(self.world_model).requires_grad_(False)
        assert isinstance(model, VideoLeWM)
        data, (mean, std) = self.dataset, self.train_data.action_mean_std()
        for name, values in (("low", data.action_low), ("high", data.action_high), ("mean", mean), ("std", std)):
            getattr(model, f"action_{name}").copy_(torch.from_numpy(values))
        model.to_block.requires_grad_(True)
        model.to_latent.requires_grad_(True)
        return model

    def loss(self, data: TrajectoryDataset, size: int, rng: np.random.Generator, generator: torch.Generator) -> Loss:
        model = self.module
        assert isinstance(model, VideoLeWM)
        k = model.spec.action_block
        frames = data.segments(size, k, rng)
        actions = torch.from_numpy(data.actions[frames[:, None] + np.arange(k)]).to(self.device).flatten(1)
        block = model.normalize(actions)
        before, z, u = latent_actions(model, data, self.latents, frames)
        to_block = (model.decode(before, z, u) - block).square().mean()
        to_latent = (model.translate(before, z, block) - u).square().mean()
        return to_block + to_latent, {"to_block": to_block, "to_latent": to_latent}

    def finish(self) -> None:
        model = self.module.requires_grad_(False)
        assert isinstance(model, VideoLeWM)
        model.mapped.fill_(True)


def train_action_maps(
    world_model: WorldModel,
    labelled: TrajectoryDataset,
    training: ActionMapsTrainingConfig | None = None,
    *,
    progress: bool = True,
    **options: Any,
) -> tuple[VideoLeWM, History]:
    """Learn the maps between the latent actions of a world model from video and real actions.

    Args:
        world_model: Of the kind "video-lewm"; it does not change.
        labelled: Episodes with their actions, one or more. They may be part of the video.
        training: Options.
        progress: Show bars.
        **options: ``run_dir``, ``logger`` and ``callback`` of :func:`wm_agents.training.run.run`.

    Returns:
        A copy of the world model with the maps, in evaluation mode, and the history.

    Raises:
        ValueError: Another kind of world model, data that do not fit it, or actions that never change.
    """
    learner = ActionMapsLearner(world_model, labelled, training=training, progress=progress)
    history = learner.fit(progress=progress, **options)
    return learner.result, history


def infer_actions(world_model: WorldModel, video: TrajectoryDataset, *, progress: bool = True) -> TrajectoryDataset:
    """Return the video with inferred actions in place of its own, which are not read.

    Each action is the mean over the up to K blocks that contain it, decoded from their latent actions.

    Args:
        world_model: With the maps of :func:`train_action_maps`.
        video: Episodes of the environment that the world model knows.
        progress: Show a bar while frames are encoded.

    Raises:
        ValueError: Another kind of world model, one without maps, data that do not fit it, or an episode that is
            shorter than a block.
    """
    model = check_video(world_model)
    check_dataset_fits(model, video)
    k, size = model.spec.action_block, model.spec.action_size
    if not model.mapped:
        raise ValueError(UNMAPPED)
    if len(short := np.flatnonzero(video.lengths < k)):
        raise ValueError(
            f"episode {video.episode_ids[short[0]]} of {video.name} has {video.lengths[short[0]]} actions, and a "
            f"latent action stands for {k}: leave such episodes out."
        )
    latents = encode_frames(model, video, progress=progress)
    frames = video.frame_indices()
    frames = frames[frames + k <= (video.starts + video.lengths)[video.episode_of(frames)]]
    total, count = np.zeros(video.actions.shape), np.zeros((len(video.actions), 1))
    with own_modes(latents.device), torch.no_grad(), evaluating(model):
        for part in np.array_split(frames, len(frames) // 4096 + 1):
            blocks = model.denormalize(model.decode(*latent_actions(model, video, latents, part)))
            for step, actions in enumerate(blocks.cpu().double().numpy().reshape(-1, k, size).swapaxes(0, 1)):
                total[part + step] += actions
                count[part + step] += 1
        mean = torch.from_numpy((total / np.maximum(count, 1)).astype(np.float32)).to(latents.device)
        actions = np.where(count > 0, model.executable(mean).cpu().numpy(), 0).astype(np.float32)
    low, high = (bound.cpu().numpy() for bound in (model.action_low, model.action_high))
    made = {**video.provenance, "actions": {"inferred by": weights_hash(model)}}
    return dataclasses.replace(video, actions=actions, action_low=low, action_high=high, provenance=made)


def latent_actions(
    model: VideoLeWM, data: TrajectoryDataset, latents: torch.Tensor, frames: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Infer what happens in the block after each frame.

    Args:
        model: Infers.
        data: Its episodes tell which frames have a past.
        latents: ``[N, D]``, of its frames.
        frames: int64 ``[B]``, each at least one block before the end of its episode.

    Returns:
        Latents one block earlier (the frame's own where there is no such frame), and of the frame, ``[B, D]``, and
        latent actions ``[B, d]``.
    """
    k = model.spec.action_block
    earlier = np.where(frames - data.starts[data.episode_of(frames)] < k, frames, frames - k)
    before, z, after = (latents[torch.from_numpy(index)] for index in (earlier, frames, frames + k))
    with torch.no_grad():
        return before, z, model.infer(before, z, after)


def check_video(world_model: WorldModel) -> VideoLeWM:
    """Return the world model; ``ValueError`` unless it is of the kind "video-lewm"."""
    if not isinstance(world_model, VideoLeWM):
        raise ValueError(
            f"{type(world_model).__name__} has no latent actions: train a world model on video first, "
            'train_world_model(video, "video-lewm").'
        )
    return world_model


def _cut(data: TrajectoryDataset, block: int) -> TrajectoryDataset:
    """Data of a single episode as those of shorter ones, which hold a block each; other data as they are."""
    if len(getattr(data, "lengths", ())) != 1:
        return data
    pieces = max(1, min(PIECES, (data.lengths[0] + 1) // (block + 1)))
    cuts = np.linspace(0, data.lengths[0] + 1, pieces + 1).astype(np.int64)
    starts, lengths = data.starts[0] + cuts[:-1], np.diff(cuts) - 1
    ids = np.repeat(data.episode_ids, pieces)
    return dataclasses.replace(data, starts=starts, lengths=lengths, episode_ids=ids)
