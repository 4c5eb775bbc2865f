"""Pictures of what an agent's world model imagines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wm_agents.agents.memory import Memory, part
from wm_agents.models import Viewer, WorldModel
from wm_agents.models.heads import evaluating
from wm_agents.models.modes import prediction_modes

if TYPE_CHECKING:
    from wm_agents.agents.base import WorldModelAgent


def imagine(agent: WorldModelAgent, observation: Mapping[str, np.ndarray], actions: Any) -> np.ndarray:
    """Draw what an agent imagines; see :meth:`wm_agents.agents.base.WorldModelAgent.imagine`."""
    viewer = agent.head("viewer", "imagine()")
    if not isinstance(observation, Mapping) or "pixels" not in observation:
        raise ValueError('the observation must be a dict with "pixels": pass what the environment returns.')
    pixels, given = np.asarray(observation["pixels"]), _numbers(actions)
    if pixels.ndim == 3:
        return imagined_pictures(agent.world_model, viewer, pixels[None], given[None])[0]
    if pixels.ndim != 4:
        raise ValueError(f"pixels must be an image [H, W, 3] or images [N, H, W, 3], not {list(pixels.shape)}.")
    return imagined_pictures(agent.world_model, viewer, pixels, given)


def imagined_plan(agent: WorldModelAgent, state: Memory, row: int) -> np.ndarray:
    """Draw an agent's plan; see :meth:`wm_agents.agents.mpc.MPC.imagined_plan`."""
    viewer, model = agent.head("viewer", "imagined_plan()"), agent.world_model
    controller: Any = agent.policy.controller  # of an agent that searches
    if not isinstance(state, Memory) or "own.plan" not in state.names or not 0 <= row < len(state["own.plan"]):
        raise ValueError("imagined_plan() takes the state that predict() has returned, and one of its rows.")
    with prediction_modes(model.action_mean.device), evaluating(model, viewer):
        return viewer(model.features(controller.imagined(part("own", state.fields()), row))).cpu().numpy()


def imagined_pictures(model: WorldModel, viewer: Viewer, pixels: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Pictures uint8 ``[N, T, H, W, 3]`` of frames ``[N, H, W, 3]`` and of what follows actions ``[N, L, A]``.

    Raises:
        ValueError: Images or actions do not fit the world model.
    """
    device, block = model.action_mean.device, model.spec.action_block
    taken = as_vectors(actions, model).to(device)
    if taken.dim() != 3 or len(taken) != len(pixels) or not taken.shape[1] or taken.shape[1] % block:
        raise ValueError(
            f"actions must be [L, {model.spec.action_size}] for each image, where L is a multiple of {block}, the "
            f"steps of an action block; got {list(actions.shape)} for {len(pixels)} images (N first)."
        )
    with prediction_modes(device), evaluating(model, viewer):
        latents = model.encode(torch.from_numpy(np.array(pixels)).to(device)).unsqueeze(1)
        blocks = model.normalize(taken.reshape(len(taken), taken.shape[1] // block, -1))
        imagined = model.imagine(model.remember(latents, blocks[:, :0]), blocks.unsqueeze(1))[:, 0]
        return viewer(model.features(torch.cat([latents, imagined], dim=1))).cpu().numpy()


def _numbers(actions: Any) -> np.ndarray:
    try:
        given = np.asarray(actions)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"actions must be an array of numbers: {error}") from None
    if given.dtype.kind not in "biuf":
        raise ValueError(f"actions must be an array of numbers, not of {given.dtype}.")
    return given


def as_vectors(actions: Any, model: WorldModel) -> torch.Tensor:
    """Actions of the environment as float vectors ``[..., A]`` inside the bounds; discrete ones become one-hot.

    Raises:
        ValueError: They are of another size, are not finite, or are no choices of the action space.
    """
    spec, given = model.spec, _numbers(actions)
    if not spec.choices:
        values = torch.from_numpy(np.array(given, dtype=np.float32))
        if values.dim() < 2 or values.shape[-1] != spec.action_size or not values.isfinite().all():
            raise ValueError(
                f"actions must be finite numbers [..., L, {spec.action_size}], got {list(given.shape)}: one row for "
                "each step."
            )
        return model.executable(values.to(model.action_low.device)).cpu()
    groups = given if len(spec.choices) > 1 or (given.shape[-1:] == (1,) and given.ndim > 2) else given[..., None]
    counts = np.array(spec.choices)
    known = groups.shape[-1] == len(counts) and ((groups == groups.round()) & (groups >= 0) & (groups < counts)).all()
    if not known:
        raise ValueError(f"actions must be whole numbers below {list(spec.choices)}, one for each choice of a step.")
    groups = groups.astype(np.int64)
    hot = [np.eye(count, dtype=np.float32)[groups[..., index]] for index, count in enumerate(spec.choices)]
    return torch.from_numpy(np.concatenate(hot, axis=-1))
