"""The policy of all world-model agents: checks, memory, goals and bounds around a controller's decision."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from wm_agents.agents.controller import Controller, Frames
from wm_agents.agents.memory import Fields, Memory, part, prefixed
from wm_agents.agents.recollection import Recollection
from wm_agents.models import WorldModel
from wm_agents.models.heads import evaluating
from wm_agents.models.modes import prediction_modes
from wm_agents.types import DecisionRecord

KEYS = ("pixels", "goal_pixels")
LAST: Literal["last"] = "last"
NOISE = 0.3
"""PlaNet's exploration noise (arXiv 1811.04551), there as here on actions from -1 to 1."""


class WorldModelPolicy(BasePolicy):
    """Turns observations into latents, keeps the agent's memory in ``state``, and lets a controller decide.

    With a ``state``, ``predict`` is a function of its arguments. Without one it continues from its last call with the
    same goal image, so that SB3's shortest loop, ``action, _ = agent.predict(observation)``, acts as well as one that
    passes the state back; see :class:`Recollection`. The memory holds the checksum ``goal_checksum`` of the goal
    image and its latent ``goal``, so that a goal is encoded again only when its image changes; ``elapsed``, steps since
    then; and the controller's own fields.

    Args:
        observation_space: ``Dict(pixels, goal_pixels)``, uint8 HWC.
        action_space: Box.
        world_model: Encodes, and predicts.
        controller: Decides.
        seed: Seed of everything that is sampled.
        rng: Source of exploration noise.

    Attributes:
        noise: Standard deviation of exploration noise, in halves of the action space's range.
    """

    last_decision: DecisionRecord | None = None
    noise: float = NOISE

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        world_model: WorldModel,
        controller: Controller,
        seed: int = 0,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__(observation_space, action_space)
        self.seed = seed
        self.rng = rng or np.random.default_rng(seed)
        self.world_model = world_model
        self.controller = controller
        self.recollection = Recollection()
        self.networks = nn.ModuleList(controller.modules())
        self._parts = [part for module in (world_model, *self.networks) for part in module.modules()]

    def save(self, path: Any) -> None:
        """Not possible: a policy is parts of an agent, which saves them with their options.

        Raises:
            NotImplementedError: Always; it names the way out.
        """
        raise NotImplementedError(
            "a policy of a world-model agent is saved with its agent: agent.save(path), and later "
            "wm_agents.load(path).policy."
        )

    @classmethod
    def load(cls, path: Any, device: Any = "auto") -> Any:
        """Not possible; see :meth:`save`.

        Raises:
            NotImplementedError: Always; it names the way out.
        """
        raise NotImplementedError(
            "a policy of a world-model agent is loaded with its agent: wm_agents.load(path).policy. Files of "
            "policy.save are pickles and are not opened."
        )

    def set_training_mode(self, mode: bool) -> None:
        """Nothing to do: the networks belong to the user, and :meth:`predict` puts them back as it found them."""

    def predict(  # type: ignore[override]
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | Literal["last"] | None = LAST,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Memory]:
        """Choose an action for one observation, or for each of N.

        Args:
            observation: ``pixels`` and ``goal_pixels``, uint8, ``[H, W, C]`` or ``[N, H, W, C]`` (channels first, as
                SB3's VecTransposeImage makes them, is accepted too). Other keys are ignored.
            state: The state that the last call returned. None starts afresh. Left out ("last"), or None with an
                ``episode_start``: continue from the last such call with the same goal image, if there was one.
            episode_start: ``[N]`` booleans; memory of marked environments is reset.
            deterministic: False samples around the agent's decision, as it explores in ``learn``: Gaussian noise of
                :attr:`noise`, or a random choice with that probability where actions are discrete.

        Returns:
            Actions ``[A]`` or ``[N, A]``, inside the action space, and the new state.

        Raises:
            ValueError: Missing keys, wrong shapes or types, or a state of another number of environments.
        """
        return self.decide(observation, state, episode_start, None if deterministic else self._sampled)

    def decide(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | Literal["last"] | None,
        episode_start: np.ndarray | None,
        perturb: Callable[[np.ndarray], np.ndarray] | None,
    ) -> tuple[np.ndarray, Memory]:
        """Choose actions as :meth:`predict` does.

        Args:
            observation: As there.
            state: As there.
            episode_start: As there.
            perturb: Turns the actions ``[N, ...]`` of the space into those that are executed; None leaves them.

        Returns:
            Actions ``[A]`` or ``[N, A]``, and the new state.

        Raises:
            ValueError: As there.
        """
        if isinstance(state, str) and state != LAST:
            raise ValueError(f'state must be what predict() returned, None, or "last", not {state!r}.')
        pixels, goal_pixels, vectorized = self.images(observation)
        started = time.perf_counter()
        training = [part for part in self._parts if part.training]
        with prediction_modes(self.world_model.action_mean.device), evaluating(*training):
            fresh = self.initial_memory(len(pixels))
            checksums = np.array([zlib.crc32(image.tobytes()) for image in goal_pixels], np.int64)
            known = []
            if isinstance(state, str) or (state is None and episode_start is not None):
                known = self.recollection.recall(fresh, pixels, checksums)
            else:
                self.recollection.clear()
            given = fresh.values() if state is None or isinstance(state, str) else state
            memory = self._memory(len(pixels), given, episode_start)
            before = {name: values.copy() for name, values in memory.items()} if known else {}
            own = part("own", memory)
            goals = self._goals(goal_pixels, checksums, memory, own)
            frames = Frames(self.world_model, pixels, goals, memory["elapsed"], self.seed, None, checksums)
            goal_ms = 1000 * (time.perf_counter() - started)
            decision = self.controller.act(frames, own)
            actions = self._bounded(decision.actions)
            if perturb is not None:
                actions = perturb(actions)
                self.controller.executed(own, self.world_model, actions)
        total_ms = 1000 * (time.perf_counter() - started)
        encode_ms = goal_ms + frames.encode_ms
        self.last_decision = DecisionRecord(encode_ms, total_ms - encode_ms, decision.plans, decision.evaluations)
        memory["elapsed"] += 1
        memory.update(prefixed("own", own))
        self.recollection.keep(known, before, memory)
        return actions if vectorized else actions[0], Memory(memory)

    def _bounded(self, actions: np.ndarray) -> np.ndarray:
        """Actions ``[N, A]`` of a controller as actions of the space: clipped, or the best of discrete choices."""
        if not np.isfinite(actions).all():
            raise ValueError("the policy's action is NaN or infinite: the world model has collapsed or diverged.")
        choices = self.world_model.spec.choices
        if choices:
            groups = np.split(actions, np.cumsum(choices)[:-1], axis=1)
            best = np.stack([group.argmax(axis=1) for group in groups], axis=1)
            return best[:, 0] if isinstance(self.action_space, spaces.Discrete) else best
        assert isinstance(self.action_space, spaces.Box)
        return np.clip(actions, self.action_space.low, self.action_space.high).astype(self.action_space.dtype)

    def _sampled(self, actions: np.ndarray) -> np.ndarray:
        """Actions ``[N, ...]`` of the space with exploration noise."""
        space = self.action_space
        if isinstance(space, spaces.Box):
            noise = self.rng.standard_normal(actions.shape) * self.noise * (space.high - space.low) / 2
            return np.clip(actions + noise, space.low, space.high).astype(actions.dtype)
        choices = np.array(self.world_model.spec.choices).reshape(space.shape or ())
        drawn = self.rng.integers(0, choices, actions.shape)
        return np.where(self.rng.random(actions.shape) < self.noise, drawn, actions)

    def images(self, observation: Any) -> tuple[np.ndarray, np.ndarray, bool]:
        """Return the frames and the goals of an observation, both uint8 ``[N, H, W, 3]``, and whether it has rows.

        Raises:
            ValueError: It is no observation of images of the world model's size.
        """
        if isinstance(observation, tuple):
            raise ValueError(
                "the observation is a tuple. Gymnasium's reset returns (obs, info): pass obs alone. "
                "SB3's VecEnv.reset returns obs."
            )
        if not isinstance(observation, Mapping) or any(key not in observation for key in KEYS):
            given = sorted(observation) if isinstance(observation, Mapping) else type(observation).__name__
            raise ValueError(
                f"the observation must be a dict with {KEYS[0]!r} and {KEYS[1]!r}, not {given}: "
                'make the environment with obs_type="pixels" or "pixels_state".'
            )
        size = self.world_model.spec.image_size
        images = []
        for key in KEYS:
            try:
                value = np.asarray(observation[key])
            except ValueError:  # images of several shapes
                value = np.asarray(None)
            if value.dtype != np.uint8:
                kind = value.dtype if value.dtype.kind in "biufc" else "something else"
                raise ValueError(f"observation[{key!r}] must be uint8 in 0..255, not {kind}.")
            if value.shape[-3:] == (3, size, size):
                value = np.moveaxis(value, -3, -1)
            if value.ndim not in (3, 4) or value.shape[-3:] != (size, size, 3):
                raise ValueError(
                    f"observation[{key!r}] has shape {value.shape}; the agent was trained on ({size}, {size}, 3) "
                    f"images in colour, or [N, {size}, {size}, 3]: make the environment with image_size={size}, or "
                    "the image with wm_agents.images.square_image."
                )
            images.append(value)
        if images[0].shape != images[1].shape:
            raise ValueError(f"pixels {images[0].shape} and goal_pixels {images[1].shape} differ in shape.")
        vectorized = images[0].ndim == 4
        pixels, goals = images if vectorized else (images[0][None], images[1][None])
        return pixels, goals, vectorized

    def initial_memory(self, n: int) -> Fields:
        """Memory of n environments at the start of an episode."""
        return {
            "goal_checksum": np.full(n, -1, np.int64),
            "goal": np.zeros((n, *self.world_model.spec.shape), np.float32),
            "elapsed": np.zeros(n, np.int64),
            **prefixed("own", self.controller.initial_memory(n)),
        }

    def _memory(self, n: int, state: Collection[np.ndarray], episode_start: np.ndarray | None) -> Fields:
        fresh = self.initial_memory(n)
        if isinstance(state, str | Mapping) or not isinstance(state, Collection):
            raise ValueError(f'state must be what predict() returned, None, or "last", not {state!r}.')
        pairs = zip(state, fresh.values(), strict=False)
        if len(state) != len(fresh) or any(np.shape(old) != new.shape for old, new in pairs):
            raise ValueError(
                f"the state does not belong to this agent with {n} environments: pass what the last predict() of the "
                "same agent and the same environments returned, or None."
            )
        if not all(np.asarray(old).dtype.kind in "biuf" and np.isfinite(old).all() for old in state):
            raise ValueError("the state holds NaN or no numbers: pass what the last predict() returned, or None.")
        memory = {name: np.array(old, dtype=new.dtype) for old, (name, new) in zip(state, fresh.items(), strict=True)}
        if episode_start is not None:
            marked = np.asarray(episode_start)
            if marked.shape not in ((), (n,)) or not np.isin(marked, (0, 1)).all():
                raise ValueError(
                    f"episode_start must be one boolean for each of {n} environments, not {marked} of shape "
                    f"{marked.shape}."
                )
            rows = np.broadcast_to(marked.astype(bool), (n,))
            if rows.any():
                for name, values in memory.items():
                    values[rows] = fresh[name][rows]
        return memory

    def _goals(self, goal_pixels: np.ndarray, now: np.ndarray, memory: Fields, own: Fields) -> torch.Tensor:
        """Latents ``[N, *shape]`` of the goals; where a goal image has changed, what was meant for it is forgotten."""
        checksums, latents, device = memory["goal_checksum"], memory["goal"], self.world_model.action_mean.device
        changed = now != checksums
        if changed.any():
            images = torch.from_numpy(np.ascontiguousarray(goal_pixels[changed])).to(device)
            latents[changed] = self.world_model.encode(images).cpu().numpy()
            rows = np.flatnonzero(changed & (checksums >= 0))
            if len(rows):
                memory["elapsed"][rows] = 0
                self.controller.goal_changed(own, rows)
            checksums[:] = now
        return torch.from_numpy(latents).to(device)

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        """SB3's hook for a decision without memory: plans afresh from a tensor observation."""
        arrays = {key: value.cpu().numpy() for key, value in observation.items()}
        return torch.from_numpy(self.predict(arrays)[0])
