"""Notes on the page Heads: written, shown again, listed and downloaded."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import sidebar
from app.heads.parts import notes as parts_notes
from tests.app.heads.rendered import OTHER, SCRIPT, TIMEOUT, opened
from workbench.head_notes.note import Note

HOSTILE = "<img src=x onerror=alert(1)> **b** [l](javascript:x) :red[r] $x$"


@pytest.fixture(scope="module")
def model() -> Any:
    return wb.load("tiny")


def text_of(app: AppTest, head: str) -> Any:
    return app.text_area(key=f"note-text-{name_of(app)}-{head}")


def tags_of(app: AppTest, head: str) -> Any:
    return app.multiselect(key=f"note-tags-{name_of(app)}-{head}")


def name_of(app: AppTest) -> str:
    operators = str(app.session_state[sidebar.OPERATORS])
    return f"tiny with {operators}" if operators else "tiny"


def listed(app: AppTest) -> list[dict[str, Any]]:
    tables = [table.value for table in app.dataframe if list(table.value.columns) == ["head", "tags", "text"]]
    return tables[0].to_dict("records") if tables else []


def rendered(app: AppTest) -> AppTest:
    assert not app.exception and not app.error, (app.exception, app.error)
    return app


def test_a_note_is_saved_when_it_changes_and_shown_again(app: AppTest, model: Any) -> None:
    opened(app, head="1.3")
    assert listed(app) == []
    text_of(app, "1.3").set_value(HOSTILE).run()
    assert "Saved." in [caption.value for caption in rendered(app).caption]
    tags_of(app, "1.3").set_value(["mover", "**b**"]).run()
    note = wb.notes(model)["1.3"]
    assert (note.text, note.tags) == (HOSTILE, ("mover", "**b**"))
    assert listed(rendered(app)) == [{"head": "1.3", "tags": "mover, **b**", "text": HOSTILE}]
    assert HOSTILE not in " ".join(element.value for element in (*app.caption, *app.markdown))
    # another head is empty, and back again it is there; so it is in a new session
    app.text_input(key=sidebar.HEAD).set_value("0.5").run()
    assert text_of(rendered(app), "0.5").value == "" and tags_of(app, "0.5").value == []
    app.text_input(key=sidebar.HEAD).set_value("1.3").run()
    for session in (app, opened(AppTest.from_string(SCRIPT, default_timeout=TIMEOUT), head="1.3")):
        assert text_of(session, "1.3").value == HOSTILE and tags_of(session, "1.3").value == ["mover", "**b**"]
        assert any(caption.value.startswith("Changed 2") for caption in session.caption)


def test_the_link_is_the_page_as_it_was_and_the_url_has_nothing_of_notes(app: AppTest, model: Any) -> None:
    opened(app, head="1.3", prompt=OTHER, score="entropy")
    text_of(app, "1.3").set_value("private words").run()
    tags_of(app, "1.3").set_value(["secret"]).run()
    app.multiselect(key="notes-filter").set_value(["secret"]).run()
    app.text_area(key=sidebar.PROMPT).set_value("Mary and John").run()
    link = urlsplit(wb.notes(model)["1.3"].link)
    query = {name: values[0] for name, values in parse_qs(link.query).items()}
    assert link.path == "/" and query["prompt"] == OTHER
    assert (query["model"], query["head"], query["score"]) == ("tiny", "1.3", "entropy")
    url = str(app.query_params)
    assert "Mary and John" in url and not any(word in url for word in ("private", "secret", "note"))
    again = opened(AppTest.from_string(SCRIPT, default_timeout=TIMEOUT), **query)
    assert text_of(again, "1.3").value == "private words" and again.text_area(key=sidebar.PROMPT).value == OTHER


def test_a_note_goes_to_the_head_in_whose_field_it_was_typed(app: AppTest, model: Any) -> None:
    """The click that leaves the field may open another head in the same run."""
    opened(app, head="1.3")
    text_of(app, "1.3").set_value("of 1.3")
    app.text_input(key=sidebar.HEAD).set_value("0.2").run()
    assert text_of(rendered(app), "0.2").value == ""
    assert [(str(note.head), note.text) for note in wb.notes(model)] == [("1.3", "of 1.3")]


def test_two_sessions_see_each_other_and_lose_nothing(app: AppTest, model: Any) -> None:
    other = opened(AppTest.from_string(SCRIPT, default_timeout=TIMEOUT), head="1.3")
    opened(app, head="1.3")
    tags_of(app, "1.3").set_value(["first"]).run()
    tags_of(other, "1.3").set_value(["second"]).run()  # of a page that has not seen the first
    assert wb.notes(model)["1.3"].tags == ("first", "second")
    text_of(other, "1.3").set_value("by the other").run()
    app.run()
    assert text_of(app, "1.3").value == "by the other" and tags_of(rendered(app), "1.3").value == ["first", "second"]
    app.text_input(key=sidebar.HEAD).set_value("0.2").run()
    text_of(app, "0.2").set_value("another head").run()
    text_of(other, "1.3").set_value("").run()
    tags_of(other, "1.3").set_value([]).run()
    assert "Removed." in [caption.value for caption in rendered(other).caption]
    assert [str(note.head) for note in wb.notes(model)] == ["0.2"]
    assert [row["head"] for row in listed(other)] == ["0.2"]


def test_a_text_that_another_tab_changed_is_shown_and_what_was_typed_is_kept(app: AppTest, model: Any) -> None:
    notes = wb.notes(model)
    notes.write("1.3", "read by both")
    other = opened(AppTest.from_string(SCRIPT, default_timeout=TIMEOUT), head="1.3")
    opened(app, head="1.3")
    text_of(app, "1.3").set_value("theirs: **b**").run()
    text_of(other, "1.3").set_value("mine").run()  # of a page that has not seen it
    assert notes["1.3"].text == "theirs: **b**" and text_of(rendered(other), "1.3").value == "mine"
    (warning,) = other.warning
    assert warning.value.startswith("Changed elsewhere since you opened it, 2") and "is not saved" in warning.value
    assert [element.value for element in other.text] == ["theirs: **b**"]
    # it is not saved by typing on, by looking at another head, or by a tag
    text_of(other, "1.3").set_value("mine, longer").run()
    tags_of(other, "1.3").set_value(["tag"]).run()
    for head in ("0.2", "1.3"):
        other.text_input(key=sidebar.HEAD).set_value(head).run()
    assert notes["1.3"].text == "theirs: **b**" and text_of(other, "1.3").value == "mine, longer" and other.warning
    other.button(key="note-save-own-tiny-1.3").click().run()
    assert notes["1.3"].text == "mine, longer" and not rendered(other).warning
    # the first tab has typed nothing since, and follows; then it types over a text that it has not seen
    assert text_of(app.run(), "1.3").value == "mine, longer" and not app.warning
    text_of(other, "1.3").set_value("newest").run()
    text_of(app, "1.3").set_value("typed").run()
    app.button(key="note-take-other-tiny-1.3").click().run()
    assert text_of(rendered(app), "1.3").value == notes["1.3"].text == "newest" and not app.warning


def test_a_note_that_another_tab_removed_is_not_written_without_a_word(app: AppTest, model: Any) -> None:
    notes = wb.notes(model)
    notes.write("1.3", "read")
    opened(app, head="1.3")
    notes.remove("1.3")
    text_of(app, "1.3").set_value("read, and longer").run()
    assert "1.3" not in notes and app.warning[0].value.startswith("Removed elsewhere since you opened it.")
    app.button(key="note-save-own-tiny-1.3").click().run()
    assert notes["1.3"].text == "read, and longer" and not rendered(app).warning


def test_a_draft_that_could_not_be_saved_does_not_replace_a_newer_text(app: AppTest, model: Any) -> None:
    opened(app, head="1.3")
    text_of(app, "1.3").set_value("a\0b").run()
    assert app.error
    wb.notes(model).write("1.3", "theirs")
    assert text_of(app.run(), "1.3").value == "a\0b" and app.warning
    text_of(app, "1.3").set_value("ab").run()
    assert wb.notes(model)["1.3"].text == "theirs" and app.warning


def test_the_links_of_the_table_work_from_home(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the address at which the browser has the explorer."""
    url = property(lambda self: "http://127.0.0.1:8123/")
    monkeypatch.setattr(type(st.context), "url", url)
    made: dict[str, Any] = {}
    monkeypatch.setattr(
        parts_notes, "download_button", lambda _, data, name, *args, **kwargs: made.update({name: data})
    )
    opened(app, head="1.3", score="entropy")
    text_of(app, "1.3").set_value("a").run()
    (link,) = pd.read_csv(io.BytesIO(made["notes-tiny.csv"]()))["link"]
    assert link.startswith("http://127.0.0.1:8123/?") and "score=entropy" in link
    (note,) = json.loads(made["notes-tiny.json"]())["notes"]
    assert f"http://127.0.0.1:8123{note['link']}" == link


