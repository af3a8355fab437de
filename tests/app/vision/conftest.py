"""The page Vision on digits-vit, with a cache of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.pages.driving import NewPage, opening

MODELS = ["digits-vit", "mnist-vit-reversed", "tiny"]


@pytest.fixture
def new_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[NewPage]:
    """``new_page(**params) -> AppTest``, the page opened with a URL's parameters."""
    yield from opening("vision", MODELS, monkeypatch, tmp_path)
