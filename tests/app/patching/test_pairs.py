"""Pairs of the user's own as they are stored, and the table that they are typed into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app import upload_store
from app.patching import pairs_table
from app.patching.pairs_table import PLACE, PROBLEM, edited_pairs, marks_differ, to_table, without_rows
from app.work.prompts import load_prompts
from app.work.stored_pairs import StoredPairs, fits, load_stored
from workbench.errors import BadInput


def pair(answer: str, wrong: str) -> dict[str, str]:
    return {"clean": "a", "corrupt": "b", "answer": answer, "wrong": wrong}


@pytest.mark.parametrize(
    ("value", "cell"),
    [(" Mary", "·Mary"), ("Mary", "Mary"), ([" a", " an"], "·a|·an"), ("  two", "· two"), ("", "")],
)
def test_a_leading_space_is_a_dot_in_the_table(value: str | list[str], cell: str) -> None:
    assert pairs_table.to_cell(value) == cell and pairs_table.from_cell(cell) == value


def test_only_answers_have_dots() -> None:
    row = {"clean": " a b", "corrupt": "a c", "answer": [" Mary", " Ann"], "wrong": "·odd"}
    pairs = StoredPairs((row,), ("line 2",), "my.csv")
    table = to_table(pairs, [""])
    cells = {"clean": " a b", "corrupt": "a c", "answer": "·Mary|·Ann", "wrong": "·odd"}
    assert table.to_dict("records") == [{PLACE: "line 2", **cells}]
    table.loc[0, ["clean", "answer"]] = "·x|y", "·John"
    # A cell that was not typed into stays as it is in the file: "·odd" is no " odd".
    assert edited_pairs(pairs, table).rows == ({**row, "clean": "·x|y", "answer": " John"},)


def test_the_spaces_of_answers_are_spelt_out() -> None:
    text = pairs_table.spell_answers([pair(" Mary", " John"), pair(" a| an", "the")])
    assert "·Mary over ·John, ·a|·an over the (" in text
    assert pairs_table.count_without_space([pair(" Mary", "·John"), pair(" a| an", "the"), pair(" a|an", " the")]) == 2
    assert pairs_table.spell_answers([]) == ""
    assert "and 3 more" in pairs_table.spell_answers([pair(" Mary", " John")] * (pairs_table.MAX_SPELT + 3))


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(upload_store, "folder", lambda: tmp_path)
    return tmp_path


def of_file(*rows: dict[str, Any]) -> StoredPairs:
    return StoredPairs(rows, tuple(f"line {2 * i}" for i in range(1, len(rows) + 1)), "my.csv")


def typed(table: pd.DataFrame, *rows: dict[str, Any]) -> pd.DataFrame:
    """The table with rows added below, as the editor gives it back."""
    return pd.concat([table, pd.DataFrame(rows, index=range(len(table), len(table) + len(rows)))])


ROWS = (pair(" Mary", " John"), {**pair(" a", " b"), "positions": {"S": [0, 1]}, "options": [" a", " b"]})


def test_rows_come_back_from_the_store_under_the_name_of_their_file() -> None:
    stored = of_file(*ROWS)
    name = stored.save()
    assert load_stored(name) == stored
    pairs = load_prompts({"pairs": name})
    assert (pairs.name, pairs.where) == ("my.csv", ("my.csv line 2", "my.csv line 4"))
    assert StoredPairs(ROWS, stored.lines, "other.csv").save() != name  # the name is part of what the hash stands for
    assert pairs.items[1].positions == {"S": (0, 1)} and pairs.items[1].options == (" a", " b")


@pytest.mark.parametrize(
    "data",
    [b"[]", b"{}", b"nonsense", b'{"rows": [{}], "lines": ["line 1"]}', b'{"rows": [], "lines": [""]}', b"\xff", b"3",
     b'{"rows": [], "lines": [], "unknown": 1}', b'{"rows": 3, "lines": 3}',
     b'{"rows": [{"clean": "\\ud800"}], "lines": [""]}'],
)  # fmt: skip
def test_what_holds_no_pairs_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"The (URL refers to a set of pairs, but|pairs of the URL)"):
        load_stored(upload_store.save(data))


@pytest.mark.parametrize(
    "row",
    [{}, pair("a", "b") | {"clean": 3}, pair("a", "b") | {"answer": []}, pair("a", "b") | {"wrong": [1]},
     pair("\ud800", "b"), pair("a", "b") | {"typo": 1}, pair("a", "b") | {"positions": {"\ud800": [0, 1]}}],
)  # fmt: skip
def test_rows_that_the_table_cannot_hold(row: dict[str, Any]) -> None:
    assert not fits(row) and fits(pair("", "b"))


def test_empty_rows_change_no_pairs() -> None:
    pairs = of_file(*ROWS)
    table = to_table(pairs, ["", ""])
    assert edited_pairs(pairs, table) is pairs
    for empty in (None, "", np.nan):
        assert edited_pairs(pairs, typed(table, dict.fromkeys(table, empty))) is pairs
    blank = of_file(ROWS[0], dict.fromkeys(pairs_table.COLUMNS, ""))  # as a spreadsheet leaves behind
    assert edited_pairs(blank, to_table(blank, ["", "clean is empty"])) is blank
    table.loc[0] = ""
    assert edited_pairs(pairs, table).lines == ("line 4",)  # an emptied row is a removed one


def test_pairs_that_were_typed_into_say_so_and_keep_their_lines() -> None:
    pairs = of_file(*ROWS)
    table = typed(to_table(pairs, ["", ""]), {**pair("·x", "·y"), PLACE: None})
    table.loc[0, "answer"] = "·Anna"
    edited = edited_pairs(pairs, table)
    assert edited.name == "my.csv (edited)" and edited.rows == (pair(" Anna", " John"), ROWS[1], pair(" x", " y"))
    assert edited.where == ("my.csv line 2, edited", "my.csv line 4", "my.csv row 3, typed")
    again = to_table(edited, [""] * 3)
    again.loc[0, "answer"] = "·Paul"
    assert edited_pairs(edited, again).lines[0] == "line 2, edited"
    assert edited_pairs(pairs, to_table(pairs, ["", ""]).drop(index=0)).lines == ("line 4",)


@pytest.mark.parametrize(
    ("cells", "left"),
    [
        ({"corrupt": "x"}, {"options": [" a", " b"], "positions": {"S": [0, 1], "W": "a"}}),
        ({"answer": "·c"}, {"positions": {"S": [0, 1], "W": "a"}}),
        ({"clean": "an"}, {"options": [" a", " b"], "positions": {"W": "a"}}),
        ({"clean": "aa"}, {"options": [" a", " b"], "positions": {}}),
    ],
)
def test_options_and_positions_stay_as_far_as_they_still_fit(cells: dict[str, str], left: dict[str, Any]) -> None:
    pairs = of_file({**ROWS[1], "positions": {"S": [0, 1], "W": "a"}})
    table = to_table(pairs, [""])
    table.loc[0, list(cells)] = list(cells.values())
    (row,) = edited_pairs(pairs, table).rows
    assert {name: row[name] for name in ("options", "positions") if name in row} == left


def test_rows_are_marked_left_out_and_counted_in_the_name() -> None:
    pairs = of_file(*ROWS, pair("", ""))
    table = to_table(pairs, ["", "too long", ""])
    assert table[PLACE].tolist() == ["line 2", "⚠ line 4", "line 6"] and table[PROBLEM].tolist() == ["", "too long", ""]
    left = without_rows(pairs, [2])
    assert (left.name, left.lines) == ("my.csv (1 row left out)", ("line 2", "line 6"))
    assert without_rows(left, [1]).name == "my.csv (2 rows left out)"
    typed_pairs = StoredPairs((pair("a", "b"), pair("", "b")), ("", ""))
    assert typed_pairs.name == "example pairs" and PLACE not in to_table(typed_pairs, ["", ""])
    assert to_table(typed_pairs, ["", "empty"])[PLACE].tolist() == ["row 1", "⚠ row 2"]
    assert without_rows(typed_pairs, [2]).where == ("typed pairs row 1",)


def test_marks_differ_once_a_row_is_mended_but_not_while_one_is_typed() -> None:
    pairs = of_file(*ROWS)
    table = to_table(pairs, ["", "too long"])
    assert not marks_differ(pairs, table, pairs, ["", "too long"]) and marks_differ(pairs, table, pairs, ["", ""])
    begun = typed(table, {"clean": "x"})
    assert not marks_differ(pairs, begun, edited_pairs(pairs, begun), ["", "too long", "corrupt is empty"])
    full = typed(table, pair("x", "y"))
    assert marks_differ(pairs, full, edited_pairs(pairs, full), ["", "too long", "two tokens"])
    assert not marks_differ(pairs, full, edited_pairs(pairs, full), ["", "too long", ""])


@pytest.mark.parametrize(
    ("name", "visible"),
    [
        ("my pairs (2).csv", "my pairs (2).csv"),
        ("<img src=x onerror=alert(1)>.csv", "<img src=x onerror=alert(1)>.csv"),
        ("../../x.csv", "x.csv"),
        (r"C:\Users\me\x.csv", "x.csv"),
        ("a\nb\u202ec\x00.csv", "abc.csv"),
        ("x" * 300 + ".csv", "x" * 40 + "…" + "x" * 15 + ".csv"),
        ("", "file"),
        ("/", "file"),
    ],
)
def test_a_files_name_is_text_of_one_short_line_without_folders(name: str, visible: str) -> None:
    assert upload_store.file_name(name) == visible and len(visible) <= upload_store.MAX_NAME


def test_a_file_is_stored_with_its_name() -> None:
    digest = upload_store.save_file(b"a\nb", "../my.json")
    assert upload_store.load_file(digest) == ("my.json", b"a\nb")
    for data in (b"", b"nonsense", b"[]\n", b'{"no": 1}\n', b"{" * 5000):
        with pytest.raises(BadInput, match="is no file"):
            upload_store.load_file(upload_store.save(data))
