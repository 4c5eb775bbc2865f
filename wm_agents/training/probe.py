"""What latents hold: their spread, and how much of the simulator's state linear and MLP probes read off them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

FOLDS = 5
"""Networks of an MLP probe. Each is stopped by another fifth of the episodes, and their predictions are averaged."""
HIDDEN, BATCH, LEARNING_RATE, EPOCHS = 128, 256, 3e-3, 100
"""Width of both hidden layers, rows of a batch, learning rate of AdamW, and epochs at most."""
PATIENCE, GAIN = 5, 0.02
"""Epochs that a network may go on in which no variable's validation error falls by this fraction."""
WIDE, COMPONENTS = 1024, 256
"""Features beyond which an MLP probe sees only the largest principal components, and how many of them."""


def is_velocity(name: str) -> bool:
    """Whether a variable of the state is a velocity, by its name: ``v_...``, or vx, vy, vz."""
    return name.startswith("v_") or name in ("vx", "vy", "vz")


def is_angle(name: str) -> bool:
    """Whether a variable of the state is an angle in rad, by its name: ``..._angle``, or angle."""
    return (name == "angle" or name.endswith("_angle")) and not is_velocity(name)


def probe_targets(states: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Replace each angle by its sine and cosine, which have no jump at a full turn.

    Args:
        states: ``[M, S]``.
        names: S names.

    Returns:
        ``[M, S']`` and S' names.
    """
    columns: list[np.ndarray] = []
    targets: list[str] = []
    for name, column in zip(names, states.T, strict=True):
        turns = is_angle(name)
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
    return _r2(y @ weights, test_states)


def mlp_probe_r2(
    train_z: torch.Tensor,
    train_states: np.ndarray,
    test_z: torch.Tensor,
    test_states: np.ndarray,
    episodes: np.ndarray,
    seed: int = 0,
) -> np.ndarray:
    """Fit states from latents by networks with two hidden layers, return R2 on other data, per state dimension.

    Each of five networks learns from four fifths of the episodes. For each state dimension, it predicts as it did in
    the epoch with the lowest error on the last fifth; if it never beat the mean there, it predicts the mean. So an MLP
    finds nothing in noise. The average of the five predicts better than one network where there are few episodes.

    Args:
        train_z: ``[M, D]`` of mean 0 and variance 1, as :func:`standardized` returns them.
        train_states: ``[M, S]``, standardized as well.
        test_z: ``[L, D]``.
        test_states: ``[L, S]``.
        episodes: ``[M]``: the episode of each row. With fewer than five, the fifths are stretches of rows.
        seed: Seed of the fifths, the networks and the batches; the same one gives the same result.

    Returns:
        ``[S]``: 1 is perfect, 0 no better than the mean. A dimension that does not vary gives 0.
    """
    rng = np.random.default_rng(seed)
    if len(np.unique(episodes)) < FOLDS:
        episodes = np.arange(len(train_z)) * FOLDS // len(train_z)
    parts = np.array_split(rng.permutation(np.unique(episodes)), FOLDS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        z, held = (part.detach().cpu().float() for part in (train_z, test_z))
        if z.shape[1] > WIDE:
            axes = torch.pca_lowrank(z, q=min(COMPONENTS, len(z)), center=False)[2]
            z, held = ((part @ axes) / (z @ axes).std() for part in (z, held))
        states = torch.from_numpy(train_states).float()
        predicted = [_fit_mlp(z, states, held, torch.from_numpy(np.isin(episodes, part))) for part in parts]
    return _r2(torch.stack(predicted).double().mean(dim=0).numpy(), test_states)


def _fit_mlp(z: torch.Tensor, states: torch.Tensor, test_z: torch.Tensor, validation: torch.Tensor) -> torch.Tensor:
    """Train one network on the rows outside of ``validation [M]``; return what it predicts, ``[L, S]``."""
    out = nn.Linear(HIDDEN, states.shape[1])
    network = nn.Sequential(nn.Linear(z.shape[1], HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), out)
    nn.init.zeros_(out.weight)
    nn.init.zeros_(out.bias)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, fused=True)
    fit, fit_states, checked, checked_states = z[~validation], states[~validation], z[validation], states[validation]
    best = checked_states.square().mean(dim=0)
    predicted, since = torch.zeros(len(test_z), states.shape[1]), 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(fit)).split(BATCH):
            loss = (network(fit[rows]) - fit_states[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            error = (network(checked) - checked_states).square().mean(dim=0)
            better = error < best
            if better.any():
                predicted[:, better] = network(test_z)[:, better]
        since = 0 if (error < (1 - GAIN) * best).any() else since + 1
        best = torch.minimum(best, error)
        if since == PATIENCE:
            break
    return predicted


def standardized(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale columns of ``train [M, D]`` to mean 0 and variance 1, and ``test [L, D]`` in the same way.

    A column that does not vary in ``train`` becomes 0 in both.
    """
    mean, std = train.mean(axis=0), train.std(axis=0)
    varies = std > 1e-6 * np.abs(mean)  # what is smaller is the rounding of float32
    scale = np.where(varies, 1 / np.where(varies, std, 1), 0).astype(train.dtype)
    return (train - mean) * scale, (test - mean) * scale


def _r2(predicted: np.ndarray, states: np.ndarray) -> np.ndarray:
    """R2 ``[S]`` of predictions ``[L, S]`` of states ``[L, S]``; 0 for a dimension that does not vary."""
    error = np.square(states - predicted).sum(axis=0)
    total = np.square(states - states.mean(axis=0)).sum(axis=0)
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
    positions = [value for name, value in r2.items() if not is_velocity(name)]
    found = {f"probe/{name}": float(value) for name, value in r2.items()}
    return found | {"probe/position": float(np.median(positions))}  # median: some entries hardly vary
