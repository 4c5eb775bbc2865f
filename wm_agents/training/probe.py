"""What latents hold: their spread, and how much of the simulator's state a linear probe reads off them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def probe_targets(states: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Replace each angle (named ``..._angle``) by its sine and cosine, which have no jump at a full turn.

    Args:
        states: ``[M, S]``.
        names: S names.

    Returns:
        ``[M, S']`` and S' names.
    """
    columns: list[np.ndarray] = []
    targets: list[str] = []
    for name, column in zip(names, states.T, strict=True):
        turns = name.endswith("_angle") and not name.startswith("v")
        columns += [np.sin(column), np.cos(column)] if turns else [column]
        targets += [f"{name}_sin", f"{name}_cos"] if turns else [name]
    return np.stack(columns, axis=1), targets


def linear_probe_r2(
    train_z: torch.Tensor, train_states: np.ndarray, test_z: torch.Tensor, test_states: np.ndarray, ridge: float = 1e-3
) -> np.ndarray:
    """Fit states from latents by ridge regression, return R2 on other data, per state dimension.

    Args:
        train_z: ``[M, D]``.
        train_states: ``[M, S]``.
        test_z: ``[L, D]``.
        test_states: ``[L, S]``.
        ridge: Penalty, relative to the number of rows.

    Returns:
        ``[S]``: 1 is perfect, 0 no better than the mean. A dimension that does not vary gives 0.
    """

    def with_bias(z: torch.Tensor) -> np.ndarray:
        values = z.detach().cpu().double().numpy()
        return np.concatenate([values, np.ones((len(values), 1))], axis=1)

    x, y = with_bias(train_z), with_bias(test_z)
    if x.shape[1] > 2 * len(x):  # many more features than rows: the same weights from the smaller matrix
        weights = x.T @ np.linalg.solve(x @ x.T + ridge * len(x) * np.eye(len(x)), train_states)
    else:
        weights = np.linalg.solve(x.T @ x + ridge * len(x) * np.eye(x.shape[1]), x.T @ train_states)
    error = np.square(test_states - y @ weights).sum(axis=0)
    total = np.square(test_states - test_states.mean(axis=0)).sum(axis=0)
    return np.where(total > 1e-9, 1 - error / np.maximum(total, 1e-9), 0.0)


def spread(z: torch.Tensor) -> float:
    """Standard deviation of features ``[B, T, F]``, averaged over the dimensions."""
    return float(z.flatten(0, 1).std(dim=0).mean())


def effective_dimension(z: torch.Tensor) -> float:
    """Participation ratio of features ``[..., F]``: of the eigenvalues of their covariance, (sum)^2 / sum of squares.

    It lies between 1 and F, and counts the directions in which the features vary; 0 if they do not vary.
    """
    rows = z.flatten(0, -2).double()
    if rows.shape[1] > 2 * len(rows):  # the matrix of products of rows has the same eigenvalues, and fits in memory
        centred = rows - rows.mean(dim=0)
        covariance = centred @ centred.T
    else:
        covariance = torch.atleast_2d(torch.cov(rows.T))
    # Without the eigenvalues: their sum and the sum of their squares are traces of C and C^2.
    squares = float(covariance.square().sum())
    return float(covariance.trace()) ** 2 / squares if squares else 0.0


def position_probes(
    train_z: torch.Tensor, train_states: np.ndarray, z: torch.Tensor, states: np.ndarray, names: Sequence[str]
) -> dict[str, float]:
    """R2 of linear probes of the simulator's state, ``probe/NAME`` by its names, and the median ``probe/position``."""
    fit, targets = probe_targets(train_states.reshape(-1, train_states.shape[-1]), names)
    test, _ = probe_targets(states.reshape(-1, states.shape[-1]), names)
    r2 = dict(zip(targets, linear_probe_r2(train_z.flatten(0, 1), fit, z.flatten(0, 1), test), strict=True))
    positions = [value for name, value in r2.items() if not name.startswith("v")]
    found = {f"probe/{name}": float(value) for name, value in r2.items()}
    return found | {"probe/position": float(np.median(positions))}  # median: some entries hardly vary
