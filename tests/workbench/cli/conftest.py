"""What tests of several verbs share."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def no_model(monkeypatch):
    """Loading a model fails the test: names must be refused before."""

    def load(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("workbench.load", load)
