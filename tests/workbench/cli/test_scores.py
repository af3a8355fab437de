"""`workbench scores`: what it writes into files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import workbench as wb


def test_heads_of_a_csv_are_no_numbers(run, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    code, _, _ = run("scores", "--model", "tiny", "--n", "2", "--no-random", "--out", str(out))
    table = pd.read_csv(out)
    assert code == 0 and len(table) == 16
    heads = [wb.Head(layer, head) for layer in (0, 1) for head in range(8)]
    assert table["name"].tolist() == [f"L{head.layer}H{head.index}" for head in heads]
    assert [wb.Head(*place) for place in table[["layer", "head"]].itertuples(index=False)] == heads
    partners = [column for column in table if column.endswith("_with")]
    assert partners
    for column in partners:
        assert {wb.Head.parse(name) for name in table[column].dropna()} <= set(heads), column
        assert not pd.api.types.is_numeric_dtype(table[column].dropna()), column
