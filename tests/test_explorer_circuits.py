"""The explorer's page Circuits, on runs made of the committed tables, and on files from outside."""

from __future__ import annotations

import csv
import io
import json
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app import chosen, inputs, models, options
from app.circuits import circuit_file, circuit_head, circuit_layout, circuit_matrices, circuit_published, circuit_read
from app.circuits.circuit_graph import CircuitGraph
from app.circuits.circuit_tables import in_words
from workbench.circuit import Circuit, Edge
from workbench.errors import BadInput
from workbench.registry import ROOT
from workbench.runs.directory import RunDirectory
from workbench.runs.run import Run
from workbench.vocabulary import Head

MODEL = "smollm2-135m-instruct-q4"
RESULTS = ROOT / "docs" / "results" / MODEL
HOSTILE = "<script>alert(1)</script>**$x$"
#: Okabe & Ito (2008), without black.
OKABE_ITO = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "available", lambda: ["tiny"])
    return tmp_path


def rows_of(finding: str, table: str) -> list[dict[str, str]]:
    """A committed table, read without pandas."""
    with (RESULTS / finding / "tables" / f"{table}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def committed(finding: str) -> dict[str, pd.DataFrame]:
    paths = sorted((RESULTS / finding / "tables").glob("*.csv"))
    texts: Any = {"head": str, "receivers": str}
    return {path.stem: pd.read_csv(path, dtype=texts) for path in paths}


def made(finding: str, tables: dict[str, pd.DataFrame], model: str = MODEL) -> Run:
    """A run directory under ``runs``."""
    with RunDirectory.create(Path("runs"), finding, {"model": model, "n": 20, "percent": 2.0}) as run:
        run.record(model={"name": model}, verdict="undecided")
        for name, frame in tables.items():
            run.add_table(name, frame)
    assert run.path is not None
    return Run.read(run.path)


def graph_of(run: Run, task: str = "ioi") -> CircuitGraph:
    return circuit_read.of_run(run, Circuit.from_run(run.path, task))


def drawn_by(shown: Any) -> Any:
    """Its Plotly figure."""
    return shown.plotly()


def page(**link: str) -> AppTest:
    app = AppTest.from_string("from app.pages import circuits; circuits.page.render()", default_timeout=60)
    app.query_params.update(link)
    return app


# What is drawn.


def test_lines_are_what_the_stages_measured_and_no_others() -> None:
    graph = graph_of(made("circuit-reuse", committed("circuit-reuse")))
    mine = [row for row in rows_of("circuit-reuse", "heads") if row["task"] == "ioi"]
    measured = {
        (graph.node(line.source).label, line.target): line.strength.value for line in graph.lines if line.carries
    }
    assert measured == {
        (row["head"], "logits" if row["stage"] == "logits" else f"joint/{row['stage']}"): float(row["mean_effect"])
        for row in mine
    }
    told = {row["stage"]: row["receivers"] for row in rows_of("circuit-reuse", "stages") if row["task"] == "ioi"}
    receiving = {name: set[str]() for name in told if name != "logits"}
    for line in graph.lines:
        if not line.carries:
            receiving[line.source.removeprefix("joint/")].add(graph.node(line.target).label)
            assert not line.strength.known
    assert receiving == {stage: set(heads.split()) for stage, heads in told.items() if stage != "logits"}
    assert {node.text for node in graph.nodes if node.kind == "joint"} == {"Q", "V"}


def test_a_marker_for_each_head_and_role_and_receivers_that_are_not_in_the_circuit_apart() -> None:
    graph = graph_of(made("circuit-reuse", committed("circuit-reuse")))
    wanted = {(r["head"], r["role"]) for r in rows_of("circuit-reuse", "heads") if r["task"] == "ioi"}
    assert {(n.label, n.role) for n in graph.nodes if n.kind == "head"} == wanted
    assert ("17.4", "early sender") in wanted and ("17.4", "value sender") in wanted
    outside = {n.label for n in graph.nodes if n.kind == "receives"}
    assert outside and not outside & {head for head, role in wanted if role in ("mover", "inhibition")}


def test_layers_go_upward_and_no_two_markers_coincide() -> None:
    graph = graph_of(made("circuit-reuse", committed("circuit-reuse")))
    layout = circuit_layout.laid_out(graph)
    heads = [(node.head.layer, layout.places[node.key]) for node in graph.nodes if node.head is not None]
    assert len({place for _, place in heads}) == len(heads)
    for layer, (_, y) in heads:
        assert all((other > layer) == (above > y) for other, (_, above) in heads)
    assert layout.places["logits"][1] > max(y for _, (_, y) in heads)
    upward = [circuit_layout.ends(layout, line) for line in graph.lines if line.target == "logits"]
    assert all(start[0] == end[0] for start, end in upward) and len({x for (x, _), _ in upward}) == len(upward)


def test_widths_follow_effects_and_roles_have_colours_of_their_own() -> None:
    graph = graph_of(made("circuit-reuse", committed("circuit-reuse")))
    strong = {abs(line.strength.value): circuit_layout.width(graph, line) for line in graph.lines if line.carries}
    largest = max(strong)
    assert all(width == pytest.approx(max(1, 9 * value / largest)) for value, width in strong.items())
    colours = circuit_layout.colours(graph)
    assert len(set(colours.values())) == len(colours) == 4 and set(colours.values()) <= OKABE_ITO
    figure = drawn_by(graph)
    symbols = {
        data[0] + "/" + trace.name: symbol
        for trace in figure.data
        if trace.name in ("inhibition", "mover", "negative mover")
        for data, symbol in zip(trace.customdata, trace.marker.symbol, strict=True)
    }
    assert symbols["20.0/inhibition"] == "circle"  # p = 0.0001
    assert symbols["19.2/inhibition"] == "circle-open"  # p = 1
    assert symbols["24.4/negative mover"] == "triangle-down" and symbols["23.3/mover"] == "circle"


def test_what_one_points_at_says_interval_and_p_value() -> None:
    figure = drawn_by(graph_of(made("circuit-reuse", committed("circuit-reuse"))))
    texts = [
        data[1] for trace in figure.data if trace.name == "mover" for data in trace.customdata if data[0] == "23.3"
    ]
    assert texts == [
        "23.3: mover<br>heads → logits, from position end<br>effect 0.585 [0.524, 0.653], p = 0.0001<br>n = 20"
    ]


def test_a_run_that_lists_no_receivers_draws_none_but_those_that_follow_from_a_role() -> None:
    tables = committed("ioi-circuit")
    graph = graph_of(made("ioi-circuit", tables))
    assert all(line.carries for line in graph.lines) and circuit_read.NO_RECEIVERS in graph.note
    more = tables["heads"].iloc[[0]].assign(stage="previous", layer=4, index=1, head="4.1", role="previous-token")
    graph = graph_of(made("ioi-circuit", tables | {"heads": pd.concat([tables["heads"], more])}))
    followed = [line for line in graph.lines if not line.carries]
    assert [(line.source, graph.node(line.target).label) for line in followed] == [("joint/previous", "17.4")]
    assert graph.node("17.4/earlier").role == "induction"


def test_a_run_without_stages_draws_no_line_and_sizes_from_minimality() -> None:
    graph = graph_of(made("faithfulness", committed("faithfulness")))
    assert not graph.lines and circuit_read.NO_STAGES in graph.note and circuit_read.MINIMALITY in graph.note
    told = {(row["head"], row["role"]): float(row["share"]) for row in rows_of("faithfulness", "minimality")}
    assert {(n.label, n.role): n.strength.value for n in graph.nodes} == pytest.approx(told)
    largest = max(graph.nodes, key=lambda node: circuit_layout.size(graph, node))
    assert told[largest.label, largest.role] == max(told.values())


def test_a_loss_is_not_called_an_effect_in_the_table() -> None:
    made("faithfulness", committed("faithfulness"))
    shown = page().run().dataframe[0].value
    assert shown["loss"].tolist() == pytest.approx([float(r["share"]) for r in rows_of("faithfulness", "minimality")])
    assert "effect" not in shown and "stage" not in shown


def test_a_run_without_effects_draws_all_alike() -> None:
    graph = graph_of(made("circuit-repair", committed("circuit-repair")))
    assert circuit_read.NO_EFFECTS in graph.note
    assert {circuit_layout.width(graph, line) for line in graph.lines} == {1.6}
    assert {line.target for line in graph.lines} == {"logits", "joint/mover-query"}


def test_edges_of_a_run_or_a_file_are_drawn_from_head_to_head() -> None:
    edges = pd.DataFrame(
        [("ioi", "20.0", "23.3", "q"), ("ioi", "23.3", "logits", "")], columns=["task", "sender", "receiver", "into"]
    )
    graph = graph_of(made("circuit-repair", committed("circuit-repair") | {"edges": edges}))
    assert [(line.source, line.target, line.into) for line in graph.lines] == [
        ("20.0/inhibition", "23.3/", "q"),
        ("23.3/", "logits", ""),
    ]
    assert graph.node("23.3/").kind == "receives" and "23.3/" in circuit_layout.laid_out(graph).places
    circuit = Circuit("x", "tiny", ((Head(0, 1), "a"), (Head(1, 0), "b")), (Edge(Head(0, 1), Head(1, 0), "v"),))
    assert [line.into for line in circuit_read.of_circuit(circuit).lines] == ["v"]


def test_a_circuit_that_is_too_large_is_not_drawn() -> None:
    heads = tuple((Head(i, 0), "a") for i in range(circuit_read.MOST + 1))
    with pytest.raises(BadInput, match="at most 300"):
        circuit_read.of_circuit(Circuit("x", "tiny", heads))


# What is downloaded.


def test_downloads_hold_the_very_numbers() -> None:
    graph = graph_of(made("circuit-reuse", committed("circuit-reuse")))
    table = pd.read_csv(io.BytesIO(graph.csv()), dtype={"head": str})
    heads = table[table["what"] == "head"]
    for row in [row for row in rows_of("circuit-reuse", "heads") if row["task"] == "ioi"]:
        found = heads[(heads["head"] == row["head"]) & (heads["role"] == row["role"])]
        numbers = [float(row[name]) for name in ("mean_effect", "effect_low", "effect_high", "p_value")]
        assert [list(found[name]) for name in ("value", "low", "high", "p_value")] == [[number] for number in numbers]
    data = json.loads(graph.json())
    assert len(data["nodes"]) == len(graph.nodes) and len(data["lines"]) == len(graph.lines)
    assert data["nodes"][0]["head"] == "23.3" and data["nodes"][0]["strength"]["value"] == pytest.approx(
        0.5849, abs=1e-4
    )
    assert graph.still("png").startswith(b"\x89PNG") and b"<svg" in graph.still("svg")


def test_hostile_names_are_text_in_every_form() -> None:
    circuit = Circuit(HOSTILE, HOSTILE, ((Head(0, 1), HOSTILE), (Head(1, 0), r"$\frac{")))
    graph = circuit_read.of_circuit(circuit)
    drawn = str(drawn_by(graph).to_json())
    assert "&lt;script&gt;" in drawn and "<script" not in drawn
    lane = "".join(drawn_by(graph).layout.xaxis.ticktext[0].split("<br>"))
    assert lane == escape(HOSTILE, quote=False)  # no line ends within an entity
    still = graph.still("svg")
    assert b"<script" not in still and graph.still("png")
    overlaps = committed("circuit-reuse")
    for name in ("overlap", "tasks"):
        overlaps[name] = overlaps[name].replace("ioi", HOSTILE)
    matrix = circuit_matrices.overlap(made("circuit-reuse", overlaps))
    assert "<script" not in str(drawn_by(matrix).to_json()) and matrix.still("png")
    assert HOSTILE in matrix.csv().decode()


def test_a_circuit_file_is_what_save_writes(tmp_path: Path) -> None:
    circuit = Circuit("ioi", "tiny", ((Head(0, 1), "mover"),), (Edge(Head(0, 1)),), {"n": 3})
    circuit.save(tmp_path / "saved.json")
    assert circuit.to_bytes() == (tmp_path / "saved.json").read_bytes()
    assert circuit_file.read(circuit.to_bytes()) == circuit


# Between tasks.


def test_the_overlap_matrix_is_the_table_with_nulls() -> None:
    run = made("circuit-reuse", committed("circuit-reuse"))
    trace = drawn_by(circuit_matrices.overlap(run)).data[0]
    at = {name: i for i, name in enumerate(trace.x)}
    for row in rows_of("circuit-reuse", "overlap"):
        i, j = sorted((at[row["task_a"]], at[row["task_b"]]))
        assert trace.z[i][j] == float(row["jaccard"]) and trace.z[j][i] == float(row["null_95"])
        text = trace.customdata[i][j]
        assert f"[{float(row['low']):.2f}, {float(row['high']):.2f}]" in text
        assert f"95 % below {float(row['null_95']):.2f}" in text and f"p = {float(row['p_value']):.2g}" in text
    told = {row["task"]: row["split_half"] for row in rows_of("circuit-reuse", "tasks")}
    assert trace.z[at["ioi"]][at["ioi"]] == pytest.approx(float(told["ioi"]))
    other = circuit_matrices.overlap(run, 10.0)
    assert {row["percent"] for row in other.rows.to_dict("records")} == {10.0} and len(other.rows) == 28


def test_which_pairs_clear_their_null() -> None:
    frame = pd.DataFrame(
        {
            "task_a": ["a", "b", "c", "d", "e"],
            "task_b": ["x"] * 5,
            "jaccard": [0.5, 0.4, 0.1, 0.2, 0.3],
            "low": [0.3, 0.1, 0.05, 0.2, 0.2],
            "high": [0.7, 0.6, 0.3, 0.2, 0.4],
            "null_95": [0.2] * 5,
            "p_value": [0.01] * 5,
            "pair": ["near"] * 5,
        }
    )
    found = circuit_matrices.beyond_null(frame)
    assert dict(zip(found["pairs"], found["beyond"], strict=True)) == {
        "a × x": "surely",
        "b × x": "yes",
        "c × x": "no",
        "d × x": "no",  # on the percentile is not above it
        "e × x": "yes",
    }
    assert found["jaccard"].tolist() == [0.5, 0.4, 0.3, 0.2, 0.1]


def test_the_cross_ablation_matrix_is_less_its_random_control_and_centred_on_zero() -> None:
    matrix = circuit_matrices.cross_ablation(made("circuit-reuse", committed("circuit-reuse")))
    trace = drawn_by(matrix).data[0]
    at = {name: i for i, name in enumerate(trace.x)}
    for row in rows_of("circuit-reuse", "cross_ablation"):
        i, j = at[row["ablated"]], at[row["measured"]]
        assert trace.z[i][j] == float(row["beyond_random"])
        assert f"random heads of its layers {float(row['random']):.2f}" in trace.customdata[i][j]
    assert trace.zmin == -trace.zmax
    data = json.loads(matrix.json())
    assert len(data["rows"]) == 64 and {"random", "random_low", "random_high"} <= set(data["rows"][0])


def test_a_table_that_is_not_as_findings_write_it_is_refused() -> None:
    tables = committed("circuit-reuse")
    run = made("circuit-reuse", tables | {"overlap": tables["overlap"].drop(columns="null_95")})
    with pytest.raises(BadInput, match="null_95"):
        circuit_matrices.overlap(run)
    run = made("circuit-reuse", tables | {"cross_ablation": tables["cross_ablation"].assign(damage="much")})
    with pytest.raises(BadInput, match="must hold numbers"):
        circuit_matrices.cross_ablation(run)


def test_what_is_said_of_a_circuit_has_a_control() -> None:
    words = " ".join(in_words(made("circuit-reuse", committed("circuit-reuse")), "ioi"))
    [row] = [r for r in rows_of("circuit-reuse", "cross_ablation") if r["ablated"] == r["measured"] == "ioi"]
    assert f"{float(row['damage']):.2f} [{float(row['low']):.2f}, {float(row['high']):.2f}]" in words
    assert f"{float(row['random']):.2f} ({float(row['random_low']):.2f} to {float(row['random_high']):.2f})" in words
    words = " ".join(in_words(made("faithfulness", committed("faithfulness")), "ioi"))
    shares = [float(r["share"]) for r in rows_of("faithfulness", "faithfulness") if "random" in r["set"]]
    assert f"{len(shares)} random circuits {min(shares):.2f} to {max(shares):.2f}" in words


# Beside what was published.


def test_nothing_that_was_not_checked_is_called_checked() -> None:
    found = circuit_published.values("gpt2")
    [row] = [row for row in found.to_dict("records") if row["quantity"] == "faithfulness: faithfulness"]
    assert row["value"] == 0.87 and row["checked"] == "not checked"
    assert set(circuit_published.heads("gpt2-medium", "ioi")["checked"]) == {"readings agree", "in a repository"}
    strange = circuit_published.checked(pd.DataFrame({"sure": ["repository", "memory", "very", None]}))
    assert strange["checked"].tolist() == ["in a repository", "not checked", "not checked", "not checked"]


def test_a_run_of_a_published_model_stands_beside_what_was_published() -> None:
    heads = committed("circuit-reuse")["heads"].query("task == 'ioi'").head(1).assign(layer=15, index=14, head="15.14")
    beside = pd.DataFrame({"head": ["15.14"], "published_role": ["mover"], "sure": ["readings"], "rank": [3]})
    run = made("circuit-reuse", {"heads": heads, "published_heads": beside}, "gpt2-medium")
    app = page(**{"circuit-part": "Published"}).run()
    assert not app.exception and not app.error and not app.info
    assert app.dataframe[0].value["checked"].tolist() == ["readings agree"]
    assert app.selectbox(key="circuit-published").value == "gpt2-medium"
    assert any("2310\\.08744" in caption.value for caption in app.caption)
    graph = circuit_read.of_run(run, Circuit.from_run(run.path), None, circuit_published.roles_of("gpt2-medium", "ioi"))
    assert graph.node("15.14/logits").about[-1] == "published as mover"
    app = page(**{"circuit-part": "Circuit"}).run()
    assert app.dataframe[0].value["published as"].tolist() == ["mover"]


def test_a_model_without_a_published_circuit_is_said_to_have_none() -> None:
    made("circuit-repair", committed("circuit-repair"))
    app = page(
        **{"circuit-part": "Published", "circuit-published": "gpt2", "circuit-published-task": "greater-than"}
    ).run()
    assert not app.exception and "was published" in app.info[0].value
    assert app.dataframe[0].value["heads"].tolist() == ["0.1 0.3 0.5 5.5 6.1 6.9 7.10 8.11 9.1"]
    assert any("Hanna" in caption.value for caption in app.caption)


# The page.


def test_without_runs_the_page_says_how_to_make_one() -> None:
    app = page().run()
    assert not app.exception and "workbench reproduce circuit-reuse" in app.info[0].value


@pytest.mark.parametrize("finding", ["circuit-reuse", "ioi-circuit", "faithfulness", "circuit-repair"])
@pytest.mark.parametrize("part", ["Circuit", "Overlap", "Cross-ablation", "Published"])
def test_every_run_with_heads_is_shown(finding: str, part: str) -> None:
    run = made(finding, committed(finding))
    app = page(**{"circuit-part": part}).run()
    assert not app.exception and not app.error and not app.warning
    assert app.query_params["circuit-run"] == run.path.name and app.query_params["circuit-task"] == "ioi"
    drawn = app.get("plotly_chart")
    if part in ("Overlap", "Cross-ablation") and finding != "circuit-reuse":
        assert not drawn and "workbench reproduce" in app.info[0].value
    else:
        assert len(drawn) == 1


def test_a_link_restores_run_task_and_part() -> None:
    first = made("circuit-reuse", committed("circuit-reuse"))
    second = made("ioi-circuit", committed("ioi-circuit"))
    made("head-ablation", {"summary": pd.DataFrame({"n": [1]})})  # no circuit: not among the choices
    app = page(**{"circuit-run": first.path.name, "circuit-task": "password-copying"}).run()
    assert (
        app.selectbox(key="circuit-run").value == first.path.name and len(app.selectbox(key="circuit-run").options) == 2
    )
    wanted = [r for r in rows_of("circuit-reuse", "heads") if r["task"] == "password-copying"]
    shown = app.dataframe[0].value
    assert shown["head"].tolist() == [row["head"] for row in wanted]
    assert shown["effect"].tolist() == [float(row["mean_effect"]) for row in wanted]
    app.selectbox(key="circuit-run").set_value(second.path.name).run()
    assert not app.exception and app.query_params["circuit-run"] == second.path.name
    app = page(**{"circuit-run": "../../etc"}).run()
    assert not app.exception and "not on this machine" in app.warning[0].value


def test_a_damaged_run_is_one_line_and_the_others_are_shown() -> None:
    damaged = made("circuit-reuse", committed("circuit-reuse"))
    sound = made("ioi-circuit", committed("ioi-circuit"))
    (damaged.path / "run.json").write_text("{}")
    app = page().run()
    assert not app.exception and "was altered" in app.warning[0].value.replace("\\", "")
    assert app.selectbox(key="circuit-run").value == sound.path.name and len(app.dataframe) == 1


def test_a_damaged_table_is_one_line_and_another_run_can_be_chosen() -> None:
    run = made("circuit-reuse", committed("circuit-reuse"))
    (run.path / "tables" / "heads.parquet").write_bytes(b"no")
    app = page().run()
    assert not app.exception and "was altered" in app.error[0].value.replace("\\", "")
    assert app.selectbox(key="circuit-run").value == run.path.name


def test_the_chosen_head_is_said_and_ringed() -> None:
    made("circuit-reuse", committed("circuit-reuse"))
    app = page()
    app.session_state[chosen.HEAD] = "17.4"
    app.run()
    said = [text.value for text in app.markdown if "Head 17" in text.value]
    assert len(said) == 1 and "early sender" in said[0] and "value sender" in said[0]
    assert app.button(key="circuit-open").disabled  # this model is not among those that the page may load
    spec = json.loads(app.get("plotly_chart")[0].proto.spec)
    [ring] = [trace for trace in spec["data"] if trace.get("name") == "chosen head"]
    assert len(ring["x"]) == 2
    app.session_state[chosen.HEAD] = "0.0"
    app.run()
    assert any("not in this circuit" in text.value for text in app.markdown)


@pytest.mark.parametrize(
    ("points", "found"),
    [
        ([{"customdata": ["20.0", "text"]}], "20.0"),
        ([{"customdata": ["", "a joint"]}], "0.0"),
        ([{}], "0.0"),
        ([], "0.0"),
    ],
)
def test_a_click_in_the_graph_chooses_the_head(
    monkeypatch: pytest.MonkeyPatch, points: list[dict[str, Any]], found: str
) -> None:
    state: dict[str, Any] = {chosen.HEAD: "0.0"}
    state[circuit_head._GRAPH] = SimpleNamespace(selection=SimpleNamespace(points=points))
    for module in (circuit_head, chosen, options):
        monkeypatch.setattr(module, "st", SimpleNamespace(session_state=state))
    circuit_head._picked_in_graph()
    assert state[chosen.HEAD] == found


def test_opening_a_head_takes_the_model_and_the_head_along() -> None:
    heads = pd.DataFrame([("ioi", "logits", 1, 1, "1.1", "mover", 0.5)], columns=HEADS)
    made("circuit-reuse", {"heads": heads}, "tiny")
    app = AppTest.from_string(HOME, default_timeout=60)
    app.query_params.update({"head": "1.1", "prompt": "Paul and Anna"})
    app.run()
    app.button(key="circuit-open").click().run()
    assert not app.exception
    assert app.query_params["head"] == "1.1" and app.query_params["model"] == "tiny"
    assert app.session_state[chosen.HEAD] == "1.1" and app.session_state[chosen.PROMPT] == "Paul and Anna"
    assert "circuit-open" not in [button.key for button in app.button]


HEADS = ["task", "stage", "layer", "index", "head", "role", "mean_effect"]
HOME = """
import streamlit as st
from app import chosen
from app.page import pages
from app.pages import circuits

def first():
    if st.session_state.get("begun"):
        st.text("elsewhere")

found = {page.name: page for page in pages()}
heads = st.Page(found["heads"].render, url_path="heads", default=True)
here = st.Page(circuits.page.render, url_path="circuits")
view = st.navigation([heads, here])
with st.sidebar:
    chosen.widgets(["tiny"])
if not st.session_state.get("begun"):
    st.session_state["begun"] = True
    st.switch_page(here, query_params=dict(st.query_params))
view.run()
"""


# Files.


def saved(**changed: Any) -> bytes:
    circuit = Circuit("mine", "tiny", ((Head(1, 1), "mover"), (Head(0, 1), HOSTILE)), (Edge(Head(1, 1)),))
    return json.dumps(circuit.json() | changed).encode()


def test_an_opened_file_is_shown_and_named_in_the_link() -> None:
    sound = made("ioi-circuit", committed("ioi-circuit"))
    app = page().run()
    app.file_uploader[0].upload("mine.json", saved(), "application/json").run()
    assert not app.exception and not app.error
    assert app.selectbox(key="circuit-run").value == circuit_file.OPENED
    assert inputs.kept(app.query_params["circuit"]) == saved()
    assert app.dataframe[0].value["head"].tolist() == ["0.1", "1.1"]
    again = page(**{name: app.query_params[name] for name in ("circuit", "circuit-run")}).run()
    assert again.dataframe[0].value["role"].tolist() == [HOSTILE, "mover"]
    again.button(key="circuit-close").click().run()
    assert not again.exception and not again.warning and "circuit" not in again.query_params
    assert again.selectbox(key="circuit-run").value == sound.path.name


BAD_FILES = [
    (b"no json", "is not JSON"),
    (b"\xff\xfe\x00", "is not JSON"),
    (b"{}", "does not name the format"),
    (saved(heads=[["99999.0", "mover"]]), "no model has such a head"),
    (saved(heads=[["1.0", "\ud800"]]), "lone surrogate"),
    (saved(heads=[["1.0", "x" * 500]]), "shorten it"),
    (saved(heads=[], edges=[]), "without heads"),
]


@pytest.mark.parametrize(("data", "said"), BAD_FILES)
def test_a_file_that_is_no_circuit_is_one_line(data: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        circuit_file.read(data)
    made("ioi-circuit", committed("ioi-circuit"))
    app = page().run()
    app.file_uploader[0].upload("mine.json", data, "application/json").run()
    assert not app.exception and said in app.error[0].value.replace("\\", "")
    assert len(app.dataframe) == 1 and "circuit" not in app.query_params


@pytest.mark.parametrize("name", ["..", "a" * 64])
def test_a_link_to_a_file_that_is_not_here_says_so(name: str) -> None:
    made("ioi-circuit", committed("ioi-circuit"))
    app = page(circuit=name).run()
    assert not app.exception and "The link names an input" in app.warning[0].value and len(app.dataframe) == 1


def test_every_layout_is_finite() -> None:
    for finding in ("circuit-reuse", "ioi-circuit", "faithfulness", "circuit-repair"):
        run = made(finding, committed(finding))
        for task in Circuit.all_from_run(run.path):
            places = circuit_layout.laid_out(graph_of(run, task)).places
            assert np.isfinite(np.array(list(places.values()))).all()
