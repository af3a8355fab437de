"""What pages show of things that are easily overlooked: spaces in answers, pictures without an interactive figure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io
import pytest
from matplotlib.figure import Figure
from streamlit.testing.v1 import AppTest

from app import inputs
from app.drawn import table
from app.patching import asked
from workbench.findings import Report
from workbench.plotting.charts import Bars, Heatmap
from workbench.results.sweep import Sweep
from workbench.runs.directory import RunDirectory

INFO = {"model": "tiny", "task": "made up", "metric": "logit_difference", "edit": "zero"}


def pair(answer: str, wrong: str) -> dict[str, str]:
    return {"clean": "a", "corrupt": "b", "answer": answer, "wrong": wrong}


def test_the_spaces_of_answers_are_shown() -> None:
    said = asked.answers([pair(" Mary", " John"), pair(" a| an", "the")])
    assert "·Mary over ·John, ·a|·an over the, where" in said
    assert asked.without_space([pair(" Mary", "·John"), pair(" a| an", "the"), pair(" a|an", " the")]) == 2
    assert asked.answers([]) == ""
    assert "and 3 more" in asked.answers([pair(" Mary", " John")] * (asked.SPELT + 3))


def test_rows_without_a_word_change_no_pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inputs, "folder", lambda: tmp_path)
    shown = pd.DataFrame([dict.fromkeys(asked.FIELDS, "a"), dict.fromkeys(asked.FIELDS, "b")])
    monkeypatch.setattr(asked.st, "session_state", {asked._BASE: "as it came"})
    for empty in (None, "", np.nan):
        more = pd.concat([shown, pd.DataFrame([dict.fromkeys(asked.FIELDS, empty)])], ignore_index=True)
        assert asked._kept_rows(more, shown) == "as it came"
    assert asked._kept_rows(shown.head(1), shown) != "as it came"


def test_a_space_in_front_of_an_answer_is_a_dot_in_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inputs, "folder", lambda: tmp_path)
    row = {"clean": " a b", "corrupt": "a c", "answer": [" Mary", " Ann"], "wrong": "·odd"}
    (shown,) = asked._typed(asked._keep([row]))
    assert shown == {"clean": " a b", "corrupt": "a c", "answer": "·Mary|·Ann", "wrong": "·odd"}
    monkeypatch.setattr(asked.st, "session_state", {asked._BASE: "as it came"})
    typed = pd.DataFrame([{**shown, "wrong": "·John"}, {**shown, "answer": "Mary"}])
    first, second = (json.loads(line) for line in inputs.kept(asked._kept_rows(typed, typed.head(1))).splitlines())
    assert first == {**row, "wrong": " John"} and second["answer"] == "Mary"


def test_the_numbers_of_a_runs_figures_are_those_drawn() -> None:
    values, low, high = np.array([1.0, np.nan]), np.array([0.5, np.nan]), np.array([2.0, np.nan])
    bars = Bars(values, low, high, ["a", "b"], reference=np.array([3.0, 4.0]), bar_name="effect").figure()
    got = table(read(bars))
    assert got["series"].tolist() == ["effect", "effect", "chance", "chance"]
    np.testing.assert_array_equal(got[["value", "low", "high"]][:2], np.stack([values, low, high], axis=1))
    assert got["value"][2:].tolist() == [3.0, 4.0] and np.isnan(got["low"].to_numpy()[2:]).all()
    cells = table(read(Heatmap(np.array([[1.0, 2.0], [3.0, np.nan]]), ["x", "y"], ["top", "low"]).figure()))
    assert cells.iloc[1][["row", "column", "value"]].tolist() == ["top", "y", 2.0] and np.isnan(cells["value"][3])
    rng = np.random.default_rng(0)
    sweep = Sweep(rng.normal(size=(2, 3, 4, 5)), rng.normal(size=5), None, ("layer", "head", "position"), info=INFO)
    views = table(read(sweep.figure()))
    one = views[(views["view"] == "position 2") & (views["row"] == "1") & (views["column"] == "0")]
    assert one["value"].tolist() == [pytest.approx(sweep.mean_delta[1, 0, 2])] and len(views) == 2 * 3 * 5


def read(figure: go.Figure) -> go.Figure:
    """As a run directory gives it back."""
    return plotly.io.from_json(figure.to_json(), output_type="Figure")


def test_a_run_with_pictures_alone_shows_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with RunDirectory.create(Path("runs"), "circuit-reuse", {"model": "tiny"}) as run:
        run.add_report(Report("undecided", "Made up.", {}, {}, {"bars": Figure()}))
    script = "from app import link\nfrom app.pages import runs\nwith link.written():\n    runs.page.render()"
    app = AppTest.from_string(script, default_timeout=60)
    app.query_params["part"] = "Figures"
    app.run()
    assert not app.exception and app.selectbox(key="figure").value == "bars"
    assert len(app.get("image")) == 1 and "no figures" not in "".join(each.value for each in app.info)
