"""Heads stay text in CSV files, and a number that rounds to 0 has no sign."""

from __future__ import annotations

import pandas as pd
import pytest

from workbench.io.tables import number, read_csv


def test_heads_of_a_csv_file_are_text(tmp_path):
    rows = {"head": ["0.1", "0.10"], "sender": ["1.2", None], "receivers": ["9.6 9.9", "2.10"], "effect": [0.1, 0.10]}
    pd.DataFrame(rows).to_csv(tmp_path / "heads.csv", index=False)
    table = read_csv(tmp_path / "heads.csv")
    assert table["head"].tolist() == ["0.1", "0.10"]
    assert table["sender"].dropna().tolist() == ["1.2"]
    assert table["receivers"].tolist() == ["9.6 9.9", "2.10"] and table["effect"].dtype == float


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (-0.0, ".3g", "0"),
        (0.0, ".3g", "0"),
        (-0.0004, ".3f", "0.000"),
        (-0.0004, ".3g", "-0.0004"),
        (-0.001, ".1%", "-0.1%"),
        (-0.0001, ".1%", "0.0%"),
        (-0.0, ".2e", "0.00e+00"),
        (-1e-10, ".2e", "-1.00e-10"),
        (-10.0, ".0f", "-10"),
        (-1.5, ".3g", "-1.5"),
        (float("nan"), ".3g", "–"),
        (float("-inf"), ".3g", "-inf"),
    ],
)
def test_a_number_that_rounds_to_0_has_no_sign(value, spec, text):
    assert number(value, spec) == text
