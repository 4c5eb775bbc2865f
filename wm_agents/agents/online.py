"""Online learning: an agent acts in its environment, and learns from what it sees there, in turns."""

from __future__ import annotations

import dataclasses
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import safe_mean

from wm_agents.agents.curiosity import CANDIDATES, rare_frame
from wm_agents.agents.exploration import GIVEN, Explorer
from wm_agents.agents.fitting import ids_of
from wm_agents.agents.policy import NOISE
from wm_agents.agents.replay_files import empty_replay
from wm_agents.agents.untrained import heads_to_learn
from wm_agents.checkpoint import versions
from wm_agents.configs import check_counts, check_flag, check_numbers, whole_number
from wm_agents.registry import did_you_mean
from wm_agents.training.checks import check_is_dataset, check_options
from wm_agents.training.continued import ContinuedTraining
from wm_agents.training.heads import learner_of
from wm_agents.training.latents import check_dataset_fits
from wm_agents.training.learner import ShortEpisodesError

if TYPE_CHECKING:
    from wm_agents.agents.base import WorldModelAgent
    from wm_agents.datasets import ReplayBuffer, TrajectoryDataset

STATE = ("untrained", "online", "timesteps")
"""Entries of an agent's provenance that say how far ``learn`` has come."""
SHARES = ("random_episodes", "own_goals", "curious_episodes")
GOAL_CHOICES = ("uniform", "rare")


@dataclass(frozen=True)
class OnlineConfig:
    """How an agent learns online, in rounds of environment steps and then gradient steps, as PlaNet does.

    An agent that began with nothing trains with fresh weights in each round, on all that it has seen. Other agents go
    on from their weights; see docs/learn.md.

    Attributes:
        learning_starts: Environment steps before the first training. An untrained agent acts at random until then.
        train_freq: Environment steps, in all environments together, between two trainings.
        growth: Where trainings begin with fresh weights: the environment steps must also have grown by this share
            since the last one; 1 is twice as many.
        world_model_updates: Gradient steps of the world model for each environment step. PlaNet (arXiv 1811.04551)
            takes 0.1; 0 leaves the world model as it is.
        head_updates: Gradient steps of each head for each environment step.
        least_updates: Gradient steps of each that a training with fresh weights takes at least.
        noise: Mean standard deviation of the noise on actions, in halves of the action space's range; each episode
            draws its own, up to twice that. Where actions are discrete: the mean probability of a random one.
        random_episodes: Share of the episodes with random actions after the first training.
        own_goals: Share of the episodes with goals from the agent's own data.
        goal_choice: Which frames become goals of its own: "uniform", or "rare" ones, at the edge of what it has seen.
        goal_steps: Environment steps after which a goal of its own is replaced by another.
        curious_episodes: Share of the episodes that pursue no goal, and go where an ensemble of predictors disagrees
            most about what comes next (Plan2Explore, arXiv 2005.05960). All other episodes pursue the environment's
            goals.
        buffer_size: Frames in the replay buffer, which is in memory; the oldest episodes make room for new ones.
        training: Options of the trainings by name, ``{"world-model": TrainingConfig(batch_size=32)}``, and the same
            for heads. Their ``steps`` do not count.
    """

    learning_starts: int = 1000
    train_freq: int = 1000
    growth: float = 1.0
    world_model_updates: float = 0.1
    head_updates: float = 0.2
    least_updates: int = 400
    noise: float = NOISE
    random_episodes: float = 0.2
    own_goals: float = 0.2
    goal_choice: str = "uniform"
    goal_steps: int = 50
    curious_episodes: float = 0.0
    buffer_size: int = 100_000
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_counts(self, ("learning_starts", "least_updates"), least=0)
        check_counts(self, ("train_freq", "goal_steps", "buffer_size"))
        check_numbers(self, ("growth", "world_model_updates", "head_updates", "noise"))
        check_numbers(self, SHARES, 0, 1)
        if sum(getattr(self, name) for name in SHARES) > 1 + 1e-9:
            raise ValueError(f"{', '.join(SHARES)} are shares of the episodes: together they are at most 1.")
        if self.goal_choice not in GOAL_CHOICES:
            raise ValueError(did_you_mean("goal_choice", str(self.goal_choice), GOAL_CHOICES))
        if not isinstance(self.training, Mapping):
            raise ValueError('training holds options by name, {"world-model": TrainingConfig()}, and is no mapping.')
        for name, options in self.training.items():
            check_options(options, learner_of(str(name)).Training, f"training[{name!r}]")


