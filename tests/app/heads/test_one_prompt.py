"""One prompt and one head: long prompts, the position that is shown, models that are released."""

from __future__ import annotations

import gc
import logging
import re
import weakref

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import models, sidebar
from app.heads import detail, records
from tests.app.heads.rendered import OTHER, TIMEOUT, opened, patterns, record_of, text, tiny_checkpoint
from workbench.errors import UsageError
from workbench.plotting import attention_view


def test_a_text_of_too_many_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match="the limit is"):
        sidebar.token_ids(wb.load("tiny"), "Mary and John " * 2_000)


def test_a_long_prompt_is_pooled_and_any_range_of_it_is_shown(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_view, "MAX_CELLS", 20)
    monkeypatch.setattr(detail, "LONG", 20)
    prompt = "Mary and John " * 15
    _, record = record_of(prompt)
    n, pattern = len(record), record.pattern(wb.Head(0, 0))
    opened(app, prompt=prompt, head="0.0")
    canvas = patterns(app)["pattern"]
    assert canvas["subtitle"].endswith(f"pooled: each cell is the largest value of {canvas['size']} × {canvas['size']}")
    for i, row in enumerate(canvas["values"]):
        for j, value in enumerate(row):
            block = pattern[i * canvas["size"] :][: canvas["size"], j * canvas["size"] :][:, : canvas["size"]]
            assert value == pytest.approx(block.max(), abs=1e-5)
    app.text_input(key="zoom").set_value("20-29,0-9").run()
    assert not app.exception
    canvas = patterns(app)["pattern"]
    np.testing.assert_allclose(canvas["values"], pattern[20:30, :10], atol=1e-5)
    assert canvas["rows"][0].startswith("20 ") and canvas["columns"][0].startswith("0 ")
    assert f"destinations 20 to 29 and sources 0 to 9 of {n}" in canvas["subtitle"]
    for wrong in (f"0-{n},0-9", "9-3,0-9", "all of it"):
        app.text_input(key="zoom").set_value(wrong).run()
        assert "Showing all" in app.warning[0].value and patterns(app)["pattern"]["size"] > 1
    app.text_input(key="zoom").set_value("20-29,0-9").run()
    app.text_area(key=sidebar.PROMPT).set_value(OTHER).run()
    assert "zoom" not in app.query_params and not app.warning
    assert patterns(app)["pattern"]["end"] == [len(record_of(OTHER)[1])] * 2


def test_a_range_of_a_short_prompt_is_left_in_the_url_no_longer_than_it_is_shown(app: AppTest) -> None:
    opened(app, zoom="2-9,2-9")
    assert patterns(app)["pattern"]["end"] == [10, 10] and app.query_params["zoom"]
    app.text_input(key="zoom").set_value("").run()
    assert patterns(app)["pattern"]["end"] == [18, 18] and "zoom" not in app.query_params


def test_colours_are_those_of_the_pattern_and_of_the_text(app: AppTest) -> None:
    opened(app, head="1.2", colours="log")
    canvas, (_, record) = patterns(app)["pattern"], record_of()
    assert canvas["scale"] == {"kind": "log", "limit": 1.0, "diverging": False} and "≤ 0.0001" in str(canvas["ticks"])
    row = record.pattern(wb.Head(1, 2))[-1]
    np.testing.assert_allclose(text(app)["shares"], np.clip(1 + np.log10(row) / 4, 0, 1), atol=1e-3)
    assert "log colours down to 0.0001" in text(app)["legend"]


def test_a_released_model_takes_its_prompt_records_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "available", lambda: ["one", "two", "three"])
    monkeypatch.setattr(wb, "load", lambda name, progress=None: tiny_checkpoint())
    assert models.MAX_MODELS == 2
    released = weakref.ref(models.load("one"))
    records.prompt_record("one", [5, 6, 7])
    models.load("two")
    gc.collect()
    assert released() is not None
    models.load("three")
    gc.collect()
    assert released() is None


def test_the_page_reports_its_render_time(app: AppTest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "workbench.explorer")
    AppTest.from_string("from app.Home import main; main()", default_timeout=TIMEOUT).run()
    match = re.search(r"Heads rendered in (\d+\.\d) ms", caplog.text)
    assert match is not None and float(match[1]) > 0
