"""The page Diffusion on digits-dit, with a cache of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.work import background
from tests.app.pages.driving import NewPage, opening
from tests.app.patching.driving import InlineQueue

MODELS = ["digits-dit", "moving-digits-dit", "digits-vit", "tiny"]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> InlineQueue:
    """In place of the worker process."""
    inline = InlineQueue()
    monkeypatch.setattr(background, "job_queue", lambda: inline)
    return inline


@pytest.fixture
def new_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, queue: InlineQueue) -> Iterator[NewPage]:
    """``new_page(**params) -> AppTest``, the page opened with a URL's parameters."""
    yield from opening("diffusion", MODELS, monkeypatch, tmp_path)
