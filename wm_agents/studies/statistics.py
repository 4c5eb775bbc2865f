"""Intervals over seeds and rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t distribution with ``freedom`` degrees of freedom, to three digits from 4 degrees on.

    Up to 2 degrees it is exact; beyond, the Cornish-Fisher expansion of Abramowitz and Stegun (1964), 26.7.5.

    Args:
        probability: In (0, 1).
        freedom: At least 1.

    Raises:
        ValueError: An argument is outside its range.
    """
    if not 0 < probability < 1 or freedom < 1:
        raise ValueError(f"a t quantile needs 0 < p < 1 and 1 degree of freedom, got {probability} and {freedom}.")
    if freedom == 1:
        return math.tan(math.pi * (probability - 0.5))
    if freedom == 2:
        return (2 * probability - 1) * math.sqrt(1 / (2 * probability * (1 - probability)))
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Mean of ``values`` and half the width of its t interval.

    Raises:
        ValueError: There are fewer than 2 values.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        raise ValueError(f"an interval needs at least 2 values, got {data.size}.")
    error = data.std(ddof=1) / math.sqrt(data.size)
    return float(data.mean()), float(student_quantile(0.5 + confidence / 2, data.size - 1) * error)


def sign_of_mean(values: Sequence[float] | np.ndarray) -> int:
    """1 if the 95% interval of the mean lies above 0, -1 if below, 0 if it holds 0."""
    mean, half = mean_interval(values)
    return int(mean > half) - int(-mean > half)


def rank_correlation(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation, in [-1, 1]; ties share the mean of their ranks. 0 if all values of one are equal.

    Raises:
        ValueError: The two differ in length, or have fewer than 2 entries.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"a rank correlation needs pairs, at least 2, got {len(first)} and {len(second)} values.")
    one, two = (_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second))
    return float(np.corrcoef(one, two)[0, 1]) if np.ptp(one) and np.ptp(two) else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks ``[N]`` from 0 on."""
    return ((values[:, None] > values).sum(1) + (values[:, None] >= values).sum(1) - 1) / 2
