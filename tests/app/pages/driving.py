"""One page without the side bar, or all pages, without a browser; and runs that a test makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import models
from workbench.findings import NotJudged, Report, Study
from workbench.registry import FINDINGS
from workbench.runs.directory import RunDirectory

#: Seconds of one run of the script at most: generous, so that a busy machine passes.
TIMEOUT = 250
#: Page → a model for it, where that is not ``tiny``.
MODEL_OF = {"vision": "digits-vit", "diffusion": "digits-dit"}
NewPage = Callable[..., AppTest]
PAGE = """
from app import sidebar, url_state
from app.pages import NAME
with url_state.update_url():
    SIDEBAR
    NAME.page.render()
"""


def new_page(name: str, with_sidebar: bool = False, offered: Sequence[str] = ()) -> AppTest:
    """The page of the file ``app/pages/NAME.py``; its side bar offers these models, by default one for the page."""
    names = list(offered) or [MODEL_OF.get(name, "tiny")]
    sidebar = f"sidebar.widgets({names}, {name}.page.uses)" if with_sidebar else "pass"
    return AppTest.from_string(PAGE.replace("NAME", name).replace("SIDEBAR", sidebar), default_timeout=TIMEOUT)


def opening(name: str, offered: Sequence[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[NewPage]:
    """For a fixture: ``new_page(**params)`` opens the page with a URL's parameters and a cache of its own."""
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "available", lambda: list(offered))

    def open_one(**params: str) -> AppTest:
        app = new_page(name, with_sidebar=True, offered=offered)
        app.query_params.update({key.replace("_", "-"): text for key, text in params.items()})
        return app.run()

    yield open_one
    st.cache_resource.clear()


def make_run(value: float = 1.0, finding: str = "circuit-reuse") -> str:
    """A run under ``runs``, with a hostile text in it; its name."""
    frame = pd.DataFrame({"head": ["1.2", "<b>9.9</b>"], "value": [value, 2.0]})
    figures = {"bars": go.Figure(go.Bar(x=["a"], y=[value]))}
    with RunDirectory.create(Path("runs"), finding, {"model": "tiny", "n": 3}) as run:
        run.add_report(Report("undecided", "Made up.\n<script>alert(1)</script>", {"heads": frame}, figures))
    assert run.path is not None
    return run.path.name


def make_run_not_judged(finding: str) -> None:
    """A run of a model that does not do the task: a reason, and neither figures nor heads."""

    def refuses(study: Study) -> Report:
        raise NotJudged("the model does not do the task")

    subject = replace(FINDINGS[finding], run=refuses)
    with RunDirectory.create(Path("runs"), finding, {"model": "tiny", "n": 3}) as run:
        run.add_report(subject.report(wb.load("tiny")))
