"""Records of prompts: progress while one is made, a stop, and the same record the next time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import sidebar, stoppable
from app.heads import records
from app.heads.prompt_record import PromptRecord


class Slow(PromptRecord):
    """A record of which each layer takes long enough for the progress to be shown, and the first of them is stopped."""

    steps: list[tuple[int, int, str]]
    stop_at: int | None = None

    def __init__(self, model: Any, ids: Sequence[int], cache: Any = None, progress: Any = None) -> None:
        def slow(done: int, total: int, step: str) -> None:
            progress._next = 0
            progress(done, total, step)
            Slow.steps.append((done, total, step))
            if done == Slow.stop_at:
                stoppable._stop((model.provenance["name"], tuple(ids)))
                st.stop()  # a click ends a run in the same way, from inside the progress

        super().__init__(model, ids, cache, slow)


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "PromptRecord", Slow)
    records.all_records().clear()
    Slow.steps, Slow.stop_at = [], None


def test_each_layer_is_counted_and_the_record_is_made_once(app: AppTest) -> None:
    app.query_params.update({"prompt": "Paul and Anna went out"})
    app.run()
    assert Slow.steps == [(1, 2, "Reading the prompt"), (2, 2, "Reading the prompt")]
    assert not app.get("progress")  # the bar is gone
    app.text_input(key=sidebar.HEAD).set_value("1.2").run()
    assert len(Slow.steps) == 2


def test_a_stopped_prompt_says_so_and_is_run_again_by_its_button(app: AppTest) -> None:
    app.query_params.update({"prompt": "Paul and Anna went away"})
    Slow.stop_at = 1
    app.run()
    assert Slow.steps == [(1, 2, "Reading the prompt")]
    Slow.stop_at = None
    app.run()
    assert any("Stopped" in info.value for info in app.info) and not app.error
    (again,) = [button for button in app.button if button.label == "Run the prompt"]
    again.click().run()
    assert not any("Stopped" in info.value for info in app.info)
    assert Slow.steps[-1] == (2, 2, "Reading the prompt")
