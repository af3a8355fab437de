"""What several commands share: at an interruption they say that the same command continues."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.cli.choices import caching, resumed_later


@pytest.mark.parametrize("enabled", [True, False])
def test_an_interrupted_command_says_that_it_can_be_resumed(
    enabled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("WORKBENCH_CACHE")
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt), caching(enabled, lines.append):
        raise KeyboardInterrupt
    assert len(lines) == enabled and all("continue where it stopped" in line for line in lines)


@pytest.mark.parametrize("writable", [True, False])
def test_where_nothing_is_stored_nothing_is_said(writable: bool) -> None:
    lines: list[str] = []
    store = type("Store", (), {"writable": writable})
    with pytest.raises(KeyboardInterrupt), resumed_later(store, lines.append):
        raise KeyboardInterrupt
    assert len(lines) == writable
