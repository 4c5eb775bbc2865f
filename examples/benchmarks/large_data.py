"""Does training on more data take more memory or time? A world model trains on a small and a large file of frames.

Expect minutes, most of them for writing the frames. Needs as much disk space as --gigabytes says.

    OMP_NUM_THREADS=1 python examples/benchmarks/large_data.py --gigabytes 20

The frames are noise, written straight into a file as the cache of a dataset has them: what they show makes no
difference here. They are read from the disk in the first run with each file, and mostly from the system's cache in the
second. Steps are measured in seconds of this process's CPU time, since other programs take the rest, and of
the clock.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from wm_agents import train_world_model
from wm_agents.datasets import TrajectoryDataset
from wm_agents.training import TrainingConfig

SHAPE, EPISODE = (64, 64, 3), 1001
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in what the system counts memory in


def make(path: Path, gigabytes: float) -> TrajectoryDataset:
    """Write episodes of 1,000 actions, of which every frame is another one."""
    rng = np.random.default_rng(0)
    episodes = max(4, round(gigabytes * 1e9 / (EPISODE * int(np.prod(SHAPE)))))
    episode = rng.integers(0, 256, (EPISODE, *SHAPE), dtype=np.uint8)
    with path.open("wb") as file:
        for index in range(episodes):
            np.roll(episode, 7 * index).tofile(file)
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # so that the first run reads from the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    frames = episodes * EPISODE
    actions = rng.uniform(-1, 1, (frames, 2)).astype(np.float32)
    return TrajectoryDataset(
        name=f"{gigabytes:g} GB",
        env_id="",
        pixels=np.memmap(path, np.uint8, "r", shape=(frames, *SHAPE)),
        actions=actions,
        states=np.zeros((frames, 0)),
        starts=np.arange(episodes) * EPISODE,
        lengths=np.full(episodes, EPISODE - 1),
        action_low=-np.ones(2, np.float32),
        action_high=np.ones(2, np.float32),
        state_names=(),
        provenance={},
        episode_ids=np.arange(episodes),
    )


def measure(data: TrajectoryDataset, steps: int) -> None:
    """Train, and print the median step and the most memory that this process has had."""
    spent: list[tuple[float, float]] = []
    training = TrainingConfig(steps=steps, batch_size=64, frames=4, evaluate_every=steps)
    train_world_model(
        data,
        training=training,
        callback=lambda *_: spent.append((time.process_time(), time.perf_counter())),
        device="cpu",
        progress=False,
    )
    cpu, clock = np.median(np.diff(np.array(spent[1:]), axis=0), axis=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 1e9
    print(f"{data.name:>7}: {1 / cpu:.2f} steps per CPU second, {1 / clock:.2f} per second, peak memory {peak:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--small", type=float, default=0.2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--folder", help="where to write the frames; by default the folder of temporary files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        small = make(Path(folder) / "small.bin", arguments.small)
        large = make(Path(folder) / "large.bin", arguments.gigabytes)
        for data in (small, large, small, large):
            measure(data, arguments.steps)


if __name__ == "__main__":
    main()
