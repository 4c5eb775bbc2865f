"""Model-predictive control: search in the latent space with any planner, receding horizon."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import time
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium import spaces

from wm_agents import planning
from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.policy import Memory, WorldModelPolicy
from wm_agents.agents.proposals import Proposer, diffusion_proposals, inverse_dynamics_proposal, prior
from wm_agents.checkpoint import Checkpoint
from wm_agents.models import Denoiser, InverseDynamics, TemporalDistance, WorldModel
from wm_agents.planning import Objective, ObjectiveSpec
from wm_agents.planning.ddim import Denoise
from wm_agents.registry import did_you_mean
from wm_agents.types import DecisionRecord

Prior = Callable[[torch.Tensor, torch.Tensor], Denoise]


class MPCPolicy(WorldModelPolicy):
    """Plans action blocks, executes the first few, plans again from there.

    Memory: the planner's elites ``[N, E, H, K*A]`` (normalised; the first is the plan), steps since it was made ``[N]``
    (-1: none yet), the last latents at block boundaries ``[N, history, D]``, the blocks executed between them
    ``[N, history, K*A]`` (the last row is being executed), how many of those latents are real ``[N]``, and how many
    blocks the plan was made for ``[N]``. Frames are encoded at block boundaries only.
    """

    def __init__(
        self, observation_space: spaces.Dict, action_space: spaces.Box, world_model: WorldModel,
        planner: planning.Planner, objective: Objective, receding_horizon: int, shrinking: bool, precision: str,
        seed: int, proposer: Proposer | None = None, prior: Prior | None = None,
    ) -> None:  # fmt: skip
        super().__init__(observation_space, action_space, world_model, seed)
        self.planner = planner
        self.objective = objective
        self.proposer = proposer
        self.prior = prior
        self.receding_horizon = receding_horizon
        self.shrinking = shrinking
        self.precision = precision

    def blank(self, n: int) -> Memory:
        config = self.world_model.config
        return (
            np.zeros((n, self.planner.carried, self.planner.horizon, config.block_size), np.float32),
            np.full(n, -1, np.int64),
            np.zeros((n, config.history, config.latent_size), np.float32),
            np.zeros((n, config.history, config.block_size), np.float32),
            np.zeros(n, np.int64),
            np.zeros(n, np.int64),
        )

    def goal_changed(self, memory: Memory, rows: np.ndarray) -> None:
        for kept, blank in zip(memory, self.blank(len(rows)), strict=True):
            kept[rows] = blank

    def decide(
        self, pixels: np.ndarray, goal: torch.Tensor, memory: Memory
    ) -> tuple[np.ndarray, Memory, DecisionRecord]:
        elites, step, latents, blocks, seen, length = memory
        config = self.world_model.config
        k = config.action_block
        fresh = step < 0
        boundary = fresh | (step % k == 0)
        due = fresh | (step == k * np.minimum(self.receding_horizon, length))

        started = time.perf_counter()
        if boundary.any():
            latents[boundary] = np.roll(latents[boundary], -1, axis=1)
            latents[boundary, -1] = self.encode(pixels[boundary]).cpu().numpy()
            seen[boundary] = np.minimum(seen[boundary] + 1, config.history)
        encoded = time.perf_counter()
        evaluations = 0
        if self.shrinking:
            length = length - self.receding_horizon * due
            fresh |= length <= 0  # that plan has arrived: nothing of it is left to start from
        length = np.where(fresh | (not self.shrinking), self.planner.horizon, length)
        # Environments with as many real frames and blocks to plan are planned for in one call, usually all of them.
        for count, blocks_ahead in sorted(set(zip(seen[due].tolist(), length[due].tolist(), strict=True))):
            rows = np.flatnonzero(due & (seen == count) & (length == blocks_ahead))
            start = self._shifted(elites[rows])[:, :, :blocks_ahead]
            start[fresh[rows]] = 0
            z, past = latents[rows, -count:], blocks[rows, config.history - count + 1 :]
            found, cost = self._plan(
                torch.from_numpy(z).to(self.device), torch.from_numpy(past).to(self.device),
                torch.from_numpy(start).to(self.device), goal[rows],
            )  # fmt: skip
            elites[rows, :, :blocks_ahead] = found.cpu().numpy()
            evaluations += cost
        step[due] = 0
        if boundary.any():
            blocks[boundary] = np.roll(blocks[boundary], -1, axis=1)
            blocks[boundary, -1] = elites[boundary, 0, step[boundary] // k]
        done = time.perf_counter()

        block = torch.from_numpy(elites[np.arange(len(elites)), 0, step // k])
        raw = self.world_model.denormalize(block.to(self.device)).cpu().numpy().reshape(len(elites), k, -1)
        actions = raw[np.arange(len(elites)), step % k]
        step += 1
        record = DecisionRecord(1000 * (encoded - started), 1000 * (done - encoded), int(due.sum()), evaluations)
        return actions, (elites, step, latents, blocks, seen, length), record

    def _shifted(self, elites: np.ndarray) -> np.ndarray:
        """Warm start: drop the executed blocks, repeat the last one."""
        keep = elites[:, :, self.receding_horizon :]
        last = keep[:, :, -1:] if keep.shape[2] else np.zeros_like(elites[:, :, :1])
        return np.concatenate([keep, np.repeat(last, self.receding_horizon, axis=2)], axis=2)

    def _plan(
        self, z: torch.Tensor, past: torch.Tensor, start: torch.Tensor, goal: torch.Tensor
    ) -> tuple[torch.Tensor, int]:
        """Plan from latents ``z [n, T, D]`` and the blocks ``past [n, T-1, K*A]`` executed between them.

        Returns:
            Elites ``[n, E, H, K*A]`` and the world-model evaluations of all n plans.
        """
        low, high = self.world_model.block_bounds()
        planner: Any = self.planner
        if start.shape[2] != planner.horizon:
            planner = dataclasses.replace(planner, horizon=start.shape[2])
        # One fixed stream per plan: the same noise for every environment and every replan, so that a decision depends
        # on the observation, the memory and the seed alone, whatever N is and whatever came before.
        generator = torch.Generator(device=z.device).manual_seed(self.seed)
        evaluations = 0
        imagine = self.imagination()

        def cost(actions: torch.Tensor) -> torch.Tensor:
            return self.objective(imagine(z, past, actions), goal, actions)

        if self.proposer is not None:
            proposals, evaluations = self.proposer(z, past, goal, planner.horizon, generator)
            start = torch.cat([proposals, start], dim=1)
        if self.prior is not None:
            planner = dataclasses.replace(planner, denoise=self.prior(z, goal))
        plan = planner.plan(cost, batch=len(z), low=low, high=high, init=start, generator=generator)
        return plan.elites, len(z) * evaluations + planner.horizon * int(plan.evaluations.sum())

    def imagination(self) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
        """Return :meth:`WorldModel.rollout` in this policy's precision, of the weights as they are now."""
        if self.precision == "fp32":
            return self.world_model.rollout
        model = self.world_model.for_bf16()

        def imagine(z: torch.Tensor, past: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
            with torch.autocast(z.device.type, dtype=torch.bfloat16):
                return model.rollout(z, past, actions)

        return imagine


class MPC(WorldModelAgent):
    """Model-predictive control in latent space.

    ``CEMMPC``, ``ICEMMPC``, ``MPPIMPC`` and so on are this class with the planner chosen.

    Args:
        world_model: Encodes and predicts.
        env: The environment (or its id, or a VecEnv) to control; optional for ``predict``.
        planner: One of :data:`wm_agents.planning.PLANNERS`.
        horizon: H, blocks per plan.
        receding_horizon: Blocks executed before planning again.
        shrinking: Plan to arrive after ``horizon`` blocks: each plan is as much shorter as was executed of the one
            before, and a full one follows the last. A terminal cost that is replanned needs it: with a horizon that
            keeps receding, arriving can be put off for ever.
        objective: What to minimise; see :func:`wm_agents.planning.make_objective`. "temporal-distance" is the learned
            one. Functions of your own work, but cannot be saved.
        proposals: Where a search starts besides the last plan: "gc-idm" rolls the inverse dynamics model through the
            world model, "diffusion" samples the denoiser (for the planner "diffusion" it is the prior), "none" is the
            last plan alone.
        precision: Of the imagined rollouts. "bf16" is up to 3 times faster on CPUs with AVX512-BF16 or AMX, most with
            wide predictors and many environments, and slower on others; costs, elites and actions stay in float32.
        inverse_dynamics: For ``proposals="gc-idm"``.
        temporal_distance: For ``objective="temporal-distance"``.
        denoiser: For ``proposals="diffusion"``.
        policy: Ignored; SB3 passes it.
        seed: Of the search; given, it also seeds Python, NumPy and torch, as in SB3. None is 0 for the agent alone.
        device: "auto", "cpu", "cuda".
        verbose: 0 silent, 1 informative.
        tensorboard_log: Directory of the TensorBoard log.
        **planner_options: The planner's own: samples, iterations, temperature, ...; see its class.

    Raises:
        ValueError: An option is unknown or out of range, or needs a network that was not given.
    """

    name = "mpc"
    fixed_planner: ClassVar[str | None] = None

    def __init__(
        self, world_model: WorldModel, env: Any = None, *, planner: str | None = None, horizon: int = 5,
        receding_horizon: int = 1, shrinking: bool = False, objective: ObjectiveSpec = "summed",
        proposals: Literal["none", "gc-idm", "diffusion"] = "none", precision: Literal["fp32", "bf16"] = "fp32",
        inverse_dynamics: InverseDynamics | None = None, temporal_distance: TemporalDistance | None = None,
        denoiser: Denoiser | None = None, policy: Any = None, seed: int | None = None,
        device: torch.device | str = "auto", verbose: int = 0, tensorboard_log: str | None = None,
        _init_setup_model: bool = True, **planner_options: Any,
    ) -> None:  # fmt: skip
        if not 1 <= receding_horizon <= horizon:
            raise ValueError(f"receding_horizon must lie in 1..horizon ({horizon} blocks), not {receding_horizon}.")
        if precision not in ("fp32", "bf16"):
            raise ValueError(f'precision must be "fp32" or "bf16", not {precision!r}.')
        if planner not in (None, self.fixed_planner) and self.fixed_planner is not None:
            raise ValueError(f"{type(self).__name__} plans with {self.fixed_planner!r}, not {planner!r}: use MPC.")
        self.planner_name = planner or self.fixed_planner or "cem"
        self.planner_options = {"horizon": horizon, **planner_options}
        self.receding_horizon = receding_horizon
        self.shrinking = shrinking
        self.objective = objective
        self.proposals = proposals
        self.precision = precision
        self.inverse_dynamics = inverse_dynamics
        self.temporal_distance = temporal_distance
        self.denoiser = denoiser
        super().__init__(world_model, env, seed, device, verbose, tensorboard_log, _init_setup_model)

    @classmethod
    def parts(cls, checkpoint: Checkpoint) -> dict[str, Any]:
        taken = inspect.signature(cls).parameters
        return {name: head for name, head in checkpoint.heads().items() if name in taken}

    @classmethod
    def option_names(cls, options: dict[str, Any]) -> set[str]:
        planner = planning.PLANNERS.get(options.get("planner") or cls.fixed_planner or "cem")
        return super().option_names(options) - {"planner_options"} | planning.option_names(planner)

    def options(self) -> dict[str, Any]:
        spec = self.objective
        if callable(spec) or (not isinstance(spec, str) and any(callable(term) for term in spec)):
            raise ValueError(
                "an agent whose objective is a function of your own cannot be saved: a file holds no code. "
                "Save it with a named objective, and pass yours to load(..., objective=...)."
            )
        return {"planner": self.planner_name, **self.planner_options, "receding_horizon": self.receding_horizon,
                "shrinking": self.shrinking, "objective": spec, "proposals": self.proposals,
                "precision": self.precision, "seed": self.seed}  # fmt: skip

    def make_policy(self) -> WorldModelPolicy:
        block = {"action_block": self.world_model.config.action_block}
        known = planning.option_names(planning.PLANNERS.get(self.planner_name))
        timing = {name: value for name, value in block.items() if name in known}
        planner = planning.make(self.planner_name, **{**timing, **self.planner_options})
        objective = planning.make_objective(self.objective, {"temporal-distance": self._temporal_distance})
        return MPCPolicy(
            self.observation_space, self.action_space, self.world_model,  # type: ignore[arg-type]
            planner, objective, self.receding_horizon, self.shrinking, self.precision, self.seed or 0,
            **self._amortised(),
        )  # fmt: skip

    def _temporal_distance(self) -> Objective:
        return planning.learned_distance(self.head("temporal_distance", 'objective="temporal-distance"'))

    def _amortised(self) -> dict[str, Any]:
        """What helps the planner: a proposer of whole plans, or a prior to sample from."""
        option, horizon = f"proposals={self.proposals!r}", self.planner_options["horizon"]
        if self.proposals == "none":
            return {}
        if self.proposals == "gc-idm":
            network = self.head("inverse_dynamics", option)
            return {"proposer": functools.partial(inverse_dynamics_proposal, self.world_model, network)}
        if self.proposals != "diffusion":
            raise ValueError(did_you_mean("proposals", str(self.proposals), ("none", "gc-idm", "diffusion")))
        denoiser = self.head("denoiser", option)
        if self.planner_name != "diffusion":
            return {"proposer": functools.partial(diffusion_proposals, self.world_model, denoiser, 16, 10)}
        if self.shrinking:
            raise ValueError("the denoiser plans a fixed number of blocks: leave out shrinking=True.")
        if horizon != denoiser.config.horizon:
            raise ValueError(f"the denoiser was trained for horizon={denoiser.config.horizon}, not {horizon}.")
        return {"prior": functools.partial(prior, self.world_model, denoiser)}


class CEMMPC(MPC):
    """:class:`MPC` with the cross-entropy method, :class:`wm_agents.planning.cem.CEM`."""

    name = "cem-mpc"
    fixed_planner = "cem"


class ICEMMPC(MPC):
    """:class:`MPC` with improved CEM, :class:`wm_agents.planning.icem.ICEM`."""

    name = "icem"
    fixed_planner = "icem"


class MPPIMPC(MPC):
    """:class:`MPC` with model-predictive path integrals, :class:`wm_agents.planning.mppi.MPPI`."""

    name = "mppi"
    fixed_planner = "mppi"


class RandomShootingMPC(MPC):
    """:class:`MPC` with random shooting, :class:`wm_agents.planning.shooting.RandomShooting`."""

    name = "random-shooting"
    fixed_planner = "random-shooting"


class PredictiveSamplingMPC(MPC):
    """:class:`MPC` with predictive sampling, :class:`wm_agents.planning.shooting.PredictiveSampling`."""

    name = "predictive-sampling"
    fixed_planner = "predictive-sampling"


class GradientMPC(MPC):
    """:class:`MPC` with gradient descent, :class:`wm_agents.planning.gradient.Gradient`."""

    name = "gradient"
    fixed_planner = "gradient"


class SGLDMPC(MPC):
    """:class:`MPC` with Langevin dynamics, :class:`wm_agents.planning.sgld.SGLD`."""

    name = "sgld"
    fixed_planner = "sgld"


class DiffusionMPC(MPC):
    """:class:`MPC` with diffusion, :class:`wm_agents.planning.diffusion.Diffusion`."""

    name = "diffusion"
    fixed_planner = "diffusion"


class DiffusionGuidanceMPC(MPC):
    """:class:`MPC` with untrained guidance, :class:`wm_agents.planning.diffusion.DiffusionGuidance`."""

    name = "diffusion-guidance"
    fixed_planner = "diffusion-guidance"
