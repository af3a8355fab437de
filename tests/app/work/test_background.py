"""Background work in each of its states: not there, waiting or running, stopped, failed, done, damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import upload_store
from app.work import background
from app.work.jobs import Job
from app.work.result_files import SCORES, result_path
from tests.app.work.scripted_queue import ScriptedQueue
from workbench.patching.batches import BATCH_SIZE

KEY = "key"
PAGE = """
from pathlib import Path
import streamlit as st
from app.work.background import Background
from workbench.errors import BadInput

def read(path):
    text = (path / "result.txt").read_text() if path.is_dir() else path.read_text()
    if text == "damaged":
        raise BadInput("the checksum differs")
    return text

work = Background("{kind}", "key", {{"model": "tiny", "label": "made up"}}, read, "Compute it")
st.text(f"result: {{work.result(start={start})}}")
"""


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedQueue:
    scripted = ScriptedQueue()
    monkeypatch.setattr(background, "job_queue", lambda: scripted)
    monkeypatch.setattr(upload_store, "folder", lambda: tmp_path / "explorer" / "inputs")
    return scripted


def page(kind: str = SCORES, start: bool = False) -> AppTest:
    app = AppTest.from_string(PAGE.format(kind=kind, start=start), default_timeout=250).run()
    assert not app.exception
    return app


def store(text: str) -> Path:
    path = result_path(SCORES, KEY)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def result(app: AppTest) -> str:
    return app.text[0].value.removeprefix("result: ")


def test_where_it_is_not_there_a_button_starts_it(queue: ScriptedQueue) -> None:
    app = page()
    assert result(app) == "None" and app.button[0].label == "Compute it" and not queue.requests
    app.button[0].click().run()
    assert queue.requests == [{"kind": SCORES, "model": "tiny", "label": "made up"}] and app.get("progress")


def test_it_can_start_without_the_button(queue: ScriptedQueue) -> None:
    app = page(start=True)
    assert len(queue.requests) == 1 and result(app) == "None" and app.get("progress")
    app.run()
    assert len(queue.requests) == 1  # once


def test_while_it_runs_its_progress_is_shown_and_it_can_be_stopped(queue: ScriptedQueue) -> None:
    queue.job = Job(1, KEY, "running", 2, 6, "scores", label="made up")
    app = page()
    assert app.get("progress")[0].proto.text.replace("\\", "") == "made up: scores 2 of 6"
    app.button[0].click().run()
    assert queue.job.state == "stopped" and not queue.requests


@pytest.mark.parametrize("start", [False, True])
def test_when_it_is_stopped_it_says_how_far_it_was_and_starts_again_by_the_button(
    queue: ScriptedQueue, start: bool
) -> None:
    queue.job = Job(1, KEY, "stopped", 2, 6)
    app = page(start=start)
    assert "Stopped at 2 of 6" in app.info[0].value and f"of up to {BATCH_SIZE} examples" in app.info[0].value.replace(
        "\\", ""
    )
    assert not queue.requests
    queue.job = Job(1, KEY, "stopped")
    assert "Stopped before anything was computed" in app.run().info[0].value
    app.button[0].click().run()
    assert len(queue.requests) == 1 and app.get("progress")


def test_when_it_failed_it_says_why_and_starts_again_by_the_button(queue: ScriptedQueue) -> None:
    queue.job = Job(1, KEY, "failed", error="no [room] left")
    app = page(start=True)
    assert app.error[0].value == "no \\[room\\] left" and not queue.requests
    app.button[0].click().run()
    assert len(queue.requests) == 1


def test_when_it_is_done_it_is_read_from_its_file(queue: ScriptedQueue) -> None:
    store("42")
    app = page()
    assert result(app) == "42" and not app.button and not queue.requests


def test_a_damaged_file_is_deleted_and_the_result_computed_again_by_the_button(queue: ScriptedQueue) -> None:
    path = store("damaged")
    queue.job = Job(1, KEY, "done", path=str(path))
    app = page(start=True)
    assert "the checksum differs" in app.warning[0].value.replace("\\", "") and not path.exists()
    assert result(app) == "None" and not queue.requests
    assert not app.run().warning
    app.button[0].click().run()
    assert len(queue.requests) == 1


def test_a_run_directory_is_read_where_the_job_left_it(queue: ScriptedQueue, tmp_path: Path) -> None:
    (tmp_path / "result.txt").write_text("a run")
    assert result(page("finding")) == "None"
    queue.job = Job(1, KEY, "done", path=str(tmp_path))
    assert result(page("finding")) == "a run"
    (tmp_path / "result.txt").write_text("damaged")
    app = page("finding")
    assert app.warning and tmp_path.is_dir() and app.button  # a run is never deleted
