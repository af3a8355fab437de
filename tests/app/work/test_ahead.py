"""What is computed ahead: only while no script runs and no job does, the newest steps alone, and errors end them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from app.work import ahead
from app.work.ahead import Ahead


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    unfinished: list[Any] = []
    monkeypatch.setattr(ahead, "job_queue", lambda: SimpleNamespace(unfinished=lambda: unfinished))
    monkeypatch.setattr(ahead, "PAUSE", 0.01)
    monkeypatch.setattr(ahead, "POLL", 0.01)
    return unfinished


def counted(seen: list[Any], name: str, n: int, end: threading.Event, each: Callable[[], object] = lambda: None) -> Any:
    def steps() -> Iterator[None]:
        for i in range(n):
            each()
            seen.append((name, i))
            yield
        end.set()

    return steps()


def test_steps_wait_while_a_script_runs_and_then_go_to_their_end(jobs: list[Any]) -> None:
    computed, seen, end = Ahead(), [], threading.Event()
    with computed.waiting():
        computed.compute("a", counted(seen, "a", 3, end))
        assert not end.wait(0.3) and seen == []
    assert end.wait(60) and seen == [("a", 0), ("a", 1), ("a", 2)]


def test_steps_wait_while_a_job_is_unfinished(jobs: list[Any]) -> None:
    computed, seen, end = Ahead(), [], threading.Event()
    jobs.append("a job")
    computed.compute("a", counted(seen, "a", 1, end))
    assert not end.wait(0.3) and seen == []
    jobs.clear()
    assert end.wait(60) and seen == [("a", 0)]


def test_newer_steps_replace_those_before_and_the_same_ones_go_on(jobs: list[Any]) -> None:
    computed, seen = Ahead(), []
    first, second, begun, go_on = (threading.Event() for _ in range(4))

    def each() -> None:
        begun.set()
        go_on.wait()

    computed.compute("a", counted(seen, "a", 5, first, each))
    begun.wait()
    computed.compute("a", counted(seen, "again", 5, first))
    computed.compute("b", counted(seen, "b", 2, second))
    go_on.set()
    assert second.wait(60)
    assert seen == [("a", 0), ("b", 0), ("b", 1)] and not first.is_set()


def test_an_error_or_the_limit_ends_the_steps_and_others_follow(
    jobs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed, seen, end = Ahead(), [], threading.Event()
    failed = threading.Event()

    def fails() -> Iterator[None]:
        failed.set()
        raise ZeroDivisionError
        yield

    computed.compute("a", fails())
    assert failed.wait(60)
    computed.compute("b", counted(seen, "b", 1, end))
    assert end.wait(60)
    monkeypatch.setattr(ahead, "LIMIT", -1.0)
    limited, more = threading.Event(), threading.Event()
    computed.compute("c", counted(seen, "c", 2, limited))
    while ("c", 0) not in seen:
        threading.Event().wait(0.01)
    computed.compute("d", counted(seen, "d", 1, more))
    while ("d", 0) not in seen:
        threading.Event().wait(0.01)
    assert ("c", 1) not in seen and not limited.is_set()
