"""The command line's view of what is kept: the cache, runs, repetition, and the state of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from workbench import cache
from workbench.cli import main
from workbench.registry import ROOT
from workbench.runs.compare import compare
from workbench.runs.directory import RunDirectory
from workbench.runs.run import Run

Call = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``run("cache", "stats") -> (code, document, stderr)``, in an empty folder with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_CACHE_DIR", str(tmp_path / "user"))
    monkeypatch.delenv("WORKBENCH_CACHE", raising=False)

    def call(*arguments: str) -> tuple[int, Any, str]:
        code = main([*arguments, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out), err

    return call


def made(root: Path, effect: float, **config: Any) -> Path:
    with RunDirectory.create(root, "study", {"model": "tiny", **config}) as directory:
        directory.record(verdict="supported")
        directory.add_table("heads", pd.DataFrame({"head": ["1.2", "0.1"], "effect": [effect, float("nan")]}))
    assert directory.path is not None
    return directory.path


def test_recording_says_what_it_costs_and_fills_the_cache(run: Call) -> None:
    record = ["record", "--task", "ioi", "--model", "tiny", "--n", "4", "--sites", "z,pattern", "--layers", "0-1"]
    code, document, err = run(*record, "--dry-run")
    assert (code, document["recorded"]) == (0, False)
    assert document["estimate"]["runs"] == 8 and document["estimate"]["cached"] == 0
    assert "8 runs: about" in err
    size = document["estimate"]["size"]
    assert "activation" not in kinds(run)
    assert run(*record)[1]["recorded"] is True
    assert size < kinds(run)["activation"] < 3 * size + 50_000  # headers and formulas beside it
    _, document, err = run(*record)
    assert document["estimate"]["cached"] == 8 and "All 8 runs are in the cache" in err


def kinds(run: Call) -> dict[str, int]:
    """What the cache holds: kind → bytes. A load leaves the model's check and its weights' hash there, as results."""
    return {kind["kind"]: kind["bytes"] for kind in run("cache", "stats")[1]["kinds"]}


def test_the_cache_is_verified_and_emptied(run: Call, tmp_path: Path) -> None:
    run("record", "--task", "ioi", "--model", "tiny", "--n", "4")
    assert run("cache", "path")[1]["path"] == str(tmp_path / "user" / "activations")
    code, document, _ = run("cache", "verify")
    assert (code, document["lost"]) == (0, 0) and document["sound"] > 0
    shard = next((tmp_path / "user" / "activations" / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    code, document, _ = run("cache", "verify")
    assert code == 3 and document["lost"] > 0 and shard.name in document["wrong"][0]
    code, document, _ = run("cache", "gc", "--keep", "0")
    assert (code, document["bytes"]) == (0, 0)


def test_a_sweep_is_kept_unless_told_otherwise(run: Call) -> None:
    patch = ["patch", "--task", "ioi", "--model", "tiny", "--n", "4"]
    run(*patch, "--no-cache")
    assert run("cache", "stats")[1]["kinds"] == []
    run(*patch)
    assert [kind["kind"] for kind in run("cache", "stats")[1]["kinds"]] == ["result"]


def test_runs_are_listed_wherever_they_are(run: Call, tmp_path: Path) -> None:
    assert run("runs", "list")[1] == {"runs": []}
    local, elsewhere = made(tmp_path / "runs", 0.5), made(tmp_path / "other", 0.5, n=3)
    rows = run("runs", "list")[1]["runs"]
    assert {row["path"] for row in rows} == {f"runs/{local.name}", f"other/{elsewhere.name}"}  # from the current folder
    assert rows[0]["verdict"] == "supported" and rows[0]["model"] == "tiny"
    document = run("runs", "show", elsewhere.name[-8:])[1]
    assert document["path"] == f"other/{elsewhere.name}" and document["tables"] == ["heads"]


@pytest.mark.parametrize(("name", "code"), [("nothing-like-it", 2), ("study", 3)])
def test_a_name_that_fits_none_or_several_is_an_error(run: Call, tmp_path: Path, name: str, code: int) -> None:
    made(tmp_path / "runs", 0.5)
    made(tmp_path / "runs", 0.5, n=3)
    exit_code, document, _ = run("runs", "show", name)
    assert exit_code == code and "study" in document["error"]["message"]


def test_a_damaged_run_is_named(run: Call, tmp_path: Path) -> None:
    path = made(tmp_path / "runs", 0.5)
    (path / "run.json").write_text("{}")
    assert "altered" in run("runs", "list")[1]["runs"][0]["damaged"]
    assert run("runs", "show", path.name)[0] == 3


def test_two_runs_are_compared_number_by_number(run: Call, tmp_path: Path) -> None:
    a, b, c = (made(tmp_path / f"{i}", 0.5 + gap, n=i) for i, gap in enumerate((0.0, 5e-5, 2e-3)))
    code, document, _ = run("runs", "diff", str(a), str(b))
    assert code == 0 and document["agree"] and document["facts"] == {"config.n": [0, 1]}
    code, document, _ = run("runs", "diff", str(a), str(c))
    assert code == 1 and not document["agree"]
    (table,) = document["tables"]
    assert table["beyond"] == 1 and table["largest"] == pytest.approx(2e-3)


def test_tables_of_other_shapes_and_other_words_do_not_agree(tmp_path: Path) -> None:
    a = Run.read(made(tmp_path, 0.5))
    with RunDirectory.create(tmp_path, "study", {}) as directory:
        directory.add_table("heads", pd.DataFrame({"head": ["1.2", "0.3"], "effect": [0.5, 0.1]}))
        directory.add_table("more", pd.DataFrame({"x": [1]}))
    assert directory.path is not None
    heads, more = compare(a, Run.read(directory.path))
    assert (heads.words, heads.beyond) == (1, 1)  # another head, and a number where there was none
    assert "only" in more.reason and not more.agrees and more.largest != more.largest


def test_a_run_is_not_compared_with_itself(run: Call, tmp_path: Path) -> None:
    code, document, _ = run("runs", "show", "latest")
    assert code == 2 and document["error"]["message"].startswith("There are no runs yet. Make one with: workbench rep")
    path = made(tmp_path / "runs", 0.5)
    code, document, _ = run("runs", "diff", "latest", path.name)
    assert code == 2 and f"are the same run, {path.name}" in document["error"]["message"]
    code, document, _ = run("runs", "show", path.name[:3])
    assert code == 2 and "at least 4 characters" in document["error"]["message"]
    assert run("runs", "show", path.name[:4])[1]["path"] == f"runs/{path.name}"


def test_a_run_is_packed_into_one_file(run: Call, tmp_path: Path) -> None:
    path = made(tmp_path / "runs", 0.5)
    packed = run("runs", "export", "latest")[1]["path"]
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "unpacked")
    assert Run.read(tmp_path / "unpacked" / path.name).facts["verdict"] == "supported"
    code, document, _ = run("runs", "export", "latest")
    assert code == 2 and "already exists" in document["error"]["message"]
    assert run("runs", "show", "")[0] == 2
    assert run("runs", "export", "latest", "--out", "x.tar")[0] == 2


def test_a_finding_is_repeated_from_its_run(run: Call, tmp_path: Path) -> None:
    arguments = ["circuit-reuse", "--model", "tiny", "--n", "4", "--tasks", "ioi"]
    code, first, _ = run("reproduce", *arguments)
    assert code == 0
    facts = Run.read(first["run_dir"]).facts
    assert facts["device"] == "cpu" and facts["dtype"] == "float32" and facts["attention"] == "sdpa"
    assert run("cache", "stats")[1]["unfinished_runs"] == {}
    code, again, _ = run("reproduce", "--from", "latest")
    assert (code, again["agree"]) == (0, True)
    name = Path(first["run_dir"]).name
    assert again["run_dir"] != first["run_dir"] and again["from"].endswith(name)
    assert [row["repeats"] for row in run("runs", "list")[1]["runs"]] == [name, None]
    assert run("runs", "show", "latest")[1]["path"].endswith(name)  # a repetition is not the latest
    assert again["facts"] == {}
    assert run("reproduce")[0] == 2
    assert run("reproduce", "circuit-reuse", "--from", "latest")[0] == 2


def test_the_doctor_looks_at_versions_disk_cache_and_models(run: Call, tmp_path: Path) -> None:
    code, document, _ = run("doctor")
    checks = {check["what"]: check for check in document["checks"]}
    assert code == 0 and document["well"]
    assert {"python", "torch", "transformers", "disk", "cache", "models", "cores"} <= set(checks)
    assert "tiny" in checks["models"]["note"] and ">=2.10" in checks["torch"]["note"]
    (tmp_path / "user" / "activations" / "index.sqlite").write_bytes(b"")
    assert run("doctor")[0] == 0  # an empty index is built anew


def test_the_doctor_says_which_gpu_kernels_are_there(run: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = "sys_platform == 'linux' and extra == 'kernels'"
    needs = [f"{need}; {extra}" for need in ("fla-core[cuda]>=0.6", "natten>=0.21", "another>=1")]
    needs.append("peft; extra == 'adapters'")
    versions = {"fla-core": "0.6.0", "another": "0.9"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    monkeypatch.setattr(metadata, "version", version)
    code, document, _ = run("doctor")
    checks = {check["what"]: (check["state"], check["note"]) for check in document["checks"]}
    assert checks["fla-core"] == ("ok", "0.6.0 (>=0.6), GPU kernels")
    assert checks["natten"] == ("none", "GPU kernels: pip install 'attention-workbench[kernels]'")
    assert checks["another"] == ("bad", "0.9 (>=1), GPU kernels")
    assert "peft" not in checks and code == 1
    needs.remove(f"another>=1; {extra}")
    assert run("doctor")[0] == 0  # what is missing is no fault


def test_unfinished_runs_keep_what_they_need_unless_given_up(run: Call) -> None:
    from workbench.cache import store_of, unfinished

    run("record", "--task", "ioi", "--model", "tiny", "--n", "4")
    store = store_of(None)
    assert store is not None
    with suppress(KeyError), unfinished("study", {"n": 3}):
        store.put("result", {"x": ([b"0" * 20], torch.ones(1, 4))})
        raise KeyError
    store.flush()
    _, document, _ = run("cache", "gc", "--keep", "0")
    assert document["dropped"] > 0 and document["bytes"] > 0 and len(document["unfinished_runs"]) == 1
    _, document, _ = run("cache", "gc", "--keep", "0", "--give-up")
    assert document["bytes"] == 0 and document["unfinished_runs"] == {}


@pytest.mark.filterwarnings("ignore::workbench.cache.CacheNotice")  # shards that are gone were forgotten
def test_a_full_disk_is_cleaned_before_the_index_is_opened(run: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.cache import store as stores

    run("record", "--task", "ioi", "--model", "tiny", "--n", "4")
    open_checked, calls = stores.Store.open_checked, []

    def full(folder: Path) -> Any:
        calls.append(folder)
        if len(calls) == 1:
            raise stores.Unusable("disk I/O error")
        return open_checked(folder)

    monkeypatch.setattr(stores.Store, "open_checked", full)
    code, document, _ = run("cache", "gc", "--keep", "0")
    assert code == 0 and document["dropped"] > 0 and document["bytes"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["reproduce", "circuit-reuse", "--tasks", ","],
        ["reproduce", "--from", "latest", "--n", "3"],
        ["record", "--task", "ioi", "--layers", "5-1"],
        ["record", "--task", "ioi", "--layers", ""],
        ["record", "--task", "ioi", "--layers", "0-99999999999999"],
        ["record", "--task", "ioi", "--n", "1000000000"],
        ["patch", "--task", "ioi", "--by", ""],
        ["patch", "--task", "ioi", "--positions", ","],
        ["cache", "gc", "--keep", "1e400"],
    ],
    ids=" ".join,
)
def test_what_would_silently_mean_something_else_is_refused(run: Call, arguments: list[str]) -> None:
    code, document, _ = run(*arguments)
    assert code == 2 and document["error"]["message"]


def test_what_a_run_says_never_steers_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, 0.5, note="\x1b[31mred\x07")
    assert main(["runs", "show", "latest", "--dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "red" in out and "\x1b" not in out and "\x07" not in out


def test_an_answer_that_cannot_be_written_is_one_line() -> None:
    command = [sys.executable, "-m", "workbench", "tasks", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == 3 and done.stderr == "workbench: No space left on device.\n"


@pytest.mark.filterwarnings("ignore::workbench.cache.CacheNotice")  # what was mended after the kill, if anything
def test_a_finding_that_was_killed_goes_on_where_it_was(run: Call, tmp_path: Path) -> None:
    arguments = ["reproduce", "circuit-reuse", "--model", "tiny", "--n", "16", "--tasks", "ioi,colored-objects"]
    command = [sys.executable, "-m", "workbench", *arguments]
    shards = tmp_path / "user" / "activations" / "shards"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    while len(list(shards.glob("*.safetensors"))) < 6:  # that runs resume is stored, too
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert list((tmp_path / "runs").glob(".*.partial-*"))
    code, stats, _ = run("cache", "stats")
    assert code == 0, stats
    (unfinished,) = stats["unfinished_runs"].items()
    # The last shard may have been renamed and not yet entered: then it is adopted, and belongs to no run.
    assert unfinished[0].startswith("circuit-reuse ") and unfinished[1] >= 1
    # In a process of its own, as the first: what other tests leave in this one would be in its keys.
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, env=environment)
    resumed = json.loads(again.stdout)
    assert "From the cache: " in again.stderr
    assert not list((tmp_path / "runs").glob(".*.partial-*"))
    assert run("cache", "stats")[1]["unfinished_runs"] == {}
    alone = run(*arguments, "--no-cache", "--out", str(tmp_path / "alone"))[1]
    tables = compare(Run.read(resumed["run_dir"]), Run.read(alone["run_dir"]), tolerance=0)
    assert all(table.agrees and table.largest == 0 for table in tables)


@pytest.mark.parametrize(
    "config", [{"n": "many"}, {"percent": [1]}, {"tasks": "ioi"}, {"tasks": [3]}, {"more": 1}, {"model": "no-such"}]
)
def test_a_run_that_says_nonsense_is_not_repeated(run: Call, tmp_path: Path, config: dict[str, Any]) -> None:
    with RunDirectory.create(tmp_path / "runs", "circuit-reuse", {"model": "tiny", **config}):
        pass
    code, document, _ = run("reproduce", "--from", "latest")
    assert code == 2 and document["error"]["message"]


def test_what_does_not_fit_is_not_said_to_be_kept(run: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    record = ["record", "--task", "ioi", "--model", "tiny", "--n", "20", "--sites", "z,resid_pre"]
    monkeypatch.setenv("WORKBENCH_CACHE_GB", "0.0005")
    code, document, _ = run(*record)
    assert code == 3 and document["in_cache"] < document["estimate"]["runs"] == 40
    assert run(*record, "--dry-run")[1]["estimate"]["cached"] == document["in_cache"]
    for wrong in ("abc", "-1", "nan"):
        monkeypatch.setenv("WORKBENCH_CACHE_GB", wrong)
        assert run(*record)[0] == 2
        code, document, _ = run("doctor")
        assert code == 1 and wrong in next(c["note"] for c in document["checks"] if c["what"] == "cache")
    monkeypatch.delenv("WORKBENCH_CACHE_GB")
    assert run("record", "--task", "ioi", "--model", "tiny", "--sites", "")[0] == 2


def test_a_damaged_index_is_mended_by_the_commands_that_look_at_it(run: Call, tmp_path: Path) -> None:
    run("record", "--task", "ioi", "--model", "tiny", "--n", "20", "--sites", "z,q,k,v")
    store = cache.store_of(None)
    assert store is not None
    store.close()  # everything is in the file now
    cache._OPEN.clear()
    index = tmp_path / "user" / "activations" / "index.sqlite"
    data = bytearray(index.read_bytes())
    for at in range(4096, len(data), 512):
        data[at] ^= 0xFF
    index.write_bytes(data)
    with pytest.warns(UserWarning, match="set aside as index.sqlite.damaged"):
        code, document, _ = run("cache", "verify")
    of_the_load = 2  # the model's check and its weights' hash
    assert code == 0 and document["sound"] == 40 * 4 * 2 + of_the_load
