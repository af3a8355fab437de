"""A store with blocks in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workbench.cache.stores import KEYS, rows
from workbench.cache import Store


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    store = Store(tmp_path / "cache")
    assert store.put("activation", {"z": (KEYS, rows())})
    return store
