"""The page Diffusion on digits-dit, with a cache of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import models
from app.work import background
from tests.app.pages.driving import TIMEOUT
from tests.app.patching.driving import InlineQueue

MODELS = ["digits-dit", "moving-digits-dit", "digits-vit", "tiny"]
PAGE = """
from app import sidebar, url_state
from app.pages import diffusion
with url_state.update_url():
    sidebar.widgets(MODELS, diffusion.page.uses)
    diffusion.page.render()
"""


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> InlineQueue:
    """In place of the worker process."""
    inline = InlineQueue()
    monkeypatch.setattr(background, "job_queue", lambda: inline)
    return inline


@pytest.fixture
def new_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, queue: InlineQueue) -> Iterator[Callable[..., AppTest]]:
    """``new_page(**params) -> AppTest``, the page opened with a URL's parameters."""
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "available", lambda: MODELS)

    def open_one(**params: str) -> AppTest:
        app = AppTest.from_string(PAGE.replace("MODELS", str(MODELS)), default_timeout=TIMEOUT)
        app.query_params.update({name.replace("_", "-"): text for name, text in params.items()})
        return app.run()

    yield open_one
    st.cache_resource.clear()
