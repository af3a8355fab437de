"""Statistics against scipy, closed forms and the cases that must not crash."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from workbench import statistics


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_sign_flips_enumerate_all_as_scipy_does_on_one_cell(rng):
    delta = rng.normal(0.4, 1, (1, 9))
    p, smallest = statistics.sign_flip_max_p(delta)
    expected = stats.permutation_test((delta[0],), np.mean, permutation_type="samples", n_resamples=10**6).pvalue
    assert p[0] == pytest.approx(expected, abs=1e-12)
    assert smallest == 2 / 2**9


def test_random_sign_flips_agree_with_scipy_and_count_the_observed_one(rng):
    delta = rng.normal(0.3, 1, (1, 40))
    p, smallest = statistics.sign_flip_max_p(delta, draws=9999)
    expected = stats.permutation_test(
        (delta[0],), np.mean, permutation_type="samples", n_resamples=99_999, rng=1
    ).pvalue
    assert p[0] == pytest.approx(expected, abs=4 * float(np.sqrt(expected / 9999)))
    assert smallest == 1 / 10_000
    assert statistics.sign_flip_max_p(np.ones((1, 40)))[0][0] == smallest


def test_sign_flips_hold_the_family_wise_error(rng):
    """Over 200 null sweeps of 50 cells the smallest p is below 5 % in about 5 % of them; without correction in most."""
    smallest = [statistics.sign_flip_max_p(rng.normal(size=(50, 10)), draws=1024)[0].min() for _ in range(200)]
    assert np.mean(np.array(smallest) <= 0.05) == pytest.approx(0.05, abs=0.05)


def test_a_strong_head_does_not_hide_a_weak_one(rng):
    delta = np.stack([rng.normal(100, 30, 20), rng.normal(0.1, 0.03, 20), rng.normal(0, 1, 20)])
    p, _ = statistics.sign_flip_max_p(delta)
    assert p[1] < 0.001 < 0.05 < p[2]


def test_blank_and_zero_cells_take_no_part(rng):
    delta = rng.normal(0.5, 1, (3, 12))
    alone, _ = statistics.sign_flip_max_p(delta)
    more, _ = statistics.sign_flip_max_p(np.vstack([delta, np.full((1, 12), np.nan), np.zeros((1, 12))]))
    np.testing.assert_array_equal(more[:3], alone)
    assert np.isnan(more[3]) and more[4] == 1


def test_ratio_interval_is_scipys_paired_percentile_bootstrap(rng):
    gap = rng.normal(2, 0.5, 60)
    delta = 0.4 * gap + rng.normal(0, 0.1, 60)
    interval = statistics.ratio_interval(delta[None], gap, resamples=4000)

    def ratio(d, g, axis):
        return d.mean(axis) / g.mean(axis)

    reference = stats.bootstrap(
        (delta, gap), ratio, paired=True, vectorized=True, method="percentile", n_resamples=4000, rng=3
    )
    width = interval.high[0] - interval.low[0]
    assert interval.low[0] == pytest.approx(reference.confidence_interval.low, abs=0.06 * width)
    assert interval.high[0] == pytest.approx(reference.confidence_interval.high, abs=0.06 * width)
    # Resampling the two apart would be much wider: the pairs move together.
    apart = np.array([rng.choice(delta, 60).mean() / rng.choice(gap, 60).mean() for _ in range(2000)])
    assert width < 0.6 * np.diff(np.quantile(apart, [0.025, 0.975]))[0]


def test_intervals_do_not_depend_on_the_other_cells(rng, monkeypatch):
    values, gap = rng.normal(size=(7, 3, 20)), rng.normal(3, 1, 20)
    whole = statistics.ratio_interval(values, gap)
    monkeypatch.setattr(statistics, "ROWS", 4)
    np.testing.assert_allclose(statistics.ratio_interval(values, gap).low, whole.low, rtol=1e-12)
    one, all_ = statistics.mean_interval(values[2, 1]), statistics.mean_interval(values)
    np.testing.assert_allclose(one, [all_.low[2, 1], all_.high[2, 1]], rtol=1e-12)


def test_mean_interval_covers_the_mean(rng):
    covered = []
    for _ in range(200):
        low, high = statistics.mean_interval(rng.normal(1, 2, 50), resamples=400)
        covered.append(low <= 1 <= high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_a_gap_that_may_be_zero_gives_no_ratio(rng):
    result = statistics.ratio_interval(rng.normal(size=(2, 20)), rng.normal(0, 1, 20))
    assert result.gap_holds_zero and result.gap_low < 0 < result.gap_high
    assert np.isnan(result.low).all() and np.isnan(result.high).all()


def test_one_example_gives_no_interval_and_no_error():
    assert np.isnan(statistics.mean_interval(np.ones((3, 1)))).all()
    assert np.isnan(statistics.ratio_interval(np.ones((3, 1)), np.ones(1)).low).all()
    p, smallest = statistics.sign_flip_max_p(np.ones((3, 1)))
    assert (p == 1).all() and smallest == 1


def test_wilson_and_spearman(rng):
    low, high = statistics.proportion_interval(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson's formula by hand
    x = np.append(np.arange(30.0), np.nan)
    result = statistics.spearman(x, x**3)
    assert (result.rho, result.n) == (pytest.approx(1), 30)
    assert np.isnan(statistics.spearman(x, np.ones(31)).rho)
    noisy = x + rng.normal(0, 10, 31)
    result = statistics.spearman(x, noisy)
    assert result.rho == pytest.approx(stats.spearmanr(x[:30], noisy[:30])[0]) and result.low < result.rho < result.high


def test_top_percent_keeps_at_least_one():
    assert [statistics.top_count(p, 270) for p in (1, 2, 5, 10)] == [3, 5, 14, 27]
    assert [statistics.top_count(p, 72) for p in (1, 2)] == [1, 1]
