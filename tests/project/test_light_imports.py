"""Recorded data need no simulator: nothing that trains on them, or acts, imports one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("mujoco", "dm_control", "pygame", "pymunk", "ogbench", "gymnasium_robotics", "gym_pusht", "OpenGL", "glfw")

IMPORTS = """
import wm_agents
import wm_agents.cli
from wm_agents import GCIDM, MPC, HierarchicalMPC, checkpoint, datasets, evaluation, losses, models, planning, training
"""

TRAINING = """
import numpy as np
from wm_agents import GCIDM, datasets, load, train_world_model
from wm_agents.training import InverseDynamicsTrainingConfig, TrainingConfig
rng = np.random.default_rng(0)
images = [rng.integers(0, 256, (31, 16, 16, 3), dtype=np.uint8) for _ in range(3)]
actions = [rng.uniform(-1, 1, (30, 2)) for _ in range(3)]
data = datasets.from_episodes(images, actions, name="my/own-v0", image_size=16, progress=False)
model, _ = train_world_model(data, training=TrainingConfig(steps=2, batch_size=8), progress=False)
agent = GCIDM(model).fit(data, training=InverseDynamicsTrainingConfig(steps=2, batch_size=8))
agent.save("agent.safetensors")
load("agent.safetensors").predict({"pixels": images[0][0], "goal_pixels": images[0][9]})
"""


@pytest.mark.parametrize("code", [IMPORTS, TRAINING], ids=["imports", "training"])
def test_no_simulator_is_imported(code: str, tmp_path: Path) -> None:
    check = f"import sys\nfound = [name for name in {HEAVY!r} if name in sys.modules]\nassert not found, found\n"
    environment = {**os.environ, "MINARI_DATASETS_PATH": str(tmp_path / "minari"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code + check],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
