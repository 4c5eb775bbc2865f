"""What an agent does in each episode while it learns online, and what it records of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_agents.agents.controller import action_vectors
from wm_agents.agents.memory import Memory
from wm_agents.agents.policy import KEYS
from wm_agents.registry import POLICIES

if TYPE_CHECKING:
    from wm_agents.agents.base import WorldModelAgent
    from wm_agents.agents.online import OnlineConfig
    from wm_agents.datasets import ReplayBuffer

RANDOM, GIVEN, OWN = range(3)
"""What an episode is for: smooth-random actions, the environment's goal, goals among the agent's own frames."""
LONGEST = 1000
"""Actions after which an episode is stored and goes on as another one: environments may never end theirs."""


class Explorer:
    """Acts in N environments and puts their episodes into the replay buffer.

    Each episode has one of three kinds: random actions; the goal that the environment gives; or goals that are frames
    of the replay buffer, a new one every ``goal_steps``. In the latter two, the agent acts with exploration noise.

    Args:
        agent: Acts; its environment is stepped elsewhere.
        config: Shares of the kinds.
        buffer: Where finished episodes go.
        own_goal: Draws a goal image of one's own; None where there is nothing to draw from yet.
    """

    def __init__(
        self,
        agent: WorldModelAgent,
        config: OnlineConfig,
        buffer: ReplayBuffer,
        own_goal: Callable[[], np.ndarray | None],
    ) -> None:
        self.agent, self.config, self.buffer, self.rng = agent, config, buffer, agent.exploration
        self.own_goal = own_goal
        n = agent.n_envs
        self.kind = np.full(n, RANDOM)
        self._policies: list[Any] = [None] * n
        self._frames: list[list[np.ndarray]] = [[] for _ in range(n)]
        self._actions: list[list[np.ndarray]] = [[] for _ in range(n)]
        self._goals: list[np.ndarray | None] = [None] * n
        self._left = np.zeros(n, np.int64)  # steps until the next goal of one's own
        self._state: Memory | None = None
        self._fresh = np.ones(n, bool)

    def begin(self, observation: Any, rows: np.ndarray, untrained: bool) -> None:
        """Start episodes in the marked rows ``[N]``; an untrained agent acts at random."""
        pixels, _, _ = self.agent.policy.images(observation)
        for row in np.flatnonzero(rows):
            draw = self.rng.random()
            own = draw < self.config.random_episodes + self.config.own_goals
            self.kind[row] = RANDOM if untrained or draw < self.config.random_episodes else OWN if own else GIVEN
            self._policies[row] = POLICIES.get("smooth-random")(self.agent, self.rng)
            self._frames[row], self._actions[row] = [pixels[row].copy()], []
            self._goals[row], self._left[row], self._fresh[row] = None, 0, True

    def act(self, observation: Any) -> np.ndarray:
        """Actions ``[N, ...]`` for the environments."""
        random = self.kind == RANDOM
        if random.all():
            return np.stack([policy.act(None) for policy in self._policies])
        pixels, goals, _ = self.agent.policy.images(observation)
        goals = goals.copy()
        for row in np.flatnonzero(self.kind == OWN):
            if self._left[row] == 0:
                self._goals[row], self._left[row] = self.own_goal(), self.config.goal_steps
            goals[row] = goals[row] if self._goals[row] is None else self._goals[row]
            self._left[row] -= 1
        seen = dict(zip(KEYS, (pixels, goals), strict=True))
        state = self._state or Memory(self.agent.policy.initial_memory(len(pixels)))
        actions, self._state = self.agent.policy.predict(seen, state, self._fresh, deterministic=False)
        self._fresh = np.zeros(len(random), bool)
        for row in np.flatnonzero(random):
            actions[row] = self._policies[row].act(None)
        return actions

    def record(self, observation: Any, actions: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """Store a step: the actions, and the frames to which they led."""
        policy = self.agent.policy
        pixels, _, _ = policy.images(observation)
        taken = action_vectors(actions, self.agent.world_model.spec.choices)
        for row in range(len(dones)):
            last = policy.images(infos[row]["terminal_observation"])[0][0] if dones[row] else pixels[row]
            self._frames[row].append(last.copy())
            self._actions[row].append(taken[row])
            if dones[row] or len(self._actions[row]) >= min(LONGEST, self.buffer.longest):
                self.store(row)

    def store(self, row: int) -> None:
        """Put what there is of a row's episode into the replay buffer; the rest of it becomes another episode."""
        if self._actions[row]:
            self.buffer.add(self._frames[row], self._actions[row])
            self._frames[row], self._actions[row] = self._frames[row][-1:], []

    def finish(self) -> None:
        """Put all that there is into the replay buffer."""
        for row in range(len(self._frames)):
            self.store(row)

    def forget(self) -> None:
        """Drop the agent's memory: its latents are of no use once the encoder has changed."""
        self._state, self._fresh = None, np.ones(len(self._fresh), bool)
