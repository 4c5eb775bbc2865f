"""The statistics of a comparison: intervals, a paired test, how good probabilities are, summaries of timings."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.stats import binomtest, bootstrap, rankdata, trim_mean


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a binomial proportion, without continuity correction.

    Args:
        successes: Number of successes, in ``[0, n]``.
        n: Number of trials, at least 1.
        confidence: Two-sided confidence level, in (0, 1).

    Returns:
        ``(low, high)``, fractions inside [0, 1].

    Raises:
        ValueError: An argument is outside its range.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if n < 1:
        raise ValueError(f"an interval needs at least one trial, got n={n}.")
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in [0, {n}], got {successes}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}.")
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Compare two agents on the same tasks with the exact McNemar test.

    Args:
        first: bool ``[N]``, which tasks the first agent solved.
        second: bool ``[N]``, the same tasks, the second agent.

    Returns:
        Tasks that only the first solved, tasks that only the second solved, and the two-sided p-value of the
        hypothesis that both are equally likely (1 when they never disagree).

    Raises:
        ValueError: The two arrays differ in shape.

    Source: Q. McNemar, Psychometrika 12 (1947), with the exact binomial tail instead of the chi-square one.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"a paired test needs the same tasks, got shapes {first.shape} and {second.shape}.")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    n = only_first + only_second
    return only_first, only_second, float(binomtest(only_first, n).pvalue) if n else 1.0


def interquartile_mean(scores: np.ndarray) -> float:
    """Return the mean of the middle half of all scores, here rates of success by run and set of tasks.

    Source: R. Agarwal et al., "Deep RL at the edge of the statistical precipice" (arXiv 2108.13264).
    """
    return float(trim_mean(np.asarray(scores, dtype=np.float64).ravel(), 0.25))


def stratified_interval(scores: np.ndarray, *, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the interval of the interquartile mean over training runs, from a stratified bootstrap.

    Args:
        scores: ``[runs, sets of tasks]``, at least two runs. The runs of each set are drawn apart from those of others.
        confidence: Two-sided confidence level, in (0, 1).
        seed: Of the draws.

    Raises:
        ValueError: There are fewer than two runs.

    Source: as :func:`interquartile_mean`.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or len(scores) < 2:
        raise ValueError(f"an interval over runs needs scores [runs, sets] of at least two runs, got {scores.shape}.")
    if (scores == scores[0]).all():  # nothing varies between runs; scipy's bootstrap would warn
        return interquartile_mean(scores), interquartile_mean(scores)

    def middle(*sets: np.ndarray, axis: int = -1) -> np.ndarray:
        return trim_mean(np.concatenate(sets, axis=axis), 0.25, axis=axis)

    found = bootstrap(
        tuple(scores.T), middle, confidence_level=confidence, method="percentile", n_resamples=10_000, rng=seed
    ).confidence_interval
    return float(found.low), float(found.high)


def runs_interval(solved: np.ndarray, *, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the interval of a rate of success over training runs and tasks, from a bootstrap at two levels.

    Runs are drawn first, then tasks, which all runs share. One run has its Wilson interval, which tells nothing of
    others. So have runs that solved all tasks or none: a bootstrap of these has no width.

    Args:
        solved: bool ``[runs, tasks]``.
        confidence: Two-sided confidence level, in (0, 1).
        seed: Of the draws.
    """
    solved = np.asarray(solved, dtype=bool)
    runs, tasks = solved.shape
    if runs == 1 or solved.all() or not solved.any():
        return wilson_interval(int(solved[0].sum()), tasks, confidence)
    rng = np.random.default_rng(seed)
    means = [solved[np.ix_(rng.integers(runs, size=runs), rng.integers(tasks, size=tasks))].mean() for _ in range(5000)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def paired_runs(
    first: np.ndarray, second: np.ndarray, *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, tuple[float, float], float]:
    """Compare two methods by several training runs of each, on the same tasks, with a bootstrap at two levels.

    Runs are drawn first, the same ones of both methods, then tasks, as :func:`runs_interval` does. Few runs make the
    interval too narrow and the p-value too small; one run says nothing of others. Methods that never disagree have the
    Wilson interval of disagreements, to both sides.

    Args:
        first: bool ``[runs, tasks]``.
        second: The same of the other method.
        confidence: Two-sided confidence level, in (0, 1).
        seed: Of the draws.

    Returns:
        The difference of the rates of success, second minus first; its interval; and the two-sided p-value of no
        difference: twice the part of draws on the other side of 0 (1 when the two never disagree).

    Raises:
        ValueError: The two arrays differ in shape, or are not ``[runs, tasks]``.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise ValueError(f"a paired test needs the same runs and tasks, got shapes {first.shape} and {second.shape}.")
    differences = second.astype(np.float64) - first
    if not differences.any():  # a bootstrap has no width here; how often they would disagree is not known to be 0
        most = wilson_interval(0, first.shape[1], confidence)[1]
        return 0.0, (-most, most), 1.0
    rng, (runs, tasks) = np.random.default_rng(seed), differences.shape
    drawn_runs, drawn_tasks = (rng.multinomial(n, np.full(n, 1 / n), 5000) for n in (runs, tasks))  # how often each
    draws = ((drawn_runs @ differences) * drawn_tasks).sum(axis=1) / differences.size
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    beyond = 1 + min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return float(differences.mean()), (float(low), float(high)), min(1.0, 2 * beyond / (1 + len(draws)))


def holm(p_values: Iterable[float]) -> list[float]:
    """Return p-values corrected for the number of tests, in their order.

    Rejecting those below a level keeps the chance of any wrong rejection below it (S. Holm, Scandinavian Journal of
    Statistics 6, 1979).
    """
    given = np.asarray(list(p_values), dtype=np.float64)
    order, corrected = np.argsort(given, kind="stable"), np.empty(len(given))
    raised = given[order] * (len(given) - np.arange(len(given)))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return [float(value) for value in corrected]


def summarise(values: Iterable[float]) -> dict[str, float | None]:
    """Return ``median``, ``p95`` (linear interpolation) and ``mean``; each is None when there is no value."""
    data = np.asarray(list(values), dtype=np.float64)
    if data.size == 0:
        return {"median": None, "p95": None, "mean": None}
    return {"median": float(np.median(data)), "p95": float(np.percentile(data, 95)), "mean": float(data.mean())}


def calibration_error(predicted: np.ndarray, solved: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error of probabilities, with bins of equal mass.

    Rows are sorted by probability and split into ``bins`` parts of nearly equal size; the error is the mean over rows
    of the distance between the part's mean probability and its rate of success. Even perfect probabilities have one,
    of about ``0.8 * sqrt(p * (1 - p) * bins / n)``.

    Args:
        predicted: Probabilities ``[N]``.
        solved: bool ``[N]``.
        bins: At most N are used.

    Raises:
        ValueError: No rows, arrays of different length, or numbers that are no probabilities.
    """
    predicted, solved = _checked_probabilities(predicted, solved)
    order = np.argsort(predicted, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return float(sum(abs(float((predicted[part] - solved[part]).sum())) for part in parts) / len(order))


def auroc(predicted: np.ndarray, solved: np.ndarray) -> float | None:
    """Return the probability that a solved task was given a higher one than an unsolved task, ties counting half.

    None where all tasks ended alike. Arguments and errors as in :func:`calibration_error`.
    """
    predicted, solved = _checked_probabilities(predicted, solved)
    won = int(solved.sum())
    lost = len(solved) - won
    if not won or not lost:
        return None
    return float((rankdata(predicted)[solved].sum() - won * (won + 1) / 2) / (won * lost))


def brier_score(predicted: np.ndarray, solved: np.ndarray) -> float:
    """Return the mean squared difference of probability and outcome; see :func:`calibration_error`."""
    predicted, solved = _checked_probabilities(predicted, solved)
    return float(np.square(predicted - solved).mean())


def probability_scores(predicted: np.ndarray, solved: np.ndarray) -> dict[str, float | None]:
    """Return how good probabilities are: means of both, and the three measures above, by name.

    Arguments and errors as in :func:`calibration_error`.
    """
    return {
        "predicted": float(np.mean(predicted)),
        "solved": float(np.mean(solved)),
        "ece": calibration_error(predicted, solved),
        "auroc": auroc(predicted, solved),
        "brier": brier_score(predicted, solved),
    }


def _checked_probabilities(predicted: np.ndarray, solved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, solved = np.asarray(predicted, dtype=np.float64), np.asarray(solved, dtype=bool)
    if predicted.ndim != 1 or predicted.shape != solved.shape or not len(predicted):
        raise ValueError(f"one probability for each outcome is needed, got shapes {predicted.shape}, {solved.shape}.")
    if not ((predicted >= 0) & (predicted <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1].")
    return predicted, solved
