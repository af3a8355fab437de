"""Pairs of the user's own: the table that they are typed into, and the widgets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app import upload_store
from app.patching import pairs_input, pairs_table
from app.work.prompts import load_prompts
from tests.app.patching.driving import rerun, run_sweep, strongest_cells


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
    (table,) = pairs_table.to_table([row])
    assert table == {"clean": " a b", "corrupt": "a c", "answer": "·Mary|·Ann", "wrong": "·odd"}
    (read,) = pairs_table.from_table([{**table, "clean": "·x|y", "wrong": "·John"}])
    assert read == {**row, "clean": "·x|y", "wrong": " John"}


def test_the_spaces_of_answers_are_spelt_out() -> None:
    text = pairs_table.spell_answers([pair(" Mary", " John"), pair(" a| an", "the")])
    assert "·Mary over ·John, ·a|·an over the (" in text
    assert pairs_table.count_without_space([pair(" Mary", "·John"), pair(" a| an", "the"), pair(" a|an", " the")]) == 2
    assert pairs_table.spell_answers([]) == ""
    assert "and 3 more" in pairs_table.spell_answers([pair(" Mary", " John")] * (pairs_table.MAX_SPELT + 3))


def test_rows_come_back_from_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(upload_store, "folder", lambda: tmp_path)
    rows = [pair(" Mary", " John"), {**pair(" a", " b"), "positions": {"S": [1, 2]}}]
    assert pairs_table.load_rows(pairs_table.save_rows(rows)) == rows


def test_empty_rows_change_no_pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(upload_store, "folder", lambda: tmp_path)
    table = pd.DataFrame([dict.fromkeys(pairs_table.COLUMNS, "a"), dict.fromkeys(pairs_table.COLUMNS, "b")])
    for empty in (None, "", np.nan):
        row = pd.DataFrame([dict.fromkeys(pairs_table.COLUMNS, empty)])
        assert pairs_input._save_if_edited("stored", pd.concat([table, row], ignore_index=True), table) == "stored"
    assert pairs_input._save_if_edited("stored", table.head(1), table) != "stored"


def test_own_pairs_are_stored_by_their_hash_and_swept(app: AppTest) -> None:
    app.query_params.update({"source": pairs_input.OWN, "set": "1.2"})
    run_sweep(app)
    name = app.query_params["pairs"]
    assert upload_store.load(name).decode().count("\n") == 2 and len(strongest_cells(app)) == 8
    assert "Faithfulness needs a task" in " ".join(text.value for text in app.caption)
    assert "start-finding" not in [button.key for button in app.button]


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("my.jsonl", b'{"clean": "a"}\n', "line 1"),
        ("my.jsonl", b"\xff\xfe", "UTF-8"),
        ("my.csv", b"clean,corrupt\n", "my.csv"),
    ],
)
def test_an_invalid_pair_file_is_refused_in_one_line(app: AppTest, file: str, data: bytes, message: str) -> None:
    app.query_params["source"] = pairs_input.OWN
    rerun(app).file_uploader(key="pairs-file").set_value((file, data, "text/plain"))
    rerun(app)
    assert len(app.error) == 1 and "\n" not in app.error[0].value
    assert message in app.error[0].value.replace("\\", "")


def test_a_pair_file_keeps_its_positions(app: AppTest) -> None:
    row = {"clean": "Mary and John", "corrupt": "Mary and Paul", "answer": " Mary", "wrong": " John"}
    data = json.dumps({**row, "positions": {"S": [9, 13]}}).encode()
    app.query_params["source"] = pairs_input.OWN
    rerun(app).file_uploader(key="pairs-file").set_value(("my.jsonl", data, "text/plain"))
    name = rerun(rerun(app)).query_params["pairs"]
    assert load_prompts({"pairs": name}).positions == ("S", "end")