class OnlineRun:
    """One call of ``learn``.

    Args:
        agent: Acts and learns.
        buffer: What it has seen, and will see.
        data: Recorded data of the environment to learn from as well; None: nothing.
    """

    def __init__(self, agent: WorldModelAgent, buffer: ReplayBuffer, data: TrajectoryDataset | None) -> None:
        self.agent, self.config, self.buffer = agent, agent.online, buffer
        self.data = None if data is None else _images_only(data)
        self.explorer = Explorer(agent, self.config, buffer, self._own_goal)
        self.trained_at = now = agent.num_timesteps
        starts = self.config.learning_starts
        self.due = starts if now < starts else self._next(now)
        if data is not None:  # so that data of another environment are refused now
            check_dataset_fits(agent.world_model, data)
            self._dataset()

    def learn(self, total: int, callback: BaseCallback, log_interval: int | None) -> None:
        """Act and train in turns until ``total`` environment steps are taken or the callback stops it."""
        agent = self.agent
        agent.policy.noise = self.config.noise
        callback.on_training_start({"self": agent, "total_timesteps": total}, globals())
        self.explorer.begin(agent._last_obs, np.ones(agent.n_envs, bool), self._untrained)
        going = True
        while going and agent.num_timesteps < total:
            going = False
            try:
                going = self._collect(min(self.due, total), callback, log_interval)
            finally:  # Ctrl-C keeps what has been seen, too
                if agent.num_timesteps >= total or not going:
                    self.explorer.finish()
            if going and len(self.buffer):
                try:
                    self._train()
                except ShortEpisodesError as error:
                    if agent.num_timesteps >= agent.online.learning_starts:
                        raise
                    message = f"learn() has acted, but not trained, in {agent.num_timesteps} steps: {error}"
                    warnings.warn(message, UserWarning, stacklevel=4)
            self.due = self._next(agent.num_timesteps)
        callback.on_training_end()

    @property
    def _untrained(self) -> bool:
        return "untrained" in self.agent.provenance

    @property
    def _fresh(self) -> bool:
        """Whether the data at hand are what the agent has learned from, and more, so that it can begin anew."""
        if self._untrained:
            return True
        last = self.agent.provenance.get("online", {})
        if not last.get("anew", False) or (last["data"] and self.data is None):
            return False
        return min(last["steps"], self.buffer.size // 2) <= sum(self.buffer.lengths)  # a full one drops the oldest

    def _next(self, now: int) -> int:
        """Environment steps at which the next training is due."""
        return now + max(self.config.train_freq, int(self.config.growth * now) if self._fresh else 0)

    def _collect(self, until: int, callback: BaseCallback, log_interval: int | None) -> bool:
        """Act until so many environment steps are taken; False where the callback stopped it."""
        agent, env = self.agent, self.agent.env
        assert env is not None
        callback.on_rollout_start()
        while agent.num_timesteps < until:
            actions = self.explorer.act(agent._last_obs)
            new_obs, rewards, dones, infos = env.step(actions)
            agent.num_timesteps += env.num_envs
            self.explorer.record(new_obs, actions, dones, infos)
            agent._last_obs, agent._last_episode_starts = new_obs, dones  # type: ignore[assignment]
            agent._update_info_buffer(infos, dones & (self.explorer.kind == GIVEN))
            agent._update_current_progress_remaining(agent.num_timesteps, agent._total_timesteps)
            callback.update_locals(locals() | {"self": agent})
            if not callback.on_step():
                return False
            if dones.any():
                self.explorer.begin(new_obs, dones, self._untrained)
            for _ in range(int(dones.sum())):
                agent._episode_num += 1
                if log_interval and agent._episode_num % log_interval == 0:
                    agent.dump_logs()
        callback.on_rollout_end()
        return True

    def _train(self) -> None:
        """Take the gradient steps that are asked for: for all environment steps with fresh weights, or for new ones."""
        agent, dataset, fresh = self.agent, self._dataset(), self._fresh
        if agent.trainer is None or not agent.trainer.made(agent.world_model, agent.heads):
            heads, options = heads_to_learn(agent), self.config.training
            agent.trainer = ContinuedTraining(agent.world_model, heads, dataset, options, agent.seed or 0)
        trainer, new = agent.trainer, agent.num_timesteps - self.trained_at
        steps = {name: self._updates(name, sum(dataset.lengths) if fresh else new, fresh) for name in trainer.steps}
        try:
            metrics = trainer.round(dataset, steps, fresh)
        except BaseException:  # what was trained half-way is dropped, and the agent is as it was before
            agent.trainer = None
            raise
        self.trained_at = agent.num_timesteps
        agent.world_model, agent.heads = trainer.result()
        known = {name: value for name, value in agent.provenance.items() if name not in STATE}
        agent.provenance = {
            **(known if "before" in known or not known else {"before": known}),
            "online": {
                "anew": fresh,
                "steps": sum(self.buffer.lengths),
                "gradient_steps": trainer.steps,
                "data": None if self.data is None else self.data.provenance,
                "config": dataclasses.asdict(self.config),
                "seed": agent.seed,
                "versions": versions(),
            },
        }
        agent._make_policy()
        agent.policy.noise = self.config.noise
        self.explorer.forget()
        for name, value in {**metrics, "train/n_updates": trainer.steps["world-model"]}.items():
            agent.logger.record(name, value)

    def _updates(self, stage: str, steps: int, fresh: bool) -> int:
        """Gradient steps of a stage for so many environment steps."""
        ratio = self.config.world_model_updates if stage == "world-model" else self.config.head_updates
        return max(self.config.least_updates if fresh else 1, round(ratio * steps)) if ratio else 0

    def _dataset(self) -> TrajectoryDataset:
        from wm_agents.datasets import concatenate

        own = self.buffer.dataset(self.data.env_id if self.data else self.agent.env_id)
        return own if self.data is None else concatenate([own, self.data])

    def _own_goal(self) -> np.ndarray | None:
        if len(self.buffer) == 0 and self.data is None:
            return None
        if self.config.goal_choice == "uniform":
            return self._frame()
        candidates = np.stack([self._frame() for _ in range(CANDIDATES)])
        return rare_frame(self.agent.world_model, candidates, self.explorer.rng)

    def _frame(self) -> np.ndarray:
        """Draw a frame of its own or of the recorded data, all equally likely."""
        rng, buffer, data = self.explorer.rng, self.buffer, self.data
        own, recorded = sum(buffer.lengths) + len(buffer), 0 if data is None else data.frames
        if data is None or rng.integers(own + recorded) < own:
            return buffer.frame(rng)
        return data.frames_at(rng.choice(data.frame_indices(), 1))[0]


def learn(
    agent: WorldModelAgent,
    total_timesteps: float,
    callback: MaybeCallback,
    log_interval: int | None,
    tb_log_name: str,
    reset_num_timesteps: bool,
    progress_bar: bool,
    online: OnlineConfig | None,
    data: TrajectoryDataset | None,
) -> None:
    """See :meth:`wm_agents.agents.base.WorldModelAgent.learn`."""
    whole = isinstance(total_timesteps, float) and total_timesteps.is_integer()  # 1e5, as SB3's users write it
    total = whole_number("total_timesteps", int(total_timesteps) if whole else total_timesteps, 1)
    if log_interval is not None:
        whole_number("log_interval", log_interval, 1)
    check_flag("progress_bar", progress_bar)
    check_flag("reset_num_timesteps", reset_num_timesteps)
    for hook in callback if isinstance(callback, list) else [] if callback is None else [callback]:
        function = callable(hook) and not isinstance(hook, type) and not isinstance(callback, list)
        if not isinstance(hook, BaseCallback) and not function:
            raise ValueError(f"callback must be one of SB3's callbacks, a list of them, or a function, not {hook!r}.")
    if online is not None:
        check_options(online, OnlineConfig, "online")
    if data is not None:
        check_is_dataset(data)
    if agent.env is None:
        raise ValueError("learn() acts in an environment, and this agent has none: pass env= or call set_env().")
    if not agent.world_model.losses:
        raise ValueError(
            f"{type(agent.world_model).__name__} is no world model that can be trained further: make an agent on one, "
            f'such as {type(agent).__name__}("lewm", env).'
        )
    if online is not None:
        agent.online, agent.trainer = online, None
    agent.replay_buffer = _buffer_of(agent)
    if not agent.env_id:
        agent.env_id = next(iter(sorted(ids_of(agent.env))), "")
    total, hooks = agent._setup_learn(total, callback, reset_num_timesteps, tb_log_name, progress_bar)
    OnlineRun(agent, agent.replay_buffer, data).learn(total, hooks, log_interval)


def _buffer_of(agent: WorldModelAgent) -> ReplayBuffer:
    """The agent's replay buffer, or a new one, with the same episodes, where the size has changed."""
    old = agent.replay_buffer
    if old is not None and old.size == agent.online.buffer_size:
        return old
    new = empty_replay(agent.world_model, agent.online.buffer_size)
    for first, length in zip(old.starts, old.lengths, strict=True) if old is not None else ():
        assert old is not None
        if length <= new.longest:
            new.add(old.pixels[first : first + length + 1], old.actions[first : first + length])
    return new


def _images_only(data: TrajectoryDataset) -> TrajectoryDataset:
    """The data as the replay buffer has its own: without the simulator's states."""
    return dataclasses.replace(data, states=np.zeros((len(data.states), 0)), goal_states=None, state_names=())


def dump_logs(agent: WorldModelAgent) -> None:
    """Write the log with SB3's names, at the present number of steps."""
    logger, started = agent.logger, agent.start_time or time.time_ns()
    elapsed = max((time.time_ns() - started) / 1e9, sys.float_info.epsilon)
    episodes, successes = agent.ep_info_buffer or (), agent.ep_success_buffer or ()
    if episodes:
        logger.record("rollout/ep_rew_mean", safe_mean([episode["r"] for episode in episodes]))
        logger.record("rollout/ep_len_mean", safe_mean([episode["l"] for episode in episodes]))
    if successes:
        logger.record("rollout/success_rate", safe_mean(successes))
    logger.record("time/episodes", agent._episode_num, exclude="tensorboard")
    logger.record("time/fps", int((agent.num_timesteps - agent._num_timesteps_at_start) / elapsed))
    logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
    logger.record("time/total_timesteps", agent.num_timesteps, exclude="tensorboard")
    logger.dump(step=agent.num_timesteps)
