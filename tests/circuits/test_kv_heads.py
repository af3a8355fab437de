"""Tests of roles of key/value heads, against statsmodels and by enumeration; roles by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from circuits.kv_heads.comparison import COMPARED, Compared
from circuits.kv_heads.matched import Matched, advantage, blocks, in_both, is_testable, layers_together
from circuits.kv_heads.roles import largest, mean, roles_of
from workbench.findings import Quantity
from workbench.head_scores.result import HeadScores


def heads(layers: int = 20, per_layer: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise with an effect of the layer and of the sink, and a role that goes with the sink."""
    rng = np.random.default_rng(seed)
    sink = rng.uniform(size=(layers, per_layer))
    role = rng.uniform(size=sink.shape) < 0.8 * sink
    x = rng.normal(size=(layers, 1)) + 2 * sink + 0.3 * rng.normal(size=sink.shape)
    return x, role, sink


def test_the_advantage_is_the_coefficient_of_a_regression_with_a_constant_for_each_layer() -> None:
    x, role, sink = heads()
    layer = np.repeat(np.arange(len(x)), x.shape[1])
    frame = pd.DataFrame({"x": x.ravel(), "role": role.ravel().astype(float), "sink": sink.ravel(), "layer": layer})
    fit = smf.ols("x ~ C(layer) + sink + role", frame).fit()
    assert advantage(x, role, sink, draws=99).advantage.value == pytest.approx(-fit.params["role"], rel=1e-9)


def test_a_role_that_goes_with_the_sink_alone_has_no_advantage_and_a_planted_one_is_found() -> None:
    x, role, sink = heads()
    nothing, planted = (advantage(y, role, sink, tests=3) for y in (-x, x - 0.5 * role))
    assert nothing.p_value > 0.05 and nothing.advantage.low < 0 < nothing.advantage.high
    # Without the sink the same heads would seem to have one.
    assert advantage(-x, role, np.zeros_like(sink)).p_value < 0.05
    assert planted.p_value < 0.001 and planted.advantage.low > 0 and planted.advantage.value > planted.null_95
    assert planted.advantage.low < 0.5 < planted.advantage.high


def test_p_values_are_uniform_where_there_is_no_advantage() -> None:
    p = []
    for seed in range(200):
        x, role, sink = heads(10, 3, seed)
        p.append(advantage(x, role, sink, draws=199, seed=seed).p_value)
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.10
    assert 0.4 < np.mean(p) < 0.6


def test_intervals_hold_the_planted_value_as_often_as_they_say() -> None:
    inside = []
    for seed in range(200):
        x, role, sink = heads(15, 3, seed)
        interval = advantage(x - 0.4 * role, role, sink, draws=199, seed=seed).advantage
        inside.append(interval.low <= 0.4)
    assert 0.89 <= np.mean(inside) <= 0.99


def test_the_null_against_all_permutations_within_layers() -> None:
    x = np.array([[0.0, 1.0, 5.0], [2.0, 2.5, 9.0]])
    role = np.array([[True, False, False], [True, False, False]])
    result = advantage(x, role, np.zeros_like(x), draws=9999)
    assert result.advantage.value == pytest.approx(np.mean([3.0 - 0.0, 5.75 - 2.0]))
    values = [
        np.mean([(sum(a) - a[0]) / 2 - a[0], (sum(b) - b[0]) / 2 - b[0]])
        for a in permutations(x[0])
        for b in permutations(x[1])
    ]
    assert result.p_value == pytest.approx(np.mean(np.array(values) >= result.advantage.value - 1e-9), abs=0.01)


def test_a_layer_with_one_key_value_head_has_nobody_to_compare_with() -> None:
    x = np.arange(5.0)[:, None]
    role = np.ones((5, 1), dtype=bool)
    assert in_both(role) == (0, 0) and not is_testable(role)
    result = advantage(x, role, x)
    assert np.isnan(result.advantage.value) and np.isnan(result.p_value)


def test_layers_with_few_key_value_heads_are_taken_together() -> None:
    assert [layers_together(n) for n in (1, 2, 3, 12)] == [3, 2, 1, 1]
    assert blocks(np.arange(7)[:, None]).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert blocks(np.arange(8).reshape(4, 2)).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert blocks(np.arange(6).reshape(2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_query_heads_are_grouped_as_they_share_keys() -> None:
    values = np.array([[1.0, 2.0, 3.0, 8.0]])
    assert largest(values, 2).tolist() == [[2.0, 8.0]]
    assert mean(values, 2).tolist() == [[1.5, 5.5]]


def test_roles_by_hand() -> None:
    shape = (2, 50)
    names = ("previous_token", "induction", "direct_logit_attribution", "ioi_copy", "ioi_copy_negative")
    values = {name: np.zeros(shape) for name in names}
    values["previous_token"][0, 3], values["induction"][1, 8] = 0.4, 0.3
    values["direct_logit_attribution"][1, [0, 2, 4, 6]] = 3.0, -2.0, 1.0, 1.0
    values["ioi_copy"][1, [0, 4, 8]] = 0.9, 0.4, 0.9  # 4 copies too seldom, 8 writes nothing
    values["ioi_copy_negative"][1, 2] = 0.5
    samples = {"direct_logit_attribution": np.stack([values["direct_logit_attribution"]] * 6)}
    samples["direct_logit_attribution"][:, 1, 4] *= [1, -1, 1, -1, 1, -1]
    roles = roles_of(HeadScores(values, samples, {}, {}, {}, pd.DataFrame()), 25)
    assert {role: np.argwhere(has).tolist() for role, has in roles.items()} == {
        "previous-token": [[0, 1]],
        "induction": [],  # 0.3 is not above 0.3
        "mover": [[1, 0], [1, 1]],
    }


def compared(value: float, low: float, null: float, p: float) -> Compared:
    return Compared("mover", next(iter(COMPARED)), "novel", Matched(Quantity(value, low, 2), null, p, 5, 9), p)


def test_the_verdict_of_each_comparison() -> None:
    assert compared(1.0, 0.2, 0.5, 0.01).verdict == "supported"
    assert compared(1.0, -0.2, 0.5, 0.06).verdict == "not supported"
    assert compared(1.0, 0.2, 0.5, 0.06).verdict == "undecided"
    assert compared(np.nan, np.nan, np.nan, np.nan).verdict == "not tested"
