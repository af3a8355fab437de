"""`AssociativeMemory` passes scikit-learn's checks, for every rule."""

from __future__ import annotations

import pickle  # noqa: TID251 - joblib's processes are sent estimators
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

from probes.memory.estimator import AssociativeMemory
from probes.memory.memory import Memory
from workbench.errors import UnknownName, UsageError
from workbench.registry import MEMORY_RULES

#: Checks that do not run, with the reason.
NOT_RUN = {"check_array_api_input": "needs SCIPY_ARRAY_API in the environment before scipy is imported"}


@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")  # check_estimator warns of what it does not run
@pytest.mark.parametrize("rule", MEMORY_RULES.names())
def test_it_passes_the_checks_of_scikit_learn(rule: str) -> None:
    results = check_estimator(AssociativeMemory(rule), on_skip=None, on_fail="raise")
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= set(NOT_RUN)
    assert sum(result["status"] == "passed" for result in results) > 40


def data(n: int = 20, d: int = 16, d_value: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, d)), rng.standard_normal((n, d_value))


def test_it_is_the_memory_with_keys_of_length_one() -> None:
    keys, values = data()
    estimator = AssociativeMemory("gated-delta", decay=0.9).fit(keys, values)
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    expected = Memory("gated-delta", decay=0.9).write(unit, values).read(unit).numpy()
    np.testing.assert_allclose(estimator.predict(keys), expected, atol=1e-12)
    raw = AssociativeMemory("hebbian", unit=False).fit(keys, values).predict(keys)
    np.testing.assert_allclose(raw, keys @ keys.T @ values, atol=1e-10)


def test_pairs_are_added_by_partial_fit_and_a_key_of_zeros_reads_nothing() -> None:
    keys, values = data()
    keys[3] = 0
    whole = AssociativeMemory("delta").fit(keys, values)
    pieces = AssociativeMemory("delta").partial_fit(keys[:8], values[:8]).partial_fit(keys[8:], values[8:])
    np.testing.assert_allclose(pieces.predict(keys), whole.predict(keys), atol=1e-12)
    assert not whole.predict(keys[3:4]).any()
    assert whole.fit(keys[:4], values[:4]).predict(keys).shape == (20, 3)  # fit begins anew


def test_score_is_r_squared_and_settings_can_be_searched() -> None:
    keys, values = data(n=16)
    assert AssociativeMemory("pseudo-inverse").fit(keys, values).score(keys, values) == pytest.approx(1)
    search = GridSearchCV(AssociativeMemory("delta"), {"beta": [0.1, 0.5, 1.0]}, cv=2).fit(keys, values)
    assert search.best_params_["beta"] in (0.1, 0.5, 1.0)
    rules = GridSearchCV(AssociativeMemory("delta"), {"rule": ["delta", "softmax", "yaad"]}, cv=2).fit(keys, values)
    assert set(rules.cv_results_["param_rule"]) == {"delta", "softmax", "yaad"}


def test_settings_of_the_rule_are_parameters() -> None:
    estimator = AssociativeMemory("delta(beta=0.3)")
    assert estimator.get_params() == {"rule": "delta(beta=0.3)", "unit": True, "beta": 0.3}
    copy: Any = clone(estimator.set_params(beta=0.7))
    assert copy.get_params()["beta"] == 0.7
    assert copy.set_params(rule="gated-delta").get_params() == {
        **{"rule": "gated-delta", "unit": True},
        **{"beta": 0.5, "decay": 0.98},
    }


def test_another_preset_brings_its_own_settings() -> None:
    copy: Any = clone(AssociativeMemory("yaad"))
    assert copy.get_params()["huber"] == "norm"
    assert copy.set_params(preset="printed").get_params() == AssociativeMemory("yaad", preset="printed").get_params()
    assert copy.set_params(eta=0.7).get_params()["eta"] == 0.7 and copy.get_params()["huber"] == "printed"
    keys, values = data()
    search = GridSearchCV(AssociativeMemory("yaad"), {"preset": ["tuned", "printed"]}, cv=2).fit(keys, values)
    tuned, printed = search.cv_results_["mean_test_score"]
    assert tuned != printed


def test_what_is_not_possible_is_refused_by_fit() -> None:
    keys, values = data()
    with pytest.raises(UnknownName, match="rule='dleta'"):
        AssociativeMemory("dleta").fit(keys, values)
    with pytest.raises(UsageError, match=r"delta\(beta\)=-1"):
        AssociativeMemory("delta").set_params(beta=-1).fit(keys, values)
    with pytest.raises(UsageError, match="unit='yes': expected True or False"):
        AssociativeMemory("delta").set_params(unit="yes").fit(keys, values)
    with pytest.raises(ValueError, match="NaN"):
        AssociativeMemory("delta").fit(np.full((3, 2), np.nan), np.zeros(3))


@pytest.mark.parametrize("rule", MEMORY_RULES.names())
def test_a_written_memory_can_be_sent_to_another_process(rule: str) -> None:
    keys, values = data()
    estimator = AssociativeMemory(rule).fit(keys, values)
    copy = pickle.loads(pickle.dumps(estimator))  # noqa: S301 - of our own
    assert np.array_equal(copy.predict(keys), estimator.predict(keys))
