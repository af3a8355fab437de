"""A command's kept answer: what it takes to read it, and everything that makes it another answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import small_models
from workbench import registry
from workbench.cache import Store, own_code
from workbench.cli import stored_answer
from workbench.cli.stored_answer import StoredAnswer
from workbench.models.sources.located import files_of
from workbench.results.sweep import Sweep

FACTS = ["patch", {"site": "z"}, ["task", "ioi", 4, 0]]
ARRAYS = {"values": np.arange(6.0).reshape(2, 3), "base": np.array([0.1, np.nan, np.inf])}
COMMAND = """
import sys
from workbench.cli import main
code = main(sys.argv[1:])
heavy = ("transformers", "transformer_lens", "pandas", "scipy", "datasets", "plotly", "huggingface_hub.hf_api")
print("imported:", *(name for name in heavy if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose files count as unchanged at once."""
    monkeypatch.setattr(stored_answer, "TICK", 0.0)
    small_models.save_directory(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def keep(store: Store, folder: Path, facts: Any = FACTS) -> None:
    StoredAnswer(store, facts, str(folder)).write({"text": "an answer"}, ARRAYS)


def answer_of(store: Store, folder: Path, facts: Any = FACTS) -> Any:
    return StoredAnswer(store, facts, str(folder)).read()


def patch(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = registry.environment() | {"WORKBENCH_CACHE_DIR": str(cache), "WORKBENCH_CACHE": "on"}
    command = [sys.executable, "-c", COMMAND, "patch", "--task", "ioi", "--n", "4", "--model", "tiny", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    "arguments", [("--json",), ("--screen", "attribution"), ("--edit", "zero", "--by", "position")]
)
def test_a_second_look_prints_the_same_and_imports_no_model(arguments: tuple[str, ...], tmp_path: Path) -> None:
    first, second = patch(tmp_path, *arguments), patch(tmp_path, *arguments)
    assert second.stdout == first.stdout and first.stdout
    assert "transformers" in first.stderr.partition("imported:")[2].split()
    assert second.stderr.partition("imported:")[2].split() == []
    assert "From the cache: the whole answer." in second.stderr.splitlines()
    fresh = patch(tmp_path, *arguments, "--no-cache")
    assert "transformers" in fresh.stderr.partition("imported:")[2].split()
    assert fresh.stdout == first.stdout  # computed in the same batches on one machine


def test_a_second_look_writes_the_same_sweep(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in ("first", "second")]
    for path in paths:
        patch(tmp_path, "--out", str(path))
    first, second = map(Sweep.load, paths)
    assert (first.axes, first.labels, first.info) == (second.axes, second.labels, second.info)
    for name in ("values", "base", "source"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_arrays_come_back_bit_for_bit(folder: Path, store: Store) -> None:
    keep(store, folder)
    answer, arrays = answer_of(store, folder)
    assert answer == {"text": "an answer"} and set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def rewrite(folder: Path) -> None:
    """Other weights of the same size, at the same time as far as a program can say."""
    path = folder / "model.safetensors"
    state, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)


def replace(folder: Path) -> None:
    path = folder / "config.json"
    text = path.read_text()
    path.rename(folder.parent / "before.json")
    path.write_text(text)


FILES: dict[str, Callable[[Path], Any]] = {
    "weights of the same size and time": rewrite,
    "a replaced file": replace,
    "a new file": lambda folder: (folder / "generation_config.json").write_text("{}"),
    "a missing file": lambda folder: (folder / "tokenizer_config.json").unlink(),
}


@pytest.mark.parametrize("change", FILES)
def test_other_files_of_the_model_are_another_answer(change: str, folder: Path, store: Store) -> None:
    keep(store, folder)
    assert answer_of(store, folder) is not None
    FILES[change](folder)
    assert answer_of(store, folder) is None


def add_package(patch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder.parent / "packages" / "torch_helper-1.0.dist-info").mkdir(parents=True)
    patch.syspath_prepend(folder.parent / "packages")


def other_precision(patch: pytest.MonkeyPatch, _: Path) -> None:
    patch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")


SURROUNDINGS: dict[str, Callable[[pytest.MonkeyPatch, Path], Any]] = {
    "a package": add_package,
    "a variable": lambda patch, _: patch.setenv("ATEN_CPU_CAPABILITY", "default"),
    "the Python": lambda patch, _: patch.setattr(sys, "version", "3.99"),
    "the machine": lambda patch, _: patch.setattr(stored_answer.platform, "machine", lambda: "abacus"),
    "the instructions": lambda patch, _: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "OTHER"),
    "the threads": lambda patch, _: patch.setattr(torch, "get_num_threads", lambda: 99),
    "a setting of torch": other_precision,
    "our own code": lambda patch, _: patch.setattr(stored_answer, "own_code_hash", lambda *_: "other"),
}


@pytest.mark.parametrize("change", SURROUNDINGS)
def test_other_surroundings_are_another_answer(
    change: str, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, folder)
    assert answer_of(store, folder) is not None
    SURROUNDINGS[change](monkeypatch, folder)
    assert answer_of(store, folder) is None


def test_other_facts_and_another_name_are_another_answer(folder: Path, store: Store) -> None:
    keep(store, folder)
    assert answer_of(store, folder, ["patch", {"site": "q"}, FACTS[2]]) is None
    link = folder.parent / "link"
    link.symlink_to(folder, target_is_directory=True)
    assert answer_of(store, link) is None  # the answer says the name


def test_files_that_have_just_changed_are_not_trusted(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_answer, "TICK", 3600.0)
    keep(store, folder)
    assert answer_of(store, folder) is None
    monkeypatch.setattr(stored_answer, "TICK", 0.0)
    assert answer_of(store, folder) is None


def test_an_answer_whose_files_change_while_it_is_computed_is_not_kept(folder: Path, store: Store) -> None:
    changed = StoredAnswer(store, FACTS, str(folder))
    rewrite(folder)
    changed.write({"text": "of which weights?"}, ARRAYS)
    assert answer_of(store, folder) is None


def test_warnings_are_given_again(folder: Path, store: Store) -> None:
    first = StoredAnswer(store, FACTS, str(folder))
    with pytest.warns(UserWarning, match="mind this"), first.noting_warnings():
        warnings.warn("mind this", stacklevel=1)
    first.write({}, {})
    with pytest.warns(UserWarning, match="mind this"):
        assert answer_of(store, folder) == ({}, {})


def test_a_model_that_is_not_here_and_no_cache_keep_nothing(store: Store, folder: Path) -> None:
    assert files_of("nobody/nothing") is None
    keep(store, Path("nobody/nothing"))
    assert answer_of(store, Path("nobody/nothing")) is None
    nowhere = StoredAnswer(None, FACTS, str(folder))
    nowhere.write({}, {})
    assert nowhere.read() is None


def test_source_that_changed_after_it_was_imported_has_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, "ROOT", tmp_path)
    (tmp_path / "package").mkdir()
    path, hash_now = tmp_path / "package" / "module.py", own_code.own_code_hash.__wrapped__
    hashes = set()
    for text in ("x = 1\n", "x = 2\n"):
        path.write_text(text)
        os.utime(path, (0, 0))
        hashes.add(hash_now("package"))
    path.rename(path.with_name("renamed.py"))
    hashes.add(hash_now("package"))
    assert len(hashes) == 3 and "" not in hashes
    os.utime(path.with_name("renamed.py"), (2**33, 2**33))
    assert hash_now("package") == ""


def test_answers_of_pairs_are_those_of_their_texts(tmp_path: Path) -> None:
    from workbench.cli.patched import _written
    from workbench.inputs.pairs import read_pairs

    pair = {"clean": "So Mary met", "corrupt": "So John met", "answer": " Anna", "wrong": " Paul"}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(pair))
    one = _written(read_pairs(path))
    path.write_text(json.dumps({**pair, "answer": " Lucy"}))
    assert _written(read_pairs(path)) != one and _written(read_pairs(path, skip=True)) != _written(read_pairs(path))
