"""GC-IDM: goals by one forward pass of a goal-conditioned inverse dynamics model."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from stable_baselines3.common.type_aliases import MaybeCallback
from torch import nn

from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.controller import Controller, Decision, Frames
from wm_agents.agents.memory import Fields
from wm_agents.checkpoint import Checkpoint, CheckpointError, versions
from wm_agents.configs import check_counts, check_flags, check_numbers
from wm_agents.models import InverseDynamics, InverseDynamicsConfig, StepsToGoal
from wm_agents.training import InverseDynamicsTrainingConfig, train_inverse_dynamics

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset

HORIZONS = ("auto", "estimated")
STILL, AWAY = 0.1, 0.3
"""An agent is stuck if its latent changed by less than the first over the last ``lag`` steps and is farther than the
second from the goal's, as root mean squares. The latents of the shipped world models have a spread of 1."""


class GCIDMController(Controller):
    """Encodes every step and asks the inverse dynamics model for the next action.

    Memory: ``recent [N, lag + 1, F]``, features of the last frames, oldest first, and ``seen [N]``, how many of them
    are real.

    Args:
        network: Acts.
        horizon: Environment steps to a goal whose distance nobody says; None: unknown.
        countdown: Let the horizon shrink by one each step since the goal was given.
        distance: Estimates the steps to a goal at an unknown distance, instead of ``horizon``.
        temperature: Of the draw among discrete actions; 0 takes the most probable one.
        nudge: Standard deviation of what is added to the actions of an agent that is stuck, in half ranges.

    Raises:
        ValueError: A temperature for continuous actions; a nudge for discrete ones, or for a network without a lag.
    """

    def __init__(
        self,
        network: InverseDynamics,
        horizon: int | None = None,
        countdown: bool = False,
        distance: StepsToGoal | None = None,
        temperature: float = 0.0,
        nudge: float = 0.0,
    ) -> None:
        if temperature and not network.config.choices:
            raise ValueError("temperature is for discrete actions, and these are continuous: leave it at 0.")
        if nudge and network.config.choices:
            raise ValueError("nudge is for continuous actions, and these are discrete: leave it at 0.")
        if nudge and not network.config.lag:
            raise ValueError(
                "nudge sees by the past whether an agent is stuck, and this network has lag=0: leave it at 0."
            )
        self.network = network
        self.horizon = horizon
        self.countdown = countdown
        self.distance = distance
        self.temperature = temperature
        self.nudge = nudge

    def modules(self) -> Iterable[nn.Module]:
        return (self.network,) if self.distance is None else (self.network, self.distance)

    def initial_memory(self, n: int) -> Fields:
        config = self.network.config
        return {
            "recent": np.zeros((n, config.lag + 1, config.latent_size), np.float32),
            "seen": np.zeros(n, np.int64),
        }

    def act(self, frames: Frames, memory: Fields) -> Decision:
        recent, seen = memory["recent"], memory["seen"]
        z = frames.world_model.features(frames.latents())
        recent[:, :-1] = recent[:, 1:]
        recent[:, -1] = z.cpu().numpy()
        first = seen == 0
        if first.any():
            recent[first] = recent[first, -1:]  # no past yet: as if standing still
        seen += 1
        before = torch.from_numpy(recent[:, 0]).to(z.device)
        goal = frames.world_model.features(frames.goal)
        actions = self.network(z, before, goal, self._steps(frames, z, goal)).cpu().numpy()
        if self.temperature:  # the largest sum of Gumbel noise and a score is a draw from the softmax of the scores
            images = [zlib.crc32(image) for image in frames.pixels]  # a draw without memory differs from step to step
            noise = [rng.gumbel(size=actions.shape[1]) for rng in _generators(frames, images)]
            actions = actions + self.temperature * np.stack(noise).astype(np.float32)
        if self.nudge:
            stuck = (seen > self.network.config.lag) & (_rms(z - before) < STILL) & (_rms(z - goal) > AWAY)
            if stuck.any():
                actions = np.where(stuck[:, None], actions + self._noise(frames), actions)
        return Decision(actions, len(frames), 0)

    def _noise(self, frames: Frames) -> np.ndarray:
        """What nudges the agents, float32 ``[N, A]``.

        It does not depend on the present image: the last bit of an action, which the size of a batch decides, would
        soon give another image, and then another episode.
        """
        half = ((frames.world_model.action_high - frames.world_model.action_low) / 2).cpu().numpy()
        noise = [rng.standard_normal(len(half)) for rng in _generators(frames, frames.checksums)]
        return self.nudge * half * np.stack(noise).astype(np.float32)

    def _steps(self, frames: Frames, z: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Environment steps to the goal that the network is given, int64 ``[N]``; 0 where the distance is unknown."""
        if frames.steps is not None:
            return torch.from_numpy(np.rint(frames.steps).astype(np.int64)).to(z.device)
        if self.distance is not None:
            return self.distance.steps(z, goal).round().clamp(min=1).long()
        steps = np.full(len(frames), self.horizon or 0, np.int64)
        steps = np.maximum(1, steps - frames.elapsed) if self.countdown else steps
        return torch.from_numpy(steps).to(z.device)


def _generators(frames: Frames, keys: Iterable[int]) -> list[np.random.Generator]:
    """A source of noise for each frame, which depends on the seed, the step and the frame's key alone."""
    return [np.random.default_rng((frames.seed, step, key)) for step, key in zip(frames.elapsed, keys, strict=True)]


def _rms(features: torch.Tensor) -> np.ndarray:
    """Root mean squares ``[N]`` of ``features [N, F]``."""
    return features.square().mean(dim=1).sqrt().cpu().numpy()


class UnfittedController(Controller):
    """Stands where GC-IDM has no network yet."""

    def initial_memory(self, n: int) -> Fields:
        raise ValueError("this GCIDM has no inverse dynamics model yet: call agent.fit(dataset) first.")

    def act(self, frames: Frames, memory: Fields) -> Decision:
        raise ValueError("this GCIDM has no inverse dynamics model yet: call agent.fit(dataset) first.")


@dataclass(frozen=True)
class GCIDMOptions:
    """Options of :class:`GCIDM`.

    Attributes:
        horizon: Environment steps to the goal that the network is told. "estimated" asks the head "steps-to-goal" at
            every step. A number is the same for every goal. None means that the distance is unknown. "auto" is
            "estimated" if the agent has that head, otherwise None.
        countdown: Decrease a horizon that is a number by one with each step of the episode (the paper's protocol), for
            a goal at a known distance.
        temperature: Of discrete actions alone. 0 takes the most probable action, 1 draws from the probabilities that
            the network gives, and numbers in between prefer the probable ones. A draw gets out of places where the
            most probable action changes nothing.
        nudge: Of continuous actions alone. Where the image has hardly changed for ``lag`` steps and is not yet like the
            goal, noise of this standard deviation is added to the action, in half ranges of the action space. 0 adds
            none.
    """

    horizon: int | Literal["auto", "estimated"] | None = "auto"
    countdown: bool = False
    temperature: float = 0.0
    nudge: float = 0.0

    def __post_init__(self) -> None:
        check_flags(self, ("countdown",))
        check_numbers(self, ("temperature", "nudge"), 0)
        check_horizon(self)
        if self.countdown and (self.horizon is None or isinstance(self.horizon, str)):
            raise ValueError("countdown needs a horizon to count down from: give horizon=, in environment steps.")


def check_horizon(options: Any) -> None:
    """Raise ``ValueError`` unless ``options.horizon`` is a number of steps, "auto", "estimated" or None."""
    if isinstance(options.horizon, str):
        if options.horizon not in HORIZONS:
            raise ValueError(
                f'horizon must be a number of environment steps, "auto", "estimated" or None, not {options.horizon!r}.'
            )
    elif options.horizon is not None:
        check_counts(options, ("horizon",))


def distance_of(agent: WorldModelAgent, horizon: int | str | None) -> StepsToGoal | None:
    """The head that estimates the steps to a goal, where the option ``horizon`` asks for one."""
    if horizon == "estimated" or (horizon == "auto" and "steps-to-goal" in agent.heads):
        return agent.head("steps-to-goal", 'horizon="estimated"')
    return None


class GCIDM(WorldModelAgent):
    """Goal-conditioned inverse dynamics model on a frozen world model (arXiv 2605.08732).

    Planning is amortised: ``(latent, goal latent, steps left) -> action``, one forward pass per environment step.

    Args:
        world_model: Its encoder is used, frozen.
        env: The environment (or its id, or a VecEnv) to control; optional for ``predict``.
        heads: "gc-idm"; without it, train one with :meth:`fit`. "steps-to-goal" estimates how far the goal is.
        seed: See :class:`WorldModelAgent`.
        device: See :class:`WorldModelAgent`.
        verbose: 0 silent, 1 progress bars and log tables.
        tensorboard_log: See :class:`WorldModelAgent`.
        **options: Fields of :class:`GCIDMOptions`.
    """

    name = "gc-idm"
    Options = GCIDMOptions
    settings: GCIDMOptions

    @property
    def inverse_dynamics(self) -> InverseDynamics | None:
        """The network that acts, ``heads["gc-idm"]``."""
        return self.heads.get("gc-idm")  # type: ignore[return-value]

    @classmethod
    def needed_heads(cls, settings: GCIDMOptions) -> tuple[str, ...]:
        return ("gc-idm", "steps-to-goal") if settings.horizon == "estimated" else ("gc-idm",)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, env: Any = None, **kwargs: Any) -> Any:
        agent = super().from_checkpoint(checkpoint, env, **kwargs)
        if agent.inverse_dynamics is None:
            raise CheckpointError("this checkpoint holds a world model but no inverse dynamics model: fit one first.")
        return agent

    def make_controller(self) -> Controller:
        if self.inverse_dynamics is None:
            return UnfittedController()
        settings = self.settings
        return GCIDMController(
            self.head("gc-idm", "GCIDM"),
            None if isinstance(settings.horizon, str) else settings.horizon,
            settings.countdown,
            distance_of(self, settings.horizon),
            settings.temperature,
            settings.nudge,
        )

    def fit(
        self,
        dataset: TrajectoryDataset,
        *,
        model: InverseDynamicsConfig | None = None,
        training: InverseDynamicsTrainingConfig | None = None,
        run_dir: str | Path | None = None,
        callback: MaybeCallback = None,
    ) -> GCIDM:
        """Train the inverse dynamics model on reward-free data with hindsight goals.

        Args:
            dataset: Of the environment that the world model knows.
            model: Shape of the network.
            training: Options; the agent's seed is used when None.
            run_dir: Keep a resumable state there.
            callback: An SB3 callback (``EvalCallback``), or what else ``learn`` takes in SB3; ``num_timesteps`` counts
                gradient updates meanwhile.

        Returns:
            The agent itself.
        """
        training = training or InverseDynamicsTrainingConfig(seed=self.seed or 0)
        hooks = None if callback is None else self._init_callback(callback)

        def on_step(learner: Any, step: int) -> bool:
            self.num_timesteps = step
            if hooks is None:
                return True
            if self.heads.get("gc-idm") is not learner.result:
                self.use(learner.result)
            return hooks.on_step()

        self.num_timesteps = self._num_timesteps_at_start = 0
        self.start_time = time.time_ns()
        self._open_log()
        if hooks is not None:
            hooks.on_training_start({"self": self, "total_timesteps": training.steps}, {})
        network, self.history = train_inverse_dynamics(
            self.world_model,
            dataset,
            model,
            training,
            run_dir=run_dir,
            logger=self.logger,
            callback=on_step,
            progress=self.verbose > 0,
        )
        self.use(network)
        self.env_id = dataset.env_id or self.env_id
        # What is known of the world model stays; all that was known of the head before is void.
        model = self.provenance.get("world_model", self.provenance)
        data = {"dataset": dataset.provenance, "seed": training.seed, "versions": versions()}
        self.provenance = {"world_model": model, **data}
        if hooks is not None:
            hooks.on_training_end()
        return self
