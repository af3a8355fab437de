"""The explorer's pages of runs and of the cache, on made-up runs and a cache of their own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from streamlit.testing.v1 import AppTest

from workbench.cache.folder import user_folder
from workbench.cache.store import Store
from workbench.findings import Report
from workbench.runs.directory import RunDirectory


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKBENCH_CACHE", "on")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def page(name: str) -> AppTest:
    script = (
        f"from app import url_state\nfrom app.pages import {name}\nwith url_state.written():\n    {name}.page.render()"
    )
    return AppTest.from_string(script, default_timeout=60)


def made_up(value: float) -> str:
    frame = pd.DataFrame({"head": ["1.2", "<b>9.9</b>"], "value": [value, 2.0]})
    with RunDirectory.create(Path("runs"), "circuit-reuse", {"model": "tiny", "n": 3}) as run:
        report = Report(
            "undecided", "Made up.\n<script>alert(1)</script>", {"heads": frame}, {"bars": go.Figure(go.Bar(y=[value]))}
        )
        run.add_report(report)
    assert run.path is not None
    return run.path.name


def test_without_runs_the_page_says_how_to_make_one() -> None:
    app = page("runs").run()
    assert not app.exception and "workbench reproduce" in app.info[0].value


def test_a_run_shows_report_tables_and_origin() -> None:
    name = made_up(1.0)
    app = page("runs").run()
    assert not app.exception and app.selectbox(key="run").value == name
    assert "Made up." in app.code[0].value and "circuit-reuse · tiny · undecided" in app.caption[0].value
    app.segmented_control(key="part").set_value("Tables").run()
    assert not app.exception and app.dataframe[0].value["value"].tolist() == [1.0, 2.0]
    app.segmented_control(key="part").set_value("Where it comes from").run()
    assert not app.exception and "config" in app.json[0].value


def test_two_runs_are_compared_and_the_link_restores_it() -> None:
    made_up(0.0)
    first, second = made_up(1.0), made_up(1.5)
    app = page("runs").run()
    app.selectbox(key="run").set_value(first)
    app.segmented_control(key="part").set_value("Compare").run()
    app.selectbox(key="run-with").set_value(second).run()
    again = page("runs")
    again.query_params = app.query_params
    for each in (app, again.run()):
        assert not each.exception and not each.warning
        assert each.segmented_control(key="part").value == "Compare" and each.selectbox(key="run-with").value == second
        differences = each.dataframe[-2].value
        assert differences["largest difference"].tolist() == [0.5] and "1 numbers" in differences[""][0]


@pytest.mark.parametrize("key", ["run", "run-with"])
def test_a_link_cannot_name_a_folder(key: str) -> None:
    for value in (1.0, 1.5):
        made_up(value)
    app = page("runs")
    app.query_params.update({"part": "Compare", key: "../../etc"})
    app.run()
    assert not app.exception and "not there" in app.warning[0].value and len(app.warning) == 1


def test_an_altered_run_is_refused() -> None:
    name = made_up(1.0)
    path = Path("runs") / name / "summary.txt"
    path.write_text("Better.")
    app = page("runs").run()
    assert "was altered" in str(app.exception[0].value) and not app.code


def test_the_cache_is_counted_checked_and_cleared() -> None:
    store = Store(user_folder() / "activations")
    store.put("activation", {"x": ([b"k" * 32], torch.zeros(1, 1000))})
    store.flush()
    app = page("cache").run()
    assert not app.exception and app.metric[2].value == "1"
    app.button(key="verify").click().run()
    assert "1 blocks are sound, 0 were damaged" in app.success[0].value
    app.number_input(key="keep").set_value(0.0)
    app.button(key="gc").click().run()
    assert not app.exception and "0.0 MB left" in app.success[0].value
