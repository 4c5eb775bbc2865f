"""Curious collection: a world model learns from the episodes so far, and the next ones go where it knows least."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

from wm_agents.agents.controller import action_vectors
from wm_agents.agents.curiosity import curious_policy
from wm_agents.agents.memory import Memory
from wm_agents.agents.policy import KEYS, WorldModelPolicy
from wm_agents.agents.replay_files import empty_replay
from wm_agents.agents.untrained import from_nothing
from wm_agents.datasets.episodes import Episode, episode_seed, is_recorded, load_episode, rollout, save_episode
from wm_agents.datasets.policies import Policy, SmoothRandom
from wm_agents.datasets.replay import LEAST
from wm_agents.training.continued import ContinuedTraining


class Curious(Policy):
    """Goes where an ensemble of predictors disagrees (Plan2Explore, arXiv 2005.05960); sees images, and no states.

    A LeWM and an ensemble on it begin with random weights. The episodes of the first round, and some of the later
    ones, take smooth-random actions. After each round, the networks are trained on all episodes so far. So each episode
    depends on those before it: they are recorded one after the other, in one process. A collection that was
    interrupted trains again on the episodes that are there, and then goes on as it would have gone.

    Raises:
        ValueError: It is used other than by ``collect``.
    """

    settings: ClassVar[dict[str, Any]] = {
        "round_steps": 1000,  # environment steps between two trainings, at most a sixth of all
        "random_episodes": 0.2,  # share of the episodes with random actions after the first round
        "world_model_updates": 0.1,  # gradient steps for each environment step, as in OnlineConfig
        "ensemble_updates": 0.3,
    }

    def __init__(self, env: Any, rng: np.random.Generator, student: Student | None = None) -> None:
        super().__init__(env, rng)
        if student is None:
            raise ValueError(
                "the policy 'curious' learns from its own episodes: it is there for collect alone. Use "
                "'smooth-random', which suits any task."
            )
        self._random = SmoothRandom(env, rng)
        self._policy: WorldModelPolicy | None = None
        self._first: np.ndarray | None = None
        if student.rounds and rng.random() >= self.settings["random_episodes"]:
            self._policy = curious_policy(student.world_model, student.ensemble, env.action_space, rng)
            self._memory = Memory(self._policy.initial_memory(1))

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the next action for the image :attr:`pixels`; ``state`` is not used."""
        if self._policy is None:
            return self._random.act(state)
        assert self.pixels is not None
        self._first = self.pixels if self._first is None else self._first  # some goal, and always the same
        self._policy.seed = int(self.rng.integers(2**31))
        seen = dict(zip(KEYS, (self.pixels[None], self._first[None]), strict=True))
        action, self._memory = self._policy.predict(seen, self._memory, deterministic=False)
        return np.asarray(action[0])

    @classmethod
    def record(cls, env: gym.Env, folder: Path, missing: list[int], left: Callable[[int], None]) -> None:
        """Record the missing episodes; see :func:`wm_agents.datasets.recording.record`."""
        request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
        episodes, steps, seed = request["episodes"], request["steps"], request["seed"]
        student = Student(env, episodes, steps, seed, cls.settings)
        make = partial(cls, student=student)
        for index in range(max(missing, default=-1) + 1):
            if not is_recorded(folder, index):
                save_episode(folder, index, rollout(env, make, steps, episode_seed("collect", seed, index)))
                left(sum(not is_recorded(folder, other) for other in missing))
            student.add(load_episode(folder, index))


class Student:
    """A world model and an ensemble that learn from episode after episode.

    Args:
        env: The task.
        episodes: Number of episodes to come.
        steps: Actions an episode.
        seed: Of everything random in it.
        settings: Those of :class:`Curious`.

    Attributes:
        world_model: As the last round has left it.
        ensemble: On its latents.
        rounds: Trainings so far.
    """

    def __init__(self, env: gym.Env, episodes: int, steps: int, seed: int, settings: dict[str, Any]) -> None:
        self.seed, self.steps, self.settings, self.rounds = seed, steps, settings, 0
        vector = DummyVecEnv([lambda: env])
        self.world_model, heads = from_nothing("lewm", vector, ["disagreement"], {}, seed)
        self.ensemble: Any = heads["disagreement"]
        self._size = max(1, round(min(settings["round_steps"] / steps, episodes / 6)))
        self._trainings = (episodes - 1) // self._size
        self._buffer = empty_replay(self.world_model, max(LEAST, episodes * (steps + 1), 4 * (steps + 1)))
        self._trainer: ContinuedTraining | None = None

    def add(self, episode: Episode) -> None:
        """Store an episode, and train where a round is over that others follow."""
        choices = self.world_model.spec.choices
        assert episode.pixels is not None
        self._buffer.add(episode.pixels, action_vectors(episode.actions, choices))
        if len(self._buffer) % self._size == 0 and self.rounds < self._trainings:
            self._train()

    def _train(self) -> None:
        dataset = self._buffer.dataset()
        heads = {"disagreement": self.ensemble}
        if self._trainer is None:
            self._trainer = ContinuedTraining(self.world_model, heads, dataset, {}, self.seed)
        self._trainer.round(dataset, self._updates(), fresh=self.rounds == 0)
        self.world_model, heads = self._trainer.result()
        self.ensemble = heads["disagreement"]
        self.rounds += 1

    def _updates(self) -> dict[str, int]:
        """Gradient steps of a round."""
        names = {"world-model": "world_model_updates", "disagreement": "ensemble_updates"}
        steps = self._size * self.steps
        return {stage: max(1, round(self.settings[name] * steps)) for stage, name in names.items()}
