"""Fixtures that several test files share, the threads of the test processes, and which tests are slow."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wm_agents.models import ActionStatistics, InverseDynamics, InverseDynamicsConfig, LeWM, LeWMConfig

# Assertions in helpers say what they compared, too; some helpers are both imported and plugins.
pytest.register_assert_rewrite(*(path.stem for path in (Path(__file__).parent / "helpers").glob("*.py")))

SLOW = Path(__file__).parent / "slow.txt"


def slow_tests() -> set[tuple[str, str]]:
    """The rows of slow.txt as (file, test); the test is empty where the whole file is slow."""
    rows = set()
    for line in SLOW.read_text(encoding="utf-8").splitlines():
        row = line.partition("#")[0].strip()
        if not row:
            continue
        file, _, test = row.partition("::")
        path = SLOW.parent / file
        if not path.is_file() or (test and f"def {test}(" not in path.read_text(encoding="utf-8")):
            raise pytest.UsageError(f"tests/slow.txt lists {row}, which does not exist: correct or remove that line.")
        rows.add((file, test))
    return rows


def pytest_configure(config: pytest.Config) -> None:
    """Share the cores among the test processes, and refuse a list of slow tests that is out of date.

    Two processes that each use all cores are several times slower. One process takes two at most: the networks of the
    tests are tiny. The environment variable is for what the tests start, the other test processes among it.
    """
    slow_tests()
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT") or config.getoption("numprocesses") or 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(2, cores // processes, torch.get_num_threads()))
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow.txt."""
    slow = slow_tests()
    for item in items:
        file, test = os.path.relpath(item.path, SLOW.parent), item.name.partition("[")[0]
        if (file, "") in slow or (file, test) in slow:
            item.add_marker(pytest.mark.slow)


def shake(network: torch.nn.Module, seed: int) -> None:
    """Move every weight and BatchNorm average off its initial value, which hides bugs behind zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean += 0.1 * torch.randn(module.running_mean.shape, generator=generator)
                module.running_var *= 0.5 + torch.rand(module.running_var.shape, generator=generator)


@pytest.fixture(scope="session")
def world_model() -> Callable[..., LeWM]:
    """Factory of tiny world models with random weights, in evaluation mode: ``world_model(history=3, ...)``.

    ``shaken=False`` leaves the weights as the constructor makes them; other keywords are the config's.
    """

    def make(*, seed: int = 0, shaken: bool = True, **shape: Any) -> LeWM:
        sizes = {"image_size": 16, "action_block": 3, "latent_size": 6}
        predictor = {"predictor_width": 16, "predictor_depth": 2, "predictor_heads": 2}
        config = LeWMConfig(**{**sizes, **predictor, **shape})
        size = config.action_size
        torch.manual_seed(seed)
        model = LeWM(
            config,
            ActionStatistics(
                low=np.linspace(-1.0, -0.5, size),
                high=np.linspace(0.5, 2.0, size),
                mean=np.linspace(-0.1, 0.2, size),
                std=np.linspace(0.3, 0.7, size),
            ),
        )
        if shaken:
            shake(model, seed)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def inverse_dynamics() -> Callable[..., InverseDynamics]:
    """Factory of tiny inverse dynamics models that fit ``world_model``'s latents, in evaluation mode."""

    def make(*, seed: int = 0, shaken: bool = True, **shape: Any) -> InverseDynamics:
        torch.manual_seed(seed)
        model = InverseDynamics(InverseDynamicsConfig(**{"latent_size": 6, "width": 16, **shape}))
        if shaken:
            shake(model, seed)
        return model.eval()

    return make
