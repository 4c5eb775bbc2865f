import math

import numpy as np
import pytest

from wm_agents.evaluation.statistics import (
    holm,
    interquartile_mean,
    mcnemar,
    paired_runs,
    runs_interval,
    stratified_interval,
    summarise,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_matches_published_values(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_wilson_interval_matches_scipy(confidence):
    stats = pytest.importorskip("scipy.stats")
    for n in (1, 7, 200):
        for successes in {0, 1, n // 2, n}:
            interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
            assert wilson_interval(successes, n, confidence) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_wilson_interval_solves_the_score_equation():
    # The definition: the bounds are the proportions whose own standard error puts the observed rate z away.
    low, high = wilson_interval(37, 50)
    for bound in (low, high):
        assert abs(37 / 50 - bound) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / 50), abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 50])
def test_wilson_interval_is_symmetric_and_inside_the_unit_interval(n):
    for successes in range(n + 1):
        low, high = wilson_interval(successes, n)
        mirrored = wilson_interval(n - successes, n)
        assert 0 <= low <= successes / n <= high <= 1
        assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))


@pytest.mark.parametrize(("successes", "n", "confidence"), [(0, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_wilson_interval_refuses_nonsense(successes, n, confidence):
    with pytest.raises(ValueError, match=r"must|needs"):
        wilson_interval(successes, n, confidence)


def test_mcnemar_exact_values():
    first = np.array([True] * 10 + [False] * 2 + [True] * 30)
    second = np.array([False] * 10 + [True] * 2 + [True] * 30)
    # 2 * P(X <= 2), X ~ Binomial(12, 1/2) = 2 * (1 + 12 + 66) / 4096
    assert mcnemar(first, second) == (10, 2, pytest.approx(2 * 79 / 4096))
    assert mcnemar(second, first)[2] == mcnemar(first, second)[2]
    assert mcnemar(first, first) == (0, 0, 1.0)
    assert mcnemar([True, False], [False, True]) == (1, 1, 1.0)
    with pytest.raises(ValueError, match="same tasks"):
        mcnemar([True], [True, False])


def test_summarise():
    summary = summarise(range(1, 102))
    assert summary == {"median": 51.0, "p95": 96.0, "mean": 51.0}
    assert summarise([]) == {"median": None, "p95": None, "mean": None}
    assert all(type(value) is float for value in summary.values())


def test_interquartile_mean_is_that_of_the_middle_half():
    assert interquartile_mean(np.array([[0.0, 0.4], [0.6, 1.0]])) == pytest.approx(0.5)
    assert interquartile_mean(np.array([0.0, 0.2, 0.4, 10.0])) == pytest.approx(0.3)


def test_stratified_interval_draws_the_runs_of_each_set_apart():
    scores = np.array([[0.1, 0.9], [0.3, 0.9], [0.2, 0.9]])
    low, high = stratified_interval(scores)
    assert low < interquartile_mean(scores) < high
    assert high - low < 0.2, "the second set, which does not vary, adds nothing"
    assert stratified_interval(scores) == (low, high), "the same draws every time"
    assert stratified_interval(np.full((3, 2), 0.5)) == (0.5, 0.5)
    with pytest.raises(ValueError, match="at least two runs"):
        stratified_interval(scores[:1])


def test_runs_interval_is_wilsons_for_one_run_and_wider_for_runs_that_differ():
    one = np.arange(40) < 30
    assert runs_interval(one[None]) == wilson_interval(30, 40)
    everything = np.ones((3, 40), bool)
    assert runs_interval(everything) == wilson_interval(40, 40)
    assert runs_interval(~everything) == wilson_interval(0, 40)
    alike = runs_interval(np.stack([one, one, one]))
    differ = runs_interval(np.stack([one, ~one, one]))
    assert alike == pytest.approx(wilson_interval(30, 40), abs=0.03)
    assert differ[1] - differ[0] > 1.5 * (alike[1] - alike[0])


def test_holm_raises_p_values_in_steps_and_keeps_their_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_two_methods_are_compared_over_runs_and_tasks():
    rng = np.random.default_rng(0)
    same = rng.random((3, 200)) < 0.5
    better = same | (rng.random((3, 200)) < 0.3)
    difference, (low, high), p = paired_runs(same, better)
    assert difference == pytest.approx(better.mean() - same.mean())
    assert 0 < low < difference < high
    assert p == pytest.approx(2 / 5001)
    most = wilson_interval(0, 200)[1]
    assert paired_runs(same, same) == (0.0, (-most, most), 1.0)
    reverse = paired_runs(better, same)
    assert (reverse[0], reverse[2]) == (pytest.approx(-difference), p)
    runs = np.zeros((3, 200), bool)
    runs[0] = True  # one run of three solves all: runs differ, so nothing is known
    assert paired_runs(np.zeros((3, 200), bool), runs)[2] > 0.3
    assert paired_runs(np.zeros((1, 200), bool), runs[:1])[2] < 0.01, "one run says nothing of others"
    for wrong in (np.zeros((2, 200)), np.zeros(200)):
        with pytest.raises(ValueError, match="same runs and tasks"):
            paired_runs(same, wrong)


def test_p_values_of_equal_methods_are_rarely_small():
    rng = np.random.default_rng(1)
    found = [paired_runs(*(rng.random((2, 3, 60)) < 0.5), seed=trial)[2] for trial in range(40)]
    assert np.mean(np.array(found) < 0.05) < 0.2
