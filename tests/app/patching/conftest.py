"""The page Patching with sweeps of six prompts, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import models, upload_store
from app.work import background
from tests.app.patching.driving import InlineQueue, new_page


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> InlineQueue:
    inline = InlineQueue()
    monkeypatch.setattr(background, "job_queue", lambda: inline)
    return inline


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, queue: InlineQueue) -> AppTest:
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    monkeypatch.setattr(upload_store, "folder", lambda: tmp_path / "explorer" / "inputs")
    monkeypatch.chdir(tmp_path)
    page = new_page()
    page.query_params["n"] = "6"
    return page
