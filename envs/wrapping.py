"""Any Gymnasium environment as a goal task: images, goal images and a success test, without code for it."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.wrappers import TimeLimit

from wm_agents.configs import checked_image_size, whole_number
from wm_agents.envs import foreign
from wm_agents.envs.wrapped import GOAL_STEPS, WrappedEnv

VERSION = 1
"""Of how frames are made: the next number where the same options give other images, so that old data are told apart."""
UNSEEN = {"env", "image_size", "goals", "goal_steps", "success", "mode"}
"""Options of :func:`wrap` that recorded frames do not depend on, or that are known anyway."""


def wrap(
    env: str | gym.Env | Callable[[], gym.Env],
    *,
    image_size: int = 64,
    pixels: str | Sequence[str] | None = None,
    proprioception: str | Sequence[int] | None = None,
    resize: str = "stretch",
    focus: bool = True,
    goals: Any = "rollout",
    goal_steps: int = GOAL_STEPS,
    success: str | Callable[[dict[str, Any], dict[str, Any]], Any] = "auto",
    mode: str = "moderate",
    policy: str = "smooth-random",
    bounds: tuple[Any, Any] | None = None,
    reset_options: dict[str, Any] | None = None,
    max_episode_steps: int | None = None,
    **options: Any,
) -> gym.Env:
    """Give an environment the observations of this library's tasks: ``pixels`` and ``goal_pixels``.

    Nothing has to be known of the environment. A goal is what it looked like ``t`` steps into a rollout of the
    exploration policy from the same seed; then the environment is reset to that seed and the agent's turn begins.
    Where the seed fixes an episode, every goal can be reached and evaluation repeats exactly; where it does not, a
    :class:`NotRepeatableWarning` says so. The reward is 0 where the goal is reached and -1 elsewhere, and reaching it
    ends the episode. ``info`` has what :class:`~wm_agents.envs.GoalEnv` puts there, with the flat observation as
    ``state``, and the environment's own info and reward as ``env_info`` and ``env_reward``.

    Args:
        env: An id, an environment made with ``render_mode="rgb_array"``, or a function that makes one. The rollouts
            for goals step this environment: put a ``RecordVideo`` around the result.
        image_size: Height and width of the images, 16 to 2048 pixels.
        pixels: Key of the observation that holds an image, "observation" where that is one, or "render", the default,
            for ``render()``. With several, ("front", "wrist"), the images share the frame side by side.
        proprioception: Numbers that are drawn into the frame, as cells of gray along its lower edge: a key of the
            observation, or indices of the flat observation. Goal images show them, too.
        resize: How images that are not square become square: "stretch", "crop" to the middle, or "pad" with black.
        focus: Cut the image to the part in which something moves, found by trial rollouts: a rectangle for
            resize="stretch", otherwise a square; a single image only.
        goals: "rollout"; "own", the goal that the environment draws, where it shows an image of that, in the info of
            ``reset`` or in the observation; images ``[M, H, W, 3]`` of yours; or a dataset with ``pixels`` (and
            ``states``).
        goal_steps: A goal lies up to so many steps from the start.
        success: "goal" (the environment's own test of ``achieved_goal``), "state" (the observation is near the
            goal's), "pixels" (the image is), the name of a key of ``info``, or a function of ``info`` and the info at
            the goal, both with ``state``. "auto" takes the first of these three that the environment allows; for
            goals of its own, what it says in ``info`` itself.
        mode: Which limit of the test ends an episode, "moderate" or "strict".
        policy: Name in ``wm_agents.registry.POLICIES``, that explores.
        bounds: Lowest and highest action, where the action space has none.
        reset_options: For every ``reset`` of the environment.
        max_episode_steps: Steps after which an episode is cut; of an id, its own limit by default.
        **options: For ``gym.make``, of an id.

    Returns:
        The wrapped environment; ``env.unwrapped`` is the :class:`WrappedEnv`, ``env.unwrapped.env`` what it wraps.

    Raises:
        ValueError: An argument is out of range; the environment shows no images, or actions of another kind than Box,
            Discrete, MultiDiscrete or MultiBinary.
    """
    size = checked_image_size(image_size)
    if isinstance(env, str):
        spec = foreign.find_spec(env)
        if max_episode_steps is None:
            max_episode_steps = spec.max_episode_steps
        inner = foreign.make(env, 3 * size if focus else 2 * size, **options)
    elif options:
        raise ValueError(f"{sorted(options)} are options of an id: make the environment with them.")
    else:
        inner = env() if callable(env) else env
        if not isinstance(inner, gym.Env):
            several = ": wrap each environment, then vectorise them" if hasattr(inner, "num_envs") else ""
            raise ValueError(
                "wrap takes a Gymnasium environment, its id, or a function that makes one, not "
                f"{'one that makes ' if callable(env) else ''}{type(inner).__name__}{several}."
            )
    wrapped = WrappedEnv(
        inner,
        image_size=size,
        pixels=pixels,
        proprioception=proprioception,
        resize=resize,
        focus=focus,
        goals=goals,
        goal_steps=goal_steps,
        success=success,
        mode=mode,
        policy=policy,
        bounds=bounds,
        reset_options=reset_options,
    )
    return (
        wrapped
        if max_episode_steps is None
        else TimeLimit(wrapped, whole_number("max_episode_steps", max_episode_steps, 1))
    )


def register(name: str, env: str | Callable[[], gym.Env], **options: Any) -> None:
    """Register a wrapped environment under an id of its own, for ``collect``, ``evaluate`` and ``solve``.

    Args:
        name: The new id, ``"my/Task-v0"``.
        env: An id, or a function that makes the environment. Where the id was registered here, its options are
            those of the new one, too.
        **options: Of :func:`wrap`.
    """
    known = gym.registry.get(env) if isinstance(env, str) else None
    if known is not None and _creator(known) is registered:
        env, options = known.kwargs["env"], {**known.kwargs["wrapping"], **options}
    kwargs = {"env": env, "wrapping": options}
    gym.register(name, entry_point=f"{__name__}:registered", kwargs=kwargs)


def registered(env: Any, wrapping: dict[str, Any], **given: Any) -> gym.Env:
    """Make what :func:`register` has registered; called by ``gym.make``."""
    given.pop("render_mode", None)
    return wrap(env, **{**wrapping, **_translated(given)})


def registered_spec(env_id: str) -> str | None:
    """What another process needs to know an id that :func:`register` made: its specification as JSON.

    Returns:
        None for all other ids, and "" where the specification holds functions or arrays.
    """
    spec = gym.registry.get(env_id)
    if spec is None or spec.entry_point != f"{__name__}:registered":
        return None
    return spec_json(spec) or ""


def view_of(env_id: str) -> dict[str, Any] | None:
    """What the frames of an environment depend on beside its id, as JSON types: the identity of data of it.

    Returns:
        The version of the wrapper, what is wrapped, and the options that shape frames; None for tasks that need no
        wrapping.

    Raises:
        ValueError: There is no such environment.
    """
    spec = foreign.find_spec(env_id)
    creator = _creator(spec)
    if creator is registered:
        inner, options = spec.kwargs["env"], spec.kwargs["wrapping"]
    elif hasattr(creator, "successes"):
        return None
    else:
        env = None if isinstance(creator, type) else _own_task(spec)
        if env is not None:
            env.close()
            return None
        inner, options = env_id, {}
    usual = {
        name: parameter.default
        for name, parameter in inspect.signature(wrap).parameters.items()
        if parameter.default is not parameter.empty
    }
    shown = {name: value for name, value in {**usual, **options}.items() if name not in UNSEEN}
    return {"version": VERSION, "env": _described(inner), "options": _described(shown)}


def _described(value: Any) -> Any:
    """A value as JSON types; functions by their names, arrays by a hash."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if isinstance(value, functools.partial):
        return [_described(value.func), _described(value.args), _described(value.keywords)]
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def spec_json(spec: gym.envs.registration.EnvSpec | None) -> str | None:
    """Return a specification as JSON, or None where there is none or it holds functions or arrays."""
    try:
        return None if spec is None else spec.to_json()
    except (ValueError, TypeError):
        return None


def _translated(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a :class:`~wm_agents.envs.GoalEnv` as :func:`wrap` calls them."""
    options = dict(options)
    if "success" in options:
        options["mode"] = options.pop("success")
    options.pop("obs_type", None)
    return options


def open_task(env_id: str, **options: Any) -> gym.Env:
    """Open a goal task by its id; any other environment is wrapped.

    Args:
        env_id: A registered id, with its module where that must be imported first.
        **options: Those of :class:`~wm_agents.envs.GoalEnv`, and ``max_episode_steps``.

    Raises:
        ValueError: There is no such environment, or it cannot be wrapped.
    """
    spec = foreign.find_spec(env_id)
    return _own_task(spec, **options) or wrap(env_id, **_translated(options))


def _own_task(spec: gym.envs.registration.EnvSpec, **options: Any) -> gym.Env | None:
    """Open what is a goal task by itself, or was registered as one; None for all other environments."""
    creator = _creator(spec)
    if creator is registered or hasattr(creator, "successes"):
        return gym.make(spec, disable_env_checker=True, **options)
    if not isinstance(creator, type):  # a function: what it makes tells
        try:
            env = gym.make(spec, disable_env_checker=True, **options)
            if hasattr(env.unwrapped, "successes"):
                return env
            env.close()
        except (TypeError, gym.error.Error):
            pass
    return None


def _creator(spec: gym.envs.registration.EnvSpec) -> Any:
    """The class or function behind an id."""
    entry: Any = spec.entry_point
    return load_env_creator(entry) if isinstance(entry, str) else entry
