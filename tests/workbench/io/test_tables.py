"""Heads stay text in CSV files, and a number that rounds to 0 has no sign."""

from __future__ import annotations

import pandas as pd
import pytest

import workbench as wb
from workbench.io.tables import number, read_csv, to_csv, with_places


def test_heads_of_a_csv_file_are_text(tmp_path):
    rows = {"head": ["0.1", "0.10"], "sender": ["1.2", None], "receivers": ["9.6 9.9", "2.10"], "effect": [0.1, 0.10]}
    pd.DataFrame(rows).to_csv(tmp_path / "heads.csv", index=False)
    table = read_csv(tmp_path / "heads.csv")
    assert table["head"].tolist() == ["0.1", "0.10"]
    assert table["sender"].dropna().tolist() == ["1.2"]
    assert table["receivers"].tolist() == ["9.6 9.9", "2.10"] and table["effect"].dtype == float


def test_pandas_reads_heads_as_they_were_written_with_no_options(tmp_path):
    heads = [wb.Head(0, 1), wb.Head(0, 10), wb.Head(12, 3)]
    rows = {"head": map(str, heads), "receivers": ["9.6, 2.10", "", "3.1"], "effect": [0.1, 0.10, 12.3]}
    rows |= {"first_head": ["4.5"] * 3, "note": ["3.5", "4.5", "5.5"]}
    (tmp_path / "heads.csv").write_text(to_csv(with_places(pd.DataFrame(rows))))
    table = pd.read_csv(tmp_path / "heads.csv")
    assert [wb.Head.parse(name) for name in table["head"]] == heads
    assert [wb.Head(*place) for place in table[["layer", "head_index"]].itertuples(index=False)] == heads
    assert table["receivers"].fillna("").tolist() == ["L9H6, L2H10", "", "L3H1"]
    assert set(table["first_head"]) == {"L4H5"}
    assert table["effect"].tolist() == [0.1, 0.1, 12.3] and table["note"].tolist() == [3.5, 4.5, 5.5]


def test_only_a_column_of_heads_has_places():
    some = pd.DataFrame({"head": ["1.2", None]})
    shared = with_places(pd.DataFrame({"head": ["0.kv1"], "head_index": [1]}))
    assert list(with_places(some)) == ["head"] and list(shared) == ["layer", "head", "head_index"]
    of_run = pd.DataFrame({"layer": [0], "index": [1], "head": ["0.1"]})
    assert list(with_places(of_run)) == ["layer", "head_index", "head"]
    assert list(with_places(pd.DataFrame({"head": []}))) == ["head"]


def test_a_table_of_scores_names_its_heads_as_other_tables_do(tmp_path):
    rows = {"layer": [0, 9], "head": [1, 10], "name": ["0.1", "9.10"], "qk_composition_with": ["9.10", ""]}
    (tmp_path / "scores.csv").write_text(to_csv(pd.DataFrame(rows)))
    table = pd.read_csv(tmp_path / "scores.csv")
    assert [wb.Head.parse(name) for name in table["name"]] == [wb.Head(0, 1), wb.Head(9, 10)]
    assert table["head"].tolist() == [1, 10] and table["qk_composition_with"].fillna("").tolist() == ["L9H10", ""]
    assert "9.10" in to_csv(pd.DataFrame({"name": ["9.10"], "value": [1.0]}))  # of bars: no heads


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
