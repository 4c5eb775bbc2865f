"""Baselines that learn online. Stable-Baselines3 trains them; what a run needs to go on is kept without pickles."""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.save_util import load_from_zip_file, recursive_setattr
from stable_baselines3.common.vec_env import VecEnv

from wm_agents.baselines.replay import buffer_tensors, fill_buffer
from wm_agents.baselines.settings import Settings, settings
from wm_agents.configs import whole_number
from wm_agents.tensorfile import CheckpointError, read_tensors, write_atomically, write_tensors
from wm_agents.training.display import held_interrupt, progress_bar

STATE_FILE = "state.safetensors"
MINUTES = 5.0
"""Between saves of the resumable state."""
STATE_KEYS, PIXEL_KEYS = {"observation", "achieved_goal", "desired_goal"}, {"pixels", "goal_pixels"}


@dataclass(frozen=True)
class Point:
    """A model on the way.

    Attributes:
        steps: Environment steps so far.
        seconds: Of training so far, those of runs that were interrupted among them.
        path: SB3's file of the model, which :func:`load` reads without opening its pickle.
    """

    steps: int
    seconds: float
    path: Path


def make(
    how: Settings, env_id: str, *, steps: int, seed: int = 0, device: str = "auto", n_envs: int | None = None
) -> BaseAlgorithm:
    """Make an untrained model and its environments.

    Args:
        how: From :func:`wm_agents.baselines.settings.settings`.
        env_id: Gymnasium id of a goal environment.
        steps: Environment steps that it is to be trained for; its replay buffer is no larger.
        seed: Of everything random.
        device: "auto", "cpu", "cuda".
        n_envs: Environments, if not as many as the settings say.

    Raises:
        ValueError: The environment does not give such observations, or has other actions than the algorithm takes; the
            steps are too few to learn; or the replay buffer would be larger than the memory.
        ImportError: sb3-contrib is needed and not installed.
    """
    steps = whole_number("steps", steps)
    kind: Any = _algorithm(how.algorithm)
    try:
        venv = make_vec_env(env_id, n_envs=n_envs or how.n_envs, seed=seed, env_kwargs={"obs_type": how.obs_type})
    except TypeError as error:  # a constructor without obs_type
        raise ValueError(
            f"{env_id} cannot be made with obs_type={how.obs_type!r}: baselines need a goal environment with that "
            "argument, such as wm_agents.envs.register_wrapped makes of others."
        ) from error
    try:
        _check_spaces(how, env_id, venv)
        options = {**how.options, "policy_kwargs": dict(how.options.get("policy_kwargs", {}))}
        if "buffer_size" in options:
            options |= _replay(how, env_id, venv, steps)
        if how.noise:
            size = venv.action_space.shape or ()
            spread = how.noise * (venv.action_space.high - venv.action_space.low) / 2  # type: ignore[attr-defined]
            options["action_noise"] = NormalActionNoise(np.zeros(size), spread)
        return kind("MultiInputPolicy", venv, seed=seed, device=device, **options)
    except BaseException:
        venv.close()
        raise


def train(
    name: str,
    env_id: str,
    folder: str | Path,
    *,
    steps: int,
    seed: int = 0,
    points: int = 5,
    device: str = "auto",
    how: Settings | None = None,
    progress: bool = True,
) -> list[Point]:
    """Train a baseline, and keep models on the way; the same call goes on after Ctrl-C or a kill.

    A run that goes on begins a new episode and draws other random numbers than one that was never interrupted.

    Args:
        name: One of :data:`wm_agents.baselines.ONLINE`.
        env_id: Gymnasium id of a goal environment.
        folder: Where models and the resumable state are kept.
        steps: Environment steps.
        seed: Of everything random.
        points: Models on the way, the last one included, at equal distances.
        device: "auto", "cpu", "cuda".
        how: Settings in place of the task's.
        progress: Show a bar.

    Returns:
        The models, first to last.

    Raises:
        ValueError: As :func:`make` does, or the folder holds another run.
    """
    folder, how = Path(folder), how or settings(name, env_id)
    steps, points = whole_number("steps", steps), whole_number("points", points)
    run = {"name": name, "env_id": env_id, "steps": steps, "seed": seed, "points": points, "settings": how.to_dict()}
    run = json.loads(json.dumps(run))  # as the state's file gives it back
    saved = _Saved.read(folder, run)
    if saved.steps >= steps:
        return saved.points
    model = make(how, env_id, steps=steps, seed=seed, device=device)
    try:
        saved.restore(model)
        with held_interrupt() as interrupted, progress_bar(name, steps, saved.steps, progress) as update:
            watch = _Watch(saved, np.linspace(0, steps, points + 1)[1:], interrupted, update)
            model.learn(steps - saved.steps, callback=watch, reset_num_timesteps=False)
        if interrupted():
            raise KeyboardInterrupt
    finally:
        if model.env is not None:
            model.env.close()
    return saved.points