def test_the_list_is_filtered_by_tag(app: AppTest, model: Any) -> None:
    notes = wb.notes(model)
    for head, tags in {"0.1": ["a"], "0.2": ["a", "b"], "1.7": ["b"]}.items():
        notes.tag(head, tags)
    opened(app, head="1.3")
    assert [row["head"] for row in listed(app)] == ["0.1", "0.2", "1.7"]
    app.multiselect(key="notes-filter").set_value(["a"]).run()
    assert [row["head"] for row in listed(app)] == ["0.1", "0.2"]
    app.multiselect(key="notes-filter").set_value(["a", "b"]).run()
    assert [row["head"] for row in listed(app)] == ["0.2"]
    notes.untag("0.2", "a")
    notes.untag("0.1", "a")  # a tag that is gone leaves the filter
    app.run()
    assert app.multiselect(key="notes-filter").value == ["b"]
    assert [row["head"] for row in listed(rendered(app))] == ["0.2", "1.7"]


@pytest.mark.parametrize(("field", "value"), [("tags", ["a", "b,c"]), ("text", "a\0b")])
def test_what_cannot_be_saved_is_said_and_a_text_is_not_lost(app: AppTest, model: Any, field: str, value: Any) -> None:
    wb.notes(model).tag("1.3", "a")
    opened(app, head="1.3")
    element = tags_of(app, "1.3") if field == "tags" else text_of(app, "1.3")
    element.set_value(value).run()
    assert not app.exception and len(app.error) == 1 and "\n" not in app.error[0].value
    assert wb.notes(model)["1.3"] == Note(wb.Head(1, 3), ("a",), "", *_rest(model))
    assert tags_of(app, "1.3").value == ["a"]
    if field == "text":
        app.text_input(key=sidebar.HEAD).set_value("0.2").run()
        app.text_input(key=sidebar.HEAD).set_value("1.3").run()
        assert text_of(rendered(app), "1.3").value == value  # the draft
        text_of(app, "1.3").set_value("ab").run()
        assert wb.notes(model)["1.3"].text == "ab"


