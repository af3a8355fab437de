"""The pages without a worker process: what they start is computed at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from app import Home, models
from app.work import background
from tests.app.patching.driving import InlineQueue
from tests.app.work.scripted_queue import ScriptedQueue


@pytest.fixture
def inline_queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[InlineQueue]:
    """The queue of pages that know the model ``tiny``, with a cache and a folder of their own."""
    inline = InlineQueue()
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    monkeypatch.setattr(Home, "job_queue", lambda: ScriptedQueue())
    monkeypatch.setattr(background, "job_queue", lambda: inline)
    yield inline
    st.cache_resource.clear()
