"""In place of the worker process: a job in a state that the test sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.work.jobs import Job


class ScriptedQueue:
    """At most one job."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.requests: list[Mapping[str, Any]] = []
        self.warmed: list[str] = []

    def warm(self, model: str) -> None:
        self.warmed.append(model)

    def newest(self, key: str) -> Job | None:
        return self.job

    def submit(self, key: str, request: Mapping[str, Any]) -> Job:
        self.requests.append(request)
        self.job = Job(1, key, label=request["label"])
        return self.job

    def get(self, number: int) -> Job | None:
        return self.job

    def unfinished(self, before: int | None = None) -> list[Job]:
        return [self.job] if self.job is not None and not self.job.is_finished and before is None else []

    def stop(self, number: int) -> None:
        self.job = Job(number, "key", "stopped", 2, 6)
