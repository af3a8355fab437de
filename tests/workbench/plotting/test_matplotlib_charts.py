"""Still pictures draw what is known, and nothing where nothing is."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.plotting.charts import Bars


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
