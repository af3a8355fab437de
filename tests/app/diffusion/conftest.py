"""The page Diffusion on digits-dit, with a cache of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import models
from tests.app.pages.driving import TIMEOUT

MODELS = ["digits-dit", "moving-digits-dit", "digits-vit", "tiny"]
PAGE = """
from app import sidebar, url_state
from app.pages import diffusion
with url_state.update_url():
    sidebar.widgets(MODELS, diffusion.page.uses)
    diffusion.page.render()
"""


@pytest.fixture
def new_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., AppTest]]:
    """``new_page(**params) -> AppTest``, the page opened with a URL's parameters."""
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "available", lambda: MODELS)

    def open_one(**params: str) -> AppTest:
        app = AppTest.from_string(PAGE.replace("MODELS", str(MODELS)), default_timeout=TIMEOUT)
        app.query_params.update({name.replace("_", "-"): text for name, text in params.items()})
        return app.run()

    yield open_one
    st.cache_resource.clear()
