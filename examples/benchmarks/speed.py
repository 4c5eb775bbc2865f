"""Regenerate the speed table of docs/benchmarks.md: decisions, plans, training and data, measured in one run.

Expect about a minute. Numbers depend on the machine and its load; ratios within a run depend less on them.

    OMP_NUM_THREADS=1 python examples/benchmarks/speed.py
    OMP_NUM_THREADS=2 python examples/benchmarks/speed.py
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch

import wm_agents
from wm_agents import datasets, train_world_model
from wm_agents.models import LeWMConfig
from wm_agents.training import TrainingConfig

TASK, ENV_ID = "pointmaze-umaze", "wm/PointMaze-UMaze-v0"


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call, after one warm-up."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    print(f"torch threads: {torch.get_num_threads()}")
    env = gym.make(ENV_ID)
    observation, _ = env.reset(seed=0)

    amortised = wm_agents.load(f"{TASK}/gc-idm")
    _, state = amortised.predict(observation)
    decision = milliseconds(lambda: amortised.predict(observation, state), 300)
    print(f"GC-IDM decision, observation encoded:        {decision:8.2f} ms")
    for precision in ("fp32", "bf16"):
        search = wm_agents.load(
            f"{TASK}/cem", samples=300, elites=30, iterations=30, horizon=5, objective="summed", precision=precision
        )
        plan = milliseconds(lambda agent=search: agent.predict(observation), 10)
        ratio = f"{plan / decision:.0f} decisions"
        print(f"CEM plan, 300 samples x 30 iterations x 5 blocks, {precision}: {plan:6.1f} ms = {ratio}")

    action = env.action_space.sample()
    step = milliseconds(lambda: env.step(action), 1000)
    print(f"environment step with a 64x64 frame:         {1000 / step:8.0f} frames/s")

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        datasets.collect(ENV_ID, episodes=1, steps=50, name="wm/benchmark/warm-up-v0", workers=1, progress=False)
        started = time.perf_counter()
        data = datasets.collect(
            ENV_ID, episodes=20, steps=300, name="wm/benchmark/speed-v0", workers=1, progress=False, overwrite=True
        )
        seconds = time.perf_counter() - started
        print(f"collection, one process, all included:       {data.frames / seconds:8.0f} frames/s")
        rng = np.random.default_rng(0)
        read = milliseconds(lambda: data.windows(256, 4, 5, rng), 30)
        print(f"reading windows:                             {1000 * 256 * 4 / read:8.0f} frames/s")
        for precision in ("fp32", "bf16"):
            training = TrainingConfig(steps=60, evaluate_every=1000, precision=precision)
            started = time.perf_counter()
            train_world_model(data, LeWMConfig(), training, run_dir=f"{folder}/{precision}", progress=False)
            frames = training.steps * training.batch_size * training.frames
            seconds = time.perf_counter() - started
            print(f"world-model training, {precision}, set-up included: {frames / seconds:8.0f} frames/s")
    env.close()


if __name__ == "__main__":
    main()
