"""One prompt and one head: long prompts, the position that is shown, models that are released."""

from __future__ import annotations

import gc
import logging
import re
import weakref

import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import models, sidebar
from app.heads import detail, pattern_chart, records
from tests.app.heads.rendered import OTHER, TIMEOUT, figures, largest, opened, record_of, tiny_checkpoint
from workbench.errors import UsageError
from workbench.plotting import attention_view


def test_a_text_of_too_many_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match="the limit is"):
        sidebar.token_ids(wb.load("tiny"), "Mary and John " * 2_000)


def test_the_position_returns_to_the_last_one_with_another_prompt(app: AppTest) -> None:
    opened(app, dest="3")
    assert app.slider(key="dest").value == 3
    app.text_input(key=sidebar.HEAD).set_value("1.1").run()
    assert app.slider(key="dest").value == 3
    app.text_area(key=sidebar.PROMPT).set_value(OTHER).run()
    assert not app.exception and app.slider(key="dest").value == len(record_of(OTHER)[1]) - 1


def test_a_long_prompt_is_pooled_and_any_block_of_it_is_shown(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (attention_view, pattern_chart):
        monkeypatch.setattr(module, "FULL", 20)
    monkeypatch.setattr(pattern_chart, "BLOCK", 10)
    monkeypatch.setattr(detail, "MAX_TOKENS_UNSCROLLED", 20)
    text = "Mary and John " * 15
    _, record = record_of(text)
    row = record.pattern(wb.Head(0, 0))
    opened(app, prompt=text, head="0.0")
    figure = figures(app)["pattern"]
    assert "largest value of" in figure["layout"]["title"]["subtitle"]["text"] and len(figure["data"][0]["x"]) <= 20
    app.selectbox(key="block").set_value("20 to 29").run()
    assert figures(app)["pattern"]["data"][0]["x"][0].startswith("20 ")
    app.selectbox(key="among").set_value("0 to 9").run()
    assert not app.exception
    figure = figures(app)["pattern"]
    assert figure["data"][0]["y"][0].startswith("20 ") and figure["data"][0]["x"][0].startswith("0 ")
    assert largest(figure) == pytest.approx(row[20:30, :10].max(), abs=1e-5)
    strongest = next(str(caption.value) for caption in app.caption if str(caption.value).startswith("Strongest"))
    assert f" {row[-1].argmax()} " in strongest and f"{row[-1].max():.2f}".replace(".", "\\.") in strongest


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
