"""What is compared: agents by name and what each is given, and the numbers that decide how long it takes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import gymnasium as gym

from wm_agents.agents.loading import ALIASES, agent_names
from wm_agents.baselines import OFFLINE, ONLINE, make, settings
from wm_agents.configs import check_counts
from wm_agents.evaluation.environments import check_env_id
from wm_agents.evaluation.report.protocols import Protocol
from wm_agents.recipes import Recipe, recipe
from wm_agents.registry import did_you_mean

AGENTS = ("gc-idm", "cem", "sac-her", "gcbc")
PROTOCOLS = ("25/50", "any")
"""Near goals, and any goal: random start and goal, within the environment's own limit."""
POINTS = 5
"""Models on the way that are evaluated, of agents that learn online."""
QUICK_STEPS, QUICK_TASKS = 300, 10
"""Of a shortened comparison: environment steps after the first episode, and tasks of each kind."""


@dataclass(frozen=True)
class Contestant:
    """An agent in the comparison, and what it is given.

    Attributes:
        name: As it is asked for.
        family: "world model", "cloning", "offline RL" or "online RL".
        sees: "pixels" or "state".
        reward: Whether it is given rewards.
        source: Of its settings.
    """

    name: str
    family: str
    sees: str
    reward: bool
    source: str


@dataclass(frozen=True)
class Plan:
    """A comparison.

    Attributes:
        env_id: Gymnasium id of the task.
        agents: Names of agents of this library, and of baselines.
        seeds: Number of training seeds, from 0 on.
        steps: Environment steps of agents that learn online.
        data_steps: Environment steps that are recorded for agents that learn offline; None is what the recipe records.
        tasks: Held-out tasks of each kind.
        quick: Shortened trainings that only show that everything works.

    Raises:
        ValueError: An unknown agent or task, an agent that is named twice, or a number below 1.
    """

    env_id: str
    agents: tuple[str, ...] = AGENTS
    seeds: int = 1
    steps: int = 20_000
    data_steps: int | None = None
    tasks: int = 100
    quick: bool = False

    def __post_init__(self) -> None:
        check_counts(self, ("seeds", "steps", "tasks", *(("data_steps",) if self.data_steps is not None else ())))
        check_env_id(self.env_id)
        object.__setattr__(self, "agents", tuple(ALIASES.get(name, name) for name in self.agents))
        if len(set(self.agents)) < len(self.agents) or not self.agents:
            raise ValueError(f"agents must be different names, at least one, not {', '.join(self.agents) or 'none'}.")
        for name in self.agents:
            self.contestant(name)
        if self.offline:
            self.recipe()

    @property
    def offline(self) -> list[str]:
        """Names of the agents that learn from recorded data."""
        return [name for name in self.agents if name not in ONLINE]

    def contestant(self, name: str) -> Contestant:
        """Look an agent up by name."""
        if name in ONLINE:
            how = settings(name, self.env_id)
            return Contestant(name, "online RL", how.obs_type, True, how.source)
        if name in OFFLINE:
            family = "cloning" if name == "gcbc" else "offline RL"
            return Contestant(name, family, "pixels", False, f"OGBench, impls/agents/{name}.py")
        known = agent_names()
        if name not in known:
            raise ValueError(did_you_mean("agent", name, {*known, *OFFLINE, *ONLINE}))
        return Contestant(name, "world model", "pixels", False, "the task's recipe")

    def recipe(self) -> Recipe:
        """The recipe of agents that learn offline, with as much data as was asked for.

        Raises:
            ValueError: The task has none.
        """
        chosen = recipe(self.env_id)
        if self.quick:
            return chosen.shortened()
        if self.data_steps is None:
            return chosen
        share = self.data_steps / sum(part.episodes * part.steps for part in chosen.data.values())
        data = {
            name: dataclasses.replace(part, episodes=max(2, round(part.episodes * share)))
            for name, part in chosen.data.items()
        }
        return dataclasses.replace(chosen, data=data, variant=f"{chosen.variant}-{self.data_steps}")

    def shortened(self) -> Plan:
        """Return a plan of the same parts that shows in minutes how everything works."""
        steps = min(self.steps, self.limit + QUICK_STEPS)
        return dataclasses.replace(self, steps=steps, tasks=min(self.tasks, QUICK_TASKS), quick=True)

    @property
    def limit(self) -> int:
        """Environment steps of the longest episode."""
        return gym.spec(check_env_id(self.env_id)).max_episode_steps or 300

    def protocols(self) -> list[Protocol]:
        """The kinds of held-out tasks, with their budgets."""
        return [Protocol.parse(name).within(self.limit) for name in PROTOCOLS]

    def check(self) -> None:
        """Make every online baseline once, so that what is impossible is found before anything is trained.

        Raises:
            ValueError: As :func:`wm_agents.baselines.make` does.
            ImportError: sb3-contrib is needed and not installed.
        """
        for name in self.agents:
            if name in ONLINE:
                model = make(settings(name, self.env_id), self.env_id, steps=self.steps, device="cpu", n_envs=1)
                assert model.env is not None
                model.env.close()
