"""Error through a network, an outlier value, the sign error, critical numbers of pairs: laws against simulations, and
the measuring code against plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from probes.memory import critical, laws
from probes.memory.draws import draw, keys_of, pieces
from probes.memory.outlier import outlier_errors
from probes.memory.propagation import chain_errors, head_errors, noisy_query_errors


def agree(samples: np.ndarray, law: list[float]) -> None:
    """Within 2 % or 3.5 standard errors: of all that are compared here none should fail by chance."""
    error = samples.std(1, ddof=1) / math.sqrt(samples.shape[1])
    tolerance = np.maximum(0.02 * np.asarray(law), 3.5 * error)
    assert (np.abs(samples.mean(1) - law) <= tolerance).all(), (samples.mean(1), law, error)


def test_noise_in_the_query() -> None:
    lengths = (0.0, 0.5, 2.0)
    agree(noisy_query_errors(24, 16, lengths, 500, 1), [laws.noisy_query_mse(24, 16, s) for s in lengths])


@pytest.mark.parametrize(("n", "d"), [(8, 32), (32, 32)])
def test_a_chain_multiplies_its_errors_exactly(n: int, d: int) -> None:
    """The law is exact in expectation: also where n is not small beside d."""
    agree(chain_errors(n, d, 3, 2000, 1), [laws.chain_mse(n, d, layers) for layers in (1, 2, 3)])


def test_a_chain_is_the_product_of_the_gram_matrices() -> None:
    n, d = 5, 7
    codes = draw(keys_of("random"), range(1), 3 * n, d, 1, 4)[0][0].double().numpy().reshape(3, n, d)
    grams = [codes[layer] @ codes[layer].T for layer in (0, 1)]
    read = codes[2].T @ grams[1] @ grams[0]  # [d, item]
    expected = np.square(read - codes[2].T).sum(0).mean()
    assert chain_errors(n, d, 2, 1, 4)[1, 0] == pytest.approx(expected, rel=1e-5)


def test_heads_lower_the_error_to_a_floor() -> None:
    errors = head_errors(16, 32, 8, (1, 3, 9), 400, 1)
    agree(errors, [laws.heads_mse(16, 32, 8, heads) for heads in (1, 3, 9)])
    assert laws.heads_mse(16, 32, 8, 10**6) == pytest.approx(laws.hebbian_mse(16, 32), rel=1e-4)
    assert laws.heads_mse(16, 32, 8, 4) == pytest.approx(laws.heads_mse(16, 32, 16, 2))  # twice as many, half as large


@pytest.mark.parametrize(
    ("rule", "law"),
    [
        ("hebbian", lambda n, d, c: laws.hebbian_outlier_mse(n, d, c)),
        ("delta", lambda n, d, c: laws.delta_outlier_mse(n, d, c, 1.0)),
        ("delta(beta=0.4)", lambda n, d, c: laws.delta_outlier_mse(n, d, c, 0.4)),
    ],
)
def test_the_law_of_an_outlier_value(rule: str, law) -> None:
    lengths = (1.0, 5.0, 20.0)
    agree(outlier_errors(rule, 12, 16, lengths, 3000, 1), [law(12, 16, c) for c in lengths])


def test_an_outlier_value_is_nothing_to_a_rule_with_a_limit_and_everything_to_the_others() -> None:
    """Another simulation has .301, .316 and .316 with a limit, .486, 2.06 and 14.4 without."""
    limited = outlier_errors("yaad(delta=1.5)", 32, 64, (1.0, 10.0, 30.0), 200, 0).mean(1)
    assert limited == pytest.approx([0.301, 0.316, 0.316], abs=0.008)
    assert [laws.hebbian_outlier_mse(32, 64, c) for c in (1, 10, 30)] == pytest.approx([0.484, 2.03, 14.53], rel=2e-3)
    assert [laws.delta_outlier_mse(32, 64, c, 1.0) for c in (1, 10, 30)] == pytest.approx([0.303, 1.85, 14.2], rel=0.02)


@pytest.mark.parametrize(("n", "d"), [(3, 8), (6, 16), (32, 16)])
def test_the_exact_sign_error(n: int, d: int) -> None:
    """Against cosines drawn from their density: (1 + u)/2 has a beta distribution."""
    half = (d - 1) / 2
    cosines = 2 * stats.beta(half, half).rvs((400_000, n - 1), random_state=n) - 1
    share = (cosines.sum(1) > 1).mean()
    error = math.sqrt(share * (1 - share) / 400_000)
    exact = laws.hebbian_sign_error_exact(n, d)
    assert abs(exact - share) < 3.5 * error
    if (n, d) == (3, 8):  # where the normal approximation is seen to be one
        assert abs(laws.hebbian_sign_error(n, d) - share) > 4 * error
    assert laws.hebbian_sign_error_exact(64, 64) == pytest.approx(laws.hebbian_sign_error(64, 64), rel=2e-3)
    assert laws.hebbian_sign_error_exact(2, d) == 0


def test_pairs_up_to_a_worst_case_by_hand() -> None:
    d, limit = 16, 0.5
    pairs = critical.worst_case_pairs(d, limit, 5, 3)
    k = draw(keys_of("random"), range(5), 80, d, 1, 3)[0].numpy()
    for trial, count in enumerate(pairs.astype(int)):
        talk = np.abs(k[trial, 1:] @ k[trial, 0])
        assert talk[:count].sum() >= limit > talk[: count - 1].sum()
    assert critical.worst_case_law(64, 0.5) == pytest.approx(5.01, abs=0.005)


def test_where_a_curve_reaches_a_limit() -> None:
    values = np.array([0.1, 0.4, 0.8])
    assert critical.crossing([10, 20, 30], values, 0.6) == pytest.approx(25)
    assert critical.crossing([10, 20, 30], 1 - values, 0.75) == pytest.approx(15)
    assert math.isnan(critical.crossing([10, 20, 30], values, 0.9))
    samples = np.array([[0.0, 0.2], [0.3, 0.5], [0.7, 0.9]])
    pairs, resampled = critical.crossings([10, 20, 30], samples, 0.6, 50, 0)
    assert pairs == pytest.approx(25) and set(resampled.round(2)) == {22.5, 25.0, 27.5}


def test_pairs_with_half_of_the_items_right() -> None:
    assert critical.argmax_scaling(64) == pytest.approx(349.7, abs=0.1)
    n = critical.argmax_law(32, 0.5)
    assert laws.hebbian_argmax(n, 32, 32) == pytest.approx(0.5)


def test_trials_in_pieces() -> None:
    assert [list(piece) for piece in pieces(5, 3, together=6)] == [[0, 1], [2, 3], [4]]
    assert [list(piece) for piece in pieces(2, 100, together=6)] == [[0], [1]]
