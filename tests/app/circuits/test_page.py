"""The page Circuits on runs: which are shown, which are refused, and the head that is chosen."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app import sidebar, url_widgets
from app.circuits import selection
from tests.app.circuits.made_runs import committed, make_run, page, rows_of


def test_without_runs_the_page_says_how_to_make_one() -> None:
    app = page().run()
    assert not app.exception and "workbench reproduce circuit-reuse" in app.info[0].value


@pytest.mark.parametrize("finding", ["circuit-reuse", "ioi-circuit", "faithfulness", "circuit-repair"])
@pytest.mark.parametrize("part", ["Circuit", "Overlap", "Cross-ablation", "Published"])
def test_every_run_with_heads_is_shown(finding: str, part: str) -> None:
    run = make_run(finding, committed(finding))
    app = page(**{"circuit-part": part}).run()
    assert not app.exception and not app.error and not app.warning
    assert app.query_params["circuit-run"] == run.path.name and app.query_params["circuit-task"] == "ioi"
    charts = app.get("plotly_chart")
    if part in ("Overlap", "Cross-ablation") and finding != "circuit-reuse":
        assert not charts and "workbench reproduce" in app.info[0].value
    else:
        assert len(charts) == 1


def test_a_loss_is_not_called_an_effect_in_the_table() -> None:
    make_run("faithfulness", committed("faithfulness"))
    table = page().run().dataframe[0].value
    assert table["loss"].tolist() == pytest.approx([float(r["share"]) for r in rows_of("faithfulness", "minimality")])
    assert "effect" not in table and "stage" not in table


def test_a_url_restores_run_task_and_part() -> None:
    first = make_run("circuit-reuse", committed("circuit-reuse"))
    second = make_run("ioi-circuit", committed("ioi-circuit"))
    make_run("head-ablation", {"summary": pd.DataFrame({"n": [1]})})  # no circuit: not among the choices
    app = page(**{"circuit-run": first.path.name, "circuit-task": "password-copying"}).run()
    assert (
        app.selectbox(key="circuit-run").value == first.path.name and len(app.selectbox(key="circuit-run").options) == 2
    )
    expected = [r for r in rows_of("circuit-reuse", "heads") if r["task"] == "password-copying"]
    table = app.dataframe[0].value
    assert table["head"].tolist() == [row["head"] for row in expected]
    assert table["effect"].tolist() == [float(row["mean_effect"]) for row in expected]
    app.selectbox(key="circuit-run").set_value(second.path.name).run()
    assert not app.exception and app.query_params["circuit-run"] == second.path.name
    app = page(**{"circuit-run": "../../etc"}).run()
    assert not app.exception and "not an option" in app.warning[0].value


def test_a_damaged_run_is_one_line_and_the_others_are_shown() -> None:
    damaged = make_run("circuit-reuse", committed("circuit-reuse"))
    intact = make_run("ioi-circuit", committed("ioi-circuit"))
    (damaged.path / "run.json").write_text("{}")
    app = page().run()
    assert not app.exception and "was altered" in app.warning[0].value.replace("\\", "")
    assert app.selectbox(key="circuit-run").value == intact.path.name and len(app.dataframe) == 1


def test_a_damaged_table_is_one_line_and_another_run_can_be_chosen() -> None:
    run = make_run("circuit-reuse", committed("circuit-reuse"))
    (run.path / "tables" / "heads.parquet").write_bytes(b"no")
    app = page().run()
    assert not app.exception and "was altered" in app.error[0].value.replace("\\", "")
    assert app.selectbox(key="circuit-run").value == run.path.name


def test_the_selected_head_has_its_roles_and_a_ring() -> None:
    make_run("circuit-reuse", committed("circuit-reuse"))
    app = page()
    app.session_state[sidebar.HEAD] = "17.4"
    app.run()
    texts = [text.value for text in app.markdown if "Head 17" in text.value]
    assert len(texts) == 1 and "early sender" in texts[0] and "value sender" in texts[0]
    assert app.button(key="circuit-open").disabled  # this model is not among those that the page may load
    spec = json.loads(app.get("plotly_chart")[0].proto.spec)
    [ring] = [trace for trace in spec["data"] if trace.get("name") == "selected head"]
    assert len(ring["x"]) == 2
    app.session_state[sidebar.HEAD] = "0.0"
    app.run()
    assert any("not in this circuit" in text.value for text in app.markdown)


@pytest.mark.parametrize(
    ("points", "views_"),
    [
        ([{"customdata": ["20.0", "text"]}], "20.0"),
        ([{"customdata": ["", "a joint"]}], "0.0"),
        ([{}], "0.0"),
        ([], "0.0"),
    ],
)
def test_a_click_in_the_graph_chooses_the_head(
    monkeypatch: pytest.MonkeyPatch, points: list[dict[str, Any]], views_: str
) -> None:
    state: dict[str, Any] = {sidebar.HEAD: "0.0"}
    state[selection._GRAPH] = SimpleNamespace(selection=SimpleNamespace(points=points))
    for module in (selection, sidebar, url_widgets):
        monkeypatch.setattr(module, "st", SimpleNamespace(session_state=state))
    selection._select_in_graph()
    assert state[sidebar.HEAD] == views_


HEADS = ["task", "stage", "layer", "index", "head", "role", "mean_effect"]

HOME = """
import streamlit as st
from app import sidebar, url_state
from app.page import pages, views

views_ = views()
view = st.navigation(list(views_.values()))
with url_state.update_url():
    sidebar.widgets(["tiny"], {page.title: page for page in pages()}[view.title].uses)
    if not st.session_state.get("started"):
        st.session_state["started"] = True
        st.switch_page(views_["circuits"], query_params=st.query_params.to_dict())
    view.run()
"""


def test_opening_a_head_takes_the_model_and_the_head_along() -> None:
    heads = pd.DataFrame([("ioi", "logits", 1, 1, "1.1", "mover", 0.5)], columns=HEADS)
    make_run("circuit-reuse", {"heads": heads}, "tiny")
    app = AppTest.from_string(HOME, default_timeout=250)
    app.query_params.update({"head": "1.1", "prompt": "Paul and Anna"})
    app.run()
    app.button(key="circuit-open").click().run()
    assert not app.exception
    assert app.query_params["head"] == "1.1" and app.query_params["model"] == "tiny"
    assert app.session_state[sidebar.HEAD] == "1.1" and app.session_state[sidebar.PROMPT] == "Paul and Anna"
    assert "circuit-open" not in [button.key for button in app.button]
