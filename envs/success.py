"""When a goal of a foreign environment counts as reached: tests of one moment against another, each in words.

Two limits, "moderate" and "strict", stand for the two success modes of the library's own tasks. Tests that have one
limit only answer the same for both.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from wm_agents.registry import did_you_mean

LIMITS = (0.2, 0.1)
"""Moderate and strict, as shares of how much a quantity varies."""
SHOWN = 0.3
"""A number of the observation counts where single frames tell it with at least this R2."""


@dataclass(frozen=True)
class Moment:
    """One moment of an environment.

    Attributes:
        state: float64 ``[S]``, the flat observation; S is 0 where it is no array of numbers.
        achieved: The observation's ``achieved_goal``, where it has one.
        frame: uint8 ``[H, W, 3]``, or None where nothing was drawn.
        info: What the environment said.
    """

    state: np.ndarray
    achieved: np.ndarray | None = None
    frame: np.ndarray | None = None
    info: Mapping[str, Any] = field(default_factory=dict)


class Test(ABC):
    """Whether a moment reaches a goal."""

    description: str
    """The test in words; every report has it."""
    looks = False
    """Whether it needs frames."""

    @abstractmethod
    def judge(self, now: Moment, goal: Moment) -> tuple[bool, bool]:
        """Return whether ``now`` reaches ``goal``, moderately and strictly."""


class Observed(Test):
    """The numbers of the observation that a frame shows are near those of the goal."""

    def __init__(self, moments: Sequence[Moment], seen: np.ndarray) -> None:
        states = np.stack([moment.state for moment in moments])
        self.spread = states.std(axis=0)
        varies = self.spread > 1e-6 * np.maximum(1.0, np.abs(states).max(axis=0))
        self.shown = varies & (told_by_frames(np.stack([moment.frame for moment in moments]), states, seen) >= SHOWN)  # type: ignore[misc]
        self.indices = np.flatnonzero(self.shown if self.shown.any() else varies)
        if not len(self.indices):
            raise ValueError("the observation never changes, so nothing tells that a goal is reached: give success=.")
        numbers = ", ".join(str(index) for index in self.indices)
        self.description = (
            f"numbers {numbers} of the observation (of {len(self.spread)}; those that a frame shows) each within "
            f"{LIMITS[0]:g} of their standard deviation under the exploration policy; strict: {LIMITS[1]:g}"
        )

    def judge(self, now: Moment, goal: Moment) -> tuple[bool, bool]:
        """See :meth:`Test.judge`."""
        gap = np.abs(now.state - goal.state)[self.indices] / self.spread[self.indices]
        return bool(gap.max() <= LIMITS[0]), bool(gap.max() <= LIMITS[1])


class Achieved(Test):
    """The environment's own test of ``achieved_goal``, as Gymnasium-Robotics defines it."""

    def __init__(self, base: Any) -> None:
        self.base = base
        self.radius = getattr(base, "distance_threshold", None)
        self.description = (
            "the environment's own reward says that achieved_goal is at the goal's"
            if self.radius is None
            else f"achieved_goal within {self.radius:g} of the goal's, the environment's own radius; strict: half of it"
        )

    def judge(self, now: Moment, goal: Moment) -> tuple[bool, bool]:
        """See :meth:`Test.judge`."""
        assert now.achieved is not None
        assert goal.achieved is not None
        if self.radius is not None:
            gap = float(np.linalg.norm(now.achieved - goal.achieved))
            return gap <= self.radius, gap <= self.radius / 2
        here, there = (self.base.compute_reward(a, goal.achieved, {}) for a in (now.achieved, goal.achieved))
        return bool(here == there), bool(here == there)


