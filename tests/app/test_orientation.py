"""A grid of heads is grid one way: pictures, interactive figures and data have the axes of the page's grid."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from app.components import component_files, head_grid
from app.heads import score_grid
from app.heads.score import prompt_score
from app.patching.sweep_view import SweepDownload
from tests.app.heads.rendered import record_of

#: In `head_grid.js`: what is written along the axes of the grid, whose data are rows.
ACROSS, DOWN = "layer", "head"


class GridComponent:
    """The component in place of the browser: the rows that the page draws, the first on top."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    def __call__(self, data: dict[str, Any], **_: Any) -> None:
        self.data = data

    @property
    def rows(self) -> np.ndarray:
        return np.array(self.data["values"], dtype=float)


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> GridComponent:
    component = GridComponent()
    monkeypatch.setattr(head_grid, "load_component", lambda name: component)
    return component


def on_page(grid: GridComponent, values: np.ndarray) -> np.ndarray:
    head_grid.head_grid(values, title="", units="", selected=wb.Head(0, 0), key="grid", on_pick=lambda head: None)
    return grid.rows


def check(grid: GridComponent, values: np.ndarray, of: Any, rows_are: str = DOWN) -> None:
    """A figure and a picture of values ``[layer, head]`` against the page's grid of the same."""
    expected = on_page(grid, values)
    picture, figure = of.picture(), of.figure()
    axes = picture.axes[0]
    (image,) = axes.get_images()
    np.testing.assert_allclose(image.get_array().filled(np.nan), expected, atol=1e-6)
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row on top
    assert (axes.get_xlabel(), axes.get_ylabel()) == (ACROSS, rows_are)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [str(i) for i in range(len(expected))]
    trace = json.loads(str(figure.to_json()))["data"][0]
    np.testing.assert_allclose(np.array(trace["z"], dtype=float), expected, atol=1e-6)
    assert figure.layout.yaxis.autorange == "reversed"
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == (ACROSS, rows_are)


def test_the_page_writes_the_names_of_its_axes() -> None:
    script = (component_files.FOLDER / "head_grid.js").read_text()
    assert f'data.axes || [{{ title: "{ACROSS}" }}, {{ title: data.shared ? "key/value head" : "{DOWN}" }}]' in script
    assert "fillText(across.title, LEFT + (layers * size) / 2" in script and "data.values[j][i]" in script


def test_a_sweep(grid: GridComponent) -> None:
    model = wb.load("tiny")
    sweep = wb.sweep(model, wb.task("ioi", n=4))
    assert sweep.effect is not None and sweep.effect.shape == (2, 8)
    check(grid, sweep.effect, sweep)
    hover = np.array(sweep.figure().data[0].customdata)  # pyright: ignore[reportAttributeAccessIssue] - of a heatmap
    assert hover.shape == (8, 2) and "1.7" in hover[7, 1]
    table = pd.read_csv(io.BytesIO(SweepDownload(sweep).csv()))
    cells = table.pivot_table(index="head_index", columns="layer", values="effect")
    np.testing.assert_allclose(cells.to_numpy(), on_page(grid, sweep.effect), atol=1e-6)
    noise = np.random.default_rng(0).normal(size=sweep.values.shape)
    shared = replace(sweep, values=noise, axes=("layer", "kv_head"), labels={})
    assert shared.effect is not None
    check(grid, shared.effect, shared, "key/value head")


def test_a_sweep_with_a_menu(grid: GridComponent) -> None:
    values, base = np.random.default_rng(0).normal(size=(2, 3, 4, 5)), np.zeros(5)
    sweep = wb.Sweep(values, base, None, ("layer", "head", "position"))
    menu = json.loads(str(sweep.figure().to_json()))["layout"]["updatemenus"][0]["buttons"]
    for i, button in enumerate(menu[1:]):
        cells = np.array(button["args"][0]["z"][0], dtype=float)
        np.testing.assert_allclose(cells, on_page(grid, sweep.mean_delta[..., i]), atol=1e-6)
        assert f"<b>1.2 at {i}</b>" in button["args"][0]["customdata"][0][2][1]


def test_scores_and_pairs_of_positions(grid: GridComponent) -> None:
    model = wb.load("tiny")
    scores = wb.scores_on(model, wb.task("ioi", n=4))

    class Of:
        def figure(self) -> Any:
            return scores.figure("sink")

        def picture(self) -> Any:
            return scores.picture("sink")

    check(grid, scores["sink"], Of())
    pair = wb.attention_between(model, "Then, Mary and John", dest=4, src=2)
    check(grid, pair.values, pair)


def test_the_downloads_of_the_pages_grid(grid: GridComponent, monkeypatch: pytest.MonkeyPatch) -> None:
    _, record = record_of()
    score = prompt_score(record, wb.Head(1, 2), "sink")
    charts: list[Any] = []
    monkeypatch.setattr(score_grid, "download_buttons", lambda chart, key, name: charts.append(chart))
    score_grid.show_score(score, wb.Head(1, 2), "grid", lambda head: None, name="sink")
    (chart,) = charts
    table = pd.read_csv(io.BytesIO(chart.csv()), index_col=0)
    np.testing.assert_allclose(table[["0", "1"]].to_numpy(), grid.rows, atol=1e-6)
    assert table.index.name == f"{DOWN} \\ {ACROSS}"
    np.testing.assert_allclose(np.array(json.loads(chart.json())["values"]), grid.rows, atol=1e-6)
