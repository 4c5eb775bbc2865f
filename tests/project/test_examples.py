"""Every example runs from start to end, in a process of its own, with small numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RUNS = {
    "quickstart.py": (["--fast"], "gc-idm"),
    "from_videos.py": (["--fast"], "the first action towards frame 30"),
    "evaluate_shipped_agent.py": (["--tasks", "2", "--budget", "20"], "cem"),
    "train_your_own.py": (["--fast"], "random actions"),
    "sb3_vecenv.py": (["--episodes", "2", "--budget", "20"], "episodes finished"),
    "compare_with_sb3.py": (["--fast", "--agents", "gc-idm", "sac-her"], "sac-her"),
    "new_maze.py": (["--fast"], "graph + GC-IDM"),
    "own_task.py": (["--fast"], "random actions"),
    "subgoals.py": (["--task", "pointmaze-umaze", "--tasks", "2", "--budget", "20"], "subgoals were reached"),
    "film_strip.py": (["reacher/gc-idm", "--tasks", "2", "--images", "3"], "wrote film-strip.png"),
    "animate.py": (["reacher/gc-idm"], "wrote animation.webp"),
    "finetune_online.py": (["--fast"], "success before"),
    "use_callbacks.py": (["--fast"], "checkpoints: 2"),
    "record_video.py": (["--tasks", "2", "--budget", "20", "--out", "agent.gif"], "wrote agent.gif"),
}


def run(script: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MINARI_DATASETS_PATH": str(folder / "minari"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_example_is_listed():
    # Those in examples/benchmarks measure for minutes to hours; what they call is tested elsewhere.
    found = {path.name for path in EXAMPLES.glob("*.py")}
    assert found == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_example_runs(name, tmp_path):
    arguments, said = RUNS[name]
    done = run(EXAMPLES / name, *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout


def test_ogbench_is_recorded_trained_and_evaluated(tmp_path):
    pytest.importorskip("ogbench")
    script = EXAMPLES / "benchmarks" / "ogbench_cube.py"
    done = run(script, "all", "single", "--quick", "--workers", "1", "--agents", "gc-idm", "random", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| gc-idm | simplified | 5 |" in done.stdout
    folder = tmp_path / "runs" / "ogbench-quick" / "single"
    assert len(list((folder / "cells").glob("*.json"))) == 2 * 5
    with np.load(folder / "play" / "00000.npz") as stored:
        assert stored["states"].shape == (61, 6 + 5)
        yaw = np.arctan2(stored["states"][:, 4], stored["states"][:, 3]) / 2
        assert np.ptp(yaw) > 0.05, "the gripper turns"
        assert np.abs(stored["actions"][:, 3]).max() > 0.05
        assert stored["qpos"].shape[0] == stored["qvel"].shape[0] == 61


@pytest.mark.parametrize("name", RUNS)
def test_example_is_short_and_says_what_to_expect(name):
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert "Expect" in text.split('"""')[1]
    assert f"python examples/{name}" in text
