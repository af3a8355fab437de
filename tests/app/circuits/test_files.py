"""Circuits as files: saved, opened, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app import upload_store
from app.circuits import saved_circuit
from tests.app.circuits.made_runs import HOSTILE, committed, make_run, page
from workbench.core import Head
from workbench.errors import BadInput
from workbench.results.circuit import Circuit, Edge


def circuit_file(**fields: Any) -> bytes:
    circuit = Circuit("mine", "tiny", ((Head(1, 1), "mover"), (Head(0, 1), HOSTILE)), (Edge(Head(1, 1)),))
    return json.dumps(circuit.json() | fields).encode()


def test_a_circuit_file_is_what_save_writes(tmp_path: Path) -> None:
    circuit = Circuit("ioi", "tiny", ((Head(0, 1), "mover"),), (Edge(Head(0, 1)),), {"n": 3})
    circuit.save(tmp_path / "saved.json")
    assert circuit.to_bytes() == (tmp_path / "saved.json").read_bytes()
    assert saved_circuit.parse_circuit(circuit.to_bytes()) == circuit


def test_an_opened_file_is_shown_and_named_in_the_url() -> None:
    intact = make_run("ioi-circuit", committed("ioi-circuit"))
    app = page().run()
    app.file_uploader[0].upload("mine.json", circuit_file(), "application/json").run()
    assert not app.exception and not app.error
    assert app.selectbox(key="circuit-run").value == saved_circuit.OPENED
    assert upload_store.load_file(app.query_params["circuit"]) == ("mine.json", circuit_file())
    assert "file mine.json: mine · tiny" in app.selectbox(key="circuit-run").options
    assert app.dataframe[0].value["head"].tolist() == ["0.1", "1.1"]
    again = page(
        **{name: app.query_params[name] for name in ("circuit", "circuit-run")}, **{"circuit-file-name": "x"}
    ).run()
    assert again.dataframe[0].value["role"].tolist() == [HOSTILE, "mover"]
    assert again.query_params["circuit-file-name"] == "mine.json"  # the file's own name, whatever a URL says
    again.button(key="circuit-close").click().run()
    assert not again.exception and not again.warning and "circuit" not in again.query_params
    assert again.selectbox(key="circuit-run").value == intact.path.name


BAD_FILES = [
    (b"no json", "is not valid JSON"),
    (b"\xff\xfe\x00", "is not valid JSON"),
    (b"{}", "does not name the format"),
    (circuit_file(heads=[["99999.0", "mover"]]), "which no model has"),
    (circuit_file(heads=[["1.0", "\ud800"]]), "lone surrogate"),
    (circuit_file(heads=[["1.0", "x" * 500]]), "Shorten it"),
    (circuit_file(heads=[], edges=[]), "has no heads"),
]


@pytest.mark.parametrize(("data", "message"), BAD_FILES)
def test_an_invalid_file_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        saved_circuit.parse_circuit(data)
    make_run("ioi-circuit", committed("ioi-circuit"))
    app = page().run()
    app.file_uploader[0].upload("mine.json", data, "application/json").run()
    assert not app.exception and message in app.error[0].value.replace("\\", "")
    assert len(app.dataframe) == 1 and "circuit" not in app.query_params


@pytest.mark.parametrize(("name", "visible"), [("bad.csv", "bad.csv"), ("../<img src=x>.json", "<img src=x>.json")])
def test_a_refused_file_closes_the_one_before_and_its_reason_stays(name: str, visible: str) -> None:
    run = make_run("ioi-circuit", committed("ioi-circuit"))
    app = page().run()
    app.file_uploader[0].upload("mine.json", circuit_file(), "application/json").run()
    app.file_uploader[0].set_value((name, b"{}", "application/json")).run()
    for _ in range(2):
        (error,) = [error.value.replace("\\", "") for error in app.error]
        assert not app.exception and error.startswith(visible)
        assert app.selectbox(key="circuit-run").options == [app.selectbox(key="circuit-run").options[0]]
        assert app.selectbox(key="circuit-run").value == run.path.name and "circuit" not in app.query_params
        app.run()
    app.file_uploader[0].set_value(None).run()
    assert not app.error and app.selectbox(key="circuit-run").value == run.path.name


def test_an_absent_file_is_named_by_the_url() -> None:
    make_run("ioi-circuit", committed("ioi-circuit"))
    app = page(circuit="a" * 64, **{"circuit-file-name": "../my.json"}).run()
    assert (
        app.warning[0]
        .value.replace("\\", "")
        .startswith("my.json: The URL refers to a circuit file that is not on this")
    )


@pytest.mark.parametrize("name", ["..", "a" * 64])
def test_a_missing_file_in_the_url_is_named(name: str) -> None:
    make_run("ioi-circuit", committed("ioi-circuit"))
    app = page(circuit=name).run()
    assert not app.exception and "The URL refers to a circuit file" in app.warning[0].value and len(app.dataframe) == 1
