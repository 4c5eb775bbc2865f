"""How much to record and to train in a given number of minutes: measured on the machine, not guessed."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from wm_agents.datasets import TrajectoryDataset
from wm_agents.models import InverseDynamicsConfig, LeWMConfig, StepsToGoalConfig
from wm_agents.recipes import Data, Recipe, Stage
from wm_agents.training import (
    InverseDynamicsTrainingConfig,
    PredictorTrainingConfig,
    StepsToGoalTrainingConfig,
    TemporalDistanceTrainingConfig,
    TrainingConfig,
)
from wm_agents.training.world_model import WorldModelLearner

COLLECTING = 0.25
"""Share of the time that is left after evaluation for recording; the rest trains."""
PARTS = 8
"""The data are recorded in so many parts, or fewer where the machine is slower than it was in the beginning."""
SHARES = {"world-model": 0.45, "predictor": 0.1, "gc-idm": 0.33, "steps-to-goal": 0.06, "temporal-distance": 0.06}
"""What each training gets of that rest."""
COSTS = {"predictor": 0.18, "gc-idm": 0.2, "steps-to-goal": 0.08, "temporal-distance": 0.08}
"""Time of one of their steps, as a share of the world model's: measured on one core, with Reacher-v5 and FetchReach."""
LEAST = 300
"""Steps of each training at least: with fewer nothing is learnt."""
MOST = {"world-model": 6000, "predictor": 4000, "gc-idm": 15_000, "steps-to-goal": 4000, "temporal-distance": 3000}
"""And at most: with more next to nothing is gained."""
PLAN_SECONDS = 0.05
"""Seconds of a CEM plan for one of several environments; a plan is made every action block."""
TEMPERATURES = (0.0, 0.5, 1.0)
"""Of GC-IDM where actions are discrete: the best on development goals is taken, the lowest of equals."""
DEVELOPMENT = 40
"""Development goals that this is decided on, or as many as are held out, where those are fewer."""
GOAL_STEPS = 50
"""How far goals are in tasks of the library."""


@dataclass(frozen=True)
class Budget:
    """What is recorded and trained; made once for a run, and kept with it.

    Attributes:
        episodes: Recorded episodes in a part of the data; parts are recorded until their time is up.
        length: Steps of each.
        reserved: Seconds kept for the evaluation.
        parts: Of the data, at most :data:`PARTS`; 0 until all are there.
        span: Actions in a typical recorded episode: half of them have as many.
        updates: Gradient steps of each stage, by name; empty until the data are there.
        temperature: Of GC-IDM's draw among discrete actions, chosen on development goals; None until then.
    """

    episodes: int
    length: int
    reserved: float
    parts: int = 0
    span: int = 40
    updates: dict[str, int] = dataclasses.field(default_factory=dict)
    temperature: float | None = None


def first(minutes: float, speed: float, tasks: int, goal_steps: int, discrete: bool = False) -> Budget:
    """Return what to record, before anything is known of the training.

    Args:
        minutes: For everything.
        speed: Frames a second in one process.
        tasks: That two agents are evaluated on.
        goal_steps: How far goals are. Episodes are twice as long, and so is the time for a task, of which about six
            tenths are needed.
        discrete: Whether actions are: then GC-IDM is evaluated on development goals, too.
    """
    length = 2 * goal_steps
    steps = 0.6 * tasks * length
    more = len(TEMPERATURES) * min(DEVELOPMENT, tasks) / tasks if discrete else 0.0
    reserved = min((2 + more) * steps / speed + PLAN_SECONDS * steps / 5 + 15, 0.4 * 60 * minutes)
    frames = COLLECTING * (60 * minutes - reserved) * speed * 0.8 * cores()
    episodes = int(min(max(frames / (length + 1) / PARTS, 8), 150))
    return Budget(episodes, length, round(reserved, 1))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_frames(env: gym.Env, seconds: float = 4.0) -> float:
    """Return the frames a second that one process records."""
    task: Any = env.unwrapped
    began, frames, seed = time.perf_counter(), 0, 0
    while time.perf_counter() - began < seconds:
        task.explore(seed) if hasattr(task, "explore") else task.reset(seed=seed)
        task.action_space.seed(seed)
        for _ in range(50):
            _, _, terminated, truncated, _ = task.step(task.action_space.sample())
            frames += 1
            if terminated or truncated:
                break
        frames, seed = frames + 1, seed + 1
    return frames / (time.perf_counter() - began)


