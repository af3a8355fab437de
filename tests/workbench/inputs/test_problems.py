"""Every pair that cannot be used is listed, with its place, its column and the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.errors import BadInput, UsageError
from workbench.patching.notice import EditNotice

GOOD = {"clean": "So Mary met John", "corrupt": "So Anna met John", "answer": " Mary", "wrong": " Anna"}
#: Changes of a pair, and the column that is then at fault for the tiny model.
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"answer": " zzz"}, "answer"),
    ({"wrong": " zzz"}, "wrong"),
    ({"corrupt": "So Anna met"}, "corrupt"),
    ({"options": [" Mary", " Anna", " zzz"]}, "options"),
    ({"clean": "So zzz met John", "corrupt": "So qqq met John"}, "corrupt"),
    ({"clean": " ".join(["So"] * 5000), "corrupt": " ".join(["So"] * 4999) + " Anna"}, "clean"),
]
#: Rows that no model can be asked.
NO_PAIRS: list[tuple[dict[str, Any], str]] = [
    ({"answer": ""}, "answer"),
    ({"clean": 3}, "clean"),
    ({"corrupt": GOOD["clean"]}, "corrupt"),
    ({"wrong": " Mary"}, "wrong"),
    ({"positions": {"S": "nowhere"}}, "positions"),
    ({"typo": 1}, "typo"),
]


def written(folder: Path, changes: list[dict[str, Any]]) -> Path:
    path = folder / "my.jsonl"
    path.write_text("\n\n".join(json.dumps(GOOD | change) for change in changes))  # a pair on every second line
    return path


def test_all_unusable_pairs_are_listed_with_line_column_and_reason(tmp_path: Path) -> None:
    model = wb.load("tiny")
    pairs = wb.read_pairs(written(tmp_path, [change for change, _ in FAULTS]))
    table = wb.check_pairs(model, pairs)
    faults = [(i, column) for i, (_, column) in enumerate(FAULTS, start=1) if column]
    assert list(zip(table.row, table.column, strict=True)) == faults
    assert list(table["where"]) == [f"my.jsonl line {2 * i - 1}" for i, _ in faults]
    for row, where, problem in zip(table.row, table["where"], table.problem, strict=True):  # what a sweep would say
        alone = wb.Pairs((pairs.items[row - 1],), (pairs.where[row - 1],))
        with pytest.raises(BadInput) as refused:
            model.prepare(alone, "task")
        assert str(refused.value) == f"{where}: {problem}"


def test_pairs_that_are_not_listed_can_all_be_swept() -> None:
    model = wb.load("tiny")
    columns: dict[str, Any] = {name: [value] * 2 for name, value in GOOD.items()}
    pairs = wb.pairs(**columns)
    assert wb.check_pairs(model, pairs).empty
    assert wb.sweep(model, pairs, layers=[0]).n == 2


def test_of_a_file_also_the_rows_that_are_no_pairs_are_listed(tmp_path: Path) -> None:
    rows = FAULTS[:2] + NO_PAIRS
    path = written(tmp_path, [change for change, _ in rows])
    table = wb.check_pairs(wb.load("tiny"), path)
    assert list(table.column) == [column for _, column in rows if column]
    for i, problem in zip(table.row[1:], table.problem[1:], strict=True):  # what reading that line says
        with pytest.raises(BadInput) as refused:
            wb.read_pairs(written(tmp_path, [rows[i - 1][0]]))
        assert str(refused.value) == f"my.jsonl line 1: {problem}"
    path.write_text('{"clean": ')
    with pytest.raises(BadInput, match=r"^my\.jsonl line 1: not valid JSON"):
        wb.check_pairs(wb.load("tiny"), path)


def test_a_sweep_names_the_line_of_a_pair_that_it_cannot_measure(tmp_path: Path) -> None:
    longer = {"clean": "So Mary met John and", "corrupt": "So Anna met John and"}
    pairs = wb.read_pairs(written(tmp_path, [{}, {}, longer]))
    model = wb.load("tiny")
    with pytest.warns(EditNotice, match=r"^my\.jsonl line 5 is the only one of 5 positions"):
        wb.sweep(model, pairs, edit="mean")
    with pytest.raises(BadInput, match=r"my\.jsonl line 5 is the only one of 5 positions"):
        wb.sweep(model, pairs, edit="resample")
    with pytest.raises(UsageError, match=r"because my\.jsonl line 1 has 4 positions"):
        wb.sweep(model, pairs, positions=[4])
    assert pairs.inputs(model.tokenizer).of([2]).place(0) == "my.jsonl line 5"


@pytest.mark.parametrize("wrong", [3, [GOOD], None])
def test_something_else_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"pairs=.*: expected pairs, or the path of a pair file"):
        wb.check_pairs(wb.load("tiny"), wrong)
    with pytest.raises(UsageError, match=r"model=3: expected a language model"):
        wb.check_pairs(3, wrong)  # pyright: ignore[reportArgumentType] - no model
