"""The worker's own code, in this process: what it sends for each outcome of a job."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest

from app.work import worker
from app.work.worker import Progress, Worker
from workbench.errors import BadInput


def messages_of(monkeypatch: pytest.MonkeyPatch, outcome: Exception | str, stop: bool = False) -> list[dict[str, Any]]:
    """What a worker sends for a job that makes one step and then raises, or returns its path."""
    out = io.StringIO()
    executing = Worker(out)

    def job_kind(_: Worker, job: Mapping[str, Any], progress: Progress) -> str:
        progress(1, 2, "one step")
        if stop:
            executing.stopped.add(job["id"])
        progress(2, 2, "another")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(worker, "JOB_KINDS", {"made-up": job_kind})
    executing.execute({"id": 7, "kind": "made-up"})
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_job_that_is_done_names_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = messages_of(monkeypatch, "some/path")
    assert [message.get("done") for message in messages] == [0, 1, 2, None]
    assert messages[-1] == {"id": 7, "state": "done", "path": "some/path"}


def test_a_job_is_stopped_at_its_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = messages_of(monkeypatch, "some/path", stop=True)
    assert messages[-2]["done"] == 1 and messages[-1] == {"id": 7, "state": "stopped"}


def test_an_error_of_the_workbench_is_sent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert messages_of(monkeypatch, BadInput("no pairs"))[-1] == {"id": 7, "state": "failed", "error": "no pairs"}


def test_a_bug_is_named_and_its_traceback_is_in_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = messages_of(monkeypatch, KeyError("head"))[-1]["error"]
    assert error == "Internal error (KeyError). The traceback is in the terminal."
    assert "KeyError: 'head'" in capsys.readouterr().err


def test_a_worker_loads_the_model_that_it_is_told_before_the_first_job(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(name: str) -> Any:
        loaded.append(name)
        raise BadInput("no such model")

    monkeypatch.setattr("workbench.load", load)
    out = io.StringIO()
    started = Worker(out)
    started.receive(io.StringIO('{"warm": "one"}\n'))
    started.run()
    assert loaded == ["one"]
    # What follows is what it is needed for.
    monkeypatch.setattr(worker, "JOB_KINDS", {"made-up": lambda *_: "path"})
    started.receive(io.StringIO('{"warm": "two"}\n{"start": {"id": 1, "kind": "made-up"}}\n'))
    started.run()
    assert loaded == ["one"] and '"state": "done"' in out.getvalue()


def test_a_warm_worker_has_nothing_left_to_prove_for_usual_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    import workbench as wb
    from workbench.models import proofs

    warm = Worker(io.StringIO())
    warm.warm("tiny")
    monkeypatch.setattr(proofs, "prove_resumption", lambda *_, **__: pytest.fail("it proves"))
    model = warm.model({"model": "tiny"}, lambda *_: None)
    assert wb.sweep(model, wb.task("ioi", n=2), cache=False).info["exact"] == "resumed"
