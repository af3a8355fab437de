"""Circuits as files: what is saved, what is opened, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app import upload_store
from app.circuits import saved_circuit
from tests.app.circuits.made_runs import HOSTILE, committed, made, page
from workbench.core import Head
from workbench.errors import BadInput
from workbench.results.circuit import Circuit, Edge


def saved(**changed: Any) -> bytes:
    circuit = Circuit("mine", "tiny", ((Head(1, 1), "mover"), (Head(0, 1), HOSTILE)), (Edge(Head(1, 1)),))
    return json.dumps(circuit.json() | changed).encode()


def test_a_circuit_file_is_what_save_writes(tmp_path: Path) -> None:
    circuit = Circuit("ioi", "tiny", ((Head(0, 1), "mover"),), (Edge(Head(0, 1)),), {"n": 3})
    circuit.save(tmp_path / "saved.json")
    assert circuit.to_bytes() == (tmp_path / "saved.json").read_bytes()
    assert saved_circuit.parse_circuit(circuit.to_bytes()) == circuit


def test_an_opened_file_is_shown_and_named_in_the_link() -> None:
    sound = made("ioi-circuit", committed("ioi-circuit"))
    app = page().run()
    app.file_uploader[0].upload("mine.json", saved(), "application/json").run()
    assert not app.exception and not app.error
    assert app.selectbox(key="circuit-run").value == saved_circuit.OPENED
    assert upload_store.load(app.query_params["circuit"]) == saved()
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
        saved_circuit.parse_circuit(data)
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
