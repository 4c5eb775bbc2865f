"""What every world-model policy does around its decision: checks, memory, goals, bounds."""

from __future__ import annotations

import time
import zlib
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy

from wm_agents.models import WorldModel
from wm_agents.types import DecisionRecord

Memory = tuple[np.ndarray, ...]
KEYS = ("pixels", "goal_pixels")


class WorldModelPolicy(BasePolicy):
    """Base of the policies: turns observations into latents and keeps the agent's memory in ``state``.

    The memory is a tuple of arrays with leading dimension N and nothing episodic lives on the policy, so ``predict``
    is a function of its arguments. The first two arrays are the goal image's checksum and the goal's latent: a goal
    is encoded once, and again only when its image changes.

    Args:
        observation_space: ``Dict(pixels, goal_pixels)``, uint8 HWC.
        action_space: Box.
        world_model: Encodes, and predicts.
        seed: Of whatever the policy samples.
    """

    last_decision: DecisionRecord | None = None

    def __init__(
        self, observation_space: spaces.Dict, action_space: spaces.Box, world_model: WorldModel, seed: int = 0
    ) -> None:
        super().__init__(observation_space, action_space)
        self.seed = seed
        self.world_model = world_model.eval().requires_grad_(False)

    @abstractmethod
    def blank(self, n: int) -> Memory:
        """Memory of ``n`` environments at the start of an episode, without the two arrays about the goal."""

    def goal_changed(self, memory: Memory, rows: np.ndarray) -> None:
        """Forget in place, in ``rows`` of the memory, what was meant for the goal before; called before ``decide``."""

    @abstractmethod
    def decide(
        self, pixels: np.ndarray, goal: torch.Tensor, memory: Memory
    ) -> tuple[np.ndarray, Memory, DecisionRecord]:
        """Choose actions.

        Args:
            pixels: uint8 ``[N, H, W, C]``.
            goal: ``[N, D]``, the goal's latents.
            memory: As :meth:`blank` makes it; may be changed in place.

        Returns:
            Actions ``[N, A]`` in environment units, the new memory, what it cost.
        """

    def predict(  # type: ignore[override]
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: Memory | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Memory]:
        """Choose an action for one observation, or for each of N.

        Args:
            observation: ``pixels`` and ``goal_pixels``, uint8, ``[H, W, C]`` or ``[N, H, W, C]`` (channels first, as
                SB3's VecTransposeImage makes them, is accepted too). Other keys are ignored.
            state: What the last call returned; None starts afresh.
            episode_start: ``[N]`` booleans; memory of marked environments is reset.
            deterministic: Accepted for SB3's sake: these agents always act deterministically.

        Returns:
            Actions ``[A]`` or ``[N, A]``, inside the action space, and the new state.

        Raises:
            ValueError: Missing keys, wrong shapes or types, or a state of another number of environments.
        """
        if any(part.training for part in (self, *self.children())):  # walking all modules takes a tenth of a decision
            self.set_training_mode(False)
        pixels, goal_pixels, vectorized = self._images(observation)
        n = len(pixels)
        memory = self._memory(n, state, episode_start)
        with torch.no_grad():
            started = time.perf_counter()
            goal = self._goals(goal_pixels, memory)
            goal_ms = 1000 * (time.perf_counter() - started)
            actions, rest, cost = self.decide(pixels, goal, memory[2:])
        self.last_decision = DecisionRecord(cost.encode_ms + goal_ms, cost.plan_ms, cost.plans, cost.evaluations)
        assert isinstance(self.action_space, spaces.Box)
        if not np.isfinite(actions).all():
            raise ValueError("the policy's action is NaN or infinite: the world model has collapsed or diverged.")
        actions = np.clip(actions, self.action_space.low, self.action_space.high).astype(self.action_space.dtype)
        return actions if vectorized else actions[0], (*memory[:2], *rest)

    def encode(self, pixels: np.ndarray) -> torch.Tensor:
        """Latents ``[N, D]`` of uint8 images ``[N, H, W, C]``."""
        return self.world_model.encode(torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device))

    def _images(self, observation: Any) -> tuple[np.ndarray, np.ndarray, bool]:
        if isinstance(observation, tuple):
            raise ValueError(
                "predict() was given a tuple. Gymnasium's reset returns (obs, info): pass obs alone. "
                "SB3's VecEnv.reset returns obs."
            )
        if not isinstance(observation, dict) or any(key not in observation for key in KEYS):
            given = sorted(observation) if isinstance(observation, dict) else type(observation).__name__
            raise ValueError(
                f"the observation must be a dict with {KEYS[0]!r} and {KEYS[1]!r}, not {given}: "
                'make the environment with obs_type="pixels" or "pixels_state".'
            )
        size = self.world_model.config.image_size
        images = []
        for key in KEYS:
            value = np.asarray(observation[key])
            if value.dtype != np.uint8:
                raise ValueError(f"observation[{key!r}] must be uint8 in 0..255, not {value.dtype}.")
            if value.shape[-3:] == (3, size, size):
                value = np.moveaxis(value, -3, -1)
            if value.ndim not in (3, 4) or value.shape[-3:] != (size, size, 3):
                raise ValueError(
                    f"observation[{key!r}] has shape {value.shape}; the agent was trained on ({size}, {size}, 3) "
                    f"images, or [N, {size}, {size}, 3]: make the environment with image_size={size}."
                )
            images.append(value)
        if images[0].shape != images[1].shape:
            raise ValueError(f"pixels {images[0].shape} and goal_pixels {images[1].shape} differ in shape.")
        vectorized = images[0].ndim == 4
        pixels, goals = images if vectorized else (images[0][None], images[1][None])
        return pixels, goals, vectorized

    def _memory(self, n: int, state: Memory | None, episode_start: np.ndarray | None) -> Memory:
        latent = self.world_model.config.latent_size
        fresh: Memory = (np.full(n, -1, np.int64), np.zeros((n, latent), np.float32), *self.blank(n))
        if state is None:
            return fresh
        if len(state) != len(fresh) or any(np.shape(old) != new.shape for old, new in zip(state, fresh, strict=False)):
            raise ValueError(
                f"the state does not belong to this agent with {n} environments: pass what the last predict() of the "
                "same agent and the same environments returned, or None."
            )
        memory = tuple(np.array(old, dtype=new.dtype) for old, new in zip(state, fresh, strict=True))
        if episode_start is not None:
            marked = np.asarray(episode_start, dtype=bool)
            if marked.shape not in ((), (n,)):
                raise ValueError(f"episode_start has shape {marked.shape}; one boolean for each of {n} is needed.")
            rows = np.broadcast_to(marked, (n,))
            for old, new in zip(memory, fresh, strict=True):
                old[rows] = new[rows]
        return memory

    def _goals(self, goal_pixels: np.ndarray, memory: Memory) -> torch.Tensor:
        checksums, latents = memory[:2]
        now = np.array([zlib.crc32(image.tobytes()) for image in goal_pixels], np.int64)
        changed = now != checksums
        if changed.any():
            latents[changed] = self.encode(goal_pixels[changed]).cpu().numpy()
            self.goal_changed(memory[2:], np.flatnonzero(changed & (checksums >= 0)))
            checksums[:] = now
        return torch.from_numpy(latents).to(self.device)

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        """SB3's hook for a decision without memory: plans afresh from a tensor observation."""
        arrays = {key: value.cpu().numpy() for key, value in observation.items()}
        return torch.from_numpy(self.predict(arrays)[0])
