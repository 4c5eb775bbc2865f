"""An environment that plays the tasks of a manifest in turn, so that any loop can measure on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wm_agents.envs.goal_env import ExposeReward
from wm_agents.evaluation.environments import open_env, whole_number
from wm_agents.evaluation.tasks import Manifest, check_manifest
from wm_agents.registry import did_you_mean


class TaskEnv(ExposeReward):
    """Each ``reset()`` begins the next task of a manifest; after the last one the first one is next.

    Stable-Baselines3's ``evaluate_policy``, an ``EvalCallback``, a vectorised or a bare loop then play the very tasks
    that :func:`wm_agents.evaluation.evaluate` plays. ``info["task"]`` is the index of the task in the manifest.
    ``reset(seed=...)`` begins at the task of that number, modulo how many there are; ``reset(options={"task": i})``
    begins task ``i`` of the manifest.

    Args:
        manifest: The tasks; its budget is the step limit.
        tasks: Indices of those to play, in this order; all by default. Give each of several environments its own.
        **options: Of the environment: ``obs_type``, ``image_size``, ``success``, ``render_mode``.

    Attributes:
        steps: int64 ``[N]``, for each task of the manifest, environment steps until its first success; 0 where it
            failed and -1 where it was not played to its end. The first time counts.

    Raises:
        ValueError: A task that the manifest does not have, or none.
    """

    def __init__(self, manifest: Manifest, tasks: Sequence[int] | None = None, **options: Any) -> None:
        check_manifest(manifest)
        given = range(len(manifest)) if tasks is None else tasks
        chosen = [whole_number("a task", task) for task in given] if isinstance(given, Iterable) else []
        if not chosen or not all(0 <= task < len(manifest) for task in chosen):
            raise ValueError(f"tasks must be indices from 0 to {len(manifest) - 1}, at least one, not {tasks}.")
        super().__init__(open_env(manifest.env_id, max_episode_steps=manifest.budget, **options))
        self.manifest = manifest
        self.tasks = chosen
        self.steps = np.full(len(manifest), -1, np.int64)
        self._turn, self._step = -1, 0

    @property
    def spec(self) -> None:  # type: ignore[override]
        """None: ``gym.make`` cannot make it again, as it knows no manifest."""

    @property
    def task(self) -> int:
        """Index in the manifest of the task that is being played; -1 before the first reset."""
        return self.tasks[self._turn] if self._turn >= 0 else -1

    @property
    def success_rate(self) -> float:
        """Fraction of the tasks that were played which were solved; NaN before the first one ends."""
        played = self.steps[self.steps >= 0]
        return float((played > 0).mean()) if len(played) else float("nan")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin the next task, or the one that is asked for.

        Raises:
            ValueError: A task that is not among those to play, another option, or a seed that is no whole number.
        """
        self._turn = self._next(seed, {} if options is None else options)
        self._step = 0
        states = {"state": self.manifest.starts[self.task].copy(), "goal_state": self.manifest.goals[self.task].copy()}
        observation, info = self.env.reset(seed=self.task, options=states)
        return observation, {**info, "task": self.task}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment, and note how the task ended if it has."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._step += 1
        if (terminated or truncated) and self.steps[self.task] < 0:
            self.steps[self.task] = self._step if info["is_success"] else 0
        return observation, reward, terminated, truncated, {**info, "task": self.task}

    def _next(self, seed: int | None, options: dict[str, Any]) -> int:
        """Place among the tasks of the one that is next."""
        if not isinstance(options, Mapping):
            raise ValueError(f'options must be a dict, such as {{"task": 0}}, not {options!r}.')
        for name in options:
            if name != "task":
                raise ValueError(f"{did_you_mean('reset option', str(name), ['task'])} The manifest has the states.")
        if "task" in options:
            if options["task"] not in self.tasks:
                raise ValueError(f"task {options['task']!r} is not among the tasks to play, {self.tasks}.")
            return self.tasks.index(options["task"])
        if seed is not None:
            return whole_number("seed", seed, 0) % len(self.tasks)
        return (self._turn + 1) % len(self.tasks)
