"""Numbers that describe a cloud of latents, whatever they mean."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import spearmanr

from wm_agents.losses.sigreg import SIGReg
from wm_agents.types import LatentBatch

DIRECTIONS = 256
"""Random directions along which normality is measured."""


def eigenvalues(z: np.ndarray) -> np.ndarray:
    """Eigenvalues ``[F]`` of the covariance of features ``z [M, F]``, the largest first."""
    if z.shape[1] > 2 * len(z):  # the other eigenvalues are 0, and the covariance of tokens may not fit in memory
        singular = np.linalg.svd(z.astype(np.float64) - z.mean(axis=0), compute_uv=False)
        return np.pad(np.square(singular) / (len(z) - 1), (0, z.shape[1] - len(z)))
    found = np.linalg.eigvalsh(np.cov(z.astype(np.float64), rowvar=False).reshape(z.shape[1], z.shape[1]))
    return np.maximum(found[::-1], 0.0)


def effective_dimension(values: np.ndarray) -> float:
    """Participation ratio of eigenvalues, ``(sum)^2 / sum of squares``: between 1 and their number; 0 if all are 0."""
    squares = float(np.square(values).sum())
    return float(values.sum() ** 2 / squares) if squares > 0 else 0.0


def normality(z: np.ndarray, rng: np.random.Generator) -> float:
    """How far from Gaussian features ``z [M, F]`` are, on average over random directions.

    The Epps-Pulley statistic of :class:`wm_agents.losses.SIGReg` on projections with mean 0 and variance 1, as a
    multiple of what a Gaussian cloud of the same size gives: 1 is Gaussian, and larger is farther from it.
    """
    directions = rng.normal(size=(z.shape[1], DIRECTIONS))
    cloud = rng.normal(size=(len(z), DIRECTIONS))
    return _epps_pulley(z @ (directions / np.linalg.norm(directions, axis=0))) / _epps_pulley(cloud)


def _epps_pulley(projected: np.ndarray) -> float:
    """Mean of the statistic over the columns of ``projected [M, n]``, each standardised."""
    standard = (projected - projected.mean(axis=0)) / np.maximum(projected.std(axis=0), 1e-12)
    columns = torch.from_numpy(standard.astype(np.float32)).unsqueeze(-1)  # SIGReg's times, of one dimension
    empty = torch.zeros(0)
    return float(SIGReg(directions=1)(LatentBatch(columns, empty, empty, empty, torch.Generator().manual_seed(0))))


def uniformity(z: np.ndarray, rng: np.random.Generator, pairs: int = 20_000) -> float:
    """Log of the mean of ``exp(-2 |x - y|^2)`` over pairs of features of length 1; 0 is one point, less is more spread.

    Source: Wang and Isola, arXiv 2005.10242.
    """
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    one, other = rng.integers(len(z), size=(2, pairs))
    apart = np.square(unit[one] - unit[other]).sum(axis=1)[one != other]
    return float(np.log(np.exp(-2 * apart).mean()))


def straightness(z: np.ndarray) -> float:
    """Mean cosine of successive steps of paths ``z [N, T, F]``: 1 is straight, 0 a random walk in many dimensions.

    Source: Temporal Straightening, arXiv 2603.12231.
    """
    steps = np.diff(z.astype(np.float64), axis=1)
    lengths = np.linalg.norm(steps, axis=-1)
    moved = (lengths[:, 1:] > 1e-6) & (lengths[:, :-1] > 1e-6)
    cosines = (steps[:, 1:] * steps[:, :-1]).sum(-1) / np.maximum(lengths[:, 1:] * lengths[:, :-1], 1e-12)
    return float(cosines[moved].mean()) if moved.any() else 0.0


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's rank correlation; None where one of the two does not vary."""
    if not np.ptp(one) or not np.ptp(other):
        return None
    return float(spearmanr(one, other).statistic)
