"""What :func:`wm_agents.wrap` makes of a foreign environment: a goal task that is led to states by replaying."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from wm_agents.configs import checked_image_size, whole_number
from wm_agents.envs.actions import Actions
from wm_agents.envs.success import Achieved, InfoKey, Looks, Moment, Observed, Test, Told
from wm_agents.envs.views import View, moving_part
from wm_agents.registry import POLICIES, did_you_mean

MODES = ("moderate", "strict")
GOAL_STEPS = 50
EPISODES, SPAN, EVERY = 16, 60, 4  # of the trial rollouts: how many, how long, every how many steps a frame


class NotRepeatableWarning(UserWarning):
    """A seed does not fix an episode, so goals from a rollout of it may be out of reach."""


class WrappedEnv(gym.Wrapper):
    """A foreign environment with the observations of the library's tasks; see :func:`wrap`, which makes it.

    It cannot be set to a state, but it can be led to one: where other tasks have states, it has **addresses**, two
    numbers ``(seed, t)``, the moment ``t`` steps into the exploration policy's rollout from ``reset(seed)``. An image
    of the user's has the address ``(-1, index)``. ``reset(options={"state": ..., "goal_state": ...})`` takes both.

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
        pixels: str | None = None,
        resize: str = "stretch",
        focus: bool = True,
        goals: Any = "rollout",
        goal_steps: int = GOAL_STEPS,
        success: Any = "auto",
        mode: str = "moderate",
        policy: str = "smooth-random",
        bounds: tuple[Any, Any] | None = None,
    ) -> None:
        super().__init__(env)
        if mode not in MODES:
            raise ValueError(did_you_mean("success mode", str(mode), MODES))
        self.image_size, self.mode = checked_image_size(image_size), mode
        self.goal_steps = whole_number("goal_steps", goal_steps, 1)
        self.policy = policy
        self.actions = Actions(env.action_space, bounds)
        self.action_space = self.actions.space
        image = spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8)
        self.observation_space = spaces.Dict(pixels=image, goal_pixels=image)
        self.view = View(env, image_size, pixels, resize)
        self._own_spec = env.spec
        self._warned = False
        self.draws = True
        """Whether observations have frames; without, they are black, and steps are quick."""
        moments, episodes = self._trial(focus)
        self.test = self._choose_test(success, moments, episodes)
        self.success_tests = dict.fromkeys(MODES, self.test.description)
        self.state_names = tuple(f"observation_{index}" for index in range(len(moments[0].state)))
        self._given = _given_goals(goals, self)
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
        given = dict(options or {})
        for key in given:
            if key not in ("state", "goal_state"):
                raise ValueError(did_you_mean("reset option", str(key), ("state", "goal_state")))
        drawn = int(self.np_random.integers(2**31)) if seed is None else int(seed)
        start = _address(given.get("state", (drawn, 0)))
        if "goal_state" in given:
            goal = self.moment(given["goal_state"])
        elif self._given is not None:
            goal = self._given[int(self.np_random.integers(len(self._given)))]
        else:
            goal = self._goal_after(start)
        now = self._lead(*start)[-1]
        self._goal = goal
        return self._observe(now), self._info(now, 0.0)

    def explore(self, seed: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode without a goal: nothing is reached, and the goal image is black."""
        self._goal = None
        now = self._restart(seed)
        return self._observe(now), self._info(now, 0.0)

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Advance by one step; continuous actions are clipped.

        Raises:
            ValueError: The action is none of the space.
        """
        now, reward, terminated, truncated = self._advance(action)
        info = self._info(now, reward)
        success = info["is_success"]
        return self._observe(now), 0.0 if success else -1.0, bool(terminated or success), bool(truncated), info

    # What the library calls.

    def moment(self, address: Any) -> Moment:
        """Return the moment at an address ``(seed, t)``, or the user's image at ``(-1, index)``.

        Raises:
            ValueError: There is no such moment.
        """
        seed, step = _address(address)
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
        seed, step = _address(address)
        if seed >= 0:
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

    def _restart(self, seed: int) -> Moment:
        observation, info = self.env.reset(seed=int(seed))
        return self._moment(observation, info)

    def _advance(self, action: Any) -> tuple[Moment, float, bool, bool]:
        observation, reward, terminated, truncated, info = self.env.step(self.actions.to_inner(action))
        return self._moment(observation, info), float(reward), bool(terminated), bool(truncated)

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
        frame = self.view.frame(observation) if self.draws else None
        return Moment(self._flat(observation), None if achieved is None else np.array(achieved), frame, info)

    def _flat(self, observation: Any) -> np.ndarray:
        """The numbers of an observation, float64 ``[S]``; none where it holds anything else."""
        space = self.env.observation_space
        if isinstance(space, spaces.Dict):
            kept = {key: part for key, part in space.spaces.items() if key != "desired_goal" and _is_vector(part)}
            parts = [np.ravel(observation[key]) for key in kept]
            return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)
        return np.ravel(observation).astype(np.float64) if _is_vector(space) else np.zeros(0)

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

    def _trial(self, focus: bool) -> tuple[list[Moment], np.ndarray]:
        """Explore for a while; return some moments and the episode of each, their frames cut to what moves."""
        squares, moments, episodes = [], [], []
        for episode in range(EPISODES):
            observation, info = self.env.reset(seed=episode)
            behaviour = self._behaviour(self, np.random.default_rng([episode, 2]))
            for step in range(SPAN):
                self.draws = False
                moment = self._moment(observation, info)
                if step % EVERY == 0:
                    squares.append(self.view.square(observation))
                    moments.append(moment)
                    episodes.append(episode)
                action = self.actions.to_inner(behaviour.act(moment.state))
                observation, _, terminated, truncated, info = self.env.step(action)
                if terminated or truncated:
                    break
        self.draws = True
        if all(square.min() == square.max() for square in squares):
            raise ValueError(
                f"all images of {self.view.name} have one colour, {squares[0][0, 0].tolist()}: "
                "nothing can be learnt from them. Does it render without errors? See `wm-agents doctor`."
            )
        if focus:
            self.view.box = moving_part(np.stack(squares))
        framed = [
            Moment(moment.state, moment.achieved, self.view.cut(square), moment.info)
            for moment, square in zip(moments, squares, strict=True)
        ]
        return framed, np.array(episodes)

    def _choose_test(self, success: Any, moments: list[Moment], episodes: np.ndarray) -> Test:
        base: Any = self.env.unwrapped
        if callable(success):
            return Told(success)
        if success == "auto":
            goals = moments[0].achieved is not None and hasattr(base, "compute_reward")
            success = "goal" if goals else "state" if len(moments[0].state) else "pixels"
        if success == "goal":
            if moments[0].achieved is None or not hasattr(base, "compute_reward"):
                raise ValueError('success="goal" needs observations with achieved_goal, and compute_reward.')
            return Achieved(base)
        if success == "state":
            if not len(moments[0].state):
                raise ValueError(
                    f'success="state" needs an observation of numbers, not {self.env.observation_space}: '
                    'give success="pixels", a key of info, or a function.'
                )
            return Observed(moments, episodes)
        if success == "pixels":
            return Looks(np.stack([moment.frame for moment in moments]))  # type: ignore[misc]
        known = {key for moment in moments for key in moment.info}
        if success not in known:
            raise ValueError(did_you_mean("success test", str(success), {"auto", "goal", "state", "pixels", *known}))
        return InfoKey(success)


