"""Every chart is one description that Plotly and matplotlib draw, with the same numbers and words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workbench.plotting.charts import Bars, Chart, Graph, Heatmap, Line, Lines, Panels, PointsAndCurves, Scatter, Series

WORDS: dict[str, Any] = {"title": "What · tiny · n = 6", "subtitle": "how", "note": "A note."}
X, Y = np.array([0.0, 1.0, 2.0, np.nan]), np.array([1.0, 3.0, 5.0, 9.0])
CHARTS = {
    "heatmap": Heatmap(np.array([[1.0, np.nan]]), "ab", "c", "effect (logits)", "head", "layer", **WORDS),
    "bars": Bars(X[:2], X[:2] - 1, X[:2] + 1, "ab", "effect (logits)", "head", **WORDS),
    "lines": Lines(
        {"one": Line(X + 1, Y, Y - 1, Y + 1), "two": Line(X + 1, Y, dashed=True)},
        "heads",
        "effect (logits)",
        log_x=True,
        **WORDS,
    ),
    "points and curves": PointsAndCurves(
        {"one": Series(X + 1, Y, Y - 1, Y + 1, (X[:3] + 1, Y[:3] + 1)), "two": Series(X + 1, Y)},
        "heads",
        "effect (logits)",
        log_x=True,
        log_y=True,
        **WORDS,
    ),
    "scatter": Scatter(X, Y, "abcd", "head", "effect (logits)", **WORDS),
    "graph": Graph({"a": (0, 0), "b": (1, 2)}, {("a", "b"): -0.5}, {"a": "mover"}, "layer", "effect (logits)", **WORDS),
}


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_both_drawings_have_the_words(chart: Chart) -> None:
    figure, picture = chart.figure(), chart.picture()
    assert figure.layout.title.text == WORDS["title"] and figure.layout.title.subtitle.text == "how"
    assert "A note." in [note.text for note in figure.layout.annotations]
    axes = picture.axes[0]
    assert picture.get_suptitle() == WORDS["title"] and axes.get_title(loc="left") == "how"
    names = {figure.layout.xaxis.title.text, figure.layout.yaxis.title.text}
    assert names == {axes.get_xlabel(), axes.get_ylabel()} and names - {None, ""}
    assert "effect (logits)" in str(figure.to_json())


def test_a_scatter_leaves_out_what_has_no_value_and_draws_the_line() -> None:
    chart = CHARTS["scatter"]
    assert isinstance(chart, Scatter) and chart.line is not None
    assert (chart.line.slope, chart.line.intercept) == pytest.approx((2, 1))
    figure: Any = chart.figure()
    points, line = figure.data
    assert list(points.customdata) == ["a", "b", "c"] and list(line.y) == pytest.approx([1, 5])
    assert line.name == "y = 1 + 2 x, r = 1.00"
    (line_artist,) = chart.picture().axes[0].get_lines()
    np.testing.assert_allclose(np.asarray(line_artist.get_ydata(), float), [1, 5])


def test_a_scatter_of_one_point_has_no_line() -> None:
    empty: Any = Scatter(np.array([1.0]), np.array([2.0]), ["a"])
    assert empty.line is None and len(empty.figure().data) == 1 and empty.picture().axes


def test_a_scatter_with_logarithmic_axes_draws_the_line_of_the_logarithms_and_the_diagonal() -> None:
    x = np.array([1.0, 10.0, 100.0, 0.0])
    chart = Scatter(x, 3 * x**2, list("abcd"), log=True, diagonal="y = x", **WORDS)
    figure: Any = chart.figure()
    points, line, diagonal = figure.data
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert list(points.customdata) == ["a", "b", "c"]  # 0 has no logarithm
    assert list(line.y) == pytest.approx([3, 30_000]) and line.name == "slope 2.00, r = 1.00 (of the logarithms)"
    assert list(diagonal.x) == list(diagonal.y) == [1, 100] and diagonal.name == "y = x"
    axes = chart.picture().axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    fitted, straight = axes.get_lines()
    np.testing.assert_allclose(np.asarray(fitted.get_ydata(), float), [3, 30_000])
    np.testing.assert_allclose(np.asarray(straight.get_ydata(), float), [1, 100])


def test_a_band_is_drawn_where_there_is_an_interval() -> None:
    figure, picture = CHARTS["lines"].figure(), CHARTS["lines"].picture()
    assert [trace.name for trace in figure.data if trace.name] == ["one", "two"] and len(figure.data) == 4
    assert len(picture.axes[0].collections) == 1 and picture.axes[0].get_xscale() == "log"


PANELS = Panels(
    {
        "acquisition": {"delta": Line(X, Y, Y - 1, Y + 1), "hebb": Line(X, Y)},
        "extinction": {"hebb": Line(X, -Y), "delta": Line(X, Y, dashed=True)},
        "blocking": {"delta": Line(X, Y)},
    },
    x_title="trials",
    y_title="answer",
    y_range=(-2, 3),
    **WORDS,
)


def test_panels_have_their_titles_and_a_line_one_colour_and_one_entry_in_the_legend() -> None:
    figure: Any = PANELS.figure()
    picture: Any = PANELS.picture()
    assert figure.layout.title.text == picture.get_suptitle() == WORDS["title"]
    texts = [note.text for note in figure.layout.annotations]
    assert texts == ["acquisition", "extinction", "blocking", "A note."]
    assert picture.get_supxlabel() == "how · A note."
    assert [axes.get_title(loc="left") for axes in picture.axes] == ["acquisition", "extinction", "blocking", ""]
    assert [axes.get_visible() for axes in picture.axes] == [True, True, True, False]
    lines = [trace for trace in figure.data if trace.name]
    assert [trace.name for trace in lines if trace.showlegend] == PANELS.names == ["delta", "hebb"]
    assert len({(trace.name, trace.line.color) for trace in lines}) == 2 and len(lines) == 5
    (legend,) = picture.legends
    assert [text.get_text() for text in legend.get_texts()] == ["delta", "hebb"]


def test_panels_share_their_axes_which_have_titles_at_the_edges() -> None:
    figure: Any = PANELS.figure()
    picture: Any = PANELS.picture()
    assert [figure.layout[f"xaxis{i}"].title.text or "" for i in ("", 2, 3)] == ["", "trials", "trials"]
    assert figure.layout.yaxis.title.text == figure.layout.yaxis3.title.text == "answer"
    assert {tuple(figure.layout[f"yaxis{i}"].range) for i in ("", 2, 3)} == {(-2, 3)}
    assert [axes.get_xlabel() for axes in picture.axes[:3]] == ["", "trials", "trials"]
    assert all(axes.get_ylim() == (-2, 3) for axes in picture.axes[:3])
    np.testing.assert_array_equal(picture.axes[1].get_lines()[0].get_ydata()[:3], [-1, -3, -5])


def test_a_dashed_line_has_no_markers() -> None:
    figure, (one, two) = CHARTS["lines"].figure(), CHARTS["lines"].picture().axes[0].get_lines()
    modes = {trace.name: (trace.mode, trace.line.dash) for trace in figure.data if trace.name}
    assert modes == {"one": ("lines+markers", None), "two": ("lines", "dash")}
    assert (one.get_linestyle(), one.get_marker()) == ("-", "o")
    assert (two.get_linestyle(), two.get_marker()) == ("--", "None")


def test_points_have_their_intervals_and_the_curve_has_their_colour() -> None:
    chart = CHARTS["points and curves"]
    figure, axes = chart.figure(), chart.picture().axes[0]
    traces: Any = {trace.name: trace for trace in figure.data}
    curve = figure.data[0]
    assert list(traces) == [None, "one", "two", "law"] and curve.line.color == traces["one"].marker.color
    assert (curve.mode, traces["one"].mode) == ("lines", "markers") and list(curve.y) == [2, 4, 6]
    assert list(traces["one"].error_y.array)[:3] == list(traces["one"].error_y.arrayminus)[:3] == [1, 1, 1]
    assert traces["two"].error_y.array is None
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two", "law"]
    assert axes.get_xscale() == axes.get_yscale() == "log" and len(axes.containers) == 2
    line, *points = axes.get_lines()
    assert line.get_color() == points[0].get_color() and points[0].get_linestyle() == "None"


def test_few_points_are_ticks_and_numbers_are_no_powers_of_ten() -> None:
    chart = PointsAndCurves({"one": Series(np.array([8.0, 64.0]), np.array([0.01, 10.0]))}, log_x=True, log_y=True)
    picture = chart.picture()
    axes = picture.axes[0]
    assert chart.x_ticks == [8, 64] and [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "64"]
    picture.draw_without_rendering()
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert {"0.01", "0.1", "1", "10"} <= set(labels) and not any("10^" in label for label in labels)
    assert PointsAndCurves({"one": Series(np.array([3.79427]), np.array([1.0]))}).x_ticks == []


def test_arrows_of_a_graph_have_the_width_of_their_strength() -> None:
    graph = CHARTS["graph"]
    assert isinstance(graph, Graph) and graph.width(-0.5) == 4 and graph.width(0) == 0.5
    assert graph.members == {"mover": ["a"], "": ["b"]}
    assert len(graph.figure().layout.annotations) == 2  # the arrow and the note
