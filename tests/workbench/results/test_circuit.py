"""Circuits: roles, files as untrusted input, and reading them from a run."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from workbench.core import Head
from workbench.errors import BadInput, UnknownName, UsageError
from workbench.results.circuit import Circuit, Edge
from workbench.runs.directory import RunDirectory

MOVER, INDUCTION = Head(9, 6), Head(5, 5)
CIRCUIT = Circuit(
    "ioi",
    "gpt2",
    ((MOVER, "mover"), (INDUCTION, "induction"), (MOVER, "negative mover"), (MOVER, "mover")),
    (Edge(MOVER), Edge(INDUCTION, MOVER, "q")),
    {"method": "path patching", "n": 25},
)


def test_heads_with_several_roles_count_once():
    assert CIRCUIT.head_set == {MOVER, INDUCTION} and len(CIRCUIT.heads) == 3
    assert CIRCUIT.roles == {"induction": (INDUCTION,), "mover": (MOVER,), "negative mover": (MOVER,)}
    assert [str(edge) for edge in CIRCUIT.edges] == ["5.5->9.6.q", "9.6->logits"]
    assert CIRCUIT.table()["head"].tolist() == ["5.5", "9.6", "9.6"]
    assert "9.6" in CIRCUIT._repr_html_()


def test_saved_and_loaded(tmp_path):
    CIRCUIT.save(tmp_path / "c.json")
    assert Circuit.load(tmp_path / "c.json") == CIRCUIT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, "format"),
        ({"name": 1}, "strings"),
        ({"heads": [["9.6"]]}, "list of 2 strings"),
        ({"heads": {}}, "must be lists"),
        ({"heads": [["9-6", "mover"]]}, "expected a head"),
        ({"heads": [["-1.6", "mover"]]}, "expected a head"),
        ({"edges": [["9.6", "logits", "q"]]}, "into must be"),
        ({"edges": [["9.6", "9.7", "z"]]}, "into must be"),
        ({"provenance": []}, "mapping"),
    ],
)
def test_files_that_are_not_as_written_are_refused(change, message, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({**CIRCUIT.json(), **change}))
    with pytest.raises(BadInput, match=message):
        Circuit.load(tmp_path / "c.json")


def run_with(root, rows, **tables):
    columns = ["task", "stage", "layer", "index", "head", "role", "in_circuit"]
    with RunDirectory.create(root, "circuit-reuse", {"n": 25}) as run:
        run.record(model={"name": "tiny"})
        run.add_table("heads", pd.DataFrame(rows, columns=columns))
        for name, frame in tables.items():
            run.add_table(name, frame)
    assert run.path is not None
    return run.path


ROWS = [
    ("ioi", "logits", 9, 6, "9.6", "mover", True),
    ("ioi", "mover-query", 5, 5, "5.5", "inhibition", True),
    ("ioi", "logits", 1, 1, "1.1", "mover", False),
    ("password-copying", "logits", 2, 0, "2.0", "mover", True),
]


def test_from_a_run(tmp_path):
    edges = pd.DataFrame(
        [("ioi", "5.5", "9.6", "q"), ("ioi", "9.6", "logits", "")], columns=["task", "sender", "receiver", "into"]
    )
    path = run_with(tmp_path, ROWS, edges=edges)
    circuit = Circuit.from_run(path, task="ioi")
    assert circuit.heads == ((INDUCTION, "inhibition"), (MOVER, "mover"))
    assert circuit.edges == CIRCUIT.edges and circuit.model == "tiny" and circuit.provenance["config"] == {"n": 25}
    assert Circuit.from_run(run_with(tmp_path, ROWS[:3])).name == "ioi"
    with pytest.raises(UsageError, match="ioi, password-copying"):
        Circuit.from_run(path)
    with pytest.raises(UnknownName, match="password-copying"):
        Circuit.from_run(path, task="password")


def test_a_run_without_circuits_is_refused(tmp_path):
    with RunDirectory.create(tmp_path, "f", {}) as run:
        run.add_table("heads", pd.DataFrame({"task": ["ioi"]}))
    with pytest.raises(BadInput, match="columns"):
        Circuit.from_run(tmp_path / run.name)
    with pytest.raises(BadInput, match="'head' contains numbers"):  # 9.6 and 9.60 would be the same
        Circuit.from_run(run_with(tmp_path, [(*row[:4], float(row[4]), *row[5:]) for row in ROWS]))
    with RunDirectory.create(tmp_path, "g", {}) as run:
        pass
    with pytest.raises(BadInput, match="no table 'heads'"):
        Circuit.from_run(tmp_path / run.name)
