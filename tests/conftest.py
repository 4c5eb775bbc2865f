"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wm_agents.models import ActionStatistics, InverseDynamics, InverseDynamicsConfig, LeWM, LeWMConfig

# Assertions in helpers say what they compared, too; some helpers are both imported and plugins.
pytest.register_assert_rewrite(*(path.stem for path in (Path(__file__).parent / "helpers").glob("*.py")))
torch.set_num_threads(min(2, torch.get_num_threads()))


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
        defaults = {"image_size": 16, "action_block": 3, "latent_size": 6, "predictor_width": 16,
                    "predictor_depth": 2, "predictor_heads": 2}  # fmt: skip
        config = LeWMConfig(**{**defaults, **shape})
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
