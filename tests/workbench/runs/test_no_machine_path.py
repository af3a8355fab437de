"""Nothing that is written for others says where it was made: no folder, home or user of this machine."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.errors import BadInput
from workbench.io.local_names import local_name
from workbench.registry import ROOT
from workbench.runs.local_files import locate, with_hash

PAIR = {"clean": "Then, Mary and John went", "corrupt": "Then, Anna and John went", "answer": " Mary", "wrong": " John"}
QUICK = ["--n", "6", "--set", "n_circuit=6", "--set", "subsets=3", "--set", "random_circuits=3"]


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below, members of zip files too, with its name."""
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            yield file.name, file.read_bytes()
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as packed:
                for name in packed.namelist():
                    yield name, name.encode() + packed.read(name)


def traces(data: bytes, *places: Path) -> list[str]:
    """The places, the home folder, the user and the machine, where they are in the data."""
    words = {
        *map(str, places),
        *(str(place.resolve()) for place in places),
        f"{Path.home()}/",
        str(ROOT),
        str(Path.cwd()),
    }
    names = {getpass.getuser(), socket.gethostname(), *os.environ.get("USER", "").split()}
    words |= {pattern for name in names for pattern in (f"/{name}/", f"{name}@", f"@{name}")}
    # Shorter ones occur by chance in what is compressed.
    return [word for word in words if len(word) >= 6 and word.encode() in data]


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, pairs and a circuit of one's own; the current folder is another, and there is a cache."""
    monkeypatch.setenv("WORKBENCH_CACHE", "on")
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folder = tmp_path / "secret-place"
    shutil.copytree(ROOT / "data" / "checkpoints" / "tiny", folder / "my-model")
    (folder / "my.jsonl").write_text("\n".join(json.dumps(PAIR | {"answer": a}) for a in (" Mary", " Anna") * 3))
    heads = ((wb.Head(0, 7), "mover"), (wb.Head(1, 6), "mover"), (wb.Head(0, 4), "inhibition"))
    wb.Circuit("ioi", "tiny", heads).save(folder / "my-circuit.json")
    return folder


def test_no_file_and_no_answer_says_where_it_was_made(secret: Path, run: Any) -> None:
    model, pairs, circuit = (str(secret / name) for name in ("my-model", "my.jsonl", "my-circuit.json"))
    answers = []

    def answer(*arguments: str) -> dict[str, Any]:
        code, out, err = run(*arguments, "--json")
        assert code in (0, 1), err
        document = json.loads(out)
        if arguments[0] == "record":
            del document["path"]  # what is asked is where the cache of this machine is
        answers.append(json.dumps(document))
        return document

    answer("patch", "--pairs", pairs, "--model", model, "--out", "sweep.safetensors")
    answer("patch", "--task", "ioi", "--n", "6", "--model", model, "--out", "swept")
    answer("scores", "--model", model, "--n", "6", "--no-random", "--out", "scores.safetensors")
    answer("record", "--task", "ioi", "--n", "6", "--model", model)
    made = answer("reproduce", "faithfulness", "--model", model, "--set", f"circuit={circuit}", *QUICK)
    answer("reproduce", "head-ablation", "--model", model, "--n", "6")
    run_dir = Path(made["run_dir"])
    answer("runs", "show", run_dir.name)
    answer("runs", "export", run_dir.name, "--out", "packed.zip")
    circuit_of_run = wb.Circuit.from_run(run_dir)
    circuit_of_run.save("circuit.json")
    wb.sweep(wb.load(model), wb.task("ioi", n=6)).picture().savefig("sweep.svg")
    folder = Path.cwd()
    assert {path.name for path in folder.iterdir()} == {
        "sweep.safetensors", "swept", "scores.safetensors", "runs", "packed.zip", "circuit.json", "sweep.svg",
    }  # fmt: skip
    written = [*contents(folder), *(("an answer", text.encode()) for text in answers)]
    assert len(written) > 40
    assert {
        name: traces(data, secret, secret.parent) for name, data in written if traces(data, secret, secret.parent)
    } == {}
    config = wb.Run.read(run_dir).facts["config"]
    assert config["model"] == "./my-model" and config["circuit"].startswith("my-circuit.json#sha256=")
    assert "from my-circuit.json" in wb.Run.read(run_dir).summary and circuit_of_run.model == "./my-model"


def test_a_run_of_files_of_one_s_own_is_repeated_from_their_hashes(secret: Path, run: Any) -> None:
    model, circuit = secret / "my-model", secret / "my-circuit.json"
    code, out, err = run(
        "reproduce", "faithfulness", "--model", str(model), "--set", f"circuit={circuit}", *QUICK, "--json"
    )
    assert code in (0, 1), err
    name = Path(json.loads(out)["run_dir"]).name
    code, out, err = run("reproduce", "--from", name, "--json")
    assert code == 0, err
    repeated = json.loads(out)
    assert repeated["agree"] and not {"config.model", "config.circuit"} & set(repeated["facts"])
    shutil.move(circuit, "my-circuit.json")  # into the current folder
    assert run("reproduce", "--from", name, "--json")[0] == 0
    Path("my-circuit.json").write_text(Path("my-circuit.json").read_text().replace("1.6", "1.5"))
    code, _, err = run("reproduce", "--from", name)
    assert code == 3 and "no file of that name with the SHA-256" in err
    shutil.rmtree(model)
    code, _, err = run("reproduce", "--from", name)
    assert code == 3 and "its model ./my-model (SHA-256" in err and "Put it into this folder" in err


def test_names_that_say_no_place_stay() -> None:
    for name in ("gpt2", "org/name", "org/name@1a2b", "models/mine", "my.gguf"):
        assert local_name(name) == name
    assert local_name("~/models/mine") == local_name("../x/mine") == local_name("/a/b/mine/") == "./mine"


def test_a_run_directory_is_named_by_its_own_hash(tmp_path: Path) -> None:
    folder = tmp_path / "a-run"
    folder.mkdir()
    with pytest.raises(BadInput, match="no file 'done'"):
        with_hash(folder)
    (folder / "done").write_text("0" * 64 + "  run.json\n")
    text = with_hash(folder)
    assert text.startswith("a-run#sha256=") and with_hash("published") == "published"
    with pytest.raises(BadInput, match="no file of that name"):
        locate(text)  # WORKBENCH_CACHE=off: nothing is noted, and it is not in the current folder
