"""The page *File formats* lists the fields that the code writes, no more and no fewer."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.docs_pages import DOCS
from workbench.runs.directory import RunDirectory

PAGE = (DOCS / "file-formats.md").read_text(encoding="utf-8")


def listed(section: str, header: str, column: int = 0) -> set[str]:
    """The names in a column of the section's table whose first heading is `header`."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    (table,) = re.findall(rf"^\| {header} \|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n?)+)", text, re.M)
    cells = [row.split("|")[column + 1] for row in table.strip().splitlines()]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def header_of(path: Path) -> tuple[dict[str, Any], dict[str, str], bytes]:
    """The tensors, the metadata and the data of a safetensors file, read as the page says."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = json.loads(data[8 : 8 + length])
    return tensors, tensors.pop("__metadata__"), data[8 + length :]


def sha256_as_the_page_says(text: str, tensors: dict[str, Any], data: bytes) -> str:
    state = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        begin, end = tensors[name]["data_offsets"]
        state.update(name.encode() + data[begin:end])
    return state.hexdigest()


@pytest.fixture(scope="module")
def model() -> Any:
    return wb.load("tiny")


def test_a_sweep_file(model: Any, tmp_path: Path) -> None:
    sweep, path = wb.sweep(model, wb.task("ioi", n=2)), tmp_path / "sweep.safetensors"
    sweep.save(path)
    tensors, metadata, data = header_of(path)
    assert set(tensors) == listed("Sweep", "tensor") and {t["dtype"] for t in tensors.values()} == {"F64"}
    assert set(metadata) == listed("Sweep", "metadata") and f"`{metadata['format']}`" in PAGE
    assert set(json.loads(metadata["sweep"])) == listed("Sweep", "JSON field")
    assert metadata["sha256"] == sha256_as_the_page_says(metadata["sweep"], tensors, data)
    begin, end = tensors["values"]["data_offsets"]
    values = np.frombuffer(data[begin:end], "<f8").reshape(tensors["values"]["shape"])
    assert np.array_equal(values, sweep.values)


def test_a_file_of_head_scores(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    wb.scores(model, wb.task("ioi", n=2)).save(path)
    tensors, metadata, data = header_of(path)
    assert {name.partition("/")[0] for name in tensors} == listed("Head scores", "tensor")
    assert set(metadata) == listed("Head scores", "metadata") and f"`{metadata['format']}`" in PAGE
    assert set(json.loads(metadata["scores"])) == listed("Head scores", "JSON field")
    assert metadata["sha256"] == sha256_as_the_page_says(metadata["scores"], tensors, data)


def test_a_file_of_a_memory_curve(tmp_path: Path) -> None:
    path = tmp_path / "curve.safetensors"
    wb.memory("delta", d=4, n=3, trials=2).save(path)
    tensors, metadata, data = header_of(path)
    assert set(tensors) == listed("Memory curve", "tensor")
    assert set(metadata) == listed("Memory curve", "metadata") and f"`{metadata['format']}`" in PAGE
    assert set(json.loads(metadata["curve"])) == listed("Memory curve", "JSON field")
    assert metadata["sha256"] == sha256_as_the_page_says(metadata["curve"], tensors, data)


def test_a_circuit_file(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    wb.Circuit("ioi", "tiny", heads=((wb.Head(1, 3), "mover"),)).save(path)
    fields = json.loads(path.read_text(encoding="utf-8"))
    assert set(fields) == listed("Circuit", "JSON field") and f"`{fields['format']}`" in PAGE


def test_a_file_of_notes(model: Any, tmp_path: Path) -> None:
    notes = wb.notes(model, folder=tmp_path)
    notes.write("0.1", "A mover.")
    notes.save(tmp_path / "notes.json")
    (path,) = (path for path in tmp_path.rglob("*.json") if path.name != "notes.json")
    assert path.read_bytes() == (tmp_path / "notes.json").read_bytes()
    fields = json.loads(path.read_text(encoding="utf-8"))
    assert set(fields) == listed("Notes", "JSON field") and f"`{fields['format']}`" in PAGE
    assert set(fields["notes"][0]) == listed("Notes", "field of a note")


def test_a_run_directory(tmp_path: Path) -> None:
    from matplotlib.figure import Figure
    from plotly.graph_objects import Figure as PlotlyFigure

    with RunDirectory.create(tmp_path, "ioi-circuit", {"model": "tiny"}) as run:
        run.add_table("table", pd.DataFrame({"n": [6]}))
        run.add_figure("figure", PlotlyFigure(), Figure())
    assert run.path is not None
    files = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert {re.sub(r"/\w+\.", "/NAME.", file) for file in files} == listed("Run directory", "file")
    fields = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    assert set(fields) | {"git"} == listed("Run directory", "JSON field") and f"`{fields['format']}`" in PAGE
    for line in (run.path / "done").read_text(encoding="utf-8").splitlines():
        digest, file = line.split("  ")
        assert digest == hashlib.sha256((run.path / file).read_bytes()).hexdigest()


def test_a_cache_folder(model: Any, tmp_path: Path) -> None:
    wb.record(model, wb.task("ioi", n=2), ["z", "pattern", "resid_pre"], cache=tmp_path)
    names = {path.name for path in tmp_path.iterdir()} - {"index.sqlite-wal", "index.sqlite-shm"}
    assert names == {path.split("/")[0] for path in listed("Cache folder", "path")}
    for shard in (tmp_path / "shards").iterdir():
        tensors, metadata, _ = header_of(shard)
        assert set(metadata) == {"workbench"}
        fields = json.loads(metadata["workbench"])
        assert set(fields) == listed("Cache folder", "JSON field") and set(fields["blocks"]) == set(tensors)
        for name, tensor in tensors.items():
            keys = fields["blocks"][name]
            assert len(keys) == tensor["shape"][0] and [len(text) for text in keys[0]] == [40, 32]
    assert {"blocks.0.attn.hook_z", "formula blocks.0.attn.hook_pattern"} <= set(tensors)
    with sqlite3.connect(tmp_path / "index.sqlite") as index:
        tables = {name for (name,) in index.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        columns = {row[1] for table in tables for row in index.execute(f"PRAGMA table_info({table})")}
    assert tables == listed("Cache folder", "table")
    assert columns == listed("Cache folder", "table", column=1)
