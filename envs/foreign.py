"""Environments of other packages: found by their id, made with images, and drawn so that neighbours do not matter."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import types
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from wm_agents.envs.contexts import capture, drawing, has_display
from wm_agents.registry import did_you_mean, load_plugins

PACKAGES = ("gymnasium_robotics", "minigrid", "shimmy", "ale_py", "ogbench")
"""Packages whose environments are found without being imported by the user, where they are installed."""


def find_spec(env_id: str) -> gym.envs.registration.EnvSpec:
    """Return what is registered under an id, after importing the module that the id names, or well-known packages.

    Raises:
        ValueError: The module cannot be imported, or there is no such environment.
    """
    module, _, name = str(env_id).rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a foreign module does wrong when it is imported
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"cannot import the module {module!r} of {str(env_id)!r} ({reason}).") from error
    if name not in gym.registry:
        load_plugins()
    for package in PACKAGES if name not in gym.registry else ():
        if importlib.util.find_spec(package) is not None:
            with contextlib.redirect_stdout(None):  # some greet
                gym.register_envs(importlib.import_module(package))
    if name not in gym.registry:
        advice = "" if module else " If another module registers it, write module:id."
        raise ValueError(did_you_mean("environment", name, gym.registry) + advice)
    return gym.registry[name]


def make(env_id: str, side: int, **options: Any) -> gym.Env:
    """Make an environment that renders images, without a limit on its steps.

    Args:
        env_id: Registered id.
        side: Height and width, in pixels, of the images of environments that draw at any size.
        **options: For ``gym.make``.

    Raises:
        ValueError: There is no such environment, or what it needs is not there.
    """
    spec = find_spec(env_id)
    if _place(spec).startswith("gymnasium_robotics"):
        repair_robotics()
    if not has_display():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame, which draws many of them, needs no window
    given = {"render_mode": "rgb_array", "max_episode_steps": -1, "disable_env_checker": True, **options}
    try:
        try:
            env = gym.make(spec, **{**_sizes(_place(spec), side, given.get("render_kwargs")), **given})
        except TypeError:
            env = gym.make(spec, **given)
    except (ImportError, TypeError, gym.error.Error) as error:
        raise ValueError(f"{env_id} cannot be made: {str(error).splitlines()[0]}") from error
    with contextlib.suppress(Exception):  # there is no model of MuJoCo's, or not yet
        base: Any = env.unwrapped
        quality = (base.model if hasattr(base, "model") else base._env.physics.model).vis.quality
        quality.shadowsize = quality.offsamples = 0  # shadows cost nine tenths of the time where a CPU renders
    return env


def _sizes(place: str, side: int, render_kwargs: Any) -> dict[str, Any]:
    """Options of environments that draw at any size, by the module that defines them."""
    if place.startswith(("gymnasium.envs.mujoco", "gymnasium_robotics")):
        return {"width": side, "height": side}
    if place.startswith("shimmy.registration") and render_kwargs is None:  # dm_control's images are 320 by 240
        return {"render_kwargs": {"width": side * 4 // 3, "height": side}}
    return {}


def _place(spec: gym.envs.registration.EnvSpec) -> str:
    """The module that an environment is defined in."""
    entry: Any = spec.entry_point
    entry = getattr(entry, "func", entry)  # of a partial
    return entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")


class OwnContext:
    """Lets a foreign environment draw among others that draw: what its renderer left current is current again.

    Renderers of other packages expect their OpenGL context to stay current: Gymnasium's for MuJoCo, dm_control's and
    OGBench's draw black frames, noise, or another environment's picture once it is not.
    """

    def __init__(self) -> None:
        self._enter: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make it current meanwhile, and restore at the end what was."""
        with drawing():
            self._enter()
            try:
                yield
            finally:
                self._enter = capture()

    def __reduce__(self) -> tuple[type[OwnContext], tuple[()]]:
        return OwnContext, ()  # contexts stay in their process

    def __deepcopy__(self, memo: dict[int, Any]) -> OwnContext:
        other = OwnContext()
        other._enter = self._enter
        return other


@functools.cache
def repair_robotics() -> None:
    """Let gymnasium-robotics up to 1.4.2 work with MuJoCo from 3.12 on.

    It looks for a joint's type, a number, in a tuple of enumeration values, and since then these no longer equal
    numbers. Its helpers are given a view of MuJoCo in which they are numbers.
    """
    mujoco: Any = importlib.import_module("mujoco")
    joints = {name: int(kind) for name, kind in vars(mujoco.mjtJoint).items() if name.startswith("mjJNT")}
    if mujoco.mjtJoint.mjJNT_FREE != np.int32(joints["mjJNT_FREE"]):
        view = types.SimpleNamespace(**{**vars(mujoco), "mjtJoint": types.SimpleNamespace(**joints)})
        helpers: Any = importlib.import_module("gymnasium_robotics.utils.mujoco_utils")
        helpers.mujoco = view