def finished(folder: str | Path, steps: int) -> bool:
    """Tell whether :func:`train` has nothing left to do in a folder."""
    path = Path(folder) / STATE_FILE
    return path.exists() and int(read_tensors(path)[1].get("steps", 0)) >= steps


def load(point: Path, how: Settings, env_id: str, *, device: str = "auto") -> BaseAlgorithm:
    """Return the model of a :class:`Point`, for acting; its weights are read, and no pickle is opened."""
    acting = dataclasses.replace(how, hindsight=False)
    model = make(acting, env_id, steps=0, device=device, n_envs=1)
    _restore_weights(model, point)
    assert model.env is not None
    model.env.close()
    return model


class _Saved:
    """What is kept of a run: models on the way, and a state whose file names the model that belongs to it."""

    def __init__(self, folder: Path, run: dict[str, Any], header: dict[str, Any], tensors: dict[str, Any]) -> None:
        self.folder, self.run, self.header, self.tensors = folder, run, header, tensors
        self.steps, self.seconds = int(header.get("steps", 0)), float(header.get("seconds", 0.0))
        self.points = [Point(at, seconds, self.path(at)) for at, seconds in header.get("points", ())]

    @classmethod
    def read(cls, folder: Path, run: dict[str, Any]) -> _Saved:
        if not (folder / STATE_FILE).exists():
            return cls(folder, run, {}, {})
        tensors, header = read_tensors(folder / STATE_FILE)
        if header.get("run") != run:
            raise CheckpointError(f"{folder} holds another run: give the same arguments to go on, or another folder.")
        return cls(folder, run, header, tensors)

    def path(self, steps: int) -> Path:
        return self.folder / f"model-{steps}.zip"

    def restore(self, model: Any) -> None:
        if not self.steps:
            return
        _restore_weights(model, self.path(self.steps))
        for name, value in self.header["counters"].items():
            setattr(model, name, value)
        if getattr(model, "replay_buffer", None) is not None:
            fill_buffer(model.replay_buffer, self.tensors, self.header["buffer"])
        self.tensors = {}
        model.set_random_seed((self.run["seed"] + self.steps) % 2**32)

    def save(self, model: Any, seconds: float, is_point: bool) -> None:
        """Write the model first and the state last: until that is complete, the state before it holds."""
        before, self.steps, self.seconds = self.steps, int(model.num_timesteps), seconds
        archive = io.BytesIO()
        model.save(archive)
        write_atomically(archive.getvalue(), self.path(self.steps))
        if is_point:
            self.points.append(Point(self.steps, seconds, self.path(self.steps)))
        buffer = getattr(model, "replay_buffer", None)
        tensors, numbers = buffer_tensors(buffer) if buffer is not None and self.steps < self.run["steps"] else ({}, {})
        counters = {name: getattr(model, name) for name in COUNTERS if hasattr(model, name)}
        points = [(point.steps, point.seconds) for point in self.points]
        header = {"run": self.run, "steps": self.steps, "seconds": seconds, "points": points, "counters": counters}
        write_tensors(tensors, {**header, "buffer": numbers}, self.folder / STATE_FILE)
        if before != self.steps and before not in {point.steps for point in self.points}:
            self.path(before).unlink(missing_ok=True)


COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")


class _Watch(BaseCallback):
    """Saves the run at its points, every few minutes, and at Ctrl-C, and keeps the time of training alone."""

    def __init__(self, saved: _Saved, points: np.ndarray, interrupted: Any, update: Any) -> None:
        super().__init__()
        self.saved, self.interrupted, self.update = saved, interrupted, update
        self.due = [point for point in points if point > saved.steps]

    def _on_training_start(self) -> None:
        self.resumed = self.last = time.perf_counter()

    def _on_step(self) -> bool:
        self.update(self.num_timesteps)
        reached = bool(self.due) and self.num_timesteps >= self.due[0] and len(self.due) > 1
        if reached or self.interrupted() or time.perf_counter() - self.last > 60 * MINUTES:
            self._save(reached)
        return not self.interrupted()

    def _on_training_end(self) -> None:
        if not self.interrupted():
            self._save(True)

    def _save(self, is_point: bool) -> None:
        if is_point:
            self.due = [point for point in self.due if point > self.num_timesteps]
        seconds = self.saved.seconds + time.perf_counter() - self.resumed
        self.saved.save(self.model, seconds, is_point)
        self.resumed = self.last = time.perf_counter()


def _restore_weights(model: Any, path: Path) -> None:
    """Read networks, optimizers and variables of SB3's file, without the pickle among its contents."""
    _, parameters, variables = load_from_zip_file(path, device=model.device, load_data=False)
    model.set_parameters(parameters, device=model.device)
    for name, value in (variables or {}).items():
        if value is not None:
            recursive_setattr(model, f"{name}.data", value.data)


def _algorithm(name: str) -> Any:
    if name != "TQC":
        return getattr(importlib.import_module("stable_baselines3"), name)
    try:
        return importlib.import_module("sb3_contrib").TQC
    except ImportError as error:
        raise ImportError("TQC needs sb3-contrib: pip install 'wm-agents[baselines]'.") from error


def _check_spaces(how: Settings, env_id: str, venv: VecEnv) -> None:
    expected = STATE_KEYS if how.obs_type == "state" else PIXEL_KEYS
    found = set(venv.observation_space.spaces) if isinstance(venv.observation_space, gym.spaces.Dict) else set()
    if found != expected:
        raise ValueError(
            f"{how.algorithm} on {how.obs_type} needs the observations {sorted(expected)}, and {env_id} gives "
            f"{sorted(found) or venv.observation_space}: compare agents that learn from pixels there."
        )
    if "buffer_size" in how.options and not isinstance(venv.action_space, gym.spaces.Box):
        raise ValueError(f"{how.algorithm} takes continuous actions, {env_id} has {venv.action_space}: use ppo.")


def _replay(how: Settings, env_id: str, venv: VecEnv, steps: int) -> dict[str, Any]:
    """Options of the replay buffer: no larger than the run, and learning begins after a whole episode."""
    limit = gym.spec(env_id).max_episode_steps or 0
    usual = how.options["learning_starts"]
    starts = max(limit + 1 if how.hindsight else 1, min(usual, steps // 10))
    if 0 < steps <= starts:
        raise ValueError(f"steps must be more than {starts} here: {how.algorithm} explores that long before it learns.")
    size = max(1, min(how.options["buffer_size"], steps))
    boxes = venv.observation_space.spaces.values()  # type: ignore[attr-defined]
    needed = size * sum(2 * int(np.prod(box.shape)) * box.dtype.itemsize for box in boxes)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else np.inf
    if needed > 0.8 * memory:
        raise ValueError(
            f"a replay buffer of {size:,} transitions takes {needed / 1e9:.0f} GB, and this machine has "
            f"{memory / 1e9:.0f} GB: give fewer steps, or settings with a smaller buffer_size."
        )
    options: dict[str, Any] = {"buffer_size": size, "learning_starts": starts}
    if how.hindsight:
        goals = {"n_sampled_goal": 4, "goal_selection_strategy": "future"}
        options |= {"replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": goals}
    return options
