"""The cube tasks, one environment each for all tests, and states of them."""

from __future__ import annotations

import numpy as np
import pytest

from wm_agents.envs.cube import Cube, CubeDouble, CubeSingle

pytest.importorskip("ogbench")

SINGLE, DOUBLE = CubeSingle(obs_type="state"), CubeDouble(obs_type="state")
ENVS: dict[str, Cube] = {"single": SINGLE, "double": DOUBLE}
STILL = np.zeros(5)


def start(env: Cube, seed: int = 0) -> np.ndarray:
    return env.sample_state(np.random.default_rng(seed))
