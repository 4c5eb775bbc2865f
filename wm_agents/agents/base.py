"""The SB3 algorithm that all world-model agents share."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import configure_logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, unwrap_vec_normalize

from wm_agents.agents.assess import Assessment, assess
from wm_agents.agents.controller import Controller
from wm_agents.agents.fitting import (
    action_space_of,
    check_device,
    check_env_fits,
    check_head,
    check_seed,
    collect_heads,
    head_named,
    made,
    warn_of_another_task,
)
from wm_agents.agents.imagining import imagine
from wm_agents.agents.learning import OnlineLearning
from wm_agents.agents.memory import Memory
from wm_agents.agents.policy import KEYS, LAST, WorldModelPolicy
from wm_agents.agents.storing import StoredAgent
from wm_agents.agents.untrained import from_nothing
from wm_agents.configs import whole_number
from wm_agents.models import Head, WorldModel
from wm_agents.models.modes import ordinary
from wm_agents.registry import WORLD_MODELS, did_you_mean
from wm_agents.types import DecisionRecord


class WorldModelAgent(OnlineLearning, StoredAgent):
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
        seed, verbose = check_seed(seed), whole_number("verbose", verbose, 0)
        check_device(device)
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
            env=made(env, verbose),
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
        env = made(env, verbose)
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
            budget: Environment steps allowed; the environment's own limit by default. A larger number counts as the
                limit, since no development run was longer.

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
