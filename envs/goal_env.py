"""The base class of all tasks: reach the state that a goal image shows."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from wm_agents.configs import checked_image_size, whole_number
from wm_agents.envs.actions import checked_action
from wm_agents.envs.distractor import Distractor
from wm_agents.envs.goals import Goals, checked_reset_options, offset_of
from wm_agents.registry import GOALS, did_you_mean

RewardFn = Callable[[np.ndarray, np.ndarray, Any], np.ndarray]
OBS_TYPES = ("pixels", "state", "pixels_state")
RELABELLED = (
    "rewards of many goals at once, as hindsight replay asks for them: it relabels desired_goal and leaves goal_pixels "
    "as they are, so the two disagree. Make the environment with obs_type='state' for it."
)


class GoalEnv(gym.Env[dict[str, Any], np.ndarray]):
    """A goal-reaching task with images, states, or both.

    Observations (``Dict``), by ``obs_type``:

    - ``"pixels"``: ``pixels`` and ``goal_pixels``, uint8 ``[image_size, image_size, 3]``. The goal image is a
      rendering of the goal state; no marker of the goal is drawn in either.
    - ``"state"``: ``observation`` ``[S]``, ``achieved_goal`` and ``desired_goal`` ``[G]``, float32: what HER needs.
    - ``"pixels_state"``: all five.

    The reward is 0 where the success test of the environment's mode holds and -1 elsewhere; the episode terminates on
    success, that is where the test has held for :attr:`held_steps`. ``info`` always holds ``is_success`` and
    ``success`` (the environment's mode), ``success_moderate``, ``success_strict`` (bool), ``state`` and ``goal_state``
    (float64 ``[S]``).

    ``reset()`` draws start and goal so that the task is not solved at the start, as ``goals`` says: ``"any"`` takes two
    random states. A number takes two states that many steps apart in an episode of the task's exploration policy, one
    that no training has seen; the episode is then truncated after twice that number of steps. ``"near"`` is 25, as in
    the published tables. ``reset(options={"state": ..., "goal_state": ...})`` sets either or both exactly; if only one
    is set, the other is a random state.

    A task implements :meth:`get_state`, :meth:`sample_state`, :meth:`achieved_goal`, ``_set_state``, ``_simulate`` and
    ``_draw``, and may refine :meth:`goal_distance` or :meth:`reached` and ``_check_state``.

    Args:
        action_space: The actions of the task.
        obs_type: ``"pixels"``, ``"state"`` or ``"pixels_state"``.
        image_size: Height and width of the images, 16 to 2048 pixels.
        success: Which success radius ends an episode, ``"moderate"`` or ``"strict"``.
        goals: What ``reset()`` draws: ``"any"``, ``"near"``, or a number of environment steps.
        distractor: Show a disc that moves by itself (:mod:`wm_agents.envs.distractor`) in all images, and another,
            at rest, in goal images; drawn at each reset, after the task. States and tasks are the same without it.
        render_mode: ``None`` or ``"rgb_array"``; ``render()`` returns ``[480, 480, 3]`` frames that show the goal.

    Raises:
        ValueError: An argument is not among those above.
    """

    action_space: spaces.Box
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 (Gymnasium's contract)
    state_names: ClassVar[tuple[str, ...]]
    """The name of each entry of a state."""
    goal_names: ClassVar[tuple[str, ...]]
    """The name of each entry of an achieved goal."""
    success_thresholds: ClassVar[dict[str, Any]]
    """What :meth:`reached` compares with, for each mode: here the largest :meth:`goal_distance` that counts."""
    held_steps: ClassVar[dict[str, int]] = {}
    """In how many states in a row a mode's test must hold to be a success; 1 for modes that are not named."""
    success_tests: ClassVar[dict[str, str]] = {}
    """Each mode's test in a few words, for listings."""
    exploration_policy: ClassVar[str] = "smooth-random"
    """The policy that collects the task's data unless another is asked for, as ``wm_agents.datasets`` names it."""
    render_size: ClassVar[int] = 480
    """Height and width of what ``render()`` returns, in pixels."""

    def __init__(
        self,
        *,
        action_space: spaces.Box,
        obs_type: str = "pixels",
        image_size: int = 64,
        success: str = "moderate",
        goals: Goals = "any",
        distractor: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if obs_type not in OBS_TYPES:
            raise ValueError(did_you_mean("obs_type", str(obs_type), OBS_TYPES))
        if success not in self.success_thresholds:
            raise ValueError(did_you_mean("success mode", str(success), self.success_thresholds))
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', not {render_mode!r}.")
        if not isinstance(distractor, bool):
            raise ValueError(f"distractor must be True or False, not {distractor!r}.")
        self.obs_type = obs_type
        self.image_size = checked_image_size(image_size)
        self.success_mode = success
        self._offset = offset_of(goals)
        self._step_count = 0
        self._distracts = distractor
        self._distractor: Distractor | None = None
        self._explorer: GoalEnv | None = None
        self.render_mode = render_mode
        self.action_space = action_space
        self.observation_space = self._observation_space()
        self._goal_state = np.zeros(len(self.state_names))
        self._held = dict.fromkeys(self.success_thresholds, 0)
        self._goal_pixels: np.ndarray | None = None

    # What a task implements.

    @abstractmethod
    def get_state(self) -> np.ndarray:
        """Return the simulator's state, float64 ``[S]``: what ``reset(options={"state": ...})`` takes."""

    @abstractmethod
    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a random valid state at rest, float64 ``[S]``, from ``rng`` alone."""

    @abstractmethod
    def achieved_goal(self, state: np.ndarray) -> np.ndarray:
        """Return the part of ``state`` ``[..., S]`` that the goal is about, ``[..., G]``."""

    @abstractmethod
    def _set_state(self, state: np.ndarray) -> None:
        """Set the simulator to ``state``, without any trace of its history."""

    @abstractmethod
    def _simulate(self, action: np.ndarray) -> None:
        """Advance the simulator by one step; ``action`` is float64 and inside the bounds."""

    @abstractmethod
    def _draw(self, state: np.ndarray, size: int, goal_state: np.ndarray | None = None) -> np.ndarray:
        """Return the frame of ``state``, with a marker at ``goal_state`` if given, and leave the simulator alone."""

    def _check_state(self, name: str, state: np.ndarray) -> None:
        """Raise ``ValueError`` where a finite ``state`` ``[S]`` is not one of the task's.

        Args:
            name: Name of the state in the message.
            state: float64 ``[S]``.
        """

    def goal_distance(self, achieved: np.ndarray, desired: np.ndarray) -> np.ndarray:
        """Return how far ``achieved`` is from ``desired``, both ``[..., G]``: here the Euclidean distance ``[...]``."""
        return np.linalg.norm(achieved - desired, axis=-1)

    def reached(self, achieved: np.ndarray, desired: np.ndarray) -> dict[str, np.ndarray]:
        """Return for each success mode whether ``achieved`` is at ``desired``, both ``[..., G]``; bool ``[...]``.

        By default, it is where :meth:`goal_distance` is at most the mode's threshold.
        """
        distance = self.goal_distance(achieved, desired)
        return {mode: distance <= threshold for mode, threshold in self.success_thresholds.items()}

    # The shared face.

    def successes(self, state: np.ndarray, goal_state: np.ndarray) -> dict[str, np.ndarray]:
        """Return for each success mode whether ``state`` reaches ``goal_state``, both ``[..., S]``; bool ``[...]``.

        It judges single states; :meth:`step` takes :attr:`held_steps` into account.
        """
        return self._reached(self.achieved_goal(state), self.achieved_goal(goal_state))

    @property
    def compute_reward(self) -> RewardFn:
        """``(achieved_goal [..., G], desired_goal [..., G], info) -> reward [...]``: 0 where reached, else -1.

        It is vectorised and ignores ``info``, so hindsight relabelling may call it on any pair. It only exists if
        observations contain goal vectors, because SB3 assumes this of every environment that has it.

        Raises:
            AttributeError: ``obs_type`` is ``"pixels"``.
        """
        if self.obs_type == "pixels":
            raise AttributeError("compute_reward needs goal vectors: make the environment with obs_type='state'.")
        return self._reward

    def _reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray:
        if self.obs_type == "pixels_state" and np.ndim(achieved_goal) > 1:
            warnings.warn(RELABELLED, UserWarning, stacklevel=2)
        return np.asarray(self._reached(achieved_goal, desired_goal)[self.success_mode], dtype=np.float64) - 1.0

    def render_state(self, state: np.ndarray, size: int | None = None) -> np.ndarray:
        """Return the frame of any valid ``state`` ``[S]``, markers hidden; the simulation is not touched.

        Args:
            state: What :meth:`get_state` returns.
            size: Height and width in pixels; the environment's ``image_size`` by default.

        Returns:
            uint8 ``[size, size, 3]``.

        Raises:
            ValueError: ``state`` is not a valid state, or ``size`` is not a number of pixels.
        """
        pixels = self.image_size if size is None else whole_number("size", size)
        if pixels < 1:
            raise ValueError(f"size must be at least 1 pixel, not {pixels}.")
        return self._draw(self.validate_state(state), pixels)

    def validate_state(self, state: Any, name: str = "state") -> np.ndarray:
        """Return ``state`` as a float64 ``[S]`` copy.

        Raises:
            ValueError: It has the wrong shape, is not finite, or is not a state of this task.
        """
        way_out = "`env.unwrapped.sample_state(rng)` and `env.unwrapped.get_state()` return valid states."
        names = ", ".join(self.state_names)
        try:
            array = np.array(state, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be an array of numbers ({names}), not {state!r}. {way_out}") from error
        if array.shape != (len(self.state_names),):
            raise ValueError(
                f"{name} must have shape ({len(self.state_names)},) for ({names}), not {array.shape}. {way_out}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, not {array}. {way_out}")
        self._check_state(name, array)
        return array

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode; the same seed gives the same start and goal.

        Args:
            seed: Seeds the environment's generator, as in Gymnasium.
            options: ``state`` and ``goal_state``, either or both, float64 ``[S]``: set exactly.

        Returns:
            The observation and the info.

        Raises:
            ValueError: An unknown option, an invalid state, a seed that is not a whole number, or goals that are
                farther away than an episode is long.
        """
        super().reset(seed=None if seed is None else whole_number("seed", seed, 0))
        given = checked_reset_options(options)
        fixed = {key: self.validate_state(value, f"options[{key!r}]") for key, value in given.items()}
        state, goal = self._draw_task(fixed.get("state"), fixed.get("goal_state"))
        self._set_state(state)
        self._goal_state = goal
        self._held = dict.fromkeys(self.success_thresholds, 0)
        self._step_count = 0
        self._goal_pixels = None if self.obs_type == "state" else self._draw(goal, self.image_size)
        if self._distracts:
            moving, still = map(Distractor, self.np_random.spawn(2))  # so that later resets draw what they always do
            self._distractor = moving
            if self._goal_pixels is not None:
                self._goal_pixels = still.paint(self._goal_pixels)
        return self._observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Advance by one step; actions outside ``action_space`` are clipped to it.

        Raises:
            ValueError: The action has the wrong shape or is not finite.
        """
        space = self.action_space
        self._simulate(np.clip(checked_action(action, space).astype(np.float64), space.low, space.high))
        self._step_count += 1
        if self._distractor is not None:
            self._distractor.move()
        info = self._info()
        reward = 0.0 if self._held[self.success_mode] else -1.0
        truncated = self._offset is not None and self._step_count >= 2 * self._offset
        return self._observe(), reward, info["is_success"], truncated, info

    def render(self) -> np.ndarray | None:
        """Return a large frame of the current state that shows the goal as a marker, for people."""
        if self.render_mode is None:
            gym.logger.warn("render() returns nothing without a render mode: gym.make(..., render_mode='rgb_array').")
            return None
        return self._distracted(self._draw(self.get_state(), self.render_size, self._goal_state))

    def _distracted(self, frame: np.ndarray) -> np.ndarray:
        return frame if self._distractor is None else self._distractor.paint(frame)

    def _reached(self, achieved: np.ndarray, desired: np.ndarray) -> dict[str, np.ndarray]:
        # In float32, as goals are observed: reward and success agree to the last bit whichever way they are computed.
        return self.reached(np.asarray(achieved, dtype=np.float32), np.asarray(desired, dtype=np.float32))

    def _draw_task(self, state: np.ndarray | None, goal: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Fill in what is missing, so that the task is not solved at the start."""
        if state is None and goal is None and self._offset is not None:
            if self._explorer is None:  # a twin that renders nothing and has random numbers of its own
                self._explorer = copy.deepcopy(self)
                self._explorer.obs_type, self._explorer._offset = "state", None
            return GOALS.get("near")(self._explorer, self._offset, self.np_random)
        while True:
            start = self.sample_state(self.np_random) if state is None else state
            target = self.sample_state(self.np_random) if goal is None else goal
            fixed = state is not None and goal is not None
            if fixed or not any(bool(solved) for solved in self.successes(start, target).values()):
                return start, target

    def _observation_space(self) -> spaces.Dict:
        image = spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8)
        state = spaces.Box(-np.inf, np.inf, (len(self.state_names),), np.float32)
        goal = spaces.Box(-np.inf, np.inf, (len(self.goal_names),), np.float32)
        parts: dict[str, spaces.Space[Any]] = {}
        if self.obs_type != "state":
            parts |= {"pixels": image, "goal_pixels": image}
        if self.obs_type != "pixels":
            parts |= {"observation": state, "achieved_goal": goal, "desired_goal": goal}
        return spaces.Dict(parts)

    def _observe(self) -> dict[str, np.ndarray]:
        state = self.get_state()
        observation: dict[str, np.ndarray] = {}
        if self._goal_pixels is not None:
            observation["pixels"] = self._distracted(self._draw(state, self.image_size))
            observation["goal_pixels"] = self._goal_pixels.copy()
        if self.obs_type != "pixels":
            observation["observation"] = state.astype(np.float32)
            observation["achieved_goal"] = self.achieved_goal(state).astype(np.float32)
            observation["desired_goal"] = self.achieved_goal(self._goal_state).astype(np.float32)
        return observation

    def _info(self) -> dict[str, Any]:
        """Judge the state that a reset or a step has led to; called once for each."""
        state = self.get_state()
        holds = self.successes(state, self._goal_state)
        self._held = {mode: self._held[mode] + 1 if bool(holds[mode]) else 0 for mode in holds}
        solved = {mode: held >= self.held_steps.get(mode, 1) for mode, held in self._held.items()}
        success = solved[self.success_mode]
        return {
            "is_success": success,
            "success": success,
            **{f"success_{mode}": value for mode, value in solved.items()},
            "state": state,
            "goal_state": self._goal_state.copy(),
        }


class ExposeReward(gym.Wrapper[Any, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Gives the environment that ``gym.make`` returns the task's ``compute_reward``, where SB3 looks for it."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)

    @property
    def compute_reward(self) -> RewardFn:
        """See :attr:`GoalEnv.compute_reward`."""
        return self.unwrapped.compute_reward  # type: ignore[attr-defined]
