"""What an agent does in each episode while it learns online, and what it records of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from wm_agents.agents.controller import action_vectors
from wm_agents.agents.curiosity import curious_policy
from wm_agents.agents.memory import Fields, Memory
from wm_agents.agents.policy import KEYS, WorldModelPolicy
from wm_agents.registry import POLICIES

if TYPE_CHECKING:
    from wm_agents.agents.base import WorldModelAgent
    from wm_agents.agents.online import OnlineConfig
    from wm_agents.datasets import ReplayBuffer

RANDOM, GIVEN, OWN, CURIOUS = range(4)
"""What an episode is for: smooth-random actions, the environment's goal, goals among the agent's own frames, or what
an ensemble of predictors disagrees about."""
LONGEST = 1000
"""Actions after which an episode is stored and goes on as another one: environments may never end theirs."""


class Noise:
    """Exploration noise that changes slowly, with a strength that each episode draws: from none to twice ``scale``.

    White noise averages out before it leads anywhere; correlated noise explores more (Eberhard et al., "Pink noise is
    all you need", ICLR 2023). Episodes with little of it show how a goal is reached.

    Args:
        space: Of the actions.
        scale: Mean standard deviation, in halves of the space's range. Where actions are discrete: the mean probability
            of a random one.
        n: Number of environments.
        rng: The only source of randomness.
    """

    STEPS = 5.0
    """Steps over which the noise forgets itself."""

    def __init__(self, space: spaces.Space, scale: float, n: int, rng: np.random.Generator) -> None:
        self.space, self.scale, self.rng = copy.deepcopy(space), scale, rng
        self.space.seed(int(rng.integers(2**31)))
        self._scales, self._values = np.zeros(n), np.zeros((n, *(space.shape or ())))

    def begin(self, row: int | np.integer) -> None:
        """Draw a row's strength."""
        self._scales[row] = 2 * self.scale * self.rng.random()

    def add(self, rows: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Actions ``[R, ...]`` of some rows, with noise."""
        space = self.space
        scales = self._scales[rows].reshape(-1, *[1] * (actions.ndim - 1))
        if not isinstance(space, spaces.Box):
            drawn = np.stack([np.asarray(space.sample()) for _ in rows])
            return np.where(self.rng.random(actions.shape) < scales, drawn, actions)
        keep = np.exp(-1 / self.STEPS)
        fresh = self.rng.standard_normal(actions.shape)
        self._values[rows] = keep * self._values[rows] + np.sqrt(1 - keep**2) * fresh
        noisy = actions + scales * self._values[rows] * (space.high - space.low) / 2
        return np.clip(noisy, space.low, space.high).astype(actions.dtype)


class Explorer:
    """Acts in N environments and puts their episodes into the replay buffer.

    Each episode has one of four kinds: random actions; the goal that the environment gives; goals that are frames of
    the replay buffer, a new one every ``goal_steps``; or curiosity, once there is an ensemble that has been trained. In
    all but the first, there is exploration noise.

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
        self._noise = Noise(agent.action_space, config.noise, n, self.rng)
        self._curious: WorldModelPolicy | None = None
        self._memory: dict[WorldModelPolicy, Fields] = {}
        self._fresh = np.ones(n, bool)

    def begin(self, observation: Any, rows: np.ndarray, untrained: bool) -> None:
        """Start episodes in the marked rows ``[N]``; an untrained agent acts at random."""
        pixels, _, _ = self.agent.policy.images(observation)
        config, curious = self.config, CURIOUS if "disagreement" in self.agent.heads else RANDOM
        kinds, shares = (RANDOM, OWN, curious), (config.random_episodes, config.own_goals, config.curious_episodes)
        for row in np.flatnonzero(rows):
            drawn = int(np.searchsorted(np.cumsum(shares), self.rng.random(), side="right"))
            self.kind[row] = RANDOM if untrained else (*kinds, GIVEN)[drawn]
            self._policies[row] = POLICIES.get("smooth-random")(self.agent, self.rng)
            self._frames[row], self._actions[row] = [pixels[row].copy()], []
            self._goals[row], self._left[row], self._fresh[row] = None, 0, True
            self._noise.begin(row)

    def act(self, observation: Any) -> np.ndarray:
        """Actions ``[N, ...]`` for the environments."""
        actions: list[Any] = [None] * len(self.kind)
        for row in np.flatnonzero(self.kind == RANDOM):
            actions[row] = self._policies[row].act(None)
        curious = np.flatnonzero(self.kind == CURIOUS)
        towards_goals = np.flatnonzero((self.kind == GIVEN) | (self.kind == OWN))
        if len(towards_goals) + len(curious) == 0:
            return np.stack(actions)
        pixels, goals, _ = self.agent.policy.images(observation)
        goals = goals.copy()
        for row in np.flatnonzero(self.kind == OWN):
            if self._left[row] == 0:
                self._goals[row], self._left[row] = self.own_goal(), self.config.goal_steps
            goals[row] = goals[row] if self._goals[row] is None else self._goals[row]
            self._left[row] -= 1
        for policy, rows in ((self.agent.policy, towards_goals), (self._curious_policy(), curious)):
            if policy is not None and len(rows):
                for row, action in zip(rows, self._decide(policy, rows, pixels[rows], goals[rows]), strict=True):
                    actions[row] = action
        return np.stack(actions)

    def _curious_policy(self) -> WorldModelPolicy | None:
        """The policy of curious episodes, with a new seed for what it samples; None where there is no ensemble."""
        agent = self.agent
        if self._curious is None and "disagreement" in agent.heads:
            ensemble: Any = agent.heads["disagreement"]
            self._curious = curious_policy(agent.world_model, ensemble, agent.action_space, self.rng, self.config.noise)
        if self._curious is not None and (self.kind == CURIOUS).any():
            self._curious.seed = int(self.rng.integers(2**31))
        return self._curious

    def _decide(self, policy: WorldModelPolicy, rows: np.ndarray, pixels: np.ndarray, goals: np.ndarray) -> np.ndarray:
        """Let a policy act in some rows, and keep its memory of them."""
        memory = self._memory.setdefault(policy, policy.initial_memory(len(self.kind)))
        state = Memory({name: values[rows] for name, values in memory.items()})
        seen = dict(zip(KEYS, (pixels, goals), strict=True))
        actions, new = policy.decide(seen, state, self._fresh[rows], partial(self._noise.add, rows))
        for name, values in new.fields().items():
            memory[name][rows] = values
        self._fresh[rows] = False
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
            self.buffer.add(self._frames[row][: len(self._actions[row]) + 1], self._actions[row])
            self._frames[row], self._actions[row] = self._frames[row][-1:], []

    def finish(self) -> None:
        """Put all that there is into the replay buffer."""
        for row in range(len(self._frames)):
            self.store(row)

    def forget(self) -> None:
        """Drop the memories: their latents are of no use once the encoder has changed."""
        self._curious, self._memory, self._fresh = None, {}, np.ones(len(self._fresh), bool)
