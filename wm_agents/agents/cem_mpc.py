"""CEM-MPC: search in the latent space, receding horizon."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces

from wm_agents import planning
from wm_agents.agents.base import WorldModelAgent
from wm_agents.agents.policy import Memory, WorldModelPolicy
from wm_agents.models import WorldModel
from wm_agents.types import DecisionRecord


class MPCPolicy(WorldModelPolicy):
    """Plans action blocks, executes the first few, plans again from there.

    Memory: the plan ``[N, H, K*A]`` (normalised), steps since it was made ``[N]`` (-1: none yet), the last latents
    at block boundaries ``[N, history, D]``, the blocks executed between them ``[N, history, K*A]`` (the last row is
    being executed), and how many of those latents are real ``[N]``. Frames are encoded at block boundaries only.
    """

    def __init__(
        self, observation_space: spaces.Dict, action_space: spaces.Box, world_model: WorldModel,
        planner: planning.Planner, objective: str, receding_horizon: int, precision: str, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(observation_space, action_space, world_model, seed)
        self.planner = planner
        self.objective = planning.OBJECTIVES.get(objective)
        self.receding_horizon = receding_horizon
        self.precision = precision

    def blank(self, n: int) -> Memory:
        config = self.world_model.config
        return (
            np.zeros((n, self.planner.horizon, config.block_size), np.float32),
            np.full(n, -1, np.int64),
            np.zeros((n, config.history, config.latent_size), np.float32),
            np.zeros((n, config.history, config.block_size), np.float32),
            np.zeros(n, np.int64),
        )

    def decide(
        self, pixels: np.ndarray, goal: torch.Tensor, memory: Memory
    ) -> tuple[np.ndarray, Memory, DecisionRecord]:
        plan, step, latents, blocks, seen = memory
        config = self.world_model.config
        k = config.action_block
        boundary = (step < 0) | (step % k == 0)
        due = (step < 0) | (step == k * self.receding_horizon)

        started = time.perf_counter()
        if boundary.any():
            latents[boundary] = np.roll(latents[boundary], -1, axis=1)
            latents[boundary, -1] = self.encode(pixels[boundary]).cpu().numpy()
            seen[boundary] = np.minimum(seen[boundary] + 1, config.history)
        encoded = time.perf_counter()
        evaluations = 0
        # Environments with as many real frames are planned for in one call: at most `history` calls, usually one.
        for count in np.unique(seen[due]):
            rows = np.flatnonzero(due & (seen == count))
            init = self._shifted(plan[rows])
            init[step[rows] < 0] = 0
            evaluations = self._plan(plan, rows, latents[rows, -count:], blocks[rows, config.history - count + 1 :],
                                     goal[rows], init)  # fmt: skip
        step[due] = 0
        if boundary.any():
            blocks[boundary] = np.roll(blocks[boundary], -1, axis=1)
            blocks[boundary, -1] = plan[boundary, step[boundary] // k]
        done = time.perf_counter()

        block = torch.from_numpy(plan[np.arange(len(plan)), step // k])
        raw = self.world_model.denormalize(block.to(self.device)).cpu().numpy().reshape(len(plan), k, -1)
        actions = raw[np.arange(len(plan)), step % k]
        step += 1
        cost = DecisionRecord(1000 * (encoded - started), 1000 * (done - encoded), int(due.sum()), evaluations)
        return actions, (plan, step, latents, blocks, seen), cost

    def _shifted(self, plan: np.ndarray) -> np.ndarray:
        """Warm start: drop the executed blocks, repeat the last one."""
        keep = plan[:, self.receding_horizon :]
        last = keep[:, -1:] if keep.shape[1] else np.zeros_like(plan[:, :1])
        return np.concatenate([keep, np.repeat(last, self.receding_horizon, axis=1)], axis=1)

    def _plan(
        self, plan: np.ndarray, rows: np.ndarray, latents: np.ndarray, past: np.ndarray, goal: torch.Tensor,
        init: np.ndarray,
    ) -> int:  # fmt: skip
        """Write new plans into ``plan[rows]``; return the world-model evaluations per plan."""
        z, executed, start = (torch.from_numpy(array).to(self.device) for array in (latents, past, init))
        low, high = self.world_model.block_bounds()
        # One fixed stream per plan: the same noise for every environment and every replan, so that a decision depends
        # on the observation, the memory and the seed alone, whatever N is and whatever came before.
        generator = torch.Generator(device=z.device).manual_seed(self.seed)

        def cost(actions: torch.Tensor) -> torch.Tensor:
            with torch.autocast(z.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
                imagined = self.world_model.rollout(z, executed, actions)
            return self.objective(imagined, goal)

        result = self.planner.plan(
            cost, batch=len(rows), low=low, high=high, init=start, generator=generator
        )  # fmt: skip
        plan[rows] = result.actions.cpu().numpy()
        return result.evaluations * self.planner.horizon


class CEMMPC(WorldModelAgent):
    """Model-predictive control by the cross-entropy method in latent space.

    Args:
        world_model: Encodes and predicts.
        env: The environment (or its id, or a VecEnv) to control; optional for ``predict``.
        horizon: H, blocks per plan.
        receding_horizon: Blocks executed before planning again.
        objective: "summed" (distance to the goal averaged over the horizon) or "terminal".
        samples: Candidates per iteration.
        elites: Candidates that the Gaussian is refitted to.
        iterations: Rounds per plan.
        precision: Of the imagined rollouts. "bf16" is 1.5 to 3 times faster on CPUs with AVX512-BF16 or AMX, and slower
            on others; costs, elites and actions stay in float32.
        policy: Ignored; SB3 passes it.
        seed: Of the search; given, it also seeds Python, NumPy and torch, as in SB3. None is 0 for the agent alone.
        device: "auto", "cpu", "cuda".
        verbose: 0 silent, 1 informative.
        tensorboard_log: Directory of the TensorBoard log.
    """

    name = "cem-mpc"

    def __init__(
        self, world_model: WorldModel, env: Any = None, *, horizon: int = 5, receding_horizon: int = 1,
        objective: str = "summed", samples: int = 300, elites: int = 30, iterations: int = 10,
        precision: Literal["fp32", "bf16"] = "fp32", policy: Any = None,
        seed: int | None = None, device: torch.device | str = "auto", verbose: int = 0,
        tensorboard_log: str | None = None, _init_setup_model: bool = True,
    ) -> None:  # fmt: skip
        if not 1 <= receding_horizon <= horizon:
            raise ValueError(f"receding_horizon must lie in 1..horizon ({horizon} blocks), not {receding_horizon}.")
        planning.OBJECTIVES.get(objective)
        if precision not in ("fp32", "bf16"):
            raise ValueError(f'precision must be "fp32" or "bf16", not {precision!r}.')
        self.precision = precision
        self.planner_options = {"horizon": horizon, "samples": samples, "elites": elites, "iterations": iterations}
        self.receding_horizon = receding_horizon
        self.objective = objective
        super().__init__(world_model, env, seed, device, verbose, tensorboard_log, _init_setup_model)

    def options(self) -> dict[str, Any]:
        return {**self.planner_options, "receding_horizon": self.receding_horizon, "objective": self.objective,
                "precision": self.precision, "seed": self.seed}  # fmt: skip

    def make_policy(self) -> WorldModelPolicy:
        return MPCPolicy(
            self.observation_space, self.action_space, self.world_model,  # type: ignore[arg-type]
            planning.make("cem", **self.planner_options), self.objective, self.receding_horizon, self.precision,
            self.seed or 0,
        )  # fmt: skip
