"""Scales of colours, against matplotlib's norms; what is drawn with them shows the values themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import LogNorm, Normalize, PowerNorm

from workbench.plotting.charts import Heatmap
from workbench.plotting.colour_scale import COLOURS, ColourScale

LIMIT = 0.8
VALUES = np.array([0.0, 1e-6, 8e-5, 1e-3, 0.02, 0.3, 0.8, 1.2])
NORMS: dict[str, Any] = {
    "linear": Normalize(0, LIMIT, clip=True),
    "square root": PowerNorm(0.5, 0, LIMIT, clip=True),
    "log": LogNorm(LIMIT * 1e-4, LIMIT, clip=True),
}


@pytest.mark.parametrize("kind", COLOURS)
def test_shares_are_matplotlibs(kind: str) -> None:
    scale = ColourScale(kind, LIMIT)
    np.testing.assert_allclose(scale.shares(VALUES), NORMS[kind](np.maximum(VALUES, 1e-9)).filled(), atol=1e-4)
    np.testing.assert_allclose(scale.shares(-VALUES), 0)
    signed = ColourScale(kind, LIMIT, diverging=True)
    np.testing.assert_allclose(signed.shares(-VALUES), -scale.shares(VALUES))
    assert np.isnan(scale.shares(np.array([np.nan]))).all() and np.isnan(signed.shares(np.array([np.nan]))).all()


@pytest.mark.parametrize("kind", COLOURS)
@pytest.mark.parametrize("diverging", [False, True])
def test_ticks_have_the_values_of_their_colours(kind: str, diverging: bool) -> None:
    scale = ColourScale(kind, LIMIT, diverging)
    values, shares, texts = zip(*scale.ticks(), strict=True)
    np.testing.assert_allclose(scale.shares(np.array(values)), shares)
    assert list(shares) == sorted(set(shares)) and shares[-1] == 1 and shares[0] == (-1 if diverging else 0)
    assert [float(text.removeprefix("≤ ").replace("−", "-")) for text in texts] == pytest.approx(values, rel=1e-2)
    assert any(text.startswith("≤") for text in texts) == (kind == "log")


def test_a_heatmap_has_the_values_in_its_texts_and_ticks() -> None:
    values = np.array([[0.8, 0.2], [np.nan, 0.0]])
    chart = Heatmap(values, ["a", "b"], ["c", "d"], scale="weight", diverging=False, colours="square root")
    trace = chart.figure().to_dict()["data"][0]
    assert trace["z"][0] == [1.0, 0.5] and trace["customdata"][0] == [0.8, 0.2] and trace["z"][1][0] is None
    assert trace["colorbar"]["ticktext"][-1] == "0.8" and "square-root colours" in trace["colorbar"]["title"]["text"]
    *_, bar = chart.picture().axes
    assert [text.get_text() for text in bar.get_yticklabels()] == list(trace["colorbar"]["ticktext"])
    np.testing.assert_allclose(bar.get_yticks(), trace["colorbar"]["tickvals"])
    linear = Heatmap(values, ["a", "b"], ["c", "d"], diverging=False).figure().to_dict()["data"][0]
    assert linear["z"][0] == [0.8, 0.2] and linear["zmax"] == 0.8


def test_large_heatmaps_have_no_gaps_that_cover_them() -> None:
    names = [str(i) for i in range(65)]
    large, small = (Heatmap(np.eye(n), names[:n], names[:n]) for n in (65, 64))
    assert large.figure().to_dict()["data"][0]["xgap"] == 0 and small.figure().to_dict()["data"][0]["xgap"] == 1
    lines = [chart.picture().axes[0].get_xticks(minor=True).size for chart in (large, small)]
    assert lines == [0, 65]
