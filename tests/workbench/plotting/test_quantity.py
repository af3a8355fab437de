"""A number with its interval: the statistics behind it, its columns and its words."""

from __future__ import annotations

import re
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import statistics
from workbench.core import Head
from workbench.findings import Quantity, head_columns, summary_table

VALUES = np.array([0.1, 0.5, 0.4, 0.9, 0.2, 0.7])


def test_each_kind_has_the_interval_of_the_statistics() -> None:
    assert astuple(Quantity.mean(VALUES))[1:] == pytest.approx(statistics.mean_interval(VALUES))
    ratio = Quantity.ratio(VALUES, 2 + VALUES)
    assert ratio.value == VALUES.mean() / (2 + VALUES).mean() and ratio.low < ratio.value < ratio.high
    assert np.isnan(astuple(Quantity.ratio(VALUES, VALUES - VALUES.mean()))).all()  # the denominator may be 0
    share = Quantity.proportion(np.array([1, 0, 1, 1]))
    assert share.value == 0.75 and astuple(share)[1:] == pytest.approx(statistics.proportion_interval(3, 4))


def test_it_is_written_without_a_negative_zero_and_says_what_is_missing() -> None:
    assert f"{Quantity(-0.001, -0.2, 0.1)}" == "0.00 [-0.20, 0.10]"
    assert f"{Quantity(-0.0001, -0.2, 0.1):+.3f}" == "+0.000 [-0.200, +0.100]"
    assert str(Quantity(0.5)) == "0.50 (no interval)" and str(Quantity(float("nan"))) == "no value"


def test_an_interval_that_excludes_0_is_seen_to() -> None:
    assert f"{Quantity(0.004, 0.0012, 0.009)}" == "0.004 [0.001, 0.009]"
    assert f"{Quantity(-0.3, -0.5, -0.00004):+.2f}" == "-0.30000 [-0.50000, -0.00004]"
    assert f"{Quantity(0.004, 0, 0.009)}" == "0.00 [0.00, 0.01]"  # it holds 0
    assert f"{Quantity(1e-12, 1e-13, 1e-11)}" == "0.000000 [0.000000, 0.000000]"  # there is an end to it


@given(value=st.floats(-1, 1), down=st.floats(0, 1), up=st.floats(0, 1), scale=st.sampled_from([1, 1e-2, 1e-4]))
def test_written_numbers_stand_in_the_order_of_the_numbers(value: float, down: float, up: float, scale: float) -> None:
    quantity = Quantity(value * scale, (value - down) * scale, (value + up) * scale)
    written, low, high = (float(number) for number in re.findall(r"-?\d+\.\d+", str(quantity)))
    assert low <= written <= high
    if min(abs(quantity.low), abs(quantity.high)) > 1e-6:
        assert (low > 0 or high < 0) == (quantity.low > 0 or quantity.high < 0)


def test_the_columns_of_tables() -> None:
    quantity = Quantity(0.5, 0.4, 0.6)
    assert quantity.columns("share", "") == {"share": 0.5, "low": 0.4, "high": 0.6}
    table = summary_table({"gain": quantity, "best control": 0.1}, 20)
    assert list(table.columns) == ["quantity", "value", "low", "high", "n"] and set(table["n"]) == {20}
    assert list(summary_table({"accuracy": 0.5}, 20).columns) == ["quantity", "value", "n"]
    assert head_columns(Head(9, 6)) == {"layer": 9, "index": 6, "head": "9.6"}
