"""Still pictures draw what is known, and nothing where nothing is."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.plotting.charts import Bars, Heatmap


def test_a_bar_without_an_interval_has_no_whiskers() -> None:
    value, none = np.array([1.0, 2.0]), np.array([np.nan, np.nan])
    for high in (none, value + 1):
        assert segments(Bars(value, none, high, ["a", "b"]).picture()) == []
    low, high = np.array([0.5, np.nan]), np.array([2.0, np.nan])
    (only,) = segments(Bars(value, low, high, ["a", "b"]).picture())
    np.testing.assert_allclose(only, [[0, 0.5], [0, 2.0]])


def segments(figure: Any) -> list[np.ndarray]:
    """The whiskers: from, to."""
    (bars,) = (c for c in figure.axes[0].containers if hasattr(c, "has_yerr"))
    return [line for lines in bars.lines[2] for line in lines.get_segments()]


def test_small_numbers_in_cells_keep_two_digits() -> None:
    for values, texts in (
        ([[0.041, -0.0223], [0.0, 0.018]], {"0.041", "−0.022", "0.000", "0.018"}),
        ([[1.234, -0.0223], [0.5, 2.0]], {"1.23", "−0.02", "0.50", "2.00"}),
        ([[3e-7, -2e-7], [0.0, 1e-7]], {"3e-07", "−2e-07", "0e+00", "1e-07"}),
    ):
        figure = Heatmap(np.array(values), ["a", "b"], ["c", "d"], labelled=np.full((2, 2), True)).picture()
        assert {text.get_text() for text in figure.axes[0].texts} == {text.replace("e-", "e−") for text in texts}
