"""What :func:`wm_agents.wrap` makes of a foreign environment: a goal task that is led to states by replaying."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from wm_agents.configs import check_flag, checked_image_size, whole_number
from wm_agents.envs.actions import Actions
from wm_agents.envs.contract import Inner
from wm_agents.envs.given_goals import OWN, given_goals, own_goal
from wm_agents.envs.goals import checked_reset_options
from wm_agents.envs.success import Moment, choose_test
from wm_agents.envs.trials import try_out
from wm_agents.envs.views import View
from wm_agents.registry import POLICIES, did_you_mean

MODES = ("moderate", "strict")
GOAL_STEPS, MOST_STEPS = 50, 10_000


class NotRepeatableWarning(UserWarning):
    """A seed does not fix an episode, so goals from a rollout of it may be out of reach."""


class WrappedEnv(gym.Wrapper):
    """A foreign environment with the observations of the library's tasks; see :func:`wrap`, which makes it.

    It cannot be set to a state, but it can be led to one: where other tasks have states, it has **addresses**, two
    numbers ``(seed, t)``, the moment ``t`` steps into the exploration policy's rollout from ``reset(seed)``. An image
    of the user's has the address ``(-1, index)``, the environment's own goal after ``reset(seed)`` has ``(seed, -1)``.
    ``reset(options={"state": ..., "goal_state": ...})`` takes both.

    Attributes:
        test: The success test; ``test.description`` says in words what it is.
        view: Where images come from; ``view.box`` is the part of them that is shown.
    """

    success_tests: dict[str, str]
    # Randomness of its own, where a Gymnasium wrapper has that of the environment below.
    _np_random: np.random.Generator | None = None  # type: ignore[assignment]
    _np_random_seed: int | None = None  # type: ignore[assignment]
    np_random = gym.Env.np_random
    np_random_seed = gym.Env.np_random_seed  # type: ignore[assignment]

    def __init__(
        self,
        env: gym.Env,
        *,
        image_size: int = 64,
        pixels: str | Sequence[str] | None = None,
        proprioception: str | Sequence[int] | None = None,
        resize: str = "stretch",
        focus: bool = True,
        goals: Any = "rollout",
        goal_steps: int = GOAL_STEPS,
        success: Any = "auto",
        mode: str = "moderate",
        policy: str = "smooth-random",
        bounds: tuple[Any, Any] | None = None,
        reset_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(env)
        if isinstance(env.unwrapped, WrappedEnv):
            raise ValueError(f"{env} is wrapped already: wrap the environment inside, {env.unwrapped.env}.")
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        self._inner = Inner(env, name, reset_options)
        if mode not in MODES:
            raise ValueError(did_you_mean("success mode", str(mode), MODES))
        self.image_size, self.mode = checked_image_size(image_size), mode
        self.goal_steps = whole_number("goal_steps", goal_steps, 1, MOST_STEPS)
        self.policy = policy
        self.actions = Actions(env.action_space, bounds)
        self.action_space = self.actions.space
        image = spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8)
        self.observation_space = spaces.Dict(pixels=image, goal_pixels=image)
        self.view = View(env, name, self.image_size, pixels, resize, proprioception)
        self._own_spec = env.spec
        self._warned = False
        self._started = False
        self.draws = True
        """Whether observations have frames; without, they are black, and steps are quick."""
        focus = check_flag("focus", focus)
        trial = try_out(self._inner, self.actions, self.view, lambda rng: self._behaviour(self, rng), focus)
        self.own_goals = isinstance(goals, str) and goals == OWN
        self.test = choose_test(success, trial, env, self.own_goals)
        self.success_tests = dict.fromkeys(MODES, self.test.description)
        self.state_names = tuple(f"observation_{index}" for index in range(len(trial.moments[0].state)))
        self._given = given_goals(goals, self.test, self.view, len(self.state_names))
        self._goal: Moment | None = None

    @property
    def unwrapped(self) -> WrappedEnv:  # type: ignore[override]
        """This environment, which is the task for all of the library; ``.env.unwrapped`` is what it wraps."""
        return self

    @property
    def policy(self) -> str:
        """Name of the exploration policy, whose rollouts addresses are about."""
        return self._policy

    @policy.setter
    def policy(self, name: str) -> None:
        self._policy, self._behaviour = name, POLICIES.get(name)

    @property
    def spec(self) -> Any:
        """The specification of the environment that is wrapped."""
        return self._own_spec

    @spec.setter
    def spec(self, value: Any) -> None:
        self._own_spec = value

    # What users call.

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; the same seed gives the same start and goal.

        Args:
            seed: Seeds start and goal.
            options: ``state`` and ``goal_state``, either or both: addresses ``(seed, t)``.

        Raises:
            ValueError: An unknown option, or an address that leads nowhere.
        """
        if seed is not None:
            gym.Env.reset(self, seed=whole_number("seed", seed, 0))
        given = checked_reset_options(options)
        drawn = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        start = _address(given.get("state", (drawn, 0)))
        if "goal_state" in given:
            goal = self.moment(given["goal_state"])
        elif self.own_goals:
            goal = self.moment((start[0], -1))
        elif self._given is not None:
            goal = self._given[int(self.np_random.integers(len(self._given)))]
        else:
            goal = self._goal_after(start)
        now = self._lead(*start)[-1]
        self._goal, self._started = goal, True
        return self._observe(now), self._info(now, 0.0)

    def explore(self, seed: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode without a goal: nothing is reached, and the goal image is black."""
        self._goal, self._started = None, True
        now = self._restart(seed)
        return self._observe(now), self._info(now, 0.0)

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Advance by one step; continuous actions are clipped.

        Raises:
            ValueError: The action is none of the space.
            gymnasium.error.ResetNeeded: There was no ``reset`` before.
        """
        if not self._started:
            raise gym.error.ResetNeeded("call env.reset() before env.step().")
        now, reward, terminated, truncated = self._advance(action)
        info = self._info(now, reward)
        success = info["is_success"]
        return self._observe(now), 0.0 if success else -1.0, bool(terminated or success), bool(truncated), info

    # What the library calls.

    def moment(self, address: Any) -> Moment:
        """Return the moment at an address: of a rollout, an image of the user's, or the environment's own goal.

        Raises:
            ValueError: There is no such moment.
        """
        seed, step = _address(address, own=self.own_goals)
        if step < 0:
            observation, info = self._reset(seed)
            return own_goal(observation, info, self.view)
        if seed >= 0:
            return self._lead(seed, step)[-1]
        if self._given is None or step >= len(self._given):
            raise ValueError(f"there is no goal image {step}: the environment was wrapped with other goals=.")
        return self._given[step]

    def rollout_length(self, seed: int, steps: int) -> int:
        """Return after how many steps the exploration policy's rollout from ``reset(seed)`` ends, at most ``steps``."""
        drawing, self.draws = self.draws, False
        try:
            return len(self._lead(seed, steps, whole=False)) - 1
        finally:
            self.draws = drawing

    def check_repeats(self, address: Any) -> None:
        """Go to an address twice; a :class:`NotRepeatableWarning`, once, says where the ways differ."""
        seed, step = _address(address, own=self.own_goals)
        if seed >= 0:
            step = max(step, 0)
            self._compare(self._lead(seed, step), self._lead(seed, step))

    def idle_reaches(self, state: Any, goal_state: Any) -> bool:
        """Return whether a goal is reached by doing nothing, within twice ``goal_steps``; both are addresses.

        Discrete actions have none that does nothing: there only the start itself is looked at.
        """
        goal = self.moment(goal_state)
        return any(self.test.judge(moment, goal)[0] for moment in self._idle(_address(state)))

    def successes(self, state: Any, goal_state: Any) -> dict[str, bool]:
        """Return for each mode whether the moment at one address reaches the goal at another."""
        return dict(zip(MODES, self.test.judge(self.moment(state), self.moment(goal_state)), strict=True))

    def render_state(self, state: Any, size: int | None = None) -> np.ndarray:
        """Return the frame at an address, uint8 ``[image_size, image_size, 3]``."""
        drawing, self.draws = self.draws, True
        try:
            frame = self.moment(state).frame
        finally:
            self.draws = drawing
        assert frame is not None
        return frame

    # How it works.

    def _reset(self, seed: int) -> tuple[Any, dict[str, Any]]:
        with self.view.drawing():
            return self._inner.reset(seed)

    def _restart(self, seed: int) -> Moment:
        return self._moment(*self._reset(seed))

    def _advance(self, action: Any) -> tuple[Moment, float, bool, bool]:
        with self.view.drawing():
            observation, reward, terminated, truncated, info = self._inner.step(self.actions.to_inner(action))
        return self._moment(observation, info), reward, terminated, truncated

    def _lead(self, seed: int, steps: int, whole: bool = True, judged: bool = False) -> list[Moment]:
        """Reset to a seed and follow the exploration policy; return all moments, of which the last has a frame.

        Args:
            seed: Of the episode.
            steps: To go.
            whole: Raise ``ValueError`` where the episode ends earlier.
            judged: Give all moments what the success test needs.
        """
        drawing, all_frames = self.draws, judged and self.test.looks
        try:
            self.draws = all_frames or (drawing and steps == 0)
            path = [self._restart(seed)]
            behaviour = self._behaviour(self, np.random.default_rng([seed, 1]))
            over = False
            while len(path) <= steps and not over:
                self.draws = all_frames or (drawing and len(path) == steps)
                moment, _, terminated, truncated = self._advance(behaviour.act(path[-1].state))
                path.append(moment)
                over = terminated or truncated
        finally:
            self.draws = drawing
        if whole and len(path) <= steps:
            raise ValueError(f"the episode of seed {seed} ends after {len(path) - 1} steps, before step {steps}.")
        return path

    def _goal_after(self, start: tuple[int, int]) -> Moment:
        """Draw a goal up to ``goal_steps`` after the start, if possible one that doing nothing does not reach."""
        seed, first = start
        path = self._lead(seed, first + self.goal_steps, whole=False, judged=True)
        later = range(first + 1, len(path)) or range(len(path) - 1, len(path))
        idle = self._idle(start)
        wanted = [step for step in later if not any(self.test.judge(moment, path[step])[0] for moment in idle)]
        step = int(self.np_random.choice(wanted or later))
        again = self._lead(seed, step)
        self._compare(path[: step + 1], again)
        return again[-1]

    def _idle(self, start: tuple[int, int]) -> list[Moment]:
        """The moments from a start on in which nothing is done, for twice ``goal_steps``."""
        drawing = self.draws
        path = self._lead(*start, judged=True)[-1:]
        nothing = np.zeros(self.action_space.shape or (), self.action_space.dtype)
        try:
            self.draws = self.test.looks
            for _ in range(2 * self.goal_steps if isinstance(self.action_space, spaces.Box) else 0):
                moment, _, terminated, truncated = self._advance(nothing)
                path.append(moment)
                if terminated or truncated:
                    break
        finally:
            self.draws = drawing
        return path

    def _compare(self, one: list[Moment], other: list[Moment]) -> None:
        """Warn, once, where the same seed and actions have led along two different ways."""
        same = len(one) == len(other) and all(
            np.allclose(here.state, there.state, rtol=1e-4, atol=1e-5)
            and (here.frame is None or there.frame is None or _gap(here.frame, there.frame) < 1)
            for here, there in zip(one, other, strict=True)
        )
        if not same and not self._warned:
            self._warned = True
            warnings.warn(
                f"the same seed and actions do not repeat an episode of {self.view.name}: a goal from a rollout may "
                "be out of reach, and evaluation does not repeat exactly.",
                NotRepeatableWarning,
                stacklevel=4,
            )

    def _moment(self, observation: Any, info: dict[str, Any]) -> Moment:
        achieved = observation.get("achieved_goal") if isinstance(observation, dict) else None
        state = self._inner.numbers(observation)
        frame = self.view.frame(observation, state) if self.draws else None
        return Moment(state, None if achieved is None else np.array(achieved), frame, info)

    def _observe(self, now: Moment) -> dict[str, np.ndarray]:
        black = np.zeros((self.image_size, self.image_size, 3), np.uint8)
        goal = self._goal.frame if self._goal is not None else None
        return {
            "pixels": black if now.frame is None else now.frame,
            "goal_pixels": black if goal is None else goal.copy(),
        }

    def _info(self, now: Moment, reward: float) -> dict[str, Any]:
        goal = self._goal
        moderate, strict = (False, False) if goal is None else self.test.judge(now, goal)
        success = strict if self.mode == "strict" else moderate
        return {
            "is_success": success,
            "success": success,
            "success_moderate": moderate,
            "success_strict": strict,
            "state": now.state,
            "goal_state": now.state.copy() if goal is None or not len(goal.state) else goal.state.copy(),
            "env_info": dict(now.info),
            "env_reward": reward,
        }


def _gap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def _address(value: Any, own: bool = False) -> tuple[int, int]:
    """Check an address; only goals of the environment's own, if there are any, have the step -1."""
    pair = np.asarray(value, dtype=np.float64)
    if pair.shape != (2,) or not (np.isfinite(pair).all() and (pair == np.rint(pair)).all()):
        raise ValueError(f"a wrapped environment's state is an address (seed, t) of whole numbers, not {value!r}.")
    if pair.min() < -1 or pair.max() < 0 or (pair[1] < 0 and not own):
        raise ValueError(f"seeds and steps count from 0, not {pair.astype(int).tolist()}.")
    return int(pair[0]), int(pair[1])
