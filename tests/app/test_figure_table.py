"""The table of a stored figure holds the numbers that it shows."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest

from app.figure_table import table
from workbench.plotting.charts import Bars, Heatmap
from workbench.results.sweep import Sweep

INFO = {"model": "tiny", "task": "made up", "metric": "logit_difference", "edit": "zero"}


def stored(figure: go.Figure) -> go.Figure:
    """As a run directory gives it back."""
    return plotly.io.from_json(figure.to_json(), output_type="Figure")


def test_the_numbers_of_a_stored_figure_are_those_it_shows() -> None:
    values, low, high = np.array([1.0, np.nan]), np.array([0.5, np.nan]), np.array([2.0, np.nan])
    bars = Bars(values, low, high, ["a", "b"], reference=np.array([3.0, 4.0]), bar_name="effect").figure()
    rows = table(stored(bars))
    assert rows["series"].tolist() == ["effect", "effect", "chance", "chance"]
    np.testing.assert_array_equal(rows[["value", "low", "high"]][:2], np.stack([values, low, high], axis=1))
    assert rows["value"][2:].tolist() == [3.0, 4.0] and np.isnan(rows["low"].to_numpy()[2:]).all()
    cells = table(stored(Heatmap(np.array([[1.0, 2.0], [3.0, np.nan]]), ["x", "y"], ["top", "low"]).figure()))
    assert cells.iloc[1][["row", "column", "value"]].tolist() == ["top", "y", 2.0] and np.isnan(cells["value"][3])
    rng = np.random.default_rng(0)
    sweep = Sweep(rng.normal(size=(2, 3, 4, 5)), rng.normal(size=5), None, ("layer", "head", "position"), info=INFO)
    views = table(stored(sweep.figure()))
    one = views[(views["view"] == "position 2") & (views["row"] == "0") & (views["column"] == "1")]
    assert one["value"].tolist() == [pytest.approx(sweep.mean_delta[1, 0, 2])] and len(views) == 2 * 3 * 5