def _rest(model: Any) -> tuple[str, str]:
    note = wb.notes(model)["1.3"]
    return note.changed, note.link


def test_other_weights_and_operators_are_said_and_not_shown(app: AppTest, model: Any) -> None:
    other = wb.load("tiny")
    next(iter(other.hf.parameters())).data.zero_()
    wb.notes(other).write("1.3", "of other weights")
    opened(app, head="1.3")
    assert text_of(app, "1.3").value == "" and listed(app) == []
    assert any("1 note of other weights of this name\\." in caption.value for caption in app.caption)
    text_of(app, "1.3").set_value("own").run()
    app.text_input(key=sidebar.OPERATORS).set_value("0=sliding-window(window=4)").run()
    assert text_of(rendered(app), "1.3").value == ""
    text = " ".join(caption.value for caption in app.caption)
    assert "1 note of other weights of this name and 1 note of this model with other operators\\." in text
    text_of(app, "1.3").set_value("swapped").run()
    link = wb.notes(wb.swap(model, {0: "sliding-window(window=4)"}))["1.3"].link
    assert parse_qs(urlsplit(link).query)["operators"] == ["0=sliding-window(window=4)"]
    assert wb.notes(model)["1.3"].text == "own"


def test_a_damaged_file_is_one_line_and_the_page_goes_on(app: AppTest, model: Any, tmp_path: Path) -> None:
    wb.notes(model).write("1.3", "a")
    (path,) = (tmp_path / "cache" / "notes").rglob("*.json")
    path.write_bytes(b"{")
    opened(app, head="1.3")
    assert len(app.error) == 1 and "nothing is lost" in app.error[0].value
    text_of(app.run(), "1.3").set_value("b").run()
    assert wb.notes(model)["1.3"].text == "b" and not app.error
    assert any("damaged\\-1\\.json" in caption.value for caption in app.caption)


def test_a_comparison_of_models_has_no_notes(app: AppTest) -> None:
    opened(app, head="1.3", compare="yes")
    assert not [area for area in app.text_area if str(area.key).startswith("note-")]
