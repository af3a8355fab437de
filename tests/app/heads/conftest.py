"""The page Heads on the tiny model, with a scripted queue in place of the worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import Home, models, upload_store
from app.work import background
from tests.app.heads.rendered import SCRIPT, TIMEOUT, Queue


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Queue]:
    scripted = Queue()
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKBENCH_CACHE", "on")
    monkeypatch.setattr(upload_store, "folder", lambda: tmp_path / "explorer" / "inputs")
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    for module in (background, Home):
        monkeypatch.setattr(module, "job_queue", lambda: scripted)
    yield scripted
    st.cache_resource.clear()


@pytest.fixture
def app() -> AppTest:
    return AppTest.from_string(SCRIPT, default_timeout=TIMEOUT)
