"""The SB3 algorithm that all world-model agents share."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm, maybe_make_env
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import configure_logger, get_system_info
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, unwrap_vec_normalize

from wm_agents.agents.assess import Assessment, assess
from wm_agents.agents.controller import Controller
from wm_agents.agents.files import open_checkpoint, write_agent
from wm_agents.agents.fitting import (
    action_space_of,
    check_env_fits,
    check_head,
    check_seed,
    collect_heads,
    head_named,
    warn_of_another_task,
)
from wm_agents.agents.imagining import imagine
from wm_agents.agents.learning import OnlineLearning
from wm_agents.agents.memory import Memory
from wm_agents.agents.policy import KEYS, LAST, WorldModelPolicy
from wm_agents.agents.untrained import from_nothing
from wm_agents.checkpoint import Checkpoint, CheckpointError, MissingPartError, check_needs, foreign
from wm_agents.models import Head, WorldModel
from wm_agents.models.modes import ordinary
from wm_agents.registry import WORLD_MODELS, did_you_mean
from wm_agents.types import DecisionRecord

NOT_STORED = {"world_model", "env", "heads", "device", "verbose", "tensorboard_log"}
"""Arguments of the constructor that a file never sets."""


class WorldModelAgent(OnlineLearning, BaseAlgorithm):
    """A Stable-Baselines3 algorithm that acts with a learned world model.

    ``predict``, ``learn``, ``save``, ``load``, ``get_env``, ``set_env``, loggers and callbacks work as in SB3.
    Training on recorded data is called ``fit``.

    Args:
        world_model: Encodes and predicts; its action bounds are the agent's. A kind's name or a configuration, such as
            "lewm" or ``LeWMConfig(latent_size=64)``, makes an untrained one for the environment, and the heads that
            the agent needs: a start for :meth:`learn`.
        env: Environment, its id, or a VecEnv; checked against the world model. None is fine for ``predict``.
        heads: Networks on the world model's latents, as a list or by name; all are saved with the agent, used or not.
            With an untrained world model: configurations of heads, by name.
        seed: Seed of everything random in the agent. A number also seeds Python, NumPy and torch, as in SB3. None is 0
            for the agent alone.
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
        seed = check_seed(seed)
        self.exploration = np.random.default_rng(seed or 0)  # of what is tried in learn
        self.provenance: dict[str, Any] = {}
        if not isinstance(world_model, WorldModel):
            if world_model not in WORLD_MODELS if isinstance(world_model, str) else not is_dataclass(world_model):
                raise ValueError(
                    f"the first argument must be a WorldModel, not {type(world_model).__name__}: train one with "
                    "wm_agents.train_world_model(dataset), load a finished agent with wm_agents.load(name), or give "
                    f"the name of a kind to learn from nothing: {', '.join(WORLD_MODELS)}."
                )
            env = self._wrap_env(env, verbose)
            self.provenance = {"untrained": str(world_model)}
            needed = self.needed_heads(self.read_options(dict(options)))
            world_model, heads = from_nothing(world_model, env, needed, dict(heads or {}), seed or 0)
        self.world_model = ordinary(world_model)
        self.heads, options = collect_heads(heads, options)
        for head in self.heads.values():
            check_head(head, self.world_model)
        self.settings = self.read_options(options)
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
        self.action_space = action_space_of(world_model)
        self._logger = configure_logger(0)  # fit and learn begin one in tensorboard_log
        self._setup_model()

    @classmethod
    def needed_heads(cls, settings: Any) -> tuple[str, ...]:
        """Names of the heads without which an agent with these options cannot act."""
        return ()

    def _open_log(self) -> None:
        """Begin a log under the agent's name, unless the user has set a logger."""
        folder: Any = self.tensorboard_log  # not "", which SB3 takes for the working directory
        if not self._custom_logger:
            self._logger = configure_logger(self.verbose if folder else 0, folder, self.name)

    @classmethod
    def read_options(cls, options: dict[str, Any]) -> Any:
        """Check the options of the constructor and return them as ``cls.Options``.

        Raises:
            ValueError: An option that the agent does not have, or one that is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls.Options)}
        for name in options:
            if name not in known:
                raise ValueError(did_you_mean(f"option of {cls.__name__}", name, known))
        return cls.Options(**options)

    def options(self) -> dict[str, Any]:
        """Constructor options that a checkpoint stores, as JSON types."""
        return {**dataclasses.asdict(self.settings), "seed": self.seed}

    @abstractmethod
    def make_controller(self) -> Controller:
        """Build the controller from the agent's parts."""

    def head(self, name: str, option: str) -> Any:
        """Return a head, on the agent's device.

        Args:
            name: Name of the head.
            option: The option that needs it, for the error message.

        Raises:
            ValueError: The agent has none.
        """
        return head_named(self.heads, name, option).to(self.device)

    def use(self, head: Head) -> None:
        """Act with this head from now on, instead of another of its kind.

        Raises:
            ValueError: It was made on another world model.
        """
        head = ordinary(head)
        check_head(head, self.world_model)
        self.heads[head.name] = head
        self.heads.pop("assessment", None)  # it was measured with another head
        self._make_policy()

    def _setup_model(self) -> None:
        self.set_random_seed(self.seed)
        self._make_policy()

    def _make_policy(self) -> None:
        with torch.inference_mode(False):
            self.world_model.to(self.device)
            self.policy = WorldModelPolicy(
                self.observation_space,
                self.action_space,
                self.world_model,
                self.make_controller(),
                self.seed or 0,
                self.exploration,
            ).to(self.device)

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Wrap as SB3 does, but leave images in HWC: the encoder takes them as the environment gives them."""
        env = maybe_make_env(env, verbose)
        if isinstance(env, VecEnv):
            return env
        if not isinstance(env, gym.Env):
            raise ValueError(f"env must be an environment, its id, or a VecEnv of SB3's, not {type(env).__name__}.")
        if monitor_wrapper and not is_wrapped(env, Monitor):
            env = Monitor(env)
        return DummyVecEnv([lambda: env])

    @property
    def last_decision(self) -> DecisionRecord | None:
        """Time and evaluations of the last ``predict`` call."""
        return self.policy.last_decision

    def predict(  # type: ignore[override]
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | Literal["last"] | None = LAST,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Memory]:
        """Choose actions; see :meth:`wm_agents.agents.policy.WorldModelPolicy.predict`."""
        return self.policy.predict(observation, state, episode_start, deterministic)

    def assess(self, observation: Mapping[str, np.ndarray], budget: int | None = None) -> Assessment | list[Assessment]:
        """Say how likely the agent is to reach a goal, before it takes a step. It takes less than 20 ms.

        The probability comes from closed-loop runs on development tasks, which ``wm-agents calibrate`` makes and
        stores in the agent's file; without them it is not known.

        Args:
            observation: As for :meth:`predict`.
            budget: Environment steps allowed; the environment's own limit by default.

        Returns:
            An :class:`~wm_agents.agents.assess.Assessment`, or a list of them where the observation has rows.

        Raises:
            ValueError: As :meth:`predict` does, or a budget that is no whole number of at least 1.
        """
        return assess(self, observation, budget)

    def imagine(self, observation: Mapping[str, np.ndarray], actions: Any) -> np.ndarray:
        """Draw what the world model imagines from an image: pictures for people, which no agent acts on.

        Args:
            observation: ``pixels``, uint8 ``[H, W, 3]`` or ``[N, H, W, 3]``; other keys are ignored.
            actions: ``[L, A]`` or ``[N, L, A]`` in the environment's units (discrete ones as their numbers), L a
                multiple of the world model's action block.

        Returns:
            uint8 ``[T, H, W, 3]`` or ``[N, T, H, W, 3]``: the observation as it is remembered, then one picture after
            each action block.

        Raises:
            ValueError: The agent has no head "viewer" (``wm-agents fit viewer`` trains one), or images or actions do
                not fit the world model.
        """
        return imagine(self, observation, actions)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed Python, NumPy, torch, the environment and the agent's own search; None changes nothing."""
        seed = check_seed(seed)
        super().set_random_seed(seed)
        if seed is not None:
            self.seed = seed
            self.exploration = np.random.default_rng(seed)
            if hasattr(self, "policy"):
                self.policy.seed, self.policy.rng = seed, self.exploration
                self.policy.recollection.clear()

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Give the agent another environment of the same kind, or its id; the number of environments may change.

        Raises:
            ValueError: The environment does not fit the world model.
        """
        wrapped = self._wrap_env(env, self.verbose)
        check_env_fits(wrapped, self.world_model)
        warn_of_another_task(wrapped, self.env_id, stacklevel=3)
        if force_reset or wrapped.num_envs != self.n_envs:
            self._last_obs = None
        self.env, self.n_envs = wrapped, wrapped.num_envs
        self._vec_normalize_env = unwrap_vec_normalize(wrapped)

    def checkpoint(self) -> Checkpoint:
        """Return all parts of the agent as a checkpoint."""
        own, heads, provenance = self.options(), dict(self.heads), dict(self.provenance)
        if self.replay_buffer is not None:
            provenance["timesteps"] = self.num_timesteps
        options, needs = {**self.stored_options, self.name: own}, foreign(self.parts(own))
        return Checkpoint(self.world_model, self.name, options, self.env_id, provenance, heads, needs)

    def save(  # type: ignore[override]
        self, path: str | Path, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None
    ) -> None:
        """Write the agent to one file: weights, shapes, statistics, provenance; nothing is pickled.

        Args:
            path: A path that ends in ``.safetensors`` gives one safetensors file. One that ends in ``.zip`` gives a zip
                archive with the same safetensors file inside; ``.zip`` is added to other paths, as in SB3.
            exclude: SB3's; must be empty.
            include: SB3's; must be empty.
        """
        if exclude or include:
            raise ValueError("exclude and include have no meaning here: a checkpoint holds the whole agent.")
        write_agent(self.checkpoint(), path)

    @classmethod
    def load(  # type: ignore[override]
        cls, path: str | Path, env: Any = None, device: torch.device | str = "auto", **kwargs: Any
    ) -> Any:
        """Read an agent that :meth:`save` wrote. Nothing in the file is executed.

        Args:
            path: The file, with or without its suffix.
            env: Environment to control; checked against the checkpoint.
            device: "auto", "cpu", "cuda".
            **kwargs: Constructor options that override the stored ones; heads, by ``heads=`` or their names, that
                replace the stored ones; and SB3's ``print_system_info``, ``force_reset`` and ``custom_objects``, whose
                entries replace stored options of their names. Nothing is pickled, so the others have no effect.

        Raises:
            CheckpointError: Missing, damaged, tampered with, or not an agent of this class.
        """
        return cls.from_checkpoint(open_checkpoint(path), env=env, device=device, **kwargs)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, env: Any = None, **kwargs: Any) -> Any:
        """Build the agent from a checkpoint's parts and the options stored for it; ``kwargs`` override them."""
        replaced = dict(kwargs.pop("custom_objects", None) or {})
        if kwargs.pop("print_system_info", False):
            get_system_info()
        kwargs.pop("force_reset", None)  # an agent keeps no observation from an environment
        heads, kwargs = collect_heads(kwargs.pop("heads", None), kwargs)
        stored = cls.options_in(checkpoint, kwargs)
        options = {name: replaced.get(name, value) for name, value in stored.items() if name not in NOT_STORED} | kwargs
        try:
            check_needs(checkpoint.needs, cls.parts(options))
        except MissingPartError as error:
            raise CheckpointError(f"the agent {error}") from error
        kept = {name: head for name, head in checkpoint.heads.items() if name != "assessment" or not heads}
        agent = cls(checkpoint.world_model, env, heads={**kept, **heads}, **options)
        agent.stored_options = checkpoint.options
        agent.env_id = checkpoint.env_id
        agent.provenance = checkpoint.provenance
        agent.num_timesteps = int(checkpoint.provenance.get("timesteps", 0))
        if agent.env is not None:
            warn_of_another_task(agent.env, agent.env_id, stacklevel=4)
        return agent

    @classmethod
    def parts(cls, options: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Registered parts that options name, as ``(kind, name)``: ``("planner", "cem")``."""
        return [("agent", cls.name)]

    @classmethod
    def options_in(cls, checkpoint: Checkpoint, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options that a checkpoint stores for this agent; ``given`` are those that the user chose."""
        return checkpoint.options.get(cls.name, {})

    def get_parameters(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the policy's weights by name: those of the world model and of the heads that the agent uses."""
        return {"policy": self.policy.state_dict()}

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: torch.device | str = "auto"
    ) -> None:
        """Set weights to those that :meth:`get_parameters` returned, or to those of a file that :meth:`save` wrote.

        Args:
            load_path_or_dict: See above.
            exact_match: Refuse weights that are missing or unknown.
            device: SB3's; the weights stay on the agent's device.

        Raises:
            ValueError: Names or shapes do not match, or the agent's heads were made on another world model than the
                one that the weights make. The agent then stays as it was.
        """
        given = load_path_or_dict
        if not isinstance(given, Mapping):
            given = self._like_this(open_checkpoint(given)).get_parameters()
        before = {name: value.clone() for name, value in self.policy.state_dict().items()}
        try:
            super().set_parameters(dict(given), exact_match)
            for head in self.heads.values():
                check_head(head, self.world_model)
        except (RuntimeError, ValueError) as error:
            self.policy.load_state_dict(before)
            raise ValueError(f"these weights are not this agent's: {error}") from error

    def _like_this(self, checkpoint: Checkpoint) -> WorldModelAgent:
        """An agent with a checkpoint's weights and this one's options."""
        options = {field.name: getattr(self.settings, field.name) for field in dataclasses.fields(self.settings)}
        return type(self)(checkpoint.world_model, heads=checkpoint.heads, device=self.device, **options)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but open files, what ``learn`` has collected, and the policy, which is built again."""
        left_out = ("policy", "_logger", "trainer", "replay_buffer")
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.trainer = self.replay_buffer = None
        self._custom_logger = False
        self.world_model = ordinary(self.world_model)
        self.heads = {name: ordinary(head) for name, head in self.heads.items()}
        self._logger = configure_logger(0)
        self._make_policy()
