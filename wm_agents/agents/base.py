"""The SB3 algorithm that all world-model agents share."""

from __future__ import annotations

import dataclasses
import io
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import configure_logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from wm_agents.agents.controller import Controller
from wm_agents.agents.files import open_checkpoint, write_agent
from wm_agents.agents.fitting import check_env_fits, collect_heads, head_named, warn_of_another_task
from wm_agents.agents.memory import Memory
from wm_agents.agents.policy import KEYS, WorldModelPolicy
from wm_agents.checkpoint import Checkpoint
from wm_agents.models import Head, WorldModel
from wm_agents.registry import did_you_mean
from wm_agents.types import DecisionRecord


class WorldModelAgent(BaseAlgorithm):
    """A Stable-Baselines3 algorithm that acts with a learned world model.

    ``predict``, ``save``, ``load``, ``get_env``, ``set_env``, loggers and callbacks work as in SB3. Training is
    offline and called ``fit``; ``learn``, which in SB3 takes environment steps, is refused with that hint.

    Args:
        world_model: Encodes and predicts; its action bounds are the agent's.
        env: Environment, its id, or a VecEnv; checked against the world model. None is fine for ``predict``.
        heads: Networks on the world model's latents, as a list or by name; all are saved with the agent, used or not.
        seed: Of everything random in the agent; given, it also seeds Python, NumPy and torch, as in SB3. None is 0 for
            the agent alone.
        device: "auto", "cpu", "cuda".
        verbose: 0 silent, 1 informative.
        tensorboard_log: Directory of the TensorBoard log.
        **options: Fields of the class ``Options``. A head may also be given by its name: ``gc_idm=network``.

    Raises:
        ValueError: An option is unknown or out of range, a head is missing or was made on another world model, or the
            environment's observations or actions are not those that the world model was trained on.
    """

    name: str
    Options: ClassVar[type[Any]]
    policy: WorldModelPolicy

    def __init__(
        self,
        world_model: WorldModel,
        env: Any = None,
        *,
        heads: Mapping[str, Head] | Iterable[Head] | None = None,
        seed: int | None = None,
        device: torch.device | str = "auto",
        verbose: int = 0,
        tensorboard_log: str | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(world_model, WorldModel):
            raise ValueError(
                f"the first argument must be a WorldModel, not {type(world_model).__name__}: train one with "
                "wm_agents.train_world_model(dataset), or load a finished agent with wm_agents.load(name)."
            )
        self.world_model = world_model
        self.heads, options = collect_heads(heads, options)
        self.settings = self.read_options(options)
        self.provenance: dict[str, Any] = {}
        self.history: dict[str, list[tuple[int, float]]] = {}  # curves of the last fit
        self.stored_options: dict[str, dict[str, Any]] = {}  # of this task's other agents, kept when saving
        self.env_id = ""
        super().__init__(
            policy=WorldModelPolicy,
            env=env,
            learning_rate=0.0,
            seed=seed,
            device=device,
            verbose=verbose,
            tensorboard_log=tensorboard_log,
            support_multi_env=True,
        )
        if self.env is not None:
            check_env_fits(self.env, world_model)
        size = world_model.spec.image_size
        image = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.observation_space = spaces.Dict({key: image for key in KEYS})
        self.action_space = spaces.Box(
            world_model.action_low.cpu().numpy(), world_model.action_high.cpu().numpy(), dtype=np.float32
        )
        self._make_logger()
        self._setup_model()

    def _make_logger(self) -> None:
        self._logger = configure_logger(self.verbose if self.tensorboard_log else 0, self.tensorboard_log, self.name)

    @classmethod
    def read_options(cls, options: dict[str, Any]) -> Any:
        """Check the options of the constructor and return them as ``cls.Options``.

        Raises:
            ValueError: An option that the agent does not have, or one that is out of range.
        """
        known = cls.option_names(options)
        for name in options:
            if name not in known:
                raise ValueError(did_you_mean(f"option of {cls.__name__}", name, known))
        return cls.Options(**options)

    @classmethod
    def option_names(cls, options: Mapping[str, Any]) -> set[str]:
        """Names of the options that the agent has, given the ``options`` chosen so far."""
        return {field.name for field in dataclasses.fields(cls.Options)}

    def options(self) -> dict[str, Any]:
        """Constructor options that a checkpoint stores, as JSON types."""
        return {**dataclasses.asdict(self.settings), "seed": self.seed}

    @abstractmethod
    def make_controller(self) -> Controller:
        """Build what acts from the agent's parts."""

    def head(self, name: str, option: str) -> Any:
        """Return a head, on the agent's device.

        Args:
            name: Of the head.
            option: What needs it, as the user wrote it; for the error message.

        Raises:
            ValueError: The agent has none, or it was made on another world model.
        """
        return head_named(self.heads, name, option, self.world_model).to(self.device)

    def use(self, head: Head) -> None:
        """Act with this head from now on, in place of another of its kind."""
        self.heads[head.name] = head
        self._make_policy()

    def _setup_model(self) -> None:
        self.set_random_seed(self.seed)
        self._make_policy()

    def _make_policy(self) -> None:
        self.world_model.to(self.device)
        self.policy = WorldModelPolicy(
            self.observation_space, self.action_space, self.world_model, self.make_controller(), self.seed or 0
        ).to(self.device)

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Wrap as SB3 does, but leave images in HWC: the encoder takes them as the environment gives them."""
        return env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])

    @property
    def last_decision(self) -> DecisionRecord | None:
        """What the last ``predict`` call cost."""
        return self.policy.last_decision

    def predict(  # type: ignore[override]
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Memory]:
        """Choose actions; see :meth:`wm_agents.agents.policy.WorldModelPolicy.predict`."""
        return self.policy.predict(observation, state, episode_start, deterministic)

    def learn(self, *args: Any, **kwargs: Any) -> WorldModelAgent:
        """Refused: these agents learn offline.

        Raises:
            TypeError: Always; the message says what to call.
        """
        raise TypeError(
            f"{type(self).__name__} learns offline, from recorded trajectories, not by stepping an environment: "
            "call wm_agents.train_world_model(dataset), and GCIDM.fit(dataset)."
        )

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed Python, NumPy, torch, the environment and the agent's own search; None leaves all as it is."""
        super().set_random_seed(seed)
        if seed is not None:
            self.seed = seed
            if hasattr(self, "policy"):
                self.policy.seed = seed

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Give the agent another environment of the same kind."""
        wrapped = self._wrap_env(env)
        check_env_fits(wrapped, self.world_model)
        warn_of_another_task(wrapped, self.env_id)
        self.env, self.n_envs = wrapped, wrapped.num_envs

    def checkpoint(self) -> Checkpoint:
        """Return everything that the agent is, ready to be written."""
        options = {**self.stored_options, self.name: self.options()}
        return Checkpoint(self.world_model, self.name, options, self.env_id, dict(self.provenance), dict(self.heads))

    def save(  # type: ignore[override]
        self,
        path: str | Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Write the agent to one file: weights, shapes, statistics, provenance; nothing is pickled.

        Args:
            path: With ``.safetensors``, one safetensors file. With ``.zip``, which is added to a path without either
                as in SB3, the same safetensors file inside a zip archive.
            exclude: SB3's; must be empty.
            include: SB3's; must be empty.
        """
        if exclude or include:
            raise ValueError("exclude and include have no meaning here: a checkpoint holds the whole agent.")
        if isinstance(path, io.IOBase):
            raise ValueError("give a path: checkpoints are written atomically, which a stream cannot be.")
        write_agent(self.checkpoint(), str(path))

    @classmethod
    def load(  # type: ignore[override]
        cls, path: str | Path, env: Any = None, device: torch.device | str = "auto", **kwargs: Any
    ) -> Any:
        """Read an agent that :meth:`save` wrote. Nothing in the file is executed.

        Args:
            path: The file, with or without its suffix.
            env: Environment to control; checked against the checkpoint.
            device: "auto", "cpu", "cuda".
            **kwargs: Constructor options that override the stored ones.

        Raises:
            CheckpointError: Missing, damaged, tampered with, or not an agent of this class.
        """
        return cls.from_checkpoint(open_checkpoint(path), env=env, device=device, **kwargs)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, env: Any = None, **kwargs: Any) -> Any:
        """Build the agent from a checkpoint's parts and the options stored for it; ``kwargs`` override them."""
        heads, kwargs = collect_heads(kwargs.pop("heads", None), kwargs)
        options = {**cls.options_in(checkpoint, kwargs), **kwargs}
        agent = cls(checkpoint.world_model, env, heads={**checkpoint.heads, **heads}, **options)
        agent.stored_options = checkpoint.options
        agent.env_id = checkpoint.env_id
        agent.provenance = checkpoint.provenance
        if agent.env is not None:
            warn_of_another_task(agent.env, agent.env_id)
        return agent

    @classmethod
    def options_in(cls, checkpoint: Checkpoint, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options that a checkpoint stores for this agent; ``given`` are those that the user chose."""
        return checkpoint.options.get(cls.name, {})

    def get_parameters(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the policy's weights by name."""
        return {"policy": self.policy.state_dict()}

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the logger's open files and the policy, which is built again from the parts."""
        return {name: value for name, value in self.__dict__.items() if name not in ("policy", "_logger")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_logger()
        self._make_policy()