def _gap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def _is_vector(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and (len(space.shape) == 1 or space.shape == ())


def _address(value: Any) -> tuple[int, int]:
    numbers = np.asarray(value, dtype=np.float64)
    if numbers.shape != (2,) or not (np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all()):
        raise ValueError(f"a wrapped environment's state is an address (seed, t) of whole numbers, not {value!r}.")
    if numbers[0] < -1 or numbers[1] < 0:
        raise ValueError(f"seeds and steps count from 0, not {numbers.astype(int).tolist()}.")
    return int(numbers[0]), int(numbers[1])


def _given_goals(goals: Any, task: WrappedEnv) -> list[Moment] | None:
    """Goals that the user gives, as moments; None where they come from rollouts."""
    if isinstance(goals, str):
        if goals != "rollout":
            raise ValueError(did_you_mean("kind of goals", goals, ("rollout",)))
        return None
    images, states = getattr(goals, "pixels", goals), getattr(goals, "states", None)
    if len(np.shape(images)) != 4 or not len(images):
        raise ValueError(f'goals must be "rollout", images [M, H, W, 3], or a dataset; got shape {np.shape(images)}.')
    has_states = states is not None and np.shape(states)[-1] == len(task.state_names)
    if not (task.test.looks or isinstance(task.test, (InfoKey, Told))) and not has_states:
        raise ValueError(
            "goals that are images alone cannot be compared with observations: give success="
            '"pixels", a key of info, or a function.'
        )
    found = []
    for index in range(len(images)):
        state = np.asarray(states[index], dtype=np.float64) if has_states and states is not None else np.zeros(0)
        found.append(Moment(state, None, task.view.given(images[index], f"goal image {index}")))
    return found
