"""Overlap of circuits against closed forms and against drawing the null by hand."""

from __future__ import annotations

import numpy as np
import pytest

from circuits import overlap
from workbench.core import Head
from workbench.errors import UsageError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def heads(*texts: str) -> frozenset[Head]:
    return frozenset(map(Head.parse, texts))


A, B = heads("0.1", "0.2", "3.4", "3.5", "3.6"), heads("0.1", "3.4", "3.5", "5.0")


def test_indices():
    assert overlap.jaccard(A, B) == 3 / 6
    assert overlap.overlap_coefficient(A, B) == 3 / 4
    assert overlap.jaccard(A, A) == 1
    assert np.isnan(overlap.jaccard(heads(), heads())) and np.isnan(overlap.overlap_coefficient(A, heads()))


def test_the_exact_null_is_the_permutation_null(rng):
    null = overlap.layer_matched_null(A, B, n_heads=8)

    def redrawn(circuit):
        layers = [head.layer for head in circuit]
        return {(at, i) for at in set(layers) for i in rng.choice(8, layers.count(at), replace=False)}

    indices = np.array([overlap.jaccard(redrawn(A), redrawn(B)) for _ in range(4000)])
    assert null.mean == pytest.approx(indices.mean(), abs=4 * indices.std() / 4000**0.5)
    assert null.p_value == pytest.approx((indices >= 0.5).mean(), abs=0.01)
    assert np.mean(indices <= null.percentile95) >= 0.94 > np.mean(indices < null.percentile95)


def test_the_null_of_one_layer_in_closed_form():
    same = heads("2.0", "2.1")
    null = overlap.layer_matched_null(same, same, n_heads=4)
    assert null.p_value == pytest.approx(1 / 6)  # one of the 6 pairs of 4 heads
    assert null.mean == pytest.approx(1 / 6 * 1 + 4 / 6 * (1 / 3))
    assert overlap.layer_matched_null(heads("0.0"), heads("1.0"), 4) == overlap.Null(0, 0, 1)


def test_random_sets_overlap_by_chance_as_k_over_two_minus_k(rng):
    total, chosen, expected = 4000, 400, 0.1 / (2 - 0.1)
    indices = [overlap.jaccard(*(set(rng.choice(total, chosen, replace=False)) for _ in "ab")) for _ in range(50)]
    assert np.mean(indices) == pytest.approx(expected, rel=0.05)
    one_layer = frozenset(Head(0, i) for i in range(chosen))
    assert overlap.layer_matched_null(one_layer, one_layer, total).mean == pytest.approx(expected, rel=0.01)


def test_a_head_outside_the_model_is_refused():
    with pytest.raises(UsageError, match=r"3\.6"):
        overlap.layer_matched_null(A, B, n_heads=6)


def scores(rng: np.random.Generator, strong: list[tuple[int, int]], noise: float, n: int = 30) -> np.ndarray:
    made = rng.normal(0, noise, (6, 8, n))
    for sign, (layer, head) in enumerate(strong):
        made[layer, head] += (-1) ** sign
    return made


def test_top_heads_rank_by_magnitude_and_leave_blanks_out(rng):
    stage = scores(rng, [(1, 2), (3, 3)], noise=0.01)
    stage[1, 2] *= 2
    stage[4:] = np.nan
    assert overlap.top_heads(stage, 4) == (Head(1, 2), Head(3, 3))  # 4 % of 48 is 2
    assert len(overlap.top_heads(stage, 100)) == 32


def test_bootstrap_is_certain_without_noise_and_spread_with_it(rng):
    for noise, certain in ((0.01, True), (3.0, False)):
        tasks = {t: {"logits": scores(rng, [(1, 2), (3, 3)], noise)} for t in ("a", "b")}
        resampled = overlap.bootstrap_jaccard(tasks, percent=4, resamples=200)[("a", "b")]
        low, high = overlap.interval(resampled)
        assert (low == high == 1) == certain, (noise, low, high)
    again = overlap.bootstrap_jaccard(tasks, percent=4, resamples=200)[("a", "b")]
    np.testing.assert_array_equal(again, resampled)


def test_resamples_follow_the_drawn_prompts(rng):
    """A head that is strong on a few prompts only is chosen in the share of resamples that a direct draw gives."""
    stage = np.zeros((1, 50, 20))
    stage[0, 0, :2], stage[0, 1] = 1.0, 0.12
    mask = overlap.stage_masks({"logits": stage}, percent=2, resamples=2000)["logits"]
    expected = np.mean(rng.binomial(20, 0.1, 20_000) / 20 > 0.12)
    assert mask[0, 0].mean() == pytest.approx(expected, abs=0.04)
    assert (mask.sum(axis=(0, 1)) == 1).all()


def test_only_common_stages_count(rng):
    near, far = scores(rng, [(1, 2), (3, 3)], 0.01), scores(rng, [(0, 0), (5, 5)], 0.01)
    tasks = {"a": {"logits": near, "earlier": far}, "b": {"logits": near}, "c": {"query": near}}
    rows = {(r["task_a"], r["task_b"]): r for r in overlap.overlap_rows(tasks, percent=4, resamples=50)}
    ab, ac = rows["a", "b"], rows["a", "c"]
    assert (ab["shared"], ab["union"], ab["jaccard"], ab["low"], ab["high"]) == (2, 2, 1, 1, 1)
    assert ab["p_value"] == pytest.approx(1 / 64) and 0 < ab["null"] < ab["null_95"] < 1
    assert ac["union"] == 0 and np.isnan(ac["jaccard"]) and np.isnan(ac["low"]) and ac["stages"] == ""


def test_one_example_gives_no_interval(rng):
    tasks = {t: {"logits": scores(rng, [(1, 2)], 0.01, n=1)} for t in ("a", "b")}
    (row,) = overlap.overlap_rows(tasks, percent=2, resamples=20)
    assert row["jaccard"] == 1 and np.isnan(row["low"]) and row["n_a"] == 1


def test_group_means_use_the_same_resamples():
    resampled = {("a", "b"): np.array([0.0, 1.0]), ("a", "c"): np.array([1.0, 0.0])}
    np.testing.assert_array_equal(overlap.group_mean(resampled, list(resampled)), [0.5, 0.5])
