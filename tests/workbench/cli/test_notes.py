"""``workbench notes``: listing, exporting and importing, without loading a model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.workbench.head_notes.writer import some_notes
from workbench import registry

TEXT = "Copies <b>\x41 name\nsecond line"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some notes in the user's folder."""
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKBENCH_CACHE", "on")
    monkeypatch.chdir(tmp_path)
    notes = some_notes(tmp_path / "cache" / "notes")
    notes.tag("0.1", ["mover", "name"])
    notes.write("0.1", TEXT)
    return tmp_path / "cache" / "notes"


def test_a_listing(run: Any, no_model: None, folder: Path) -> None:
    code, out, err = run("notes", "m")
    assert (code, err) == (0, "") and "m, weights 00000000:" in out
    assert "0.1" in out and "mover, name" in out and "Copies <b>A name …" in out and "second" not in out
    some_notes(folder, name="other/m").write("7.7", "b")
    code, out, _ = run("notes", "--json")
    sets = json.loads(out)["notes"]
    assert code == 0 and [entry["model"] for entry in sets] == ["m", "other/m"]
    assert sets[0]["notes"][0]["text"] == TEXT and sets[0]["notes"][0]["tags"] == ["mover", "name"]
    code, out, _ = run("notes", "none")
    assert code == 0 and out.startswith("There are no notes of none.")
    for model, page in (("digits-vit", "Vision"), ("digits-dit", "Diffusion"), ("tiny", "Heads")):
        assert run("notes", model)[1].endswith(f"on the page {page}.\n")


def test_export_and_import(run: Any, no_model: None, folder: Path, tmp_path: Path) -> None:
    assert run("notes", "m", "--export", "n.csv")[0] == run("notes", "m", "--export", "n.json")[0] == 0
    frame = pd.read_csv("n.csv", dtype=str)
    assert frame["head"].tolist() == ["L0H1"] and frame["text"].tolist() == [TEXT]
    assert frame["link"].tolist() == ["/?model=m&head=0.1"]
    assert "Its links follow the explorer's address" in run("notes", "m", "--export", "n.csv")[1]
    code, out, _ = run("notes", "m", "--export", "n.csv", "--address", "http://127.0.0.1:8501/")
    assert code == 0 and "links" not in out
    assert pd.read_csv("n.csv")["link"].tolist() == ["http://127.0.0.1:8501/?model=m&head=0.1"]
    some_notes(folder).remove("0.1")
    code, out, _ = run("notes", "m", "--import", "n.json", "--json")
    document = json.loads(out)
    assert code == 0 and document["imported"] == {"added": ["0.1"], "joined": [], "same": []}
    assert document["notes"][0]["notes"] == json.loads(Path("n.json").read_text())["notes"]
    some_notes(folder).write("0.1", "own")
    code, out, _ = run("notes", "--import", "n.json")
    assert code == 0 and "1 have both notes now (0.1)" in out
    assert some_notes(folder)["0.1"].text.startswith("own\n\n[imported, of ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("other", "--import", "n.json"), 2, "these are notes of m, not of other"),
        (("m", "--import", "missing.json"), 3, "does not exist"),
        (("m", "--import", "n.csv"), 3, "not valid JSON"),
        (("m", "--export", "n.txt"), 2, "ends in .json or .csv"),
        (("m", "--export", "n.csv", "--address", "lab"), 2, "address='lab': expected the address of an explorer"),
        (("m", "--export", "n.json", "--address", "http://lab"), 2, "it is for the links of a .csv"),
        (("m", "--address", "http://lab"), 2, "it is for the links of a .csv"),
        (("none", "--export", "n.json"), 3, "no notes to export"),
        (("--export", "n.json"), 2, "the notes of one model. Name it, or give --weights: m (00000000), m (11111111)"),
        (("m", "--weights", "1", "--export", "there/n.json"), 3, "cannot be written"),
    ],
)
def test_refusals(arguments: Any, code: int, message: str, run: Any, no_model: None, folder: Path) -> None:
    some_notes(folder).save("n.json")
    some_notes(folder).save("n.csv")
    some_notes(folder, weights="1" * 40).write("0.0", "b")
    result, out, err = run("notes", *arguments)
    assert (result, out) == (code, "") and message in err and err.count("\n") == 1


def test_one_of_several_weights(run: Any, no_model: None, folder: Path) -> None:
    some_notes(folder, weights="1" * 40).write("0.0", "b")
    assert run("notes", "m", "--weights", "1", "--export", "n.json")[0] == 0
    assert json.loads(Path("n.json").read_text())["weights"] == "1" * 40


def test_a_damaged_file_is_one_line(run: Any, folder: Path) -> None:
    (path,) = folder.rglob("*.json")
    path.write_bytes(b"{")
    code, out, err = run("notes", "m")
    assert (code, out) == (3, "") and err.count("\n") == 1 and "nothing is lost" in err
    assert run("notes", "m")[0] == 0


def test_it_imports_no_model_code(folder: Path) -> None:
    heavy = ("transformers", "transformer_lens", "pandas", "plotly", "matplotlib")
    code = (
        "import sys; from workbench.cli import main; main(['notes', 'm', '--export', 'n.json']); "
        f"print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=registry.environment())
    assert run.stderr.strip() == "[]" and "mover" in run.stdout
