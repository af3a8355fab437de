"""Every test has a folder of its own, and the page may load the tiny model alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import models


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    return tmp_path
