"""What the page Heads is asked and what it shows."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import sidebar
from app.heads.prompt_record import PromptRecord
from app.work.jobs import Job

tiny_checkpoint = partial(wb.load, "tiny")
REPEATING = "Mary and John and Mary and John and Mary"
OTHER = "When Mary and John went to the store, Mary gave a drink to"
SCRIPT = """
from app import models, sidebar, url_state
from app.pages import heads
from app.messages import guarded
with url_state.written(), guarded():
    sidebar.widgets(models.available())
    heads.page.render()
"""


class Queue:
    """In the place of the worker process: what was asked of it, and the state that it says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.now = Job(1, "", "running", 2, 6, "scores")

    def submit(self, key: str, job: dict[str, Any]) -> Job:
        if self.asked:  # begun again
            self.now = replace(self.now, state="running")
        self.asked.append((key, job))
        return self.now

    def with_key(self, key: str) -> Job | None:
        return self.now if any(key == known for known, _ in self.asked) else None

    def get(self, number: int) -> Job:
        return self.now

    def open(self, before: int | None = None) -> list[Job]:
        return [] if self.now.is_finished or before is not None else [self.now]

    def stop(self, number: int) -> None:
        self.now = replace(self.now, state="stopped")


def opened(app: AppTest, **query: str) -> AppTest:
    app.query_params.update(query)
    app.run()
    assert not app.exception, app.exception
    return app


def grids(app: AppTest) -> dict[str, dict[str, Any]]:
    """Key → what the grid draws."""
    return {str(element.key): json.loads(element.proto.json) for element in app.get("bidi_component")}


def figures(app: AppTest) -> dict[str, dict[str, Any]]:
    return {str(element.key): json.loads(element.proto.spec) for element in app.get("plotly_chart")}


def values(grid: dict[str, Any]) -> np.ndarray:
    """``[layer, head]``, NaN where there is none."""
    return np.array(grid["values"], dtype=float).T


def looked(text: str = sidebar.DEFAULT_PROMPT) -> tuple[Any, PromptRecord]:
    model = wb.load("tiny")
    return model, PromptRecord(model, model.to_tokens(text)[0].tolist(), cache=False)


def largest(figure: dict[str, Any]) -> float:
    return float(figure["data"][0]["zmax"])
