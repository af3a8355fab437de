"""The states of the user's own pairs on the page, each with what is shown, the URL and whether Run is ready."""

from __future__ import annotations

import html
import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import upload_store, url_state
from app.patching import pairs_input
from app.patching.sweep_view import SweepDownload
from app.work.prompts import load_prompts
from app.work.stored_pairs import load_stored
from tests.app.patching.driving import InlineQueue, new_page, rerun, run_sweep, strongest_cells

GOOD = {"clean": "So Mary met John", "corrupt": "So Anna met John", "answer": " Mary", "wrong": " Anna"}
OTHER = {"clean": "So Mark met Lucy", "corrupt": "So Paul met Lucy", "answer": " Mark", "wrong": " Paul"}
#: The tiny model does not know this word.
UNKNOWN = {**GOOD, "answer": " zzz"}


def jsonl(*rows: dict[str, Any]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def upload(app: AppTest, name: str, data: bytes) -> AppTest:
    app.query_params["source"] = pairs_input.OWN
    if not app.file_uploader:
        rerun(app)
    (uploader,) = [x for x in app.file_uploader if (x.key or "").startswith(pairs_input.UPLOAD)]
    uploader.set_value((name, data, "text/plain"))
    return rerun(app)


def edit(app: AppTest, row: int, **cells: str) -> AppTest:
    """Type into cells of a row of the table, as the browser reports it."""
    (editor,) = app.data_editor
    app.session_state[str(editor.key)] = {"edited_rows": {row: cells}, "added_rows": [], "deleted_rows": []}
    return rerun(app)


def can_run(app: AppTest) -> bool:
    return not app.button(key="start-sweeps").disabled


def clean_prompts(app: AppTest) -> list[str]:
    """The clean prompts of the table; none where there is no table."""
    return [] if not app.data_editor else app.data_editor[0].value["clean"].tolist()


def texts(app: AppTest) -> str:
    """Everything that the page says, without the characters that escape Markdown."""
    elements = [*app.markdown, *app.caption, *app.error]
    return " ".join(element.value for element in elements).replace("\\", "")


def test_nothing_uploaded_the_example_is_shown_as_such_and_swept(app: AppTest, queue: InlineQueue) -> None:
    app.query_params.update({"source": pairs_input.OWN, "set": "1.2"})
    run_sweep(app)
    assert "Example pairs" in texts(app) and app.query_params["pairs-name"] == "example pairs"
    assert load_stored(app.query_params["pairs"]).rows == pairs_input._EXAMPLE.rows and len(strongest_cells(app)) == 8
    assert "Faithfulness needs a task" in texts(app) and "start-finding" not in [button.key for button in app.button]
    assert queue.requests[0]["label"] == "sweep of z on example pairs"


def test_typed_pairs_are_called_so(app: AppTest) -> None:
    app.query_params["source"] = pairs_input.OWN
    edit(rerun(app), 0, answer="·Mark", wrong="·Lucy")
    assert "typed pairs" in texts(app) and app.query_params["pairs-name"] == "typed pairs" and can_run(app)
    assert load_prompts({"pairs": app.query_params["pairs"]}).items[0].answer == (" Mark",)


def test_a_usable_file_gives_its_name_to_the_job_the_chart_the_circuit_and_the_code(
    app: AppTest, queue: InlineQueue
) -> None:
    app.query_params.update({"set": "1.2", "head": "1.2"})
    upload(app, "my pairs.jsonl", jsonl(GOOD, OTHER))
    assert clean_prompts(app) == [GOOD["clean"], OTHER["clean"]] and not app.error and "my pairs.jsonl" in texts(app)
    assert app.query_params["pairs-name"] == "my pairs.jsonl"
    rerun(app).button(key="start-sweeps").click()
    rerun(rerun(app))
    assert queue.requests[0]["label"] == "sweep of z on my pairs.jsonl"
    (frame,) = [x for x in app.get("bidi_component") if "my pairs.jsonl" in str(x.proto)]
    assert "n = 2" in str(frame.proto)
    assert any("name='my pairs.jsonl'" in block.value for block in app.code)
    again = new_page()
    again.query_params.update({key: app.query_params[key] for key in ("source", "pairs")} | {"pairs-name": "evil.csv"})
    assert "my pairs.jsonl" in texts(rerun(again)) and again.query_params["pairs-name"] == "my pairs.jsonl"


def test_a_files_name_is_text_in_the_heatmap_over_positions(app: AppTest, queue: InlineQueue) -> None:
    app.query_params["by"] = "position"
    name = "<b>$x^{$ & y.jsonl"
    upload(app, name, jsonl(GOOD))
    rerun(app).button(key="start-sweeps").click()
    rerun(rerun(app))
    (chart,) = [json.loads(x.proto.spec) for x in app.get("plotly_chart") if "sweep-figure" in x.proto.id]
    assert f"tiny · {html.escape(name)} · n = 1" == chart["layout"]["title"]["text"]
    sweep = wb.Sweep.load(next(iter(queue.jobs.values())).path)
    assert SweepDownload(sweep).image("svg").startswith(b"<?xml") and sweep.info["task"] == name


REFUSED = [
    ("my.jsonl", b'{"clean": "a"}\n', "my.jsonl line 1: the field 'corrupt' is missing"),
    ("my.jsonl", jsonl(GOOD) + b"\n\n" + jsonl({**GOOD, "clean": 3}), "my.jsonl line 3: clean is a number"),
    ("my.jsonl", jsonl(GOOD) + b"\n" + jsonl({**GOOD, "positions": {"\ud800": [0, 1]}}), "my.jsonl line 2: half of a"),
    ("my.jsonl", b"\xff\xfe", "my.jsonl line 1: byte 0xff"),
    ("my.jsonl", b"", "my.jsonl: no pairs in it"),
    ("my.csv", b"So Mary met John,So Anna met John, Mary, Anna", "my.csv line 1: expected a header"),
    ("my.csv", b'clean,corrupt,answer,wrong\n"a\nb",c, d, e\nf,"g, h, i', "my.csv line 4: not valid CSV"),
    ("notes.txt", b"text", "notes.txt: expected a file that ends in .jsonl, .json, .csv"),
    ("many.jsonl", jsonl(*[GOOD] * 201), "many.jsonl: 201 pairs, and the limit here is 200"),
    ("<img src=x>.jsonl", b"{", "<img src=x>.jsonl line 1: not valid JSON"),
    ("../../x.csv", b"a", "x.csv line 1: expected a header"),
    ("n" * 300 + ".csv", b"a", "n" * 40 + "…" + "n" * 15 + ".csv line 1: expected a header"),
]


@pytest.mark.parametrize(("name", "data", "reason"), REFUSED, ids=[reason[:40] for *_, reason in REFUSED])
def test_after_a_refused_file_no_other_pairs_stand_under_its_name(
    app: AppTest, name: str, data: bytes, reason: str
) -> None:
    upload(app, "good.jsonl", jsonl(GOOD))
    assert can_run(app)
    upload(app, name, data)
    for _ in range(2):  # it stays so
        (error,) = [error.value.replace("\\", "") for error in app.error]
        assert error.startswith(reason) and "\n" not in error
        assert not app.data_editor and not can_run(app) and "good.jsonl" not in texts(app)
        assert app.button(key="start-sweeps").help.replace("\\", "") == error
        assert "pairs" not in app.query_params and reason.startswith(app.query_params["pairs-name"])
        rerun(app)
    assert "<" not in app.error[0].value.replace("\\<", "")  # Markdown shows it as text


def test_a_refused_file_leaves_by_another_file_by_its_removal_or_by_the_button(app: AppTest) -> None:
    for leave in ("file", "removal", "button"):
        upload(app, "bad.csv", b"a")
        assert not can_run(app)
        (uploader,) = [x for x in app.file_uploader if (x.key or "").startswith(pairs_input.UPLOAD)]
        if leave == "file":
            uploader.set_value(("good.jsonl", jsonl(GOOD), "text/plain"))
        elif leave == "removal":
            uploader.set_value(None)
        else:
            app.button(key="pairs-example").click()
        rerun(app)
        assert can_run(app) and not app.error
        rerun(app)
        assert app.query_params["pairs-name"] == ("good.jsonl" if leave == "file" else "example pairs")
        (uploader,) = [x for x in app.file_uploader if (x.key or "").startswith(pairs_input.UPLOAD)]
        assert (uploader.value is None) == (leave != "file")  # and no file stands over the example


def test_to_replace_a_file_is_one_step_of_the_browsers_history(app: AppTest) -> None:
    """The browser reports that the first is removed, and then the second: the URL changes once."""
    upload(app, "good.jsonl", jsonl(GOOD))
    (uploader,) = [x for x in app.file_uploader if (x.key or "").startswith(pairs_input.UPLOAD)]
    uploader.set_value(None)
    assert "Example pairs" in texts(rerun(app)) and app.query_params["pairs-name"] == "good.jsonl"
    upload(app, "other.jsonl", jsonl(OTHER))
    assert app.query_params["pairs-name"] == "other.jsonl" and clean_prompts(app) == [OTHER["clean"]]


def test_a_link_to_a_refused_or_an_absent_file_shows_no_other_pairs(app: AppTest) -> None:
    app.query_params.update({"source": pairs_input.OWN, "pairs-name": "bad.csv"})
    rerun(app)
    assert not app.data_editor and not can_run(app) and "bad.csv: the URL names this file" in texts(app)
    other = new_page()
    other.query_params.update({"source": pairs_input.OWN, "pairs-name": "my.csv", "pairs": "a" * 64})
    rerun(other)
    assert not other.data_editor and not can_run(other)
    assert "my.csv: The URL refers to a set of pairs that is not on this machine" in texts(other)


def test_the_tables_own_download_can_be_uploaded_again(app: AppTest) -> None:
    rows = [{**GOOD, "answer": [" Mary", " Paul"]}, UNKNOWN, OTHER]
    upload(app, "my.jsonl", jsonl(*rows))
    (editor,) = app.data_editor
    assert {"where", "problem"} <= set(editor.value.columns)
    data = b"\xef\xbb\xbf" + editor.value.to_csv(index=False).encode()  # as the table's download button writes it
    assert "\u00b7Mary|\u00b7Paul" in data.decode()
    upload(app, "my.csv", data)
    stored = load_stored(app.query_params["pairs"])
    assert [dict(row) for row in stored.rows] == rows and stored.name == "my.csv"
    own = "clean,corrupt,answer,wrong,where\nSo Mary met John,So Anna met John, Mary, Anna,in a book\n"
    upload(app, "own.csv", own.encode())
    assert can_run(app) and clean_prompts(app) == [GOOD["clean"]]
    upload(app, "other.csv", own.replace("where", "wrnog").encode())
    assert not can_run(app) and "unknown field 'wrnog'" in texts(app)


def test_the_answers_stand_before_what_is_long(app: AppTest) -> None:
    upload(app, "my.jsonl", jsonl(GOOD, UNKNOWN))
    assert list(app.data_editor[0].proto.column_order) == ["where", "answer", "wrong", "problem", "clean", "corrupt"]


def test_rows_that_cannot_be_used_are_marked_until_they_are_mended(app: AppTest) -> None:
    upload(app, "my.jsonl", jsonl(GOOD, UNKNOWN, {**OTHER, "wrong": ""}))
    table = app.data_editor[0].value
    assert table["where"].tolist() == ["line 1", "⚠ line 2", "⚠ line 3"] and not can_run(app)
    _, unknown, empty = table["problem"].tolist()
    assert "does not know it" in unknown and empty == "wrong is empty. Write some text."
    assert "2 of 3 pairs cannot be used with tiny. my.jsonl line 2: answer ' zzz'" in texts(app)
    assert app.button(key="start-sweeps").help.replace("\\", "").startswith("my.jsonl line 2: answer ' zzz'")
    edit(app, 1, answer="·Mary")
    assert app.data_editor[0].value["where"].tolist() == ["line 1", "line 2, edited", "⚠ line 3"]
    assert not can_run(app) and "1 of 3 pairs cannot be used" in texts(app)
    edit(app, 2, wrong="·Paul")
    assert can_run(app) and not app.error
    assert list(app.data_editor[0].value) == ["where", "clean", "corrupt", "answer", "wrong"]
    assert app.query_params["pairs-name"] == "my.jsonl (edited)"
    assert load_prompts({"pairs": app.query_params["pairs"]}).where[1] == "my.jsonl line 2, edited"


def test_a_row_that_is_spoilt_is_marked_too(app: AppTest) -> None:
    edit(upload(app, "my.jsonl", jsonl(GOOD, OTHER)), 1, corrupt="So Paul")
    assert app.data_editor[0].value["where"].tolist() == ["line 1", "⚠ line 2, edited"] and not can_run(app)


def test_rows_are_left_out_when_that_is_pressed(app: AppTest) -> None:
    upload(app, "my.jsonl", jsonl(UNKNOWN, GOOD, UNKNOWN))
    app.button(key="pairs-leave-out").click()
    rerun(app)
    assert (
        can_run(app)
        and clean_prompts(app) == [GOOD["clean"]]
        and "my.jsonl (2 rows left out) · 1 pair" in texts(app).replace("*", "")
    )
    assert load_prompts({"pairs": app.query_params["pairs"]}).where == ("my.jsonl line 2",)
    upload(app, "none.jsonl", jsonl(UNKNOWN))  # nothing would be left
    assert not can_run(app) and "pairs-leave-out" not in [button.key for button in app.button]


def test_another_models_tokeniser_checks_the_pairs_anew(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(app, "my.jsonl", jsonl(GOOD, OTHER))
    edit(app, 0, wrong="·Lucy")
    assert can_run(app)
    original = pairs_input.find_problems
    # A model whose context is shorter than these prompts; what was typed stays.
    monkeypatch.setattr(pairs_input, "find_problems", lambda rows, tokenizer, _: original(rows, tokenizer, 3))
    app.text_input(key="operators").set_value("0=uniform")
    rerun(app)
    assert app.data_editor[0].value["where"].tolist() == ["⚠ line 1, edited", "⚠ line 2"] and not can_run(app)
    assert "clean has 4 tokens, and the model's context length is 3" in texts(app)
    assert app.data_editor[0].value["wrong"].tolist() == ["·Lucy", "·Paul"]
    app.text_input(key="operators").set_value("")
    assert can_run(rerun(app)) and app.query_params["pairs-name"] == "my.jsonl (edited)"


def test_the_browsers_back_button_brings_the_pairs_back_without_the_file(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(app, "good.jsonl", jsonl(GOOD))
    before = dict(app.query_params)
    upload(app, "bad.csv", b"a")
    after = dict(app.query_params)

    def go(params: dict[str, Any]) -> None:
        app.query_params.clear()
        app.query_params.update({key: value[0] if isinstance(value, list) else value for key, value in params.items()})
        with monkeypatch.context() as patched:
            patched.setattr(url_state, "navigated_back", lambda: True)
            rerun(app)
        rerun(app)

    go(before)
    assert clean_prompts(app) == [GOOD["clean"]] and can_run(app) and not app.error
    (uploader,) = [x for x in app.file_uploader if (x.key or "").startswith(pairs_input.UPLOAD)]
    assert uploader.value is None  # bad.csv no longer stands over the pairs of good.jsonl
    go(after)
    assert not app.data_editor and not can_run(app) and "bad.csv line 1: expected a header" in texts(app)


def test_a_task_that_does_not_apply_cannot_be_run(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import task_inputs
    from workbench.errors import BadInput

    def refuse(*_: Any) -> Any:
        raise BadInput("Task 'ioi' does not apply to this tokeniser.")

    monkeypatch.setattr(task_inputs, "tokenize", refuse)
    rerun(app)
    assert not can_run(app) and "does not apply" in app.button(key="start-sweeps").help
    assert [error.value for error in app.error] == ["Task 'ioi' does not apply to this tokeniser\\."]


def test_what_was_deleted_on_disk_meanwhile_is_said(app: AppTest) -> None:
    upload(app, "my.jsonl", jsonl(GOOD))
    for path in upload_store.folder().iterdir():
        path.unlink()
    rerun(app)
    assert not app.data_editor and not can_run(app) and "not on this machine" in texts(app)


def test_the_worker_names_file_and_line(app: AppTest, queue: InlineQueue) -> None:
    upload(app, "my.jsonl", jsonl(GOOD, UNKNOWN))
    prompts = {"pairs": app.query_params["pairs"]}  # the page does not send them
    job = queue.submit("key", {"kind": "sweeps", "model": "tiny", "prompts": prompts, "arguments": {}})
    assert job.state == "failed" and job.error.startswith("my.jsonl line 2: answer ' zzz' is '<unk>'")


def test_a_pair_file_keeps_its_positions(app: AppTest) -> None:
    upload(app, "my.jsonl", jsonl({**GOOD, "positions": {"S": [3, 7]}}))
    assert load_prompts({"pairs": app.query_params["pairs"]}).positions == ("S", "end")