def measure_updates(data: TrajectoryDataset, training: TrainingConfig, model: Any) -> float:
    """Return the seconds of one update of a world model."""
    short = dataclasses.replace(training, steps=12, evaluate_every=100)
    moments: list[float] = []
    learner = WorldModelLearner(data, model, short)
    learner.validate = dict  # type: ignore[method-assign] # its time is not an update's
    learner.fit(progress=False, callback=lambda _, step: moments.append(time.perf_counter()))
    return (moments[-1] - moments[2]) / (len(moments) - 3)


def updates(seconds: float, update: float) -> dict[str, int]:
    """Share ``seconds`` of training among the stages, where the world model needs ``update`` seconds for a step."""
    found = {}
    for name, share in SHARES.items():
        steps = int(share * seconds / (update * COSTS.get(name, 1.0)))
        found[name] = min(max(steps, LEAST), MOST[name])
    return found


def training_seconds(steps: dict[str, int], update: float) -> float:
    """Return what these steps of the stages take, where the world model needs ``update`` seconds for a step."""
    return sum(count * update * COSTS.get(name, 1.0) for name, count in steps.items())


def recipe(env_id: str, policy: str, budget: Budget, *, goal_steps: int, discrete: bool, variant: str) -> Recipe:
    """Return how agents of an unknown environment are made.

    CEM starts from GC-IDM's plan, which costs next to nothing: with it and without it, CEM reached 60 and 53 of 100
    development goals of FetchReach-v4, 86 and 85 of Reacher-v5.

    Args:
        env_id: Its id.
        policy: Exploration policy.
        budget: How much of everything.
        goal_steps: How far goals are.
        discrete: Whether actions are; a block is then a single one.
        variant: Sets the data apart from others of the task.
    """
    steps = budget.updates or dict.fromkeys(SHARES, LEAST)
    names = ("main", *(f"more-{part}" for part in range(1, budget.parts)))
    data = {name: Data(policy, budget.episodes, budget.length, seed) for seed, name in enumerate(names)}
    block = 1 if discrete else max(1, min(5, budget.span // 8))
    blocks = max(1, min(8, budget.span // block - 2))
    gc_idm = InverseDynamicsConfig(width=384, max_horizon=goal_steps, lag=block)
    stages = (
        Stage("world-model", LeWMConfig(action_block=block), world_model_training(steps["world-model"])),
        Stage("predictor", training=PredictorTrainingConfig(steps=steps["predictor"], blocks=blocks)),
        Stage("gc-idm", gc_idm, InverseDynamicsTrainingConfig(steps=steps["gc-idm"])),
        Stage(
            "steps-to-goal",
            StepsToGoalConfig(max_steps=2 * goal_steps),
            StepsToGoalTrainingConfig(steps=steps["steps-to-goal"], imagined_blocks=blocks),
        ),
        Stage(
            "temporal-distance",
            training=TemporalDistanceTrainingConfig(steps=steps["temporal-distance"], imagined_blocks=blocks),
        ),
    )
    search: dict[str, Any] = {"horizon": 8, "objective": "temporal-distance", "samples": 100, "elites": 10}
    search |= {"iterations": 6, "proposals": "none" if discrete else "gc-idm"}
    options = {"cem": search} | ({"gc-idm": {"temperature": budget.temperature}} if budget.temperature else {})
    return Recipe(
        env_id,
        data,
        tuple(dataclasses.replace(stage, data=names) for stage in stages),
        options,
        offset="random",
        budget=2 * goal_steps,
        variant=variant,
    )


def world_model_training(steps: int) -> TrainingConfig:
    """Options of a world model's training.

    With the reconstruction of frames: without it, what never changes in an episode, such as a target that each reset
    draws anew, fills the latent, since it is the easiest to predict. On Reacher-v5, after 600 steps, a linear probe
    read the first joint's cosine with an R2 of 0.00 without, and of 0.95 with it.
    """
    weights: Any = {"prediction": 1.0, "sigreg": 0.09, "inverse_dynamics": 1.0, "reconstruction": 1.0}
    return TrainingConfig(steps=steps, loss_weights=weights)
