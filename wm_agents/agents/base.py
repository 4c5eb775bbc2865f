"""The SB3 algorithm that all world-model agents share."""

from __future__ import annotations

import inspect
import io
import tempfile
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import configure_logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from wm_agents.agents.policy import KEYS, Memory, WorldModelPolicy
from wm_agents.checkpoint import HEADS, Checkpoint, CheckpointError, load_checkpoint, save_checkpoint, write_atomically
from wm_agents.models import (
    Denoiser,
    InverseDynamics,
    LatentGraph,
    MacroActions,
    TemporalDistance,
    Waypoints,
    WorldModel,
)
from wm_agents.models.fingerprint import check_fingerprint
from wm_agents.registry import did_you_mean
from wm_agents.types import DecisionRecord

_MEMBER = "agent.safetensors"


class WorldModelAgent(BaseAlgorithm):
    """A Stable-Baselines3 algorithm that acts with a learned world model.

    ``predict``, ``save``, ``load``, ``get_env``, ``set_env``, loggers and callbacks work as in SB3. Training is
    offline and called ``fit``; ``learn``, which in SB3 takes environment steps, is refused with that hint.

    Args:
        world_model: Encodes and predicts; its action bounds are the agent's.
        env: Environment, its id, or a VecEnv; checked against the world model. None is fine for ``predict``.
        seed: Of everything random in the agent.
        device: "auto", "cpu", "cuda".
        verbose: 0 silent, 1 informative.
        tensorboard_log: Directory of the TensorBoard log.
        _init_setup_model: Build the policy at once; SB3 passes it.

    Raises:
        ValueError: The environment's observations or actions are not those that the world model was trained on.
    """

    name: ClassVar[str]
    policy: WorldModelPolicy
    # Every head of a checkpoint travels with every agent and is saved with it, used or not.
    inverse_dynamics: InverseDynamics | None = None
    temporal_distance: TemporalDistance | None = None
    denoiser: Denoiser | None = None
    graph: LatentGraph | None = None
    macro_actions: MacroActions | None = None
    waypoints: Waypoints | None = None

    def __init__(
        self, world_model: WorldModel, env: Any, seed: int | None, device: torch.device | str, verbose: int,
        tensorboard_log: str | None, _init_setup_model: bool = True,
    ) -> None:  # fmt: skip
        if not isinstance(world_model, WorldModel):
            raise ValueError(
                f"the first argument must be a WorldModel, not {type(world_model).__name__}: train one with "
                "wm_agents.train_world_model(dataset), or load a finished agent with wm_agents.load(name)."
            )
        self.world_model = world_model
        self.provenance: dict[str, Any] = {}
        self.stored_options: dict[str, dict[str, Any]] = {}  # of this task's other agents, kept when saving
        self.env_id = ""
        super().__init__(
            policy=WorldModelPolicy, env=env, learning_rate=0.0, seed=seed, device=device, verbose=verbose,
            tensorboard_log=tensorboard_log, support_multi_env=True,
        )  # fmt: skip
        if self.env is not None:
            check_env_fits(self.env, world_model)
        config = world_model.config
        image = spaces.Box(0, 255, (config.image_size, config.image_size, 3), np.uint8)
        self.observation_space = spaces.Dict({key: image for key in KEYS})
        self.action_space = spaces.Box(
            world_model.action_low.cpu().numpy(), world_model.action_high.cpu().numpy(), dtype=np.float32
        )
        self._logger = configure_logger(verbose if tensorboard_log else 0, tensorboard_log, self.name)
        if _init_setup_model:
            self._setup_model()

    def head(self, name: str, option: str) -> Any:
        """Return a head, frozen and on the agent's device.

        Args:
            name: Attribute of the agent, "temporal_distance".
            option: What needs it, as the user wrote it; for the error message.

        Raises:
            ValueError: The agent has none, or it was made on another world model.
        """
        network = getattr(self, name)
        if network is None:
            maker = "fit_graph" if name == "graph" else f"train_{name}"
            raise ValueError(f"{option} needs {name}=: make one (wm_agents.{maker}), or load an agent that has one.")
        if hasattr(network, "fingerprint"):
            check_fingerprint(self.world_model, network, name.replace("_", "-"))
        return network.to(self.device).eval().requires_grad_(False)

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Constructor options that a checkpoint stores, as JSON types."""

    @abstractmethod
    def make_policy(self) -> WorldModelPolicy:
        """Build the policy from the agent's parts."""

    def _setup_model(self) -> None:
        self.set_random_seed(self.seed)
        self.policy = self.make_policy().to(self.device)

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
        state: Memory | None = None,
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
        self.env, self.n_envs = wrapped, wrapped.num_envs

    def checkpoint(self) -> Checkpoint:
        """Return everything that the agent is, ready to be written."""
        options = {**self.stored_options, self.name: self.options()}
        heads = {name: getattr(self, name) for name in HEADS}
        return Checkpoint(self.world_model, self.name, options, self.env_id, dict(self.provenance), **heads)

    def save(  # type: ignore[override]
        self, path: str | Path | io.BufferedIOBase, exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:  # fmt: skip
        """Write the agent to one safetensors file: weights, shapes, statistics, provenance; nothing is pickled.

        Args:
            path: A path. Without a suffix ``.safetensors`` is added; with ``.zip``, as SB3's callbacks name files, the
                same safetensors file is stored in a zip archive.
            exclude: SB3's; must be empty.
            include: SB3's; must be empty.
        """
        if exclude or include:
            raise ValueError("exclude and include have no meaning here: a checkpoint holds the whole agent.")
        if isinstance(path, io.IOBase):
            raise ValueError("give a path: checkpoints are written atomically, which a stream cannot be.")
        target = Path(str(path))
        if target.suffix == ".zip":
            archive = io.BytesIO()
            with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as members:
                save_checkpoint(self.checkpoint(), Path(folder) / _MEMBER)
                members.write(Path(folder) / _MEMBER, _MEMBER)
            write_atomically(archive.getvalue(), target)
        else:
            save_checkpoint(self.checkpoint(), with_suffix(target))

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
        options = {**checkpoint.options.get(cls.name, {}), **kwargs}
        known = cls.option_names(options)
        for name in kwargs:
            if name not in known:
                raise ValueError(did_you_mean(f"option of {cls.__name__}", name, known))
        agent = cls(checkpoint.world_model, env, **cls.parts(checkpoint), **options)
        for name, head in checkpoint.heads().items():
            if getattr(agent, name) is None:
                setattr(agent, name, head)
        agent.stored_options = checkpoint.options
        agent.env_id = checkpoint.env_id
        agent.provenance = checkpoint.provenance
        return agent

    @classmethod
    def parts(cls, checkpoint: Checkpoint) -> dict[str, Any]:
        """Networks beyond the world model that the constructor takes."""
        return {}

    @classmethod
    def option_names(cls, options: dict[str, Any]) -> set[str]:
        """Names of the options that the constructor takes, given the ``options`` chosen so far."""
        return {"env", *inspect.signature(cls).parameters} - {"world_model", "policy", "_init_setup_model"}

    def get_parameters(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the policy's weights by name."""
        return {"policy": self.policy.state_dict()}


def with_suffix(path: Path) -> Path:
    """Add ``.safetensors`` to a path that has no suffix."""
    return path if path.suffix in (".safetensors", ".zip") else path.with_name(path.name + ".safetensors")


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint from a safetensors file, or from the zip archive that ``save("x.zip")`` writes."""
    target = with_suffix(Path(path))
    if target.suffix != ".zip":
        return load_checkpoint(target)
    if not target.is_file():
        raise CheckpointError(f"there is no checkpoint file at {target}.")
    if not zipfile.is_zipfile(target):
        raise CheckpointError(f"{target} is damaged or is no zip archive: get it again.")
    with zipfile.ZipFile(target) as archive, tempfile.TemporaryDirectory() as folder:
        if _MEMBER not in archive.namelist():
            raise CheckpointError(
                f"{target} is a zip archive without {_MEMBER}: an agent of Stable-Baselines3 itself? Load it there."
            )
        try:
            member = archive.extract(_MEMBER, folder)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise CheckpointError(f"{target} is damaged ({error}): get it again.") from error
        return load_checkpoint(member)


def check_env_fits(env: VecEnv, world_model: WorldModel) -> None:
    """Raise ``ValueError`` unless the environment has the images and actions that the world model was trained on."""
    low, high = world_model.action_low.cpu().numpy(), world_model.action_high.cpu().numpy()
    action_space, observation_space = env.action_space, env.observation_space
    if not isinstance(action_space, spaces.Box) or action_space.shape != low.shape:
        raise ValueError(
            f"the environment's action space is {action_space}, the checkpoint was trained with actions of shape "
            f"{low.shape}: pass the environment that it was trained on."
        )
    if not (np.allclose(action_space.low, low) and np.allclose(action_space.high, high)):
        raise ValueError(
            f"the environment's action bounds are {action_space.low}..{action_space.high}, the checkpoint was trained "
            f"with {low}..{high}: pass the environment that it was trained on."
        )
    keys = list(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else []
    if any(key not in keys for key in KEYS):
        raise ValueError(
            f"the environment's observations are {keys or observation_space}, the agent needs {list(KEYS)}: "
            'make it with obs_type="pixels" or "pixels_state".'
        )
    size = world_model.config.image_size
    assert isinstance(observation_space, spaces.Dict)
    shape = observation_space["pixels"].shape
    if shape not in ((size, size, 3), (3, size, size)):
        raise ValueError(f"the environment's images are {shape}, the agent was trained on size {size}: "
                         f"make it with image_size={size}.")  # fmt: skip