class Looks(Test):
    """The frame looks like the goal image."""

    looks = True

    def __init__(self, frames: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        one, other = rng.integers(len(frames), size=(2, 500))
        gaps = np.array([_gap(frames[i], frames[j]) for i, j in zip(one, other, strict=True)])
        self.usual = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 1.0
        self.description = (
            f"the frame differs from the goal image by at most {LIMITS[0]:g} of how much frames differ usually "
            f"({self.usual:.3g} grey levels on average); strict: {LIMITS[1]:g}"
        )

    def judge(self, now: Moment, goal: Moment) -> tuple[bool, bool]:
        """See :meth:`Test.judge`."""
        assert now.frame is not None
        assert goal.frame is not None
        gap = _gap(now.frame, goal.frame) / self.usual
        return gap <= LIMITS[0], gap <= LIMITS[1]


class InfoKey(Test):
    """The environment says so."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.description = f"info[{key!r}] of the environment"

    def judge(self, now: Moment, goal: Moment) -> tuple[bool, bool]:
        """See :meth:`Test.judge`."""
        value = yes_or_no(now.info.get(self.key, False), self.description)
        return value, value


class Told(Test):
    """A function of the user's, of two infos; ``info["state"]`` is the flat observation."""

    def __init__(self, function: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
        self.function = function
        self.description = (
            f"the function {getattr(function, '__name__', type(function).__name__)} of info and goal info"
        )

    def judge(self, now: Moment, goal: Moment) -> tuple[bool, bool]:
        """See :meth:`Test.judge`."""
        given = ({**moment.info, "state": moment.state.copy()} for moment in (now, goal))
        try:
            answer = self.function(*given)
        except Exception as error:  # whatever a user's function does wrong
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"{self.description} failed ({reason}); it gets two dicts, and returns a bool.") from error
        value = yes_or_no(answer, self.description)
        return value, value


def yes_or_no(answer: Any, test: str) -> bool:
    """Return a test's answer as a bool.

    Raises:
        ValueError: It is neither True or False nor a single 1 or 0.
    """
    with contextlib.suppress(TypeError, ValueError, RuntimeError):
        value = np.asarray(answer)
        if value.size == 1 and value.dtype.kind in "biuf" and value.item() in (0, 1):
            return bool(value.item())
    raise ValueError(f"a success test must say True or False; {test} says {' '.join(repr(answer).split())}.")


def choose_test(success: Any, trial: Any, env: Any, own_goals: bool) -> Test:
    """Choose the success test by its name, or the first that is possible for "auto".

    Args:
        success: See :func:`wm_agents.envs.wrap`.
        trial: What trial rollouts have shown, a :class:`~wm_agents.envs.trials.Trial`.
        env: The foreign environment.
        own_goals: Whether goals are its own, so that it may know itself when they are reached.

    Raises:
        ValueError: There is no such test, or the environment does not allow it.
    """
    moments, base = trial.moments, env.unwrapped
    told = moments[0].achieved is not None and hasattr(base, "compute_reward")
    known = {key for moment in trial.moments for key in moment.info} | set(trial.step_info)
    if callable(success):
        return Told(success)
    if success == "auto" and own_goals:
        success = next((key for key in ("is_success", "success") if key in known), "auto")
    if success == "auto" and not told and len(moments[0].state) and not own_goals:
        test = Observed(moments, trial.episodes)
        if test.shown.any():  # else nobody can tell from a goal image where to go
            return test
    if success == "auto":
        success = "goal" if told else "pixels"
    if success == "goal":
        if not told:
            raise ValueError('success="goal" needs observations with achieved_goal, and compute_reward.')
        return Achieved(base)
    if success == "state":
        if not len(moments[0].state):
            raise ValueError(
                f'success="state" needs an observation of numbers, not {env.observation_space}: '
                'give success="pixels", a key of info, or a function.'
            )
        return Observed(moments, trial.episodes)
    if success == "pixels":
        return Looks(np.stack([moment.frame for moment in moments]))
    if success not in known:
        raise ValueError(did_you_mean("success test", str(success), {"auto", "goal", "state", "pixels", *known}))
    return InfoKey(success)


def _gap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def told_by_frames(frames: np.ndarray, states: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """Return how well single frames tell each number of the states: R2 ``[S]`` on episodes that the fit has not seen.

    The better of two kernel ridge regressions: on frames of about 16 by 16 pixels, and on blurred ones, in which a
    small thing that has moved by more than its size still overlaps with itself. Velocities, which no frame shows, come
    out near 0 or below.

    Args:
        frames: uint8 ``[N, H, W, 3]``.
        states: ``[N, S]``.
        episodes: int ``[N]``, the episode of each frame.
    """
    targets = (states - states.mean(axis=0)) / np.maximum(states.std(axis=0), 1e-12)
    images = _pooled(frames, 64)
    side = images.shape[1]
    blurred = ndimage.gaussian_filter(images, (0, side / 8, side / 8, 0))
    return np.maximum(*(_explained(_pooled(form, 16), targets, episodes % 4 == 0) for form in (images, blurred)))


def _pooled(images: np.ndarray, size: int) -> np.ndarray:
    """Images ``[N, H, H, 3]`` as float64 of about ``size`` pixels; each is the mean of those it covers."""
    step = max(1, images.shape[1] // size)
    side = images.shape[1] // step
    cut = images[:, : side * step, : side * step]
    return cut.reshape(len(cut), side, step, side, step, 3).mean(axis=(2, 4))


def _explained(images: np.ndarray, targets: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """R2 ``[S]`` of the held-out targets ``[N, S]`` by a kernel ridge regression from images to the others."""
    pixels = images.reshape(len(images), -1) / 255
    pixels = pixels - pixels.mean(axis=0)
    squares = np.square(pixels).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * pixels @ pixels.T, 0)
    kernel = np.exp(-distances / max(float(np.median(distances)), 1e-12))
    fit = ~held_out
    weights = np.linalg.solve(kernel[np.ix_(fit, fit)] + 1e-3 * np.eye(int(fit.sum())), targets[fit])
    errors = np.square(kernel[np.ix_(held_out, fit)] @ weights - targets[held_out]).mean(axis=0)
    return 1 - errors / np.maximum(np.square(targets[held_out] - targets[fit].mean(axis=0)).mean(axis=0), 1e-12)
