"""Models with operators that keep a state: sweeps, which resume from it, are what plain hooks give in full forwards."""

from __future__ import annotations

import pytest

from tests.oracle import test_swapped_models

OPERATORS = (
    "linear",
    "linear(feature=relu, normalised=False)",
    "block-linear(block=3, rotary=numerator)",
    "delta",
    "gated-delta",
    "recurrent-chunks(chunk=3)",
)


@pytest.mark.parametrize("operator", OPERATORS)
def test_sweeps_are_what_plain_hooks_give(operator: str) -> None:
    test_swapped_models.test_sweeps_are_what_plain_hooks_give("llama", operator, "z")
