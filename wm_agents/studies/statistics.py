"""Intervals over seeds and rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Mean of ``values`` and half the width of its t interval.

    Raises:
        ValueError: There are fewer than 2 values.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        raise ValueError(f"an interval needs at least 2 values, got {data.size}.")
    error = data.std(ddof=1) / math.sqrt(data.size)
    return float(data.mean()), float(stats.t.ppf(0.5 + confidence / 2, data.size - 1) * error)


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
    if not np.ptp(first) or not np.ptp(second):
        return 0.0
    return float(stats.spearmanr(first, second).statistic)
