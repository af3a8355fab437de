"""Whatever a file from outside holds, a parser returns or answers with one of our errors, within little memory."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import workbench as wb
from tests.families import hooked, paired
from tests.small_models import save_gguf
from workbench.cache import Store
from workbench.cache import shard as shards
from workbench.cache.keys import digest
from workbench.errors import BadInput, WorkbenchError
from workbench.inputs.rows import PairNotice
from workbench.io import safetensors_header
from workbench.models import catalog, gguf_header
from workbench.models.sources.store import read_seal
from workbench.runs.directory import RunDirectory
from workbench.runs.locate import finished_runs

#: Bytes that a parser may allocate for a file of a few kilobytes.
MEMORY = 64 * 2**20


def _gguf(folder: Path) -> Path:
    save_gguf(folder / "model.gguf")
    return folder / "model.gguf"


def _shard(folder: Path) -> Path:
    store = Store(folder / "cache")
    store.put("activation", {"z": ([digest(i) for i in range(3)], hooked("llama").hf.lm_head.weight[:3])})
    (path,) = store.shards.iterdir()
    return path


def _sweep(folder: Path) -> Path:
    wb.sweep(hooked("llama"), paired(2), layers=[0], cache=False).save(folder / "sweep.safetensors")
    return folder / "sweep.safetensors"


def _scores(folder: Path) -> Path:
    heads, pairs = np.zeros((2, 3)), np.zeros((6, 6))
    lens = pd.DataFrame([{"depth": 0, "before": "layer 0", "logit_difference": 0.5}])
    values, random = {"induction": heads, "similarity": heads}, {"induction": heads}
    wb.HeadScores(
        values, {"induction": np.zeros((4, 2, 3))}, {"induction": 0.1}, random, {"similarity": pairs}, lens, {"n": 3}
    ).save(folder / "scores.safetensors")
    return folder / "scores.safetensors"


def _circuit(folder: Path) -> Path:
    circuit = wb.Circuit("mine", "a model", ((wb.Head(1, 2), "mover"),), (), {"n": 3})
    circuit.save(folder / "circuit.json")
    return folder / "circuit.json"


def _jsonl(folder: Path) -> Path:
    row = {"clean": "a b", "corrupt": "a c", "answer": " d", "wrong": [" e", " f"], "positions": {"x": "a"}}
    (folder / "pairs.jsonl").write_text("\n".join([json.dumps(row)] * 3))
    return folder / "pairs.jsonl"


def _csv(folder: Path) -> Path:
    (folder / "pairs.csv").write_text('clean,corrupt,answer,wrong\n"a b","a c", d, e| f\n')
    return folder / "pairs.csv"


def _catalogue(folder: Path) -> Path:
    return Path(shutil.copy(Path(catalog.__file__).with_name("catalog.toml"), folder))


def _seal(folder: Path) -> Path:
    (folder / "source.json").write_text(json.dumps({"format": 1, "files": {"a": {"sha256": "00", "bytes": 3}}}))
    return folder / "source.json"


PARSERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "gguf header": (_gguf, gguf_header.read),
    "safetensors header": (_shard, safetensors_header.read),
    "shard": (_shard, shards.blocks),
    "sweep": (_sweep, wb.Sweep.load),
    "head scores": (_scores, lambda path: wb.HeadScores.load(path).table()),
    "circuit": (_circuit, wb.Circuit.load),
    "pairs, JSON lines": (_jsonl, wb.read_pairs),
    "pairs, CSV": (_csv, wb.read_pairs),
    "catalogue": (_catalogue, lambda path: catalog.parse(path.read_bytes())),
    "seal of a model": (_seal, lambda path: read_seal(path.parent)),
}


@pytest.fixture(scope="module", params=PARSERS)
def parser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    make, parse = PARSERS[request.param]
    path = make(tmp_path_factory.mktemp("hostile"))
    return path, path.read_bytes(), parse


def refused_or_read(parse: Callable[[Path], Any], path: Path) -> None:
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PairNotice)  # a pair that can be asked may still be pointed out
            parse(path)
    except WorkbenchError as error:
        assert "Traceback" not in str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MEMORY


MANY = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_the_files_are_read_as_they_are(parser: Any) -> None:
    path, data, parse = parser
    path.write_bytes(data)
    parse(path)


@MANY
@given(data=st.binary(max_size=200))
def test_any_bytes(parser: Any, data: bytes) -> None:
    path, _, parse = parser
    path.write_bytes(data)
    refused_or_read(parse, path)


@MANY
@given(draw=st.data())
def test_a_real_file_with_a_few_bytes_changed(parser: Any, draw: st.DataObject) -> None:
    path, data, parse = parser
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        # Headers are where lengths and names are.
        at = draw.draw(st.integers(0, min(len(changed), 4000) - 1))
        changed[at : at + draw.draw(st.integers(0, 8))] = draw.draw(st.binary(max_size=8))
    path.write_bytes(changed)
    refused_or_read(parse, path)


@MANY
@given(share=st.floats(0, 1))
def test_a_real_file_cut_off(parser: Any, share: float) -> None:
    path, data, parse = parser
    path.write_bytes(data[: int(share * len(data))])
    refused_or_read(parse, path)


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_is_refused(tmp_path: Path, depth: int) -> None:
    nested = "[" * depth + "]" * depth
    for name, parse in (("c.json", wb.Circuit.load), ("p.json", wb.read_pairs)):
        (tmp_path / name).write_text(nested)
        with pytest.raises(BadInput):
            parse(tmp_path / name)


# --- run directories --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with RunDirectory.create(tmp_path_factory.mktemp("runs"), "study", {"n": 2}) as directory:
        directory.add_table("heads", pd.DataFrame({"layer": [1], "index": [2]}))
    assert directory.path is not None
    return directory.path


def open_file(path: Path) -> Any:
    opened = wb.Run.read(path)
    return opened.summary, [opened.table(name) for name in opened.table_names]


@MANY
@given(draw=st.data())
def test_a_run_directory_with_a_file_changed(run: Path, draw: st.DataObject) -> None:
    files = sorted(p for p in run.rglob("*") if p.is_file())
    path = draw.draw(st.sampled_from(files))
    original = path.read_bytes()
    changed = bytearray(original)
    at = draw.draw(st.integers(0, max(0, len(changed) - 1)))
    changed[at : at + draw.draw(st.integers(0, 8))] = draw.draw(st.binary(max_size=8))
    path.write_bytes(changed)
    try:
        refused_or_read(open_file, run)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "tables/../../secret", "a/./../..//x"])
def test_no_path_leaves_a_run_directory(run: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (tmp_path / "secret").write_text("secret")
    with (copy / "done").open("a") as stream:
        stream.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(BadInput):
        wb.Run.read(copy)


def test_no_symbolic_link_is_followed(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (tmp_path / "elsewhere.txt").write_bytes((copy / "summary.txt").read_bytes())
    (copy / "summary.txt").unlink()
    os.symlink(tmp_path / "elsewhere.txt", copy / "summary.txt")
    with pytest.raises(BadInput, match="altered"):
        wb.Run.read(copy)
    shutil.rmtree(copy / "tables")
    shutil.copytree(run / "tables", tmp_path / "tables")
    os.symlink(tmp_path / "tables", copy / "tables")
    (copy / "summary.txt").unlink()
    shutil.copy(run / "summary.txt", copy)
    with pytest.raises(BadInput, match="altered"):
        wb.Run.read(copy)


@MANY
@given(data=st.one_of(st.binary(max_size=60), st.just(b'{"path": "\\u0000"}'), st.just(b'{"path": 3}'), st.just(b"[]")))
def test_a_note_of_a_run_may_hold_anything(tmp_path: Path, data: bytes) -> None:
    before = os.environ.get("WORKBENCH_CACHE_DIR")
    os.environ["WORKBENCH_CACHE_DIR"] = str(tmp_path)
    try:
        (tmp_path / "runs").mkdir(exist_ok=True)
        (tmp_path / "runs" / "x.json").write_bytes(data)
        finished_runs(tmp_path / "nowhere")
    finally:
        if before is None:
            del os.environ["WORKBENCH_CACHE_DIR"]
        else:
            os.environ["WORKBENCH_CACHE_DIR"] = before
