"""What the page Heads is asked and what it shows."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import sidebar
from app.heads.prompt_record import PromptRecord
from app.heads.second_selection import DEFAULT_SECOND_PROMPT
from app.work.jobs import Job

tiny_checkpoint = partial(wb.load, "tiny")
REPEATING = "Mary and John and Mary and John and Mary"
OTHER = DEFAULT_SECOND_PROMPT
SCRIPT = """
from app import models, sidebar, url_state
from app.pages import heads
from app.messages import show_errors
with url_state.update_url(), show_errors():
    sidebar.widgets(models.available(), heads.page.uses)
    heads.page.render()
"""


#: Seconds of one run of the script at most: generous, so that a busy machine passes.
TIMEOUT = 250


class Queue:
    """In place of the worker process: the requests, and a job in a state that the test sets."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.job = Job(1, "", "running", 2, 6, "scores")

    def submit(self, key: str, request: dict[str, Any]) -> Job:
        if self.requests:  # started again
            self.job = replace(self.job, state="running")
        self.requests.append((key, request))
        return self.job

    def newest(self, key: str) -> Job | None:
        return self.job if any(key == requested for requested, _ in self.requests) else None

    def get(self, number: int) -> Job:
        return self.job

    def unfinished(self, before: int | None = None) -> list[Job]:
        return [] if self.job.is_finished or before is not None else [self.job]

    def stop(self, number: int) -> None:
        self.job = replace(self.job, state="stopped")

    def warm(self, model: str) -> None:
        """Nothing is started."""


def opened(app: AppTest, **query: str) -> AppTest:
    app.query_params.update(query)
    app.run()
    assert not app.exception, app.exception
    return app


def grids(app: AppTest) -> dict[str, dict[str, Any]]:
    """Key → a component's data: the grids, and others."""
    return {str(element.key): json.loads(element.proto.json) for element in app.get("bidi_component")}


def patterns(app: AppTest) -> dict[str, dict[str, Any]]:
    """Key → the data of a pattern's canvas, its ``values`` as ``[row, column]``."""
    canvases = {key: data for key, data in grids(app).items() if "columns" in data}
    for data in canvases.values():
        cells = np.frombuffer(base64.b64decode(data["values"]), "<f4")
        data["values"] = cells.reshape(len(data["rows"]), len(data["columns"]))
    return canvases


def text(app: AppTest, key: str = "text") -> dict[str, Any]:
    """The data of the prompt's text."""
    return grids(app)[key]


def values(grid: dict[str, Any]) -> np.ndarray:
    """``[layer, head]``, NaN where there is none."""
    return np.array(grid["values"], dtype=float).T


def record_of(text: str = sidebar.DEFAULT_PROMPT) -> tuple[Any, PromptRecord]:
    model = wb.load("tiny")
    return model, PromptRecord(model, model.to_tokens(text)[0].tolist(), cache=False)
