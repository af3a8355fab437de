"""The page Patching on the tiny model, without a browser, and with a queue that executes jobs in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from streamlit.testing.v1 import AppTest

from app import sidebar
from app.work.jobs import Job
from app.work.worker import Worker

PAGE = """
from app import sidebar, url_state
from app.pages import patching
with url_state.update_url():
    sidebar.widgets(["tiny"])
    patching.page.render()
"""
TEXT = sidebar.DEFAULT_PROMPT
#: Seconds of one run of the script at most: generous, so that a busy machine passes.
TIMEOUT = 250


class InlineQueue:
    """A queue whose jobs are executed when they are submitted, by the worker's own code."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.requests: list[Mapping[str, Any]] = []

    def newest(self, key: str) -> Job | None:
        return self.jobs.get(key)

    def submit(self, key: str, request: Mapping[str, Any]) -> Job:
        out = io.StringIO()
        Worker(out).execute({**request, "id": 1, "key": key})
        self.requests.append(request)
        last = json.loads(out.getvalue().splitlines()[-1])
        self.jobs[key] = Job(1, key, last["state"], path=last.get("path", ""), error=last.get("error", ""))
        return self.jobs[key]


def new_page() -> AppTest:
    return AppTest.from_string(PAGE, default_timeout=TIMEOUT)


def rerun(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, app.exception
    return app


def run_sweep(app: AppTest) -> AppTest:
    rerun(app).button(key="start-sweeps").click()
    return rerun(rerun(app))


def strongest_cells(app: AppTest) -> pd.DataFrame:
    return next(frame.value for frame in app.dataframe if "cell" in frame.value)


def kl_caption(app: AppTest) -> str:
    return next(caption.value for caption in app.caption if "KL" in caption.value)
