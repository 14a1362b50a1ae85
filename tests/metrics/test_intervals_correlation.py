"""Intervals, the randomisation test and correlations: exact cases, and scipy as the oracle."""

import numpy as np
import pytest
from scipy import stats

from nlpkit.errors import DataError
from nlpkit.metrics.correlation import average_ranks, pearson, spearman
from nlpkit.metrics.intervals import bootstrap_mean, paired_randomisation


def test_the_interval_of_a_sample_is_near_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(2.0, 1.0, size=400)
    low, high = bootstrap_mean(values, resamples=4000)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.01)
    assert high == pytest.approx(values.mean() + half, abs=0.01)


def test_the_interval_is_repeatable_and_seeded() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 0.2]
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3, resamples=50) != bootstrap_mean(values, seed=4, resamples=50)


def test_randomisation_counts_all_patterns_of_a_small_sample() -> None:
    # Differences 1, 1, 2, 4: |sum| = 8 is reached by two of sixteen patterns; 1, 1, 2, -4: |sum| 0 by all.
    assert paired_randomisation([1, 1, 2, 4], [0, 0, 0, 0]) == pytest.approx(2 / 16)
    assert paired_randomisation([1, 1, 2, -4], [0, 0, 0, 0]) == 1.0


def test_randomisation_of_a_large_sample_agrees_with_scipy() -> None:
    draw = np.random.default_rng(0)
    a = draw.normal(size=60)
    b = a + draw.normal(0.2, 1.0, size=60)
    theirs = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=5000, rng=0
    )
    assert paired_randomisation(a, b) == pytest.approx(theirs.pvalue, abs=0.02)
    assert paired_randomisation(a, a + 1) < 0.001
    assert paired_randomisation(a, b) == paired_randomisation(b, a)


@pytest.mark.parametrize("seed", range(5))
def test_correlations_equal_scipy(seed: int) -> None:
    draw = np.random.default_rng(seed)
    a, b = draw.integers(8, size=50), draw.normal(size=50)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert average_ranks(a) == pytest.approx(stats.rankdata(a))


def test_edges() -> None:
    assert np.isnan(pearson([1, 1], [1, 2])) and np.isnan(spearman([1, 2], [3, 3]))
    assert pearson([1e-200, 2e-200, 4e-200], [1, 2, 4]) == pytest.approx(1.0)
    for call in (
        lambda: pearson([1], [1]),
        lambda: pearson([1, 2], [1, 2, 3]),
        lambda: bootstrap_mean([]),
        lambda: paired_randomisation([1.0], [1.0, 2.0]),
    ):
        with pytest.raises(DataError):
            call()
