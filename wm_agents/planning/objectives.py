"""Costs of imagined latents: ``predicted [B, S, H, D], goal [B, D] -> [B, S]``, lower is better."""

from __future__ import annotations

import torch


def terminal(predicted: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Squared distance of the last latent to the goal (LeWorldModel, arXiv 2603.19312).

    With replanning every block its horizon keeps receding: the plan may always arrive later.
    """
    return (predicted[:, :, -1] - goal[:, None]).square().sum(-1)


def summed(predicted: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """Squared distance to the goal, averaged over the horizon: arrive, early, and stay (PLDM, arXiv 2502.14819)."""
    return (predicted - goal[:, None, None]).square().sum(-1).mean(-1)
