"""Random models, prompts and calls against plain hooks; `make families RANDOM_CASES=300` compares more."""

from __future__ import annotations

from hypothesis import HealthCheck, given, note, settings

from tests.families.random_cases import TRAITS, Case, cases
from tests.families.random_check import check
from tests.families.random_not_yet import is_not_yet


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(case=cases(tuple(TRAITS)).filter(lambda case: not is_not_yet(case)))
def test_a_random_model_is_exact_or_refused(case: Case) -> None:
    cell = check(case)
    note(f"{case}: {cell}")
    assert cell.state != "wrong"
    assert not cell.text.startswith("the oracle fails")
