"""GC-IDM: goals by one forward pass of a goal-conditioned inverse dynamics model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import MaybeCallback

from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.policy import Memory, WorldModelPolicy
from wm_agents.checkpoint import Checkpoint, CheckpointError, versions
from wm_agents.models import InverseDynamics, InverseDynamicsConfig, WorldModel
from wm_agents.training import InverseDynamicsTrainingConfig, train_inverse_dynamics
from wm_agents.types import DecisionRecord

if TYPE_CHECKING:
    from wm_agents.datasets import TrajectoryDataset


class GCIDMPolicy(WorldModelPolicy):
    """Encodes every step and asks the inverse dynamics model for the next action.

    Memory: steps since the goal was given ``[N]``, and the latents of the last ``lag`` steps ``[N, lag + 1, D]``,
    oldest first, NaN before the start.
    """

    def __init__(
        self, observation_space: spaces.Dict, action_space: spaces.Box, world_model: WorldModel,
        inverse_dynamics: InverseDynamics | None, horizon: int | None, countdown: bool,
    ) -> None:  # fmt: skip
        super().__init__(observation_space, action_space, world_model)
        self.inverse_dynamics = inverse_dynamics
        self.horizon = horizon
        self.countdown = countdown

    def blank(self, n: int) -> Memory:
        lag = self._network().config.lag
        return np.zeros(n, np.int64), np.full((n, lag + 1, self.world_model.config.latent_size), np.nan, np.float32)

    def goal_changed(self, memory: Memory, rows: np.ndarray) -> None:
        memory[0][rows] = 0

    def decide(
        self, pixels: np.ndarray, goal: torch.Tensor, memory: Memory
    ) -> tuple[np.ndarray, Memory, DecisionRecord]:
        network = self._network()
        elapsed, latents = memory
        remaining = np.full_like(elapsed, self.horizon or 0)
        if self.countdown:
            remaining = np.maximum(1, remaining - elapsed)
        started = time.perf_counter()
        z = self.encode(pixels)
        encoded = time.perf_counter()
        latents = np.concatenate([latents[:, 1:], z.cpu().numpy()[:, None]], axis=1)
        latents = np.where(np.isnan(latents), latents[:, -1:], latents)  # no past yet: as if standing still
        before = torch.from_numpy(latents[:, 0]).to(z.device)
        actions = network(z, before, goal, torch.from_numpy(remaining).to(z.device)).cpu().numpy()
        done = time.perf_counter()
        cost = DecisionRecord(1000 * (encoded - started), 1000 * (done - encoded), len(pixels), 0)
        return actions, (elapsed + 1, latents), cost

    def _network(self) -> InverseDynamics:
        if self.inverse_dynamics is None:
            raise ValueError("this GCIDM has no inverse dynamics model yet: call agent.fit(dataset) first.")
        return self.inverse_dynamics


class GCIDM(WorldModelAgent):
    """Goal-conditioned inverse dynamics model on a frozen world model (arXiv 2605.08732).

    Planning is amortised: ``(latent, goal latent, steps left) -> action``, one forward pass per environment step.

    Args:
        world_model: Its encoder is used, frozen.
        env: The environment (or its id, or a VecEnv) to control; optional for ``predict``.
        inverse_dynamics: A trained model; None to train one with :meth:`fit`.
        horizon: Environment steps to the goal that the model is told; None: it is told that the distance is unknown,
            which is right for free goals.
        countdown: Let the horizon shrink by one each step of the episode (the paper's protocol), for a goal that is a
            known number of steps away.
        policy: Ignored; SB3 passes it.
        seed: Of fitting; given, it also seeds Python, NumPy and torch, as in SB3. None is 0 for the agent alone.
        device: "auto", "cpu", "cuda".
        verbose: 0 silent, 1 progress bars and log tables.
        tensorboard_log: Directory of the TensorBoard log.
    """

    name = "gc-idm"

    def __init__(
        self, world_model: WorldModel, env: Any = None, *, inverse_dynamics: InverseDynamics | None = None,
        horizon: int | None = None, countdown: bool = False, policy: Any = None, seed: int | None = None,
        device: torch.device | str = "auto", verbose: int = 0, tensorboard_log: str | None = None,
        _init_setup_model: bool = True,
    ) -> None:  # fmt: skip
        if horizon is not None and horizon < 1:
            raise ValueError(f"horizon must be at least 1 step, not {horizon}.")
        if countdown and horizon is None:
            raise ValueError("countdown needs a horizon to count down from: give horizon=, in environment steps.")
        self.inverse_dynamics = inverse_dynamics
        self.horizon = horizon
        self.countdown = countdown
        self.history: dict[str, list[tuple[int, float]]] = {}
        super().__init__(world_model, env, seed, device, verbose, tensorboard_log, _init_setup_model)

    @classmethod
    def parts(cls, checkpoint: Checkpoint) -> dict[str, Any]:
        if checkpoint.inverse_dynamics is None:
            raise CheckpointError("this checkpoint holds a world model but no inverse dynamics model: fit one first.")
        return {"inverse_dynamics": checkpoint.inverse_dynamics}

    def options(self) -> dict[str, Any]:
        return {"horizon": self.horizon, "countdown": self.countdown, "seed": self.seed}

    def make_policy(self) -> WorldModelPolicy:
        return GCIDMPolicy(
            self.observation_space, self.action_space, self.world_model, self.inverse_dynamics,  # type: ignore[arg-type]
            self.horizon, self.countdown,
        )  # fmt: skip

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

        def on_step(network: InverseDynamics, step: int) -> bool:
            self.num_timesteps = step
            if hooks is None:
                return True
            self.use(network.eval())
            keep = hooks.on_step()
            network.train()
            return keep

        self.num_timesteps = 0
        if hooks is not None:
            hooks.on_training_start({"self": self, "total_timesteps": training.steps}, {})
        network, self.history = train_inverse_dynamics(
            self.world_model, dataset, model, training, run_dir=run_dir, logger=self.logger, on_step=on_step,
            progress=self.verbose > 0,
        )  # fmt: skip
        self.use(network)
        self.env_id = self.env_id or dataset.env_id
        self.provenance = self.provenance or {"dataset": dataset.provenance, "versions": versions()}
        if hooks is not None:
            hooks.on_training_end()
        return self

    def use(self, network: InverseDynamics) -> None:
        """Act with this network from now on."""
        assert isinstance(self.policy, GCIDMPolicy)
        self.inverse_dynamics = self.policy.inverse_dynamics = network
