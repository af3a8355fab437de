"""Sweeps of the page Patching: started, stored, shown with their statistics."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

import workbench as wb
from app import sidebar
from app.patching import sweep_view
from tests.app.patching.driving import InlineQueue, new_page, rerun, run_sweep, strongest_cells
from workbench.core import Head
from workbench.results.sweep import Sweep

INFO = {"model": "tiny", "task": "ioi", "metric": "logit_difference", "edit": "patch"}


def test_the_page_sweeps_and_shows_the_strongest_with_their_intervals(app: AppTest) -> None:
    strongest = strongest_cells(run_sweep(app))
    expected = wb.sweep(wb.load("tiny"), wb.task("ioi", n=6, seed=0), direction="denoise", cache=False)
    best = expected.top(8)
    assert strongest["cell"].tolist() == [str(head) for head in best]
    assert expected.effect is not None and expected.effect_low is not None
    np.testing.assert_allclose(strongest["effect"], [expected.effect[h.layer, h.index] for h in best], atol=1e-5)
    np.testing.assert_allclose(strongest["95 % low"], [expected.effect_low[h.layer, h.index] for h in best], atol=1e-5)


def test_the_baselines_are_over_the_grid_and_in_the_csv(app: AppTest) -> None:
    run_sweep(app)
    sweep = wb.sweep(wb.load("tiny"), wb.task("ioi", n=6, seed=0), direction="denoise", cache=False)
    lines = [line.value.replace("\\", "") for line in app.caption]
    assert sweep.baseline_note in lines and "on 6 of 6 pairs" in sweep.baseline_note
    table = pd.read_csv(io.BytesIO(sweep_view.SweepDownload(sweep).csv()))
    assert sweep.source is not None and set(table["clean_right"]) == set(table["corrupt_wrong"]) == {6}
    np.testing.assert_allclose(table["clean_mean"], sweep.source.mean())
    np.testing.assert_allclose(table["corrupt_mean"], sweep.base.mean())
    low, mean, high = (table[f"corrupt_{name}"].to_numpy() for name in ("low", "mean", "high"))
    assert bool(((low < mean) & (mean < high)).all())
    assert set(table["units"]) == {
        "mean_delta, clean_mean, corrupt_mean: logit difference in logits; effect: 0 = corrupt run, 1 = clean run; "
        "low, high: 95 % interval"
    }
    assert [f"L{layer}H{head}" for layer, head in zip(table["layer"], table["head_index"], strict=True)] == [
        *table["head"]
    ]


def test_a_url_shows_the_finished_sweep_at_once(app: AppTest, queue: InlineQueue) -> None:
    run_sweep(app)
    again = new_page()
    again.query_params.update(app.query_params)
    assert strongest_cells(rerun(again)).equals(strongest_cells(app)) and len(queue.requests) == 1


def test_positions_and_residual_sites_are_swept(app: AppTest) -> None:
    app.query_params.update({"by": "head × position", "n": "4"})
    cells = strongest_cells(run_sweep(app))["cell"]
    assert cells.str.fullmatch(r"\d\.\d at \w+").all()
    assert app.selectbox(key="at").options[0] == "largest over positions"
    app.selectbox(key="site").set_value("resid_pre")
    assert strongest_cells(run_sweep(app))["cell"].str.fullmatch(r"layer \d").all()


def test_a_key_value_head_is_named_as_one_and_a_click_selects_a_head_that_shares_it(
    app: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids: list[dict[str, Any]] = []
    monkeypatch.setattr(sweep_view, "head_grid", lambda values, **kwargs: grids.append({"values": values, **kwargs}))
    selected: list[Head] = []
    monkeypatch.setattr(sidebar, "select_head", selected.append)
    app.query_params.update({"site": "v", "head": "1.3", "n": "3"})
    run_sweep(app)
    model, last = wb.load("tiny"), grids[-1]
    group = model.n_heads // model.n_kv_heads
    assert group > 1 and last["values"].shape == (model.n_layers, model.n_kv_heads) and last["shared"]
    assert last["selected"] == Head(1, 3 // group)
    last["on_pick"](Head(1, 1))
    assert selected == [Head(1, group)]
    assert f"shared by heads 1.{group} to 1.{2 * group - 1}" in last["texts"][1, 1]


def test_a_sweep_that_fails_says_why_and_the_page_stays_usable(app: AppTest) -> None:
    app.query_params.update({"n": "1", "edit": "resample"})  # from which other prompt?
    rerun(app).button(key="start-sweeps").click()
    rerun(rerun(app))
    assert len(app.error) == 1 and "needs two inputs" in app.error[0].value and "\n" not in app.error[0].value
    app.selectbox(key="edit").set_value("zero")
    assert len(strongest_cells(run_sweep(app))) == 8 and not app.error


def test_a_number_out_of_range_in_the_url_is_named(app: AppTest) -> None:
    app.query_params["n"] = "5000"
    texts = [warning.value.replace("\\", "") for warning in rerun(app).warning]
    assert texts == ["The URL has n=5000, which is out of range (1 to 200). Showing 12."]
    assert app.query_params["n"] == "12" and not rerun(app).warning


def sweep_of(clean: list[float], corrupt: list[float], metric: str = "logit_difference") -> Sweep:
    values = np.zeros((2, 3, len(clean)))
    return Sweep(values, np.array(corrupt), np.array(clean), ("layer", "head"), info={**INFO, "metric": metric})


def test_a_model_that_does_not_do_the_task_is_named() -> None:
    wrong, right = [-1.0, -2.0, 0.5, -1.5], [2.0, 3.0, 2.5, 1.5]
    text = sweep_view.task_warning(sweep_of(clean=wrong, corrupt=right), denoise=True)
    assert text.startswith("The model cannot do this task") and "−1 [" in text
    assert sweep_view.task_warning(sweep_of(clean=right, corrupt=wrong), denoise=True) == ""
    assert sweep_view.task_warning(sweep_of(clean=right, corrupt=wrong), denoise=False) != ""  # the base is clean
    assert sweep_view.task_warning(sweep_of(wrong, right, "kl_divergence"), denoise=True) == ""
    uncertain = sweep_view.task_warning(sweep_of(clean=[3.0, -1.0], corrupt=wrong[:2]), denoise=True)
    assert uncertain.startswith("The model may not be able to do this task") and "includes 0" in uncertain
    assert "is −1, not" in sweep_view.task_warning(sweep_of([-1.0], [1.0]), denoise=True)


def test_a_negative_zero_is_printed_as_zero() -> None:
    text = sweep_view.task_warning(sweep_of([-0.0, -0.0], [1.0, 1.0]), denoise=True)
    assert "is 0 [0, 0]" in text
