"""Agents as files and as sets of weights: what SB3's algorithms do with pickles, without any."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import configure_logger, get_system_info

from wm_agents.agents.files import open_checkpoint, write_agent
from wm_agents.agents.fitting import check_head, collect_heads, warn_of_another_task
from wm_agents.checkpoint import Checkpoint, CheckpointError, MissingPartError, check_needs, foreign
from wm_agents.models import Head, WorldModel
from wm_agents.models.modes import ordinary

NOT_STORED = {"world_model", "env", "heads", "device", "verbose", "tensorboard_log"}
"""Arguments of the constructor that a file never sets."""


class StoredAgent(BaseAlgorithm):
    """The part of an agent that is saved, loaded, copied, and given other weights."""

    name: str
    world_model: WorldModel
    heads: dict[str, Head]
    settings: Any
    env_id: str
    provenance: dict[str, Any]
    stored_options: dict[str, dict[str, Any]]
    replay_buffer: Any
    trainer: Any

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Constructor options that a checkpoint stores, as JSON types."""

    @abstractmethod
    def _make_policy(self) -> None:
        """Build the policy from the agent's parts."""

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
        kind: Any = cls
        agent = kind(checkpoint.world_model, env, heads={**kept, **heads}, **options)
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

    def _like_this(self, checkpoint: Checkpoint) -> Any:
        """An agent with a checkpoint's weights and this one's options."""
        options = {field.name: getattr(self.settings, field.name) for field in dataclasses.fields(self.settings)}
        kind: Any = type(self)
        return kind(checkpoint.world_model, heads=checkpoint.heads, device=self.device, **options)

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
