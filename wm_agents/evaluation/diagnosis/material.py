"""What a diagnosis looks at: recorded episodes, their latents, and the task where it can be set to a state."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wm_agents.envs.goal_env import GoalEnv
from wm_agents.evaluation.environments import open_env
from wm_agents.evaluation.offline import check_same_task, world_model_of
from wm_agents.training.latents import check_dataset_fits, context, encode_frames
from wm_agents.training.temporal_distance import imagine

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset
    from wm_agents.models import State, WorldModel

FIT_FRAMES, TEST_FRAMES = 20_000, 10_000
"""Frames of episodes that probes and viewer learn from, and of episodes that are measured, at most."""
CHECKED = 1000
"""Recorded states that the environment must accept, so that plans are replayed in it."""
FEWEST = 50
"""Frames below which no cloud is described."""


@dataclass(eq=False)
class Material:
    """Episodes of two sides, their latents, and what is not there.

    Attributes:
        agent: The agent.
        fit: Episodes that probes and the viewer learn from.
        test: Episodes that everything is measured on.
        latents: float32 ``[frames, F]`` by the index of the frame.
        task: The environment where it can be set to recorded states; None otherwise.
        left_out: One sentence for each part that cannot be had.
        seed: Seed of everything that is drawn.
    """

    agent: Any
    fit: TrajectoryDataset
    test: TrajectoryDataset
    latents: np.ndarray
    task: GoalEnv | None = None
    left_out: list[str] = field(default_factory=list)
    seed: int = 0

    @property
    def model(self) -> WorldModel:
        """The world model."""
        model: WorldModel = self.agent.world_model
        return model

    @property
    def block(self) -> int:
        """Environment steps of an action block."""
        return self.model.spec.action_block

    @property
    def past(self) -> int:
        """Blocks that the world model is shown before it imagines."""
        return context(self.model) - 1

    @property
    def has_states(self) -> bool:
        """Whether the simulator's state of each frame is known."""
        return bool(self.test.states.shape[1])

    def rng(self, *stream: int) -> np.random.Generator:
        """A source of randomness of its own for each part, so that none depends on another."""
        return np.random.default_rng([self.seed, *stream])

    def frames(self, data: TrajectoryDataset, most: int) -> np.ndarray:
        """Up to ``most`` frames of ``data``, in order."""
        indices = data.frame_indices()
        if len(indices) <= most:
            return indices
        return np.sort(self.rng(len(indices)).choice(indices, most, replace=False))

    def starts(self, most: int, blocks: int, *stream: int) -> tuple[np.ndarray, int]:
        """Frames with room for the past before them and for ``blocks`` blocks after them, or for as many as fit.

        Returns:
            int64 ``[most]``, and the number of blocks that fit.
        """
        room = int(self.test.lengths.max()) // self.block - self.past
        blocks = min(blocks, room)
        first = self.test.segments(most, (self.past + blocks) * self.block, self.rng(*stream))
        return first + self.past * self.block, blocks

    def latent(self, frames: Any) -> torch.Tensor:
        """Latents ``[..., *shape]`` of frames, on the world model's device."""
        return self.model.unflatten(torch.from_numpy(self.latents[frames]).to(self.model.action_mean.device))

    def state(self, start: int) -> State:
        """What the world model knows at one of :meth:`starts`: the recorded past, and the frame itself."""
        past = self.test.actions[start - self.past * self.block : start]
        taken = torch.from_numpy(past.reshape(1, self.past, self.model.spec.block_size))
        blocks = self.model.normalize(taken.to(self.model.action_mean.device))
        return self.model.remember(self.latent(start + self.block * np.arange(-self.past, 1))[None], blocks)

    def imagined(self, starts: np.ndarray, blocks: int) -> np.ndarray:
        """What is imagined of the frames ``blocks`` blocks after ``starts [N]``, from the recorded actions: ``[N, F]``.

        The past before ``starts`` must have room for what the world model is shown.
        """
        ends, latents = starts + blocks * self.block, torch.from_numpy(self.latents)
        return imagine(self.model, self.test, latents.to(self.model.action_mean.device), ends, blocks).cpu().numpy()


def gather(agent: Any, dataset: TrajectoryDataset, validation_fraction: float, seed: int, progress: bool) -> Material:
    """Split the episodes and encode their frames.

    Raises:
        ValueError: The dataset does not fit the agent, or has too few or too short episodes.
    """
    model = world_model_of(agent)
    check_dataset_fits(model, dataset)
    check_same_task(agent, dataset)
    fit, test = dataset.split(validation_fraction)
    fit, test = _limited(fit, FIT_FRAMES, seed), _limited(test, TEST_FRAMES, seed)
    needed = (context(model) + 1) * model.spec.action_block
    if test.lengths.max() < needed or min(test.frames, fit.frames) < FEWEST:
        raise ValueError(
            f"{dataset.name} is too small for a diagnosis: {len(test)} episodes of up to {test.lengths.max()} actions "
            f"are held out, and one with {needed} actions and {FEWEST} frames in all are needed, as many for the "
            "probes: record more or longer episodes, or hold out more of them (validation_fraction)."
        )
    latents = sum(encode_frames(model, part, progress=progress).cpu().numpy() for part in (fit, test))
    if not np.isfinite(latents).all():
        raise ValueError("the world model's latents are NaN or infinite: it has diverged, so there is nothing to see.")
    return Material(agent, fit, test, np.asarray(latents), seed=seed)


def _limited(data: TrajectoryDataset, frames: int, seed: int) -> TrajectoryDataset:
    """Some of the episodes, so that there are about ``frames`` frames."""
    order = np.random.default_rng([seed, 1]).permutation(len(data))
    before = np.cumsum(data.lengths[order] + 1) - (data.lengths[order] + 1)
    kept = np.sort(order[before < frames])
    names = ("starts", "lengths", "episode_ids")
    return dataclasses.replace(data, **{name: getattr(data, name)[kept] for name in names})


def _refused(task: GoalEnv, material: Material) -> str:
    """What the task has against recorded states; empty if nothing."""
    try:
        for state in material.test.states[material.frames(material.test, CHECKED)]:
            task.validate_state(state)
    except ValueError as error:
        return str(error)
    return ""


@contextmanager
def settable(material: Material) -> Iterator[None]:
    """Give the material the task, if its environment can be opened and set to recorded states; or say why not."""
    env, why = None, ""
    env_id = material.test.env_id or material.agent.env_id
    if not material.has_states:
        why = f"{material.test.name} has no simulator states"
    elif not np.isfinite(material.test.states).all():
        why = f"some states of {material.test.name} are NaN"
    elif not env_id:
        why = f"{material.test.name} does not say of which environment it is"
    else:
        try:
            env = open_env(env_id, obs_type="state", image_size=material.model.spec.image_size)
        except Exception as error:  # whatever keeps a foreign environment from opening
            why = f"{env_id} cannot be opened ({str(error).splitlines()[0][:200]})"
        else:
            task = env.unwrapped
            if not isinstance(task, GoalEnv):
                why = f"{env_id} cannot be set to a state"
            elif tuple(task.state_names) != tuple(material.test.state_names):
                why = f"the states of {material.test.name} are not those of {env_id}"
            elif refused := _refused(task, material):
                why = f"{env_id} refuses states of {material.test.name} ({refused})"
            else:
                material.task = task
    if why:
        material.left_out.append(
            f"No plans were replayed: {why}. So the planning cost was not compared with the truth."
        )
    try:
        yield
    finally:
        if env is not None:
            env.close()
