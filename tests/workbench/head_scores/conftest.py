"""The tiny model, and its scores on a few prompts."""

from __future__ import annotations

import pytest

import workbench as wb


@pytest.fixture(scope="module")
def model() -> wb.HookedLM:
    return wb.load("tiny")


@pytest.fixture(scope="module")
def scores(model: wb.HookedLM) -> wb.HeadScores:
    return wb.scores(model, wb.task("ioi", n=6, seed=0), cache=False)
